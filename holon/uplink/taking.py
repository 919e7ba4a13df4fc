"""The uplink: the parent's offers: each becomes a job, moves the lease of one, or is given back with the reason."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from holon.engine.batches import AT_ONCE
from holon.errors import HolonError, InvalidArgument
from holon.rxon.v1 import worker_pb2
from holon.uplink.alone import Alone
from holon.uplink.asked import terms_of, time_for
from holon.uplink.books import Books
from holon.uplink.delegation import Delegation
from holon.uplink.making import Making, New, Outcome, Refusal
from holon.uplink.moving import Moving
from holon.uplink.place import Place
from holon.uplink.running import Running
from holon.uplink.stopping import Why
from holon.uplink.tenure import TenureLost
from holon.wire.values import MAX_ID
from holon.wire.worker import UNSERVABLE
from holon.worker.leases import Lease
from holon.worker.reports import BUSY_S, Reports

log = logging.getLogger(__name__)

# An offer that is looked at, and a newer one.
_OF_ONE_TASK = 2


@dataclass(slots=True)
class Starting:
    """An offer that is being looked at; `why` it is to stop already, if it is."""

    skill: str
    why: Why | None = None


@dataclass(slots=True)
class _Offered:
    """An offer that is being looked at: the job that is to be made for it, or why it is given back.

    `told`: whose word that job outdates.
    """

    lease: Lease
    offer: worker_pb2.TaskOffer
    new: New | None = None
    told: Delegation | None = None
    refusal: Refusal | None = None


class Taking:
    """Takes offers, or gives them back.

    Attributes:
        answer_in: how many seconds an offer may wait for its answer; the parent says it, as who it is.
        closed: whether no more jobs are begun, for this node leaves.
        lacking: called when an offer came for which there are no credits any more.
    """

    def __init__(self, place: Place, books: Books, reports: Reports, running: Running) -> None:
        self.answer_in = 5.0
        self.parent_id = ""
        self.closed = False
        self.lacking: Callable[[], None] = lambda: None
        self._place = place
        self._books = books
        self._reports = reports
        self._running = running
        self._starting: dict[Lease, Starting] = {}
        # How many of those are of one task.
        self._of_task: dict[str, int] = {}
        # Held while an offer of a task is looked at.
        self._alone = Alone()
        # Those of them that are to be jobs of their own.
        self._creating = 0
        # Those that came in this turn of the loop, of tasks of which nothing is known.
        self._fresh: list[_Offered] = []
        self._making = Making(place, books, reports, running, self._accept)
        self._moving = Moving(books, reports, running, self._accept)

    def __repr__(self) -> str:
        return f"Taking({len(self._starting)})"

    @property
    def starting(self) -> Mapping[Lease, Starting]:
        """Those of which it is not settled yet what becomes of them."""
        return self._starting

    def offered(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        """A task is offered: make it a job, or give it back."""
        of_task = self._of_task.get(lease.task_id, 0)
        if of_task >= _OF_ONE_TASK:
            self._reports.reject(lease, "BUSY", "other offers of the task are being processed")
            return
        self._starting[lease] = Starting(offer.skill)
        self._of_task[lease.task_id] = of_task + 1
        if of_task or self._running.may_know(lease.task_id):
            # It may have to wait, for what is done of the task already.
            self._running.start(self._take([_Offered(lease, offer)]), f"offer-{lease.task_id}")
            return
        if len(self._fresh) in (0, AT_ONCE):
            self._fresh = []
            self._running.start(self._take_fresh(self._fresh), "offers")
        self._fresh.append(_Offered(lease, offer))

    def deadline(self, seconds_left: float | None) -> int:
        """When a job is to be stopped that may take so many seconds, in milliseconds of the store's clock."""
        lasts = self._place.result_timeout if seconds_left is None else time_for(seconds_left)
        return self._place.store.now() + lasts

    async def _take_fresh(self, offers: Sequence[_Offered]) -> None:
        """Take what has come in this turn of the loop, of tasks of which nothing is known."""
        if offers is self._fresh:
            self._fresh = []
        await self._take(offers)

    async def _take(self, offers: Sequence[_Offered]) -> None:
        """Have jobs do tasks, each of them another one; or give them back."""
        taken: list[str] = []
        new: list[_Offered] = []
        try:
            for one in offers:
                # Where the stream was replaced, the task is offered again while its first offer is looked at.
                await self._alone.take(one.lease.task_id)
                taken.append(one.lease.task_id)
                try:
                    one.refusal = await self._look(one)
                except Exception as error:  # noqa: BLE001  one offer is no reason to lose the others
                    one.refusal = _refusal(one, error)
                if one.new is not None:
                    new.append(one)
            await self._make(new)
        finally:
            self._creating -= len(new)
            for task_id in taken:
                self._alone.leave(task_id)
            for one in offers:
                self._started(one.lease)
            self._running.changed.set()
        for one in offers:
            if (refusal := one.refusal) is not None:
                if refusal.again_after == 0:
                    # The parent hears first that there are no credits for it, so it may offer it as soon as there are.
                    self.lacking()
                self._reports.reject(one.lease, refusal.reason, refusal.message, again_after=refusal.again_after)

    async def _make(self, offers: Sequence[_Offered]) -> None:
        jobs = [one.new for one in offers if one.new is not None]
        if not jobs:
            return
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self._making.make(jobs)
        except Exception as error:  # noqa: BLE001  told below
            outcomes = [error] * len(jobs)
            for one in offers:
                if one.told is not None:
                    self._running.telling.not_outdated(one.told)
        for one, outcome in zip(offers, outcomes, strict=True):
            one.refusal = _refusal(one, outcome) if isinstance(outcome, Exception) else outcome

    async def _look(self, one: _Offered) -> Refusal | None:
        """Have the job that does a task already go on with it, or a new one be made; else why it is given back."""
        lease, offer = one.lease, one.offer
        try:
            terms = terms_of(offer, self._place.store.now(), self._place.result_timeout)
        except InvalidArgument as error:
            return Refusal("UNSUITABLE", error.message)
        loop = asyncio.get_running_loop()
        until = loop.time() + self.answer_in / 2
        known = await self._running.known(offer.task_id)
        if known is not None:
            if not known.precedes(offer):
                return Refusal("STALE_OFFER", f"this holon already had attempt {known.attempt} of the task")
            if not await self._moving.made_way(known, offer, until):
                return Refusal("BUSY", "an earlier attempt of the task is still being stopped here", again_after=BUSY_S)
            if await self._moving.moved(known, lease, offer, terms):
                return None
        if self.closed:
            return Refusal("DRAINING", "this node of the holon is shutting down", again_after=0)
        if len(self._running) + self._creating >= self._place.max_jobs:
            full = f"{self._place.max_jobs} tasks are in progress, which is the limit"
            return Refusal("BUSY", full, again_after=BUSY_S if self._running.coming_back else 0)
        if self._place.offerings.lacks(offer.skill):
            return Refusal(UNSERVABLE, "no worker here has a skill that the task needs", again_after=0)
        if loop.time() > until:
            return Refusal("BUSY", "the holon took too long to accept it", again_after=BUSY_S)
        run = 0
        if known is not None:
            one.told = self._running.telling.outdated(offer.task_id)
            if known.generation == offer.generation:
                run = offer.attempt if known.withdrawn else known.run
        one.new = self._making.new(lease, offer, terms, self.parent_id, run)
        self._creating += 1
        return None

    def _accept(self, entry: Delegation, lease: Lease) -> None:
        """The job is in the store: say so, and see it to its end."""
        starting = self._started(lease)
        self._reports.accept(lease)
        running = self._running.goes_on(entry)
        if starting is not None and starting.why is not None:
            self._running.stop_soon(running, starting.why)

    def _started(self, lease: Lease) -> Starting | None:
        """It is settled what becomes of an offer."""
        starting = self._starting.pop(lease, None)
        if starting is not None:
            left = self._of_task.pop(lease.task_id) - 1
            if left:
                self._of_task[lease.task_id] = left
        return starting


def _refusal(one: _Offered, error: Exception) -> Refusal:
    """Why an offer is given back with which something went wrong; raises what concerns more than one."""
    if isinstance(error, TenureLost):
        raise error
    if isinstance(error, HolonError):
        return Refusal("BUSY", f"the holon cannot accept it now: {error.message}", again_after=BUSY_S)
    facts = {"task_id": one.lease.task_id[:MAX_ID]}
    log.error("an offer of the parent could not be read", exc_info=error, extra=facts)
    return Refusal("UNSUITABLE", "the holon failed to read the offer; its log has the cause")
