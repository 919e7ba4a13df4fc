"""Calls about jobs, tasks or sessions of several partitions: each is told its part, and the replies are one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import (
    Claim,
    Completed,
    Created,
    Creation,
    NewJob,
    Opened,
    Opening,
    Result,
    Seat,
    Superseded,
    Touch,
    Touched,
)
from holon.storage.redis.partition import Partition
from holon.storage.redis.partitions import Partitions, at_once
from holon.storage.redis.sayings import Sayings
from holon.storage.redis.visits import Visits


class Several:
    """Calls to several partitions of a store.

    Arguments:
        partitions: all of them.
        visits: what leases in all of them what a call has room for.
        ask_again: called when `touch` has something to tell, or to hear, that its last call did not wait for.
    """

    def __init__(self, partitions: Partitions, visits: Visits, ask_again: Callable[[], None]) -> None:
        self._partitions = partitions
        self._visits = visits
        self._sayings = Sayings(partitions, ask_again)

    def __repr__(self) -> str:
        return f"Several({self._partitions}, {self._sayings})"

    async def close(self) -> None:
        """Leave nothing behind that is still to be told; the partitions are closed."""
        await self._sayings.close()

    async def create_jobs(
        self, items: Sequence[NewJob], parts: Mapping[Partition, Sequence[NewJob]], want: int, seats: Sequence[Seat]
    ) -> Created:
        """Create jobs, in each partition all of its own or none."""
        jobs: dict[str, tuple[str, Creation]] = {}
        claims: list[Claim] = []
        for partition, some in parts.items():
            try:
                created = await partition.create_jobs(some, want - len(claims))
            except BaseException:
                # Nobody would run what was claimed meanwhile.
                await self._give_back(claims)
                raise
            jobs |= zip((item.job.id for item in some), created.jobs, strict=True)
            claims += created.claims
        leased = await self._visits.lease_too(seats)
        return Created(tuple(jobs[item.job.id] for item in items), tuple(claims), leased)

    async def open_session(self, opening: Opening) -> Opened:
        """Open a session in the first partition, which gives it its place, and then in all others."""
        parts = self._partitions.split(opening.resumed, lambda pair: pair[0])
        first, *others = self._partitions
        opened, order = await first.open_session(replace(opening, resumed=tuple(parts[first])), order=None)
        if opened.outranked:
            return opened
        replies = await at_once(one.open_session(replace(opening, resumed=tuple(parts[one])), order) for one in others)
        every = [opened, *(reply for reply, _ in replies)]
        place = {pair: at for at, pair in enumerate(opening.resumed)}
        kept = [offer for one in every for offer in one.kept]
        dropped = [pair for one in every for pair in one.dropped]
        return Opened(
            opened.replaced,
            tuple(sorted(kept, key=lambda offer: place[offer.task_id, offer.lease_id])),
            tuple(sorted(dropped, key=lambda pair: place[pair[0], pair[1]])),
            tuple(loss for one in every for loss in one.losses),
        )

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        """Tell each partition its part; those that are away hold up nobody, and what they are told is with the next."""
        told = await self._sayings.tell(touch)
        return Touched(
            tuple(lease for reply in told for lease in reply.lost),
            tuple(stop for reply in told for stop in reply.stops),
            await self._visits.lease_too(seats),
            tuple(session for reply in told for session in reply.replaced),
        )

    async def complete(
        self,
        results: Sequence[Result],
        parts: Mapping[Partition, Sequence[Result]],
        worker_id: str,
        want: int,
        seats: Sequence[Seat],
    ) -> Completed:
        """Apply results. The tasks that their steps make are leased with what else waits, once all are applied.

        Those of a partition that is away are not waited for beside others: they are not stored, and are sent again.
        """
        there = {one: some for one, some in parts.items() if not one.away} or parts
        calls, left = [], want
        for partition, some in there.items():
            n = min(left, len(some))
            left -= n
            calls.append(partition.complete(some, worker_id, n, ()))
        replies: list[Completed] = []
        said: dict[tuple[str, str], Superseded | None] = {}
        failure: BaseException | None = None
        for some, reply in zip(there.values(), await asyncio.gather(*calls, return_exceptions=True), strict=True):
            if isinstance(reply, Completed):
                replies.append(reply)
                pairs = ((result.task_id, result.lease_id) for result in some)
                said |= zip(pairs, reply.verdicts, strict=True)
            elif failure is None or isinstance(failure, StoreUnavailable):
                failure = reply
        claims = tuple(claim for reply in replies for claim in reply.claims)
        if failure is not None and not (replies and isinstance(failure, StoreUnavailable)):
            # All results are sent again; nobody would run what was claimed meanwhile.
            await self._give_back(claims)
            raise failure
        return Completed(
            tuple(said.get((result.task_id, result.lease_id)) for result in results),
            frozenset().union(*(reply.landed for reply in replies)),
            await self._visits.lease_too(seats),
            claims,
            frozenset(one.lease_id for one in results if (one.task_id, one.lease_id) not in said),
        )

    async def _give_back(self, claims: Sequence[Claim]) -> None:
        pairs = self._partitions.split(((claim.job.id, claim.claim_id) for claim in claims), lambda pair: pair[0])
        with suppress(StoreUnavailable):
            await at_once([partition.release(some) for partition, some in pairs.items()])
