"""Limits of documents, the same in every store."""

from __future__ import annotations

import re

from holon.errors import ResourceExhausted, TooLarge
from holon.ports import MAX_DOCUMENT_BYTES, MAX_DOCUMENTS

MAX_KEY_BYTES = 512
_KIND = re.compile(r"[a-z0-9_]{1,64}")


def check_document(kind: str, key: str = "any", value: bytes | None = None) -> None:
    """Check the kind, key and value of a document; raises as `Shared.put_document`."""
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is no kind of document: lower-case letters, digits and _, 1 to 64 of them")
    if not 1 <= len(key.encode()) <= MAX_KEY_BYTES:
        raise ValueError(
            f"the key of a document of kind {kind} has {len(key.encode())} bytes, not 1 to {MAX_KEY_BYTES}"
        )
    if value is not None and len(value) > MAX_DOCUMENT_BYTES:
        raise TooLarge(
            f"document {key!r} of kind {kind} has {len(value)} bytes, over the limit of {MAX_DOCUMENT_BYTES}",
            code="LIMIT_EXCEEDED",
        )


def too_many_documents(kind: str) -> ResourceExhausted:
    """The error for one more document of a kind that is full."""
    return ResourceExhausted(
        f"the store has {MAX_DOCUMENTS} documents of kind {kind}, the most allowed; delete some, or let them expire",
        code="TOO_MANY_DOCUMENTS",
    )
