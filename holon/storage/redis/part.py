"""What the calls of a partition have in common: whom they tell of what waits, and how what was handed over is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from holon.clock import Clock
from holon.ports import (
    Claim,
    Hint,
    Leased,
    Seat,
    StoreSettings,
)
from holon.storage.hints import Hints
from holon.storage.redis import answers, arguments
from holon.storage.redis.arguments import Argument, settings_text
from holon.storage.redis.claimed import Claimed
from holon.storage.redis.keys import Keys
from holon.storage.redis.link import Link
from holon.storage.redis.opening import Found
from holon.storage.redis.queues import QueuePages
from holon.storage.redis.quotas import Quotas
from holon.storage.redis.shares import Shares
from holon.stores.records import NewerRecord
from holon.stores.redis_servers import Place, Strictness
from holon.stores.sealing import Seal
from holon.telemetry.metrics import StoreMetrics


class Part:
    """One partition, as its calls see it.

    Arguments:
        number: which partition.
        partitions: of how many.
        server: where it is.
        found: what it was found to be.
        settings: who this node is, and its durations.
        seal: what jobs carry is sealed with it.
        clock: what says the time, for tests; None: the server's clock.
        strictness: what must have become of a call before it is answered.
        shares: what of its credits a session may use here; None: all, since there is no other partition.
        claimed: what this node has claimed in all partitions; None: there is no other.
        told: called with its number and what may be worth a call.
        hints: what is watched.
        metrics: where calls are counted.

    Attributes:
        ready: whether jobs may be ready that were not claimed when it was last asked.
        waiting: the match keys that have waiting tasks, as far as this node knows.
    """

    def __init__(
        self,
        number: int,
        partitions: int,
        server: Place,
        found: Found,
        settings: StoreSettings,
        seal: Seal,
        clock: Clock | None,
        strictness: Strictness,
        shares: Shares | None,
        claimed: Claimed | None,
        told: Callable[[int, Hint], None],
        hints: Hints,
        metrics: StoreMetrics,
    ) -> None:
        self.number = number
        self._keys = Keys(number)
        self._settings = settings
        self._seal = seal
        self._shares = shares
        self._claimed = claimed
        self._told = told
        text = settings_text(settings, partitions)
        self.link = Link(server, self._keys, found, settings.node_id, text, clock, strictness, self, hints, metrics)
        self._pages = QueuePages(self.link, seal, many=partitions > 1)
        self._quotas: Quotas | None = None
        self.ready = True
        self.waiting: set[str] = set()
        # The last stop that was told to this node: the store forgets it when it hears so.
        self._last_stop = self._newest_stop = b""
        # When claims that cannot be opened are given back.
        self._timers: set[asyncio.TimerHandle] = set()

    def heard(self, hint: Hint) -> None:
        """Something may be worth a call."""
        self.ready = self.ready or hint.ready
        self.waiting |= hint.keys
        self._told(self.number, hint)

    def looked(self, hint: Hint) -> None:
        """The same, of all that waits here now."""
        self.waiting = set(hint.keys)
        self.heard(hint)

    def counted(self, session_id: str, held: int) -> None:
        """So many leases a session holds here."""
        if self._shares is not None:
            self._shares.counted(session_id, self.number, held)

    def kept_back(self) -> None:
        """A suspect waits here, which was not handed over."""
        if self._claimed is not None:
            self._claimed.suspects.add(self.number)

    @contextmanager
    def _asking(self, want: int, *, alone: bool = False) -> Iterator[int]:
        """Around a call that asks for claims: how many it asks for. What it leaves is said with its reply."""
        if self._claimed is None:
            self.ready = self.ready and not want
            yield want
            return
        with self._claimed.asking(want, alone=alone) as n:
            self.ready = self.ready and not n
            yield n

    def _held(self, job_id: str, claim_id: str, *, still: bool) -> None:
        if self._claimed is not None:
            (self._claimed.kept if still else self._claimed.let_go)(job_id, claim_id)

    @contextmanager
    def _places(self, seats: Sequence[Seat]) -> Iterator[list[Argument]]:
        """The arguments for the seats of a call."""
        if self._shares is None:
            yield arguments.seats_arguments((seat, None) for seat in seats)
            return
        with self._shares.lent(self.number, seats) as places:
            yield arguments.seats_arguments(places)

    def draw_on(self, quotas: Quotas) -> None:
        """Where what may be made of a quota is known."""
        self._quotas = quotas

    def _claims(self, answer: answers.Answer) -> tuple[Claim, ...]:
        """Claims that were handed over. What only a newer release reads is given back, and this node gives up.

        What cannot be opened is given back after a while, and this node goes on: perhaps another one has the key.
        """
        try:
            claims = answers.claims_of(answer, self._seal)
        except NewerRecord as error:
            self._give_back(answers.claimed(answer))
            self.link.give_up(error)
            raise
        if len(claims) < len(answer):
            closed = set(answers.claimed(answer)) - {(claim.job.id, claim.claim_id) for claim in claims}
            self._give_back_later(closed)
        if self._claimed is not None:
            self._claimed.took(claims)
        return claims

    def _give_back_later(self, claims: Collection[tuple[str, str]]) -> None:
        def give_back() -> None:
            self._timers.discard(timer)
            self._give_back(claims)

        timer = asyncio.get_running_loop().call_later(self._settings.claim / 2_000, give_back)
        self._timers.add(timer)

    def _give_back(self, claims: Collection[tuple[str, str]]) -> None:
        self.link.tell("release", len(claims), *(part for pair in claims for part in pair))

    def _leased(self, answer: answers.Answer, seats: Sequence[Seat]) -> Leased:
        """Offers that were made. Those that only a newer release reads lapse, and this node gives up."""
        try:
            leased = answers.leased_of(answer, self._seal)
        except NewerRecord as error:
            self.link.give_up(error)
            raise
        self.waiting.difference_update(key for seat in seats for key in seat.keys)
        self.waiting |= leased.left
        return leased
