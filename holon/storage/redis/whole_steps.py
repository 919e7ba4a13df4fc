"""The store as the engine sees it: jobs, their claims and their steps, each in its partition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from holon.domain.events import InboxEvent
from holon.domain.task import Outcome
from holon.domain.value import replace
from holon.ports import (
    Appended,
    Claim,
    Committed,
    Created,
    NewJob,
    Seat,
    Step,
)
from holon.randomness import ordered_id
from holon.storage.redis.partition import Partition
from holon.storage.redis.partitions import at_once
from holon.storage.redis.whole import Whole


class AllSteps(Whole):
    """The calls of `holon.ports.Storage` that are about jobs."""

    def new_job_id(self, owner: str, request_id: str | None = None) -> str:
        partitions = self._partitions
        partition = partitions.for_new() if request_id is None else partitions.for_request(owner, request_id)
        return f"{partition.number}-{ordered_id(self.now())}"

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        parts = self._partitions.split(items, lambda item: item.job.id)
        if len(parts) == 1:
            [partition] = parts
            created = await partition.create_jobs(items, want, seats)
            if self._visits is None or not seats:
                return created
            return replace(created, leased=self._visits.with_others(seats, created.leased))
        return await self._partitions.whole(self._several.create_jobs(items, parts, want, seats))

    async def made(self, owner: str, request_id: str) -> tuple[str, bytes] | None:
        return await self._partitions.for_request(owner, request_id).made(owner, request_id)

    async def append(
        self,
        job_id: str,
        event: InboxEvent,
        dedup_key: str,
        want: int,
        request_key: str = "",
        most: int | None = None,
    ) -> tuple[Appended, Sequence[Claim]]:
        return await self._partitions.of(job_id).append(job_id, event, dedup_key, want, request_key, most)

    async def claim(self, want: int) -> Sequence[Claim]:
        if self._visits is None:
            return await self._partitions.first.claim(want)
        return await self._partitions.whole(self._visits.claim(want))

    async def keep(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs(Partition.keep, claims)

    async def release(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs(Partition.release, claims)

    async def _pairs(
        self,
        call: Callable[[Partition, Sequence[tuple[str, str]]], Awaitable[Sequence[bool]]],
        claims: Sequence[tuple[str, str]],
    ) -> Sequence[bool]:
        parts = self._partitions.split(claims, lambda claim: claim[0])
        if len(parts) == 1:
            [partition] = parts
            return await call(partition, claims)
        replies = await self._partitions.whole(at_once(call(*part) for part in parts.items()))
        said: dict[tuple[str, str], bool] = {}
        for some, answers in zip(parts.values(), replies, strict=True):
            said |= zip(some, answers, strict=True)
        return tuple(said[claim] for claim in claims)

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        partition = self._partitions.of(step.job.id)
        committed = await partition.commit(step, want, seats)
        if self._visits is None:
            return committed
        return replace(committed, leased=self._visits.with_others(seats, committed.leased))

    async def spawn(self, job_id: str, step: int) -> None:
        await self._partitions.of(job_id).spawn(job_id, step)

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        return await self._partitions.of(job_id).branches(job_id, step)
