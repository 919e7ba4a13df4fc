"""The store as the engine sees it: what is read of jobs, and what leaves the store, over all partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.job import Status
from holon.errors import StoreUnavailable
from holon.ports import (
    MAX_PAGE_BYTES,
    Counts,
    Ends,
    Happened,
    JobFilter,
    JobRecord,
    Notice,
)
from holon.randomness import times_of
from holon.storage.outbox import TAKE_BYTES
from holon.storage.redis.part_records import ToTell
from holon.storage.redis.partition import Partition
from holon.storage.redis.settled import Settled
from holon.storage.redis.shared import SharedCalls
from holon.storage.redis.whole import Whole


class AllRecords(Whole, SharedCalls):
    """The calls of `holon.ports.Storage` that read, move and delete."""

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self._moved: Settled[str] = Settled(str, Partition.settle)
        self._told_ends: Settled[tuple[str, int | None]] = Settled(itemgetter(0), _settle_ends)
        self._heard_events: Settled[tuple[str, int, int]] = Settled(itemgetter(0), Partition.settle_events)

    @property
    def history_backlog(self) -> int:
        """How many bytes of history wait to be moved, as of a second ago or so."""
        return sum(one.history_backlog for one in self._partitions)

    async def take(self, limit: int) -> Sequence[Notice]:
        if self._visits is None:
            return (await self._partitions.first.take(limit, TAKE_BYTES))[0]
        take = partial(self._visits.take, limit)
        return await self._partitions.whole(self._moved.first(self._partitions, take))

    async def settle(self, notices: Sequence[str]) -> None:
        await self._partitions.whole(self._moved.settle(self._partitions, notices))

    async def take_ends(self, limit: int, hold: int) -> Ends:
        taken = await self._take_untold("ends", limit, hold)
        return Ends(tuple(record for record, _ in taken.jobs), taken.next_due)

    async def take_events(self, limit: int, hold: int) -> Happened:
        return await self._take_untold("events", limit, hold)

    async def _take_untold(self, what: ToTell, limit: int, hold: int) -> Happened:
        if self._visits is None:
            return (await self._partitions.first.take_untold(what, limit, hold, MAX_PAGE_BYTES))[0]
        settled: Settled[Any] = self._told_ends if what == "ends" else self._heard_events
        take = partial(self._visits.take_untold, what, limit, hold)
        return await self._partitions.whole(settled.first(self._partitions, take))

    async def settle_ends(self, told: Sequence[str], again: Sequence[tuple[str, int]] = ()) -> None:
        ends = [*((job_id, None) for job_id in told), *again]
        await self._partitions.whole(self._told_ends.settle(self._partitions, ends))

    async def settle_events(self, heard: Sequence[tuple[str, int, int]]) -> None:
        await self._partitions.whole(self._heard_events.settle(self._partitions, heard))

    async def watch(self, job_id: str) -> None:
        self._hints.watched.add(job_id)
        await self._partitions.of(job_id).watch(job_id)

    def expect(self, job_id: str, *, history: bool) -> bool:  # noqa: ARG002  what is committed is in the server
        return False

    def at_hand(self, job_id: str) -> JobRecord | None:  # noqa: ARG002
        return None

    def over_at_hand(self, job_id: str) -> bool | None:  # noqa: ARG002
        return None

    def is_as_created(self, job_id: str) -> bool:  # noqa: ARG002
        return False

    def history_at_hand(self, job_id: str) -> None:  # noqa: ARG002
        return None

    def unwatch(self, job_id: str) -> None:
        self._hints.watched.discard(job_id)
        self._partitions.of(job_id).unwatch(job_id)

    def pass_on(self, job_id: str, words: bytes) -> None:
        self._partitions.of(job_id).pass_on(job_id, words)

    async def job(self, job_id: str) -> JobRecord | None:
        return await self._partitions.of(job_id).job(job_id)

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        pages = await self._partitions.every(lambda one: one.jobs(which, limit))
        # Below where a page ended, its partition may have more.
        floor = max((more for _, more in pages if more is not None), default=0)
        found = sorted((one for page, _ in pages for one in page), key=lambda one: -one[0].number)
        page: list[JobRecord] = []
        room = MAX_PAGE_BYTES
        for record, size in found:
            room -= size
            if record.number < floor or len(page) == limit or (page and room < 0):
                break
            page.append(record)
        if not page:
            # What was looked at cannot be opened; what comes behind it perhaps can.
            return page, floor or None
        return page, page[-1].number if floor or len(page) < len(found) else None

    async def job_ids(self, owner: str, prefix: str, limit: int) -> Sequence[str]:
        partition = self._partitions.of(prefix)
        first, last = times_of(prefix.partition("-")[2])
        here = [time - self._partitions.here(partition, 0) for time in (first, last)]
        return await partition.job_ids(owner, prefix, limit, *here)

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        return await self._partitions.of(job_id).history(job_id, after, limit)

    async def unread(self, job_id: str) -> Sequence[InboxEvent]:
        return await self._partitions.of(job_id).unread(job_id)

    async def counts(self) -> Counts:
        every = await self._partitions.every(Partition.counts)
        jobs: Counter[Status] = Counter()
        waiting: Counter[str] = Counter()
        for one in every:
            jobs.update(one.jobs)
            waiting.update(one.waiting)
        return Counts(jobs, sum(one.queued for one in every), sum(one.leased for one in every), waiting)

    async def surplus(self, keep: int) -> int | None:
        if self._count == 1:
            return await self._partitions.first.ended(keep)
        # Those beyond so many in one partition are so in all; what they leave is found by halving the time since. Where
        # one is away, no more stay than so many of the others'.
        first = max((time for time in await self._partitions.there(lambda one: one.ended(keep)) if time), default=0)
        after = self.now() + 1
        while after - first > 1:
            middle = (first + after) // 2
            if sum(await self._partitions.there(lambda one, since=middle: one.ended_since(since))) > keep:  # type: ignore[misc]
                first = middle
            else:
                after = middle
        return first or None

    async def purge(self, finished_before: int, limit: int, spared: Collection[str] = ()) -> int:
        purged = 0
        lost: StoreUnavailable | None = None
        try:
            await self._forget_expired()
        except StoreUnavailable as error:
            lost = error
        for partition in self._partitions.in_turn(lambda _: True):
            try:
                purged += await partition.purge(finished_before, limit - purged, spared)
            except StoreUnavailable as error:
                # The others do not wait for it.
                lost = error
        if lost is not None and not purged:
            raise lost
        return purged


async def _settle_ends(partition: Partition, ends: Sequence[tuple[str, int | None]]) -> None:
    again = [(job_id, after) for job_id, after in ends if after is not None]
    await partition.settle_ends([job_id for job_id, after in ends if after is None], again)
