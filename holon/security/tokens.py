"""Tokens as they are kept: by their digests, from which nobody finds a random one again."""

from __future__ import annotations

import hashlib

# What the hashed form of a token begins with.
HASHED = "sha256:"


def digest_of(token: str) -> bytes:
    """The SHA-256 of a token, to be kept in its place: right for random ones alone, which nobody finds by trying."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def hashed(token: str) -> str:
    """The form of a token in which a file may hold it: nobody who reads that file can use it."""
    return HASHED + digest_of(token).hex()
