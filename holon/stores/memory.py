"""A row store in memory: nothing outlives the process. It is the model of the others, and the store of many tests."""

from __future__ import annotations

import asyncio
import secrets
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Self

from holon.clock import Clock, SystemClock
from holon.domain.value import replace
from holon.stores.port import (
    NOBODY,
    Batch,
    Change,
    Draw,
    Drawn,
    Found,
    Head,
    Record,
    RowKey,
    Word,
)

# How long `receive` waits for something to come, in seconds.
RECEIVE_S = 1.0


class MemoryRows:
    """A row store in memory; see `RowStore`. Several nodes of one process may share one that is not exclusive.

    Arguments:
        shards: how many.
        clock: the store's clock.
        exclusive: as in `RowStore`.
    """

    def __init__(self, shards: int = 1, clock: Clock | None = None, *, exclusive: bool = False) -> None:
        self.exclusive = exclusive
        self.objection = ""
        self.id = secrets.token_hex(8)
        self.shards = shards
        self.generation = 1
        self._clock = clock or SystemClock()
        self._shards = [_Shard(number) for number in range(shards)]
        self._mail: defaultdict[str, list[bytes]] = defaultdict(list)
        self._wakes: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._records: defaultdict[str, dict[str, Record]] = defaultdict(dict)
        # By (kind, key): the counter's value, and when it expires.
        self._counters: dict[tuple[str, str], tuple[int, int]] = {}
        self._version = 0

    def __repr__(self) -> str:
        return f"MemoryRows({self.shards} shards, {sum(len(one.rows) for one in self._shards)} rows)"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing is closed: another node may have it."""

    async def heads(self) -> Sequence[Head]:
        return [self._now(shard) for shard in self._shards]

    async def acquire(self, seen: Head, token: str, node: str, schema: int) -> Head | None:
        shard = self._shards[seen.shard]
        if shard.head.token != token:
            if shard.head.seen() != seen.seen():
                return None
            head = self._now(shard)
            shard.head = replace(head, epoch=head.epoch + 1, token=token, node=node, schema=schema)
        return self._now(shard)

    async def release(self, head: Head, batch: int) -> bool:
        shard = self._shards[head.shard]
        if shard.head.seen() != (head.epoch, head.token, batch):
            return False
        shard.head = replace(shard.head, token=NOBODY)
        return True

    async def apply(self, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        return [self._apply(batch) for batch in batches]

    def _apply(self, batch: Batch) -> tuple[Word, Head]:
        shard = self._shards[batch.shard]
        head = self._now(shard)
        if (head.epoch, head.token) != (batch.epoch, batch.token):
            return Word.FENCED, head
        if batch.number > head.batch + 1:
            return Word.GAP, head
        if batch.number == head.batch + 1:
            shard.write(batch)
            shard.head = replace(head, batch=batch.number, time=max(head.time, batch.stamp))
        return Word.APPLIED, self._now(shard)

    async def read(self, shard: int, keys: Sequence[RowKey]) -> Sequence[bytes | None]:
        rows = self._shards[shard].rows
        return [rows.get(job, {}).get(name) for job, name in keys]

    async def names(self, shard: int, job: str) -> Sequence[str]:
        return list(self._shards[shard].rows.get(job, ()))

    async def range(
        self, index: str, shards: Collection[int], low: int, high: int, limit: int, *, newest_first: bool = False
    ) -> Sequence[Found]:
        found = [
            Found(number, score, member)
            for number in shards
            for score, member in self._shards[number].range(index, low, high, limit, newest_first)
        ]
        found.sort(key=lambda one: (one.score, one.shard, one.member), reverse=newest_first)
        return found[:limit]

    async def count(self, index: str, shards: Collection[int]) -> int:
        return sum(self._shards[number].count(index) for number in shards)

    async def send(self, node: str, bodies: Sequence[bytes]) -> None:
        self._mail[node] += bodies
        self._wakes[node].set()

    async def receive(self, node: str) -> Sequence[bytes]:
        wake = self._wakes[node]
        mail = self._mail.pop(node, [])
        if not mail:
            wake.clear()
            try:
                async with asyncio.timeout(RECEIVE_S):
                    await wake.wait()
            except TimeoutError:
                pass
            mail = self._mail.pop(node, [])
        return mail

    async def records(self, kind: str, keys: Sequence[str] | None = None) -> Sequence[Record]:
        now, known = self._clock.now_ms(), self._records[kind]
        chosen = list(known.values()) if keys is None else [known[key] for key in keys if key in known]
        return [one for one in chosen if one.expires_at is None or one.expires_at > now]

    async def exchange(self, changes: Sequence[Change]) -> Sequence[tuple[bool, Record | None]]:
        return [self._exchange(change) for change in changes]

    def _exchange(self, change: Change) -> tuple[bool, Record | None]:
        now, known = self._clock.now_ms(), self._records[change.kind]
        record = known.get(change.key)
        if record is not None and record.expires_at is not None and record.expires_at <= now:
            record = None
        if (record.version if record else 0) != change.version:
            return False, record
        if change.value is None:
            known.pop(change.key, None)
            return True, None
        self._version += 1
        expires_at = None if change.ttl is None else now + change.ttl
        known[change.key] = Record(change.kind, change.key, self._version, change.value, expires_at)
        return True, known[change.key]

    async def draw(self, draws: Sequence[Draw]) -> Sequence[Drawn]:
        return [self._draw(draw) for draw in draws]

    def _draw(self, draw: Draw) -> Drawn:
        now, name = self._clock.now_ms(), (draw.kind, draw.key)
        value, ends = self._counters.get(name, (0, 0))
        if ends <= now:
            value, ends = 0, expiry_of(draw, now)
        granted = value + draw.amount <= draw.limit
        self._counters[name] = value + draw.amount * granted, ends
        return Drawn(granted, self._counters[name][0], ends - now)

    async def count_records(self, kind: str) -> int:
        return len(self._records[kind])

    async def expire(self, limit: int) -> int:
        now = self._clock.now_ms()
        records = (one for of_kind in self._records.values() for one in of_kind.values())
        over = [*islice((one for one in records if one.expires_at is not None and one.expires_at <= now), limit)]
        for one in over:
            del self._records[one.kind][one.key]
        ended = [*islice((name for name, (_, ends) in self._counters.items() if ends <= now), limit)]
        for name in ended:
            del self._counters[name]
        return len(over) + len(ended)

    def _now(self, shard: _Shard) -> Head:
        """The head with the time of now."""
        now = self._clock.now_ms()
        return replace(shard.head, time=now) if now > shard.head.time else shard.head


def expiry_of(draw: Draw, now: int) -> int:
    """When a counter expires whose first draw is this one."""
    return now + draw.ttl - (now % draw.ttl if draw.aligned else 0)


class _Shard:
    """One shard. Index entries of one name stand in order."""

    def __init__(self, number: int) -> None:
        self.head = Head(number)
        self.rows: dict[str, dict[str, bytes]] = {}
        self._entries: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)

    def write(self, batch: Batch) -> None:
        for job in batch.purged:
            self.rows.pop(job, None)
        for job, name in batch.deletes:
            rows = self.rows.get(job, {})
            rows.pop(name, None)
            if not rows:
                self.rows.pop(job, None)
        for job, name, value in batch.puts:
            self.rows.setdefault(job, {})[name] = value
        for index, score, member in batch.removed:
            entries, at = self._place(index, score, member)
            if at < len(entries) and entries[at] == (score, member):
                del entries[at]
        for index, score, member in batch.entries:
            entries, at = self._place(index, score, member)
            if at == len(entries) or entries[at] != (score, member):
                entries.insert(at, (score, member))

    def _place(self, index: str, score: int, member: str) -> tuple[list[tuple[int, str]], int]:
        entries = self._entries[index]
        return entries, bisect_left(entries, (score, member))

    def count(self, index: str) -> int:
        return len(self._entries.get(index, ()))

    def range(self, index: str, low: int, high: int, limit: int, newest_first: bool) -> Sequence[tuple[int, str]]:
        entries = self._entries.get(index, [])
        first = bisect_left(entries, low, key=lambda one: one[0])
        last = bisect_right(entries, high, key=lambda one: one[0])
        return entries[max(first, last - limit) : last] if newest_first else entries[first : min(last, first + limit)]
