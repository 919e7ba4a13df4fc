"""Copies: a file between the bucket and the folder of its job, in pieces that threads read and write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from holon.domain.file_names import Parts
from holon.errors import TooLarge
from holon.ports import MAX_PARTS, PART_BYTES, Blob, BlobStore
from holon.task_files.checking import Expected
from holon.task_files.folder import Folder, local_errors
from holon.task_files.to_the_end import to_the_end

# What is read or written as one value.
MAX_VALUE_BYTES = 16 * 2**20


class Copies:
    """Makes them. Every call raises as `BlobStore` and `Folder` do."""

    def __init__(self, blobs: BlobStore, folder: Folder) -> None:
        self._blobs = blobs
        self._folder = folder

    def __repr__(self) -> str:
        return f"Copies({self._blobs!r}, {self._folder!r})"

    async def fetch(self, key: str, local: Parts, expected: Expected) -> tuple[Path, Blob]:
        """Have a file here as it is in the bucket: all of it, or as before; its path, and what the store says of it.

        Raises:
            IntegrityError: (INTEGRITY_MISMATCH) it is not what is expected.
        """
        async with self._blobs.get(key) as (blob, chunks):
            expected.begin(key, blob)
            file, name = await to_the_end(self._folder.begin)
            try:
                try:
                    async for chunk in chunks:
                        await asyncio.to_thread(_keep, file, chunk, expected)
                finally:
                    await to_the_end(_close, file)
                expected.end(key, blob)
                return await to_the_end(self._folder.finish, name, local), blob
            except BaseException:
                await to_the_end(self._folder.drop, name)
                raise

    async def send(self, local: Parts, key: str) -> tuple[int, str]:
        """Have a file in the bucket as it is here: all of it, or as before; its size, and its tag."""
        file, size = await to_the_end(self._folder.open, local)
        try:
            part = max(PART_BYTES, -(-size // MAX_PARTS))
            first = await asyncio.to_thread(_next, file, part)
            if len(first) < part:
                return len(first), await self._blobs.put(key, first)
            sent = 0

            async def chunks() -> AsyncIterator[bytes]:
                nonlocal first, sent
                while first:
                    sent += len(first)
                    yield first
                    first = await asyncio.to_thread(_next, file, PART_BYTES)

            tag = await self._blobs.put_stream(key, chunks(), part)
            return sent, tag
        finally:
            await to_the_end(_close, file)

    async def read(self, key: str) -> tuple[bytes, Blob]:
        """What is in a small file in the bucket, and what the store says of it.

        Raises:
            TooLarge: (LIMIT_EXCEEDED) it is not small.
            IntegrityError: (INTEGRITY_MISMATCH) not all of it came.
        """
        expected = Expected(None)
        async with self._blobs.get(key) as (blob, chunks):
            bounded(key, blob.size)
            found = bytearray()
            async for chunk in chunks:
                expected.take(chunk)
                found += chunk
            expected.end(key, blob)
            return bytes(found), blob

    def read_local(self, parts: Parts) -> bytes:
        """What is in a small file here; raises as `read`. Blocks."""
        file, size = self._folder.open(parts)
        with file, local_errors():
            bounded("/".join(parts), size)
            return file.read(MAX_VALUE_BYTES)


async def forget(blobs: BlobStore, prefix: str) -> None:
    """Delete all that is stored under a prefix."""
    async for page in blobs.list(prefix):
        await blobs.delete([blob.key for blob in page])


def _keep(file: BinaryIO, chunk: bytes, expected: Expected) -> None:
    expected.take(chunk)
    with local_errors():
        file.write(chunk)


def _close(file: BinaryIO) -> None:
    with local_errors():
        file.close()


def _next(file: BinaryIO, most: int) -> bytes:
    """The next bytes of a file, so many of them unless it ends."""
    with local_errors():
        found = file.read(most)
        while 0 < len(found) < most and (more := file.read(most - len(found))):
            found += more
        return found


def bounded(name: str, size: int) -> None:
    """Raise TooLarge (LIMIT_EXCEEDED) when a file is too large for one value."""
    if size > MAX_VALUE_BYTES:
        message = f"{name!r} has {size} bytes, over the limit of {MAX_VALUE_BYTES}; use upload and download"
        raise TooLarge(message, code="LIMIT_EXCEEDED")
