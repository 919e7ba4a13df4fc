"""The ledger: the rows of what nodes share beside jobs."""

from __future__ import annotations

from holon.storage.ledger.row import Row


class DocumentRow(Row):
    """A document; one without a value has been deleted."""

    __slots__ = ("expires_at", "key", "kind", "value", "version")

    def __init__(self, kind: str, key: str) -> None:
        self.kind = kind
        self.key = key
        self.version = 0
        self.value: bytes | None = None
        self.expires_at: int | None = None

    def there(self, now: int) -> bool:
        """Whether it can be seen."""
        return self.value is not None and (self.expires_at is None or self.expires_at > now)


class QuotaRow(Row):
    """How much of a quota was used in a period; None: its count is forgotten."""

    __slots__ = ("expires_at", "key", "period", "used")

    def __init__(self, key: str, period: str, expires_at: int) -> None:
        self.key = key
        self.period = period
        self.expires_at = expires_at
        self.used: int | None = 0
