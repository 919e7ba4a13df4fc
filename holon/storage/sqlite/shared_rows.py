"""The SQLite file: documents and the counts of quotas as columns."""

from __future__ import annotations

from typing import Any

from holon.storage.ledger.shared_rows import DocumentRow, QuotaRow

DELETE_DOCUMENT = "DELETE FROM documents WHERE kind = ? AND key = ?"
REPLACE_DOCUMENT = "REPLACE INTO documents (kind, key, version, value, expires_at) VALUES (?, ?, ?, ?, ?)"
SELECT_DOCUMENTS = "SELECT kind, key, version, value, expires_at FROM documents"

DELETE_QUOTA = "DELETE FROM quotas WHERE key = ? AND period = ?"
REPLACE_QUOTA = "REPLACE INTO quotas (key, period, used, expires_at) VALUES (?, ?, ?, ?)"
SELECT_QUOTAS = "SELECT key, period, used, expires_at FROM quotas"


def replaced_document(row: DocumentRow) -> tuple[Any, ...]:
    """The columns of a document that is there."""
    return row.kind, row.key, row.version, row.value, row.expires_at or 0


def document_row(columns: tuple[Any, ...]) -> DocumentRow:
    """A document from its columns."""
    kind, key, version, value, expires_at = columns
    row = DocumentRow(kind, key)
    row.version, row.value, row.expires_at = version, value, expires_at or None
    return row


def replaced_quota(row: QuotaRow) -> tuple[Any, ...]:
    """The columns of a count that is there."""
    return row.key, row.period, row.used, row.expires_at


def quota_row(columns: tuple[Any, ...]) -> QuotaRow:
    """A count from its columns."""
    key, period, used, expires_at = columns
    row = QuotaRow(key, period, expires_at)
    row.used = used
    return row
