"""Calls that go from one partition to the next: until there is enough, or everywhere.

What one partition has handed over is not lost because another is away: a visit fails when nothing came of it at all.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import MAX_PAGE_BYTES, Claim, Fired, Happened, JobRecord, Leased, Notice, Offer, Seat
from holon.storage.outbox import TAKE_BYTES
from holon.storage.redis.claimed import Claimed
from holon.storage.redis.part_records import ToTell
from holon.storage.redis.partition import Partition
from holon.storage.redis.partitions import Partitions

log = logging.getLogger(__name__)

# When some partition did not answer, this is when it is asked again (milliseconds).
AGAIN_MS = 1_000


class Visits:
    """Visits to several partitions.

    Arguments:
        partitions: all of them.
        claimed: what this node has claimed in them.
    """

    def __init__(self, partitions: Partitions, claimed: Claimed) -> None:
        self._partitions = partitions
        self._claimed = claimed

    def __repr__(self) -> str:
        return f"Visits({self._partitions}, {self._claimed})"

    # Jobs ------------------------------------------------------------------------------------------------------

    async def claim(self, want: int) -> Sequence[Claim]:
        """Claim jobs, first where some are known to wait; a suspect comes alone, once nothing is claimed."""
        claimed = self._claimed
        claims: list[Claim] = []
        lost: StoreUnavailable | None = None
        for partition in self._partitions.in_turn(lambda one: one.ready):
            try:
                while want and claimed.suspects and not claimed.busy:
                    if alone := await self._claim_suspect():
                        return alone
                if (want and len(claims) == want) or claimed.suspects:
                    break
                claims += await partition.claim(want - len(claims))
            except StoreUnavailable as error:
                lost = error
        if not claims and want and claimed.suspects and not claimed.busy:
            return await self._claim_suspect()
        if lost is not None and not claims:
            raise lost
        return tuple(claims)

    async def _claim_suspect(self) -> Sequence[Claim]:
        number = min(self._claimed.suspects)
        try:
            # Meanwhile, and until it is let go, no other call asks for anything.
            return await self._partitions[number].claim(1, alone=True)
        finally:
            self._claimed.suspects.discard(number)

    # Tasks -----------------------------------------------------------------------------------------------------

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        """Visit the partitions until all seats are taken."""
        offers: list[Offer] = []
        keys = {key for seat in seats for key in seat.keys}
        lost: StoreUnavailable | None = None
        for partition in self._partitions.in_turn(lambda one: not keys.isdisjoint(one.waiting)):
            if not seats:
                break
            try:
                some = (await partition.lease(seats)).offers
            except StoreUnavailable as error:
                lost = error
                continue
            offers += some
            seats = _left(seats, some)
        if lost is not None and not offers:
            raise lost
        return Leased(tuple(offers), self._wait(keys))

    async def lease_too(self, seats: Sequence[Seat]) -> Leased:
        """The same after another call, which is not undone when this one fails."""
        try:
            return await self.lease(seats) if seats else Leased()
        except StoreUnavailable as error:
            log.debug("nothing was leased after a call: %s", error.message)
            return Leased((), self._wait({key for seat in seats for key in seat.keys}))

    def _wait(self, keys: AbstractSet[str]) -> frozenset[str]:
        """Those of these match keys that have waiting tasks anywhere."""
        return frozenset(key for key in keys if any(key in one.waiting for one in self._partitions))

    def with_others(self, seats: Sequence[Seat], leased: Leased) -> Leased:
        """What was leased in one partition, with what waits in the others."""
        if not seats:
            return leased
        return Leased(leased.offers, self._wait({key for seat in seats for key in seat.keys}))

    def turn_of(self, partition: Partition, seats: Sequence[Seat]) -> Sequence[Seat]:
        """Those seats whose turn it is to get what waits in this partition; the others are leased to by `lease`.

        What a session gets next would else always be out of the partition of what it has just ended.
        """
        return [seat for seat in seats if not random.randrange(1 + self._elsewhere(partition, seat))]  # noqa: S311

    def _elsewhere(self, partition: Partition, seat: Seat) -> int:
        others = (one for one in self._partitions if one is not partition and not one.away)
        return sum(not one.waiting.isdisjoint(seat.keys) for one in others)

    # Timers and history ----------------------------------------------------------------------------------------

    async def fire(self, limit: int, want: int) -> Fired:
        """Do what is due everywhere, then claim what that has made ready."""
        turn = self._partitions.in_turn(lambda one: one.ready)
        limits = [limit // len(turn) + (at < limit % len(turn)) for at in range(len(turn))]
        asked = [(one, most) for one, most in zip(turn, limits, strict=True) if most]
        replies = await asyncio.gather(*(one.fire(most, 0) for one, most in asked), return_exceptions=True)
        now = self._partitions.first.now()
        # One that did not answer is asked again; one that was not asked has its turn next.
        dues = [now + AGAIN_MS] * (len(self._partitions) - len(turn)) + [now] * (len(turn) - len(asked))
        fired: list[Fired] = []
        lost: BaseException | None = None
        for (partition, _), reply in zip(asked, replies, strict=True):
            if isinstance(reply, BaseException):
                lost = reply
                dues.append(now + AGAIN_MS)
                continue
            fired.append(reply)
            dues += [] if reply.next_due is None else [self._partitions.here(partition, reply.next_due)]
        if lost is not None and (not fired or not isinstance(lost, StoreUnavailable)):
            raise lost
        return Fired(
            min(dues, default=None),
            await self._claim_too(want),
            tuple(spawn for reply in fired for spawn in reply.spawns),
            tuple(loss for reply in fired for loss in reply.losses),
        )

    async def _claim_too(self, want: int) -> tuple[Claim, ...]:
        """Claim what another call made ready; that is not undone when this fails."""
        try:
            ready = want and any(one.ready for one in self._partitions)
            return tuple(await self.claim(want)) if ready else ()
        except StoreUnavailable as error:
            log.debug("nothing was claimed after a call: %s", error.message)
            return ()

    async def take(self, limit: int) -> Sequence[Notice]:
        """Take notices, each time from another partition on."""
        notices: list[Notice] = []
        room = TAKE_BYTES
        lost: StoreUnavailable | None = None
        for partition in self._partitions.in_turn(lambda _: True):
            if len(notices) == limit or room <= 0:
                break
            try:
                some, size = await partition.take(limit - len(notices), room)
            except StoreUnavailable as error:
                lost = error
                continue
            notices += some
            room -= size
        if lost is not None and not notices:
            raise lost
        return notices

    async def take_untold(self, what: ToTell, limit: int, hold: int) -> Happened:
        """Take what is to be told, each time from another partition on."""
        jobs: list[tuple[JobRecord, int]] = []
        room = MAX_PAGE_BYTES
        lost: StoreUnavailable | None = None
        turn = self._partitions.in_turn(lambda _: True)
        now = self._partitions.first.now()
        # One that did not answer is asked again; one that was not asked has its turn next.
        dues = [now + AGAIN_MS] * (len(self._partitions) - len(turn))
        for partition in turn:
            if len(jobs) == limit or room <= 0:
                dues.append(now)
                break
            try:
                some, size = await partition.take_untold(what, limit - len(jobs), hold, room, empty=not jobs)
            except StoreUnavailable as error:
                lost = error
                dues.append(now + AGAIN_MS)
                continue
            jobs += some.jobs
            room -= size
            dues += [] if some.next_due is None else [self._partitions.here(partition, some.next_due)]
        if lost is not None and not jobs:
            raise lost
        return Happened(tuple(jobs), min(dues, default=None))


def _left(seats: Sequence[Seat], offers: Sequence[Offer]) -> Sequence[Seat]:
    """The room that is left at seats after these offers."""
    taken = Counter(offer.session_id for offer in offers)
    left: list[Seat] = []
    for seat in seats:
        n = min(seat.n, taken[seat.session_id])
        taken[seat.session_id] -= n
        if seat.n > n:
            left.append(replace(seat, n=seat.n - n))
    return left
