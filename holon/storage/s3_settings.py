"""What an S3 is used with; told before the library for it is needed."""

from __future__ import annotations

from holon.domain.value import Value


class S3Settings(Value):
    """Where the bucket is, and the key that it is used with; how many calls may be under way."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    bucket: str
    concurrency: int

    def __repr__(self) -> str:
        return f"S3Settings({self.endpoint}, {self.bucket})"
