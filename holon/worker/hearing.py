"""The worker SDK: what a node says on any of its streams, and what becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from holon.rxon.v1 import worker_pb2
from holon.worker.leases import Lease
from holon.worker.load import Meter
from holon.worker.reports import BUSY_S, Reports

_log = logging.getLogger("holon.worker")

_LEAST_UNACKNOWLEDGED = 1_000
_UNACKNOWLEDGED_PER_CREDIT = 4


class Tasks(Protocol):
    """Who does the work. Called on the link's loop; must not block."""

    def offered(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        """Take a task: from now on the link is owed one `finish` or `reject` for the lease."""

    def stopped(self, lease: Lease, reason: str, grace: float) -> None:
        """Stop a task. Its final word is owed all the same, within `grace` seconds; for a lease that was lost with its
        session it is not sent."""

    def resumed(self, lease: Lease, time_left: float | None) -> None:
        """A new session goes on with the task, which may still run for so many seconds; None means no limit."""

    def settled(self, lease: Lease, committed: bool) -> None:
        """The node has answered the result of this lease for good, and used it or not: nothing is owed for it."""

    def alive(self) -> Sequence[Lease] | None:
        """The leases of which it is known that they are worked on, to be extended; None: all."""

    async def welcomed(self, welcome: worker_pb2.Welcome) -> None:
        """Take a node's terms, before anything of its session counts; raises Ended to leave it at that."""


class Hearing:
    """Hears all streams of a link, and hands on what they bring.

    Where a Hello is on its way, offers on an older stream cross it: they wait, as many as there may be. Whoever answers
    a Hello that does not name them gives them to others; where it is of no account they are taken all the same.

    Arguments:
        reports: what is told of tasks.
        credits: how many tasks may be held in all.

    Attributes:
        tasks: who does the work.
        credits: as above, the newest word.
        leaving: whether no more tasks are taken.
        tree: answers what the node asks about the job behind a task, which it does only of a holon; None: nobody does.
        resolve: takes decisions for what waits behind a task, likewise.
        meter: measures the machine that does the work; None: it is not this one, as of a holon.
    """

    tasks: Tasks

    def __init__(self, reports: Reports, credits: int) -> None:  # noqa: A002  # the protocol's word
        self.credits = credits
        self.leaving = False
        self.tree: Callable[[worker_pb2.TreeRequest], None] | None = None
        self.resolve: Callable[[worker_pb2.ResolveRequest], None] | None = None
        self.meter: Meter | None = None
        self._reports = reports
        # Offers that came on an older stream since a Hello was made that is not answered yet; None: there is no such.
        self._crossing: dict[Lease, worker_pb2.TaskOffer] | None = None
        self._unknown_kinds: set[str] = set()

    def __repr__(self) -> str:
        return f"Hearing({self._reports.leases}, crossing={'no' if self._crossing is None else len(self._crossing)})"

    @property
    def said_hello(self) -> bool:
        """Whether a Hello is on its way that is not answered yet."""
        return self._crossing is not None

    def says_hello(self) -> None:
        """A Hello is made: what is offered on an older stream from now on waits for its answer."""
        self._crossing = {}

    def welcomed(self) -> None:
        """It is answered: what crossed it has gone to others, or comes again."""
        self._crossing = None

    def take_crossing(self, *, stream_is_there: bool) -> None:
        """The Hello is of no account, or no more tasks are taken: see to what crossed it, if its stream is there."""
        crossing, self._crossing = self._crossing, None
        if crossing and stream_is_there:
            self.on_offers(worker_pb2.TaskOffers(offers=crossing.values()))

    def on_offers(self, offers: worker_pb2.TaskOffers) -> None:
        """Hand offers on, or reject them while leaving, or while the node owes too many acknowledgements."""
        most = max(_LEAST_UNACKNOWLEDGED, self.credits * _UNACKNOWLEDGED_PER_CREDIT)
        for offer in offers.offers:
            lease = Lease(offer.task_id, offer.lease_id)
            if lease in self._reports.leases:
                continue
            if self._crossing is not None and not self.leaving and len(self._crossing) < self.credits:
                self._crossing[lease] = offer
                continue
            self._reports.leases.take(lease)
            if self.leaving:
                # It crossed our Drain: no more come here, but perhaps to who comes in our place, under the same id.
                self._reports.reject(lease, "DRAINING", "the worker is stopping", again_after=0)
            elif self._reports.leases.kept >= most:
                busy = f"{most} results wait to be acknowledged"
                self._reports.reject(lease, "BUSY", busy, again_after=BUSY_S)
            else:
                self.tasks.offered(lease, offer)

    def on_acks(self, acks: worker_pb2.UpdateAcks) -> None:
        """Settle results."""
        for lease, committed in self._reports.acknowledge(acks):
            self.tasks.settled(lease, committed)

    def on_stops(self, stops: worker_pb2.StopTasks) -> None:
        """Hand stops on; one for a lease that is not held is ignored, since both sides' last words may cross."""
        for stop in stops.stops:
            lease = Lease(stop.task_id, stop.lease_id)
            if self._reports.leases.holds(lease):
                self.tasks.stopped(lease, stop.reason, stop.grace.seconds + stop.grace.nanos / 1e9)
            elif self._crossing is not None and self._crossing.pop(lease, None) is not None:
                # The node waits for a word of it.
                self._reports.leases.take(lease)
                self._reports.reject(lease, "STALE_OFFER", "the task was stopped before it started", again_after=0)

    def on_tree(self, request: worker_pb2.TreeRequest) -> bool:
        """Hand a question on, if somebody answers it."""
        if self.tree is not None:
            self.tree(request)
        return self.tree is not None

    def on_resolve(self, request: worker_pb2.ResolveRequest) -> bool:
        """Hand a decision on, if somebody takes it."""
        if self.resolve is not None:
            self.resolve(request)
        return self.resolve is not None

    def alive(self) -> Sequence[Lease] | None:
        """Those that who does the work knows of."""
        return self.tasks.alive()

    def load(self) -> worker_pb2.WorkerLoad | None:
        """What is measured of the machine."""
        return None if self.meter is None else self.meter.read()

    def on_unknown(self, kind: str) -> None:
        """Ignore what this version does not know, and say so once."""
        if kind not in self._unknown_kinds:
            self._unknown_kinds.add(kind)
            _log.warning("the node sends messages that this SDK does not know (%s); they are ignored", kind)
