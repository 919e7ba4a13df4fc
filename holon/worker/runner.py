"""The worker SDK: runs what is offered, within its slots, and says exactly one final word for each."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence

from holon.rxon.v1 import worker_pb2
from holon.worker.call import Call
from holon.worker.leases import Lease
from holon.worker.link import Link
from holon.worker.outcome import TIMEOUT_ERROR, cancelled, failure
from holon.worker.progress import Progress
from holon.worker.skill import Skill
from holon.worker.threads import Mailbox, Threads
from holon.worker.timing import Timing

_log = logging.getLogger("holon.worker")


class Runner:
    """Takes tasks from a link and gives them to handlers. Everything belongs to the link's loop.

    A handler that outlives its stop or its time limit keeps its slot until it returns, and the credits say so.

    Arguments:
        skills: what it can do.
        slots: how many handlers may run at once.
        handlers: the loop, in another thread, on which async handlers run.
    """

    def __init__(
        self, skills: Sequence[Skill], slots: int, handlers: asyncio.AbstractEventLoop, timing: Timing
    ) -> None:
        self._skills = tuple(skills)
        self._slots = slots
        self._timing = timing
        self._loop = asyncio.get_running_loop()
        self._inward = Mailbox(self._loop)
        self._outward = Mailbox(handlers)
        self._threads = Threads("holon-handler")
        self._calls: dict[Lease, Call] = {}
        self._unaccepted: dict[Lease, Call] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._outliving = 0
        self._link: Link | None = None

    def __repr__(self) -> str:
        return f"Runner(slots={self._slots}, running={len(self._calls)}, outliving={self._outliving})"

    def serve(self, link: Link) -> None:
        """Report to this link; before the first offer."""
        self._link = link

    def offered(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        """Start a task, or reject it."""
        if refusal := self._refusal(offer):
            self._reports.reject(lease, *refusal)
            return
        skill = next(one for one in self._skills if one.answers(offer))
        call = self._calls[lease] = Call(lease, offer, skill, self._loop.time())
        if "progress" in skill.injected:
            report = functools.partial(self._progress, call)
            call.progress = Progress(self._inward, report, self._timing.progress_every)
        if offer.HasField("time_left"):
            self._limit(call, offer.time_left.seconds + offer.time_left.nanos / 1e9)
        self._unaccepted[lease] = call
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._timing.accept_after, self._accept)
        if skill.is_async:
            self._outward.post(self._begin, call)
        else:
            self._threads.submit(functools.partial(self._work, call))

    def stopped(self, lease: Lease, reason: str, grace: float) -> None:
        """Stop a task; what its handler returns within `grace` seconds is still its final word."""
        if call := self._calls.get(lease):
            self._stop(call, reason, max(grace, self._timing.stop_patience))

    def resumed(self, lease: Lease, time_left: float | None) -> None:
        """Go on under the limit as it is now."""
        if (call := self._calls.get(lease)) and not call.stopping:
            self._limit(call, time_left)

    def give_back(self) -> None:
        """Reject everything that still runs, because the worker leaves."""
        for call in tuple(self._calls.values()):
            if not call.spoken:
                self._tell_handler(call, "DRAINING")
                self._silence(call)
                self._reports.reject(call.lease, "DRAINING", "the worker leaves before the task is done")

    def close(self) -> None:
        """Stop every handler and say nothing more."""
        for call in self._calls.values():
            self._tell_handler(call, "DRAINING")
            self._silence(call)
        if self._sweep:
            self._sweep.cancel()
        self._threads.close()

    @property
    def _reports(self):  # type: ignore[no-untyped-def]
        assert self._link
        return self._link.reports
