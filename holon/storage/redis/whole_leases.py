"""The store as the engine sees it: sessions, leases, timers and the backlog, over all partitions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from holon.domain.matching import Need
from holon.domain.task import Outcome
from holon.domain.value import replace
from holon.ports import (
    Completed,
    Fired,
    Leased,
    Opened,
    Opening,
    Result,
    Seat,
    TaskRecord,
    Touch,
    Touched,
)
from holon.storage.redis.partitions import at_once
from holon.storage.redis.whole import Whole


class AllLeases(Whole):
    """The calls of `holon.ports.Storage` that are about workers and their tasks."""

    async def open_session(self, opening: Opening) -> Opened:
        if self._shares is None:
            return (await self._partitions.first.open_session(opening, None))[0]
        self._shares.opened(opening.session_id, opening.credits)
        try:
            return await self._partitions.whole(self._several.open_session(opening))
        except BaseException:
            # Nobody has this session, so nobody will close it.
            self._shares.closed(opening.session_id)
            raise

    async def close_session(self, worker_id: str, session_id: str) -> None:
        if self._shares is not None:
            self._shares.closed(session_id)
        await self._partitions.every(lambda one: one.close_session(worker_id, session_id))

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        if self._visits is None:
            return await self._partitions.first.lease(seats)
        return await self._partitions.whole(self._visits.lease(seats))

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        if self._shares is None:
            [partition] = self._partitions
            touched = await partition.touch(touch, seats)
            partition.stops_taken()
            return touched
        for _, session_id, granted in touch.credits:
            self._shares.granted(session_id, granted)
        return await self._partitions.whole(self._several.touch(touch, seats))

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        if self._visits is None:
            return await self._partitions.first.complete(results, worker_id, want, seats)
        parts = self._partitions.split(results, lambda result: result.task_id)
        if len(parts) > 1:
            several = self._several.complete(results, parts, worker_id, want, seats)
            return await self._partitions.whole(several)
        [partition] = parts or [self._partitions.first]
        completed = await partition.complete(results, worker_id, want, self._visits.turn_of(partition, seats))
        return replace(completed, leased=self._visits.with_others(seats, completed.leased))

    async def fire(self, limit: int, want: int) -> Fired:
        if self._visits is None:
            return await self._partitions.first.fire(limit, want)
        return await self._partitions.whole(self._visits.fire(limit, want))

    async def task(self, task_id: str) -> TaskRecord | None:
        return await self._partitions.of(task_id).task(task_id)

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        together: dict[str, tuple[Need, int]] = {}
        # What waits in one that is away is told when it is back.
        for found in await self._partitions.there(lambda one: one.queued(skill)):
            for key, (need, count) in found.items():
                together[key] = need, count + (together[key][1] if key in together else 0)
        return together

    async def needs(self, keys: Collection[str] | None = None) -> Mapping[str, Need]:
        if keys is not None and not keys:
            return {}
        there = await self._partitions.there(lambda one: one.needs(keys))
        return {key: need for found in there for key, need in found.items()}

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        pages = await self._partitions.there(lambda one: one.queued_tasks(key, after, limit))
        return sorted((task for page in pages for task in page), key=lambda task: task.id)[:limit]

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        parts = self._partitions.split(moves, lambda move: move[0])
        await self._partitions.whole(at_once(partition.rekey(some) for partition, some in parts.items()))

    async def end_queued(self, key: str, ends: Sequence[tuple[str, Outcome]]) -> None:
        parts = self._partitions.split(ends, lambda end: end[0])
        await self._partitions.whole(at_once(partition.end_queued(key, some) for partition, some in parts.items()))
