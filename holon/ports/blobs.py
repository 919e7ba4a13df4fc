"""Ports: a store of files, by keys that are paths; what is in it is read and written as it streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from holon.domain.value import Value

# What is sent at once of a file; a store takes at most so many of these for one.
PART_BYTES = 8 * 2**20
MAX_PARTS = 10_000


class Blob(Value):
    """A file that is stored.

    Attributes:
        key: under which it is there.
        size: in bytes.
        tag: changes with its content (the ETag, without quotes); empty: the store gives none.
        changed_at: when it was written, in epoch milliseconds of the store's clock.
    """

    key: str
    size: int
    tag: str
    changed_at: int


class BlobStore(Protocol):
    """One bucket of files. How many calls are under way at once is bounded, and so is what each may take.

    Every call raises:
        Unavailable: (FILES_UNAVAILABLE) the store cannot be reached, or not just now.
        PermissionDenied: (FILES_DENIED) it does not let this node do that.
        FailedPrecondition: (FILES_NO_BUCKET) there is no such bucket.

    Attributes:
        bucket: its name.
        up: whether the store has answered when it was asked last.
    """

    bucket: str
    up: bool

    @property
    def metrics(self) -> object:
        """What is counted of its calls."""
        ...

    async def put(self, key: str, data: bytes) -> str:
        """Store a small file, in the place of an older one; its tag."""
        ...

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], part: int) -> str:
        """Store a file as it comes, or nothing where that raises; its tag.

        Arguments:
            part: how many bytes are sent at once.
        """
        ...

    def get(self, key: str) -> AbstractAsyncContextManager[tuple[Blob, AsyncIterator[bytes]]]:
        """A file, and what is in it as it comes.

        Raises:
            NotFound: (FILE_NOT_FOUND) there is none.
        """
        ...

    async def head(self, key: str) -> Blob:
        """A file, without what is in it.

        Raises:
            NotFound: (FILE_NOT_FOUND) there is none.
        """
        ...

    def list(self, prefix: str, after: str = "") -> AsyncIterator[Sequence[Blob]]:
        """What is stored under a prefix that ends with `/`, in the order of the keys, some at a time.

        Arguments:
            after: a key; only what comes after it.
        """
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete files; one that is not there is no error."""
        ...

    async def sign(self, key: str, method: str, seconds: int) -> str:
        """A URL by which anybody may make one kind of call for a file, for so long. It is a secret."""
        ...
