"""The core: documents, and the quotas that jobs count against."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from holon.core.documents import too_many_documents
from holon.core.shared_rows import DocumentRow, QuotaRow
from holon.core.tables import Tables
from holon.ports import MAX_DOCUMENTS, Document, Quota

# At most this many expired documents and counts are deleted in one call.
AT_A_TIME = 1_000


def document(tables: Tables, kind: str, key: str, now: int) -> Document | None:
    """One document; None if it is unknown or has expired."""
    row = tables.documents.get(kind, {}).get(key)
    return _seen(row) if row is not None and row.there(now) else None


def documents(tables: Tables, kind: str, now: int) -> Sequence[Document]:
    """All documents of a kind that have not expired, ordered by key."""
    rows = sorted(tables.documents.get(kind, {}).items())
    return [_seen(row) for _, row in rows if row.there(now)]


def put_document(
    tables: Tables, kind: str, key: str, value: bytes | None, version: int, expires_in: int | None, now: int
) -> int | None:
    """Write a document, or delete it if `value` is None.

    Arguments:
        version: the version that it must still have; 0: there is no such document.
        expires_in: milliseconds; None: never.
    Returns:
        the new version; None if the document has another version, and nothing is changed.
    Raises:
        ResourceExhausted: a new document would be one too many of its kind.
    """
    of_kind = tables.documents.setdefault(kind, {})
    row = of_kind.get(key)
    if row is not None and not row.there(now):
        _delete(tables, of_kind, row)
        row = None
    if version != (row.version if row is not None else 0):
        return None
    if row is None and value is not None:
        _make_room(tables, kind, of_kind, now)
        row = DocumentRow(kind, key)
        tables.put(of_kind, key, row)
    new = tables.number("")
    if value is None:
        if row is not None:
            _delete(tables, of_kind, row)
    elif row is not None:
        tables.edit(row)
        row.version, row.value = new, value
        row.expires_at = None if expires_in is None else now + expires_in
    tables.hint_documents(kind)
    return new


def forget_expired(tables: Tables, now: int) -> bool:
    """Delete some expired documents, and some counts of quota periods that are over.

    Returns:
        whether there may be more, so that the caller should repeat this.
    """
    left = AT_A_TIME
    for of_kind in tables.documents.values():
        left -= _delete_expired(tables, of_kind, now, left)
    over = list(islice((key for key, row in tables.quotas.items() if row.expires_at <= now), left))
    for key in over:
        tables.drop(tables.quotas, key).used = None
    return len(over) == left


def count_job(tables: Tables, quota: Quota) -> bool:
    """Count one more job against a quota; returns False, and counts nothing, if the quota is used up."""
    key = (quota.key, quota.period)
    row = tables.quotas.get(key)
    if (row.used or 0 if row is not None else 0) >= quota.limit:
        return False
    if row is None:
        row = QuotaRow(quota.key, quota.period, quota.expires_at)
        tables.put(tables.quotas, key, row)
    tables.edit(row).used = (row.used or 0) + 1
    return True


def _seen(row: DocumentRow) -> Document:
    return Document(row.kind, row.key, row.version, row.value or b"", row.expires_at)


def _delete(tables: Tables, of_kind: dict[str, DocumentRow], row: DocumentRow) -> None:
    tables.drop(of_kind, row.key).value = None


def _make_room(tables: Tables, kind: str, of_kind: dict[str, DocumentRow], now: int) -> None:
    if len(of_kind) < MAX_DOCUMENTS:
        return
    _delete_expired(tables, of_kind, now, AT_A_TIME)
    if len(of_kind) >= MAX_DOCUMENTS:
        raise too_many_documents(kind)


def _delete_expired(tables: Tables, of_kind: dict[str, DocumentRow], now: int, most: int) -> int:
    """Delete at most `most` expired documents of one kind; returns how many were deleted."""
    expired = list(islice((row for row in of_kind.values() if not row.there(now)), most))
    for row in expired:
        _delete(tables, of_kind, row)
    return len(expired)
