"""What a file is said to be, and whether it is: its size, and its hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from holon.errors import IntegrityError, InvalidArgument
from holon.ports import Blob

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_KEYS = frozenset({"size", "hash"})


class Expected:
    """What a file is to be.

    Arguments:
        told: `size` in bytes, and `hash`: the SHA-256 of the content in hexadecimal digits, or else the ETag that S3
            gave. What is None, or not there, is not looked at.
    Raises:
        InvalidArgument: (VERIFY_META_INVALID) it says something else.

    Attributes:
        sha256: that of the content, in hexadecimal digits; empty: it is not said.
    """

    def __init__(self, told: Mapping[str, Any] | None) -> None:
        self._take({} if told is None else told)

    def _take(self, told: Any) -> None:
        if not isinstance(told, Mapping) or told.keys() - _KEYS:
            raise _wrong(f"is {told!r}; give a dict with `size`, `hash`, or both")
        size, hashed = told.get("size"), told.get("hash")
        if size is not None and (type(size) is not int or size < 0):
            raise _wrong(f"has the size {size!r}; give a whole number of bytes")
        if hashed is not None and (not isinstance(hashed, str) or not hashed.strip('"')):
            raise _wrong(f"has the hash {hashed!r}; give a SHA-256 in hexadecimal digits, or the ETag")
        self._size = size
        plain = hashed.strip('"') if hashed is not None else ""
        found = _SHA256.fullmatch(plain.lower())
        self.sha256 = found[1] if found else ""
        self._tag = "" if found else plain
        self._hash = hashlib.sha256() if found else None
        self._read = 0

    def __bool__(self) -> bool:
        return self._size is not None or bool(self.sha256 or self._tag)

    def begin(self, name: str, blob: Blob) -> None:
        """Look at what the store says of the file, before any of it is read; raises as `end`."""
        if self._size is not None and blob.size != self._size:
            raise _mismatch(name, f"it has {blob.size} bytes, but should have {self._size}")
        if self._tag and blob.tag.lower() != self._tag.lower():
            raise _mismatch(name, f"its ETag is {blob.tag!r}, but should be {self._tag!r}")

    def take(self, chunk: bytes) -> None:
        """The next bytes of it; takes a while."""
        self._read += len(chunk)
        if self._hash is not None:
            self._hash.update(chunk)

    def end(self, name: str, blob: Blob) -> None:
        """Whether all that was read is it.

        Raises:
            IntegrityError: (INTEGRITY_MISMATCH) it is not.
        """
        if self._read != blob.size:
            raise _mismatch(name, f"only {self._read} of its {blob.size} bytes arrived")
        if self._hash is not None and self._hash.hexdigest() != self.sha256:
            raise _mismatch(name, f"its SHA-256 is {self._hash.hexdigest()}, but should be {self.sha256}")


def _mismatch(name: str, why: str) -> IntegrityError:
    return IntegrityError(f"file {name!r} is not the expected file: {why}")


def _wrong(why: str) -> InvalidArgument:
    return InvalidArgument(f"verify_meta {why}", code="VERIFY_META_INVALID")
