"""A bucket in memory, for tests of what is above it: what S3 itself does, the tests of `S3Blobs` show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import md5

from holon.errors import HolonError, NotFound
from holon.ports import Blob


class MemoryBlobs:
    """See the port `BlobStore`.

    Attributes:
        files: what is in it.
        refusing: what every call raises; None: they go well.
        begun: set once something of a stream has come.
    """

    bucket = "payloads"
    up = True
    metrics = None

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.refusing: HolonError | None = None
        self.begun = asyncio.Event()

    def _called(self) -> None:
        if self.refusing is not None:
            raise self.refusing

    def _blob(self, key: str) -> Blob:
        if key not in self.files:
            raise NotFound(f"there is no file s3://{self.bucket}/{key}", code="FILE_NOT_FOUND")
        return Blob(key, len(self.files[key]), md5(self.files[key], usedforsecurity=False).hexdigest(), 0)

    async def put(self, key: str, data: bytes) -> str:
        self._called()
        self.files[key] = data
        return self._blob(key).tag

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], part: int) -> str:
        self._called()
        found = b""
        async for chunk in chunks:
            found += chunk
            self.begun.set()
        return await self.put(key, found)

    @asynccontextmanager
    async def get(self, key: str) -> AsyncIterator[tuple[Blob, AsyncIterator[bytes]]]:
        self._called()

        async def chunks() -> AsyncIterator[bytes]:
            yield self.files[key]

        yield self._blob(key), chunks()

    async def head(self, key: str) -> Blob:
        self._called()
        return self._blob(key)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[Sequence[Blob]]:
        self._called()
        yield [self._blob(key) for key in sorted(self.files) if key.startswith(prefix) and key > after]

    async def delete(self, keys: Sequence[str]) -> None:
        self._called()
        for key in keys:
            self.files.pop(key, None)

    async def sign(self, key: str, method: str, seconds: int) -> str:
        return f"https://s3.test/{self.bucket}/{key}?method={method}&seconds={seconds}&signature=secret"
