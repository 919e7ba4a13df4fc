"""The port below the core: shards of rows, which their owners change by numbered batches.

A row store knows nothing of what a row means. It keeps, for each shard: a head (who owns it, and the number of its last
batch), rows under (job, name), and index entries under (index, score, member). Beside the shards it keeps shared
records and counters, and carries mail between nodes.

Times are epoch milliseconds of the store's clock. They never go back within a shard.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum
from typing import Protocol, Self

from holon.domain.value import Value

NOBODY = ""

# (id of the job, name of the row): the store's key of a row. The rows of the shard itself have an empty id.
RowKey = tuple[str, str]
Row = tuple[str, str, bytes]
# (index, score, member): entries of an index are ordered by score, then by member.
Entry = tuple[str, int, str]

MAX_SCORE = 2**53 - 1


class Head(Value):
    """Who owns a shard.

    Attributes:
        epoch: number of the ownership, one more at each. It orders log lines; the token is the fence.
        token: 128 random bits of the ownership, in hexadecimal; NOBODY if the shard is free.
        batch: number of the last batch that was applied.
        time: the shard's time now, epoch milliseconds.
        node: who owns it, or was the last to.
        schema: number of the format that its rows are written in; 0 before the first owner.
    """

    shard: int
    epoch: int = 0
    token: str = NOBODY
    batch: int = 0
    time: int = 0
    node: str = ""
    schema: int = 0

    def seen(self) -> tuple[int, str, int]:
        """What a take-over compares: it is refused if any of this has changed."""
        return self.epoch, self.token, self.batch


class Batch(Value, gc=True):
    """What one write of a shard makes durable, all of it or nothing.

    Deletes come before puts. `purged` are ids of jobs of which every row goes. `stamp` is the newest time that stands
    in the batch; the shard's time goes on from there.
    """

    shard: int
    epoch: int
    token: str
    number: int
    stamp: int
    puts: Sequence[Row] = ()
    deletes: Sequence[RowKey] = ()
    purged: Sequence[str] = ()
    entries: Sequence[Entry] = ()
    removed: Sequence[Entry] = ()

    def __len__(self) -> int:
        return sum(map(len, (self.puts, self.deletes, self.purged, self.entries, self.removed)))


class Word(Enum):
    """What became of a batch.

    APPLIED: it is durable, also where an earlier try had applied it already. FENCED: the shard has another owner; the
    batch is not written and never will be. GAP: the number is too high, so the store has lost batches that it had
    confirmed; nothing was written.
    """

    APPLIED = "ok"
    FENCED = "fenced"
    GAP = "gap"


class Found(Value):
    """One entry of an index: the job or the part of one that it names, and its place in the order."""

    shard: int
    score: int
    member: str


class Record(Value):
    """A shared record.

    `version` is greater after each change, also after it was deleted and made again. It is above 0, and no record of
    the store gets it again. `expires_at` is epoch milliseconds, None: it stays.
    """

    kind: str
    key: str
    version: int
    value: bytes
    expires_at: int | None = None


class Change(Value):
    """A change of a shared record that is made only if nobody else changed it meanwhile.

    Arguments:
        version: the version that was read; 0: there is no such record.
        value: the new value; None deletes the record.
        ttl: after how many milliseconds it expires; None: never.
    """

    kind: str
    key: str
    version: int
    value: bytes | None
    ttl: int | None = None


class Draw(Value):
    """Adds to a counter, unless the sum would be above its limit.

    The counter starts at 0 and expires `ttl` milliseconds after its first draw. If it is aligned, it expires at the
    next multiple of `ttl` on the store's clock.
    """

    kind: str
    key: str
    amount: int
    limit: int
    ttl: int
    aligned: bool = False


class Drawn(Value):
    """The answer to a draw: whether it was granted, the counter's value now, and how long it lasts, in milliseconds."""

    granted: bool
    value: int
    expires_in: int


class RowStore(Protocol):
    """One store. Enter it before use.

    Every call raises StoreUnavailable if the store gave no definite answer: what it asked for may have been carried
    out. Every call may be repeated. StoreBroken means that this process can never use the store again.

    Attributes:
        id: random id of the store, made with it.
        shards: how many shards it has, fixed when it was made.
        generation: one more each time that an operator says that a backup was restored.
        exclusive: whether only this process can have the store open.
        objection: why the store should take no new jobs, as `heads` found last; empty if it may.
    """

    id: str
    shards: int
    generation: int
    exclusive: bool
    objection: str

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def heads(self) -> Sequence[Head]:
        """The heads of all shards, in order."""
        ...

    async def acquire(self, seen: Head, token: str, node: str, schema: int) -> Head | None:
        """Own a shard, if its head is still the one that was seen.

        Arguments:
            seen: the head that this node read, which says that nobody else owns the shard any more.
            token: new for this ownership.
        Returns:
            the new head; None if another node was faster, or its owner still writes.
        """
        ...

    async def release(self, head: Head, batch: int) -> bool:
        """Let others own a shard at once. False if it was no longer this owner's, or had other batches.

        Arguments:
            head: as `acquire` gave it.
            batch: number of the last batch.
        """
        ...

    async def apply(self, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        """Write batches of different shards, each by itself, in one round trip."""
        ...

    async def read(self, shard: int, keys: Sequence[RowKey]) -> Sequence[bytes | None]:
        """Rows by their keys, in the same order; None where there is none."""
        ...

    async def names(self, shard: int, job: str) -> Sequence[str]:
        """The names of all rows of a job, in no order."""
        ...

    async def range(
        self, index: str, shards: Collection[int], low: int, high: int, limit: int, *, newest_first: bool = False
    ) -> Sequence[Found]:
        """Entries of an index in several shards, merged: by score, then shard, then member.

        Arguments:
            low, high: scores, both included.
            newest_first: whether the order is the other way round.
        """
        ...

    async def send(self, node: str, bodies: Sequence[bytes]) -> None:
        """Mail messages to a node. They are lost if it does not read them soon."""
        ...

    async def receive(self, node: str) -> Sequence[bytes]:
        """Wait until there is mail for a node, or for about a second. Returns the mail, in order."""
        ...

    async def records(self, kind: str, keys: Sequence[str] | None = None) -> Sequence[Record]:
        """Shared records of a kind that have not expired: those of some keys, or all."""
        ...

    async def exchange(self, changes: Sequence[Change]) -> Sequence[tuple[bool, Record | None]]:
        """Make changes of shared records, each by itself, in their order.

        A caller that repeats a change after StoreUnavailable may find that it is not made: an earlier try made it. The
        record says so.

        Returns:
            for each, whether this call made it, and the record as it is now.
        """
        ...

    async def count(self, index: str, shards: Collection[int]) -> int:
        """How many entries an index has in several shards. It may take as long as reading them."""
        ...

    async def draw(self, draws: Sequence[Draw]) -> Sequence[Drawn]:
        """Add to counters, each by itself, in their order. A repeat counts again."""
        ...

    async def count_records(self, kind: str) -> int:
        """How many shared records a kind has, with those that have expired and are not deleted yet."""
        ...

    async def expire(self, limit: int) -> int:
        """Delete shared records and counters that have expired, at most `limit` of each; returns how many."""
        ...
