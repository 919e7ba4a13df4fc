"""Ports: what nodes share beside jobs: documents, rate windows, and quotas on the jobs of a client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holon.domain.value import Value, shown

# What one document may hold, and how many of a kind there may be.
MAX_DOCUMENT_BYTES = 64 * 1024
MAX_DOCUMENTS = 20_000


class Document(Value):
    """A small record that every node sees alike: a signing key, a revocation.

    `version` is another one after each change, and never comes again, for whatever document. `expires_at` is when it is
    gone by itself (epoch milliseconds); None: never.
    """

    kind: str
    key: str
    version: int
    value: bytes
    expires_at: int | None = None

    def __repr__(self) -> str:
        return shown(self, but="value")


class Put(Value):
    """A document to write, or to delete, as `Shared.put_document` takes it."""

    key: str
    value: bytes | None
    version: int
    expires_in: int | None = None

    def __repr__(self) -> str:
        return shown(self, but="value")


class Count(Value):
    """Calls to count: `n` of those under `key`, of which a window of `period_ms` milliseconds takes `limit`.

    The same key is always counted under the same period.
    """

    key: str
    n: int
    limit: int
    period_ms: int


class Counted(Value):
    """What became of a `Count`. `remaining` is what the window still takes.

    `retry_after_ms` is for how long it lasts: then the next begins, and takes its limit again.
    """

    granted: bool
    remaining: int
    retry_after_ms: int


class Quota(Value):
    """How many jobs may be made under `key` in one period, such as "2026-11".

    `expires_at` is when that period is over, and its count may be forgotten (epoch milliseconds).
    """

    key: str
    limit: int
    period: str
    expires_at: int


class Shared(Protocol):
    """The part of the store for what nodes share beside jobs."""

    def now(self) -> int:
        """The store's clock, epoch milliseconds."""
        ...

    async def document(self, kind: str, key: str) -> Document | None:
        """One document; None when there is none, or it has expired."""
        ...

    async def documents(self, kind: str) -> Sequence[Document]:
        """All documents of a kind that have not expired, in the order of their keys."""
        ...

    async def put_document(
        self, kind: str, key: str, value: bytes | None, *, version: int, expires_in: int | None = None
    ) -> int | None:
        """Write a document if it still has the version that the caller saw; durable when this returns.

        Every node is told by a hint that this kind changed. A hint can be lost: who depends on documents also looks
        every now and then.

        Arguments:
            kind: a word of lower-case letters, digits, and `_`.
            key: which of its kind it is: any text of 1 to 512 bytes.
            value: what it is to hold, at most MAX_DOCUMENT_BYTES; None deletes it.
            version: the one that it has; 0: there is none yet.
            expires_in: after how many milliseconds it is gone by itself; None: never.
        Returns:
            its new version, a negative number if it was deleted; None: it has another, and nothing was written.
        Raises:
            TooLarge: (LIMIT_EXCEEDED) the value is over the limit.
            ResourceExhausted: (TOO_MANY_DOCUMENTS) there are MAX_DOCUMENTS of this kind.
            ValueError: a kind or a key that cannot be one.
        """
        ...

    async def put_documents(self, kind: str, puts: Sequence[Put]) -> Sequence[int | None]:
        """As `put_document` for each of these, in one call; what was answered of each.

        When it raises, some of them may have been written.
        """
        ...

    async def count(self, items: Sequence[Count]) -> Sequence[Counted]:
        """Count calls in the windows of now; for each whether it fits in. What does not fit as a whole counts nothing.

        Windows follow each other, by the store's clock, and are the same for all nodes. They are not durable: what an
        outage or a restart makes forget is not held against anybody.
        """
        ...
