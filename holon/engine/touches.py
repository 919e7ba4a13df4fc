"""What sessions say that needs no answer of its own, carried to the store in batches: once a second, or sooner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from holon.domain.attempts import Unfinished
from holon.domain.costs import Cost
from holon.engine.dispatcher import Dispatcher
from holon.errors import StoreUnavailable
from holon.ports import Accept, Handback, LeaseRef, Leases, Offer, Progress, Replaced, Stop, StopReason, Touch, Touched
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)


class Touches:
    """Collects what sessions say, the newest word of each lease only, and brings the answers back.

    Arguments:
        store: what is told.
        dispatcher: whose sessions hear of stops, and get what fits into freed credits.
        now: the time, in epoch milliseconds.
        every: how long a batch is collected, in seconds; well below a lease.
    """

    def __init__(self, store: Leases, dispatcher: Dispatcher, now: Callable[[], int], every: float = 1.0) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._now = now
        self._every = every
        self._away = Seldom(log)
        # With the time of each: the batch is carried later, and the store is to know when it was.
        self._accepts: dict[str, tuple[LeaseRef, int]] = {}
        self._extends: dict[str, LeaseRef] = {}
        # The sessions that hold all that they took, by their ids.
        self._alive: set[str] = set()
        self._handbacks: dict[str, Handback] = {}
        self._progress: dict[str, Progress] = {}
        self._credits: dict[str, tuple[str, str, int]] = {}
        # Sessions whose end the store has not heard of, with their workers.
        self._ended: dict[str, str] = {}
        self._telling: asyncio.Task[None] | None = None
        self._some = asyncio.Event()
        self._soon = asyncio.Event()
        # Set once the batch that is collected now has been carried, or could not be.
        self._carried = asyncio.Event()
        dispatcher.undelivered = self._undelivered
        # Called with sessions that were replaced.
        self.replaced: Callable[[Replaced], None] = lambda _: None
        # Called with sessions at other nodes that replaced one here, and have ended.
        self.newer_ended: Callable[[str], object] = lambda _: None

    def __repr__(self) -> str:
        return f"Touches(accepts={len(self._accepts)}, extends={len(self._extends)}, handbacks={len(self._handbacks)})"

    def accepted(self, lease: LeaseRef) -> None:
        """A worker took an offer."""
        self._accepts[lease.lease_id] = (lease, self._now())
        self._some.set()

    def extend(self, leases: Iterable[LeaseRef]) -> None:
        """A worker still holds these."""
        self._extends.update({lease.lease_id: lease for lease in leases})
        self._some.set()

    def alive(self, session_id: str) -> None:
        """The worker of a session still holds all that it took, however much that is: it is looked up once a batch."""
        self._alive.add(session_id)
        self._some.set()

    def hand_back(
        self,
        lease: LeaseRef,
        *,
        again_after: int | None,
        cost: Cost = None,
        unbegun: bool = False,
        unheard: bool = False,
        reason: Unfinished = Unfinished.RETURNED,
        code: str = "",
    ) -> None:
        """A worker gives a lease back without an outcome, as in `Handback`; this is carried at once."""
        for told in (self._accepts, self._extends, self._progress):
            told.pop(lease.lease_id, None)
        self._handbacks[lease.lease_id] = Handback(lease, again_after, cost, unbegun, unheard, reason, code)
        self.soon()

    def _undelivered(self, offers: Sequence[Offer]) -> None:
        """Their session ended before they were sent."""
        for offer in offers:
            self.hand_back(lease_of(offer), again_after=0, reason=Unfinished.NOT_DELIVERED)

    def progress(self, progress: Progress) -> None:
        """A running task's newest word."""
        lease_id = progress.lease.lease_id
        self._progress[lease_id] = progress.after(self._progress.get(lease_id))
        self._some.set()

    async def before(self, lease_ids: Iterable[str]) -> None:
        """Have carried at once what tasks last said of themselves: after their results nobody could take it.

        It waits no longer than a batch may take. What most tasks said was carried long ago, and nothing is waited for.
        """
        if self._progress and any(lease_id in self._progress for lease_id in lease_ids):
            carried = self._carried
            self.soon()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await carried.wait()

    def credits(self, worker_id: str, session_id: str, granted: int) -> None:
        """A session grants other credits than before; this is carried at once."""
        self._credits[session_id] = (worker_id, session_id, granted)
        self.soon()

    def ended(self, worker_id: str, session_id: str) -> None:
        """The store did not hear of the end of a session; it is told again until it does."""
        self._ended[session_id] = worker_id
        self._some.set()

    def soon(self) -> None:
        """Ask the store now: a stop may be due."""
        self._some.set()
        self._soon.set()

    async def run(self) -> None:
        """Carry what was said, as long as anything is."""
        try:
            await self._run()
        finally:
            if self._telling is not None:
                self._telling.cancel()
                # It is waited for, as its call may be half way; what it found nobody hears any more.
                await asyncio.gather(self._telling, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        extend_at = loop.time()
        while True:
            await self._some.wait()
            try:
                async with asyncio.timeout(self._every):
                    await self._soon.wait()
                # One worker may have much carried at once, again and again: what the others hold is not told each time.
                extends = loop.time() >= extend_at
            except TimeoutError:
                extends = True
            self._some.clear()
            self._soon.clear()
            if self._alive or self._extends:
                if extends:
                    extend_at = loop.time() + self._every
                else:
                    self._some.set()
            carried, self._carried = self._carried, asyncio.Event()
            try:
                await self.flush(extends=extends)
            finally:
                carried.set()

    async def flush(self, *, extends: bool = True) -> None:
        """Carry what was said so far. What the store could not take is said again with the next batch.

        Arguments:
            extends: whether what workers still hold is carried too; else that waits for a later batch.
        """
        accepts = dict(self._accepts)
        touch = self._take(extends=extends)
        sessions = (self._dispatcher.session(session_id) for _, session_id, _ in touch.credits)
        # Of very many the others have theirs after it.
        seats = self._dispatcher.seats_of(one for one in sessions if one is not None)
        touched: Touched | None = None
        try:
            with self._dispatcher.naming(seats) as named:
                touched = await self._store.touch(touch, seats)
                named.leased = touched.leased
        except StoreUnavailable as error:
            self._away.warn("accepts and heartbeats cannot be stored", why=error.message)
            self._put_back(touch, accepts)
        if touched is not None:
            for one in touched.replaced:
                self.replaced(one)
            for session_id in touched.ended:
                self.newer_ended(session_id)
            # Of one whose result went to the store before this call, nobody is to be told anything.
            lost = (Stop(lease, StopReason.LEASE_LOST) for lease in touched.lost if self._matters(lease))
            for lease in self._dispatcher.stop([*touched.stops, *lost]):
                # Its worker may work on it: this node was another process then, or the store did not hear of the end.
                self.hand_back(lease, again_after=0, unheard=True, reason=Unfinished.WORKER_LOST)
            if touch.handbacks or touch.credits:
                # A call that leased before the store knew of these credits got nothing for them.
                self._dispatcher.look()
            self._begin_to_tell_ends()

    def _begin_to_tell_ends(self) -> None:
        """Beside the batches: a part of the store that is away takes its time, and they must not wait for it."""
        if self._telling is not None:
            if not self._telling.done():
                return
            self._telling.result()
            self._telling = None
        if self._ended:
            self._telling = asyncio.create_task(self._tell_ends(), name="session-ends")

    async def _tell_ends(self) -> None:
        for session_id, worker_id in list(self._ended.items()):
            try:
                await self._store.close_session(worker_id, session_id)
            except StoreUnavailable:
                self._some.set()
                return
            self._ended.pop(session_id, None)

    def _take(self, *, extends: bool) -> Touch:
        now = self._now()
        touch = Touch(
            accepts=tuple(Accept(lease, now - at) for lease, at in self._accepts.values() if self._matters(lease)),
            extends=self._take_extends() if extends else (),
            handbacks=tuple(self._handbacks.values()),
            progress=tuple(self._progress.values()),
            credits=tuple(self._credits.values()),
        )
        for told in (self._accepts, self._handbacks, self._progress, self._credits):
            told.clear()
        return touch

    def _take_extends(self) -> tuple[LeaseRef, ...]:
        for session_id in self._alive:
            session = self._dispatcher.session(session_id)
            if session is not None:
                self._extends.update({one: lease_of(session.leases[one]) for one in session.accepted})
        extends = tuple(lease for lease in self._extends.values() if self._is_held(lease))
        self._alive.clear()
        self._extends.clear()
        return extends

    def _is_held(self, lease: LeaseRef) -> bool:
        """Whether a lease is still its session's. One that has ended is silent: its leases are not made longer."""
        session = self._dispatcher.session(lease.session_id)
        return session is not None and lease.lease_id in session.leases

    def _matters(self, lease: LeaseRef) -> bool:
        """Whether what was said of a lease is still news: most have ended before their batch is carried."""
        session = self._dispatcher.session(lease.session_id)
        return session is None or lease.lease_id in session.leases

    def _put_back(self, touch: Touch, accepts: dict[str, tuple[LeaseRef, int]]) -> None:
        self._accepts = {one.lease.lease_id: accepts[one.lease.lease_id] for one in touch.accepts} | self._accepts
        self._extends = {one.lease_id: one for one in touch.extends} | self._extends
        self._handbacks = {one.lease.lease_id: one for one in touch.handbacks} | self._handbacks
        self._progress |= {
            one.lease.lease_id: self._progress.get(one.lease.lease_id, one).after(one) for one in touch.progress
        }
        self._credits = {one[1]: one for one in touch.credits} | self._credits
        self._some.set()


def lease_of(offer: Offer) -> LeaseRef:
    """The lease of an offer, as its holder names it."""
    return LeaseRef(offer.worker_id, offer.session_id, offer.task_id, offer.lease_id)
