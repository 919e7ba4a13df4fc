"""The core: the rows of documents and quotas."""

from __future__ import annotations

from holon.core.row import Row


class DocumentRow(Row):
    """A document. If its value is None, it has been deleted."""

    kind: str
    key: str
    version: int = 0
    value: bytes | None = None
    expires_at: int | None = None

    def there(self, now: int) -> bool:
        """Whether the document is neither deleted nor expired."""
        return self.value is not None and (self.expires_at is None or self.expires_at > now)


class QuotaRow(Row):
    """How much of a quota was used in a period. If `used` is None, the count has been deleted."""

    key: str
    period: str
    expires_at: int
    used: int | None = 0
