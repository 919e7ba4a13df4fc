"""The worker SDK: runs what is offered, within its slots, and says exactly one final word for each."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence

from holon.rxon.v1 import worker_pb2
from holon.worker.alarm import Alarm
from holon.worker.call import Call
from holon.worker.events import SendEvent
from holon.worker.files import BlockingFiles, Files, TaskFolder
from holon.worker.leases import Lease
from holon.worker.link import Link
from holon.worker.log import Log
from holon.worker.outcome import CANCELLED, TIMEOUT_ERROR, cancelled, failure
from holon.worker.progress import Progress
from holon.worker.reports import BUSY_S
from holon.worker.skill import Skill
from holon.worker.threads import Mailbox, Threads
from holon.worker.timing import Timing
from holon.worker.tracing import Tracing

_log = logging.getLogger("holon.worker")

DEADLINE = "DEADLINE"


class Runner:
    """Takes tasks from a link and gives them to handlers. Everything belongs to the link's loop.

    A handler that outlives its stop or its time limit keeps its slot until it returns, and the credits say so.

    Arguments:
        link: where what becomes of tasks is told.
        skills: what it can do.
        slots: how many handlers may run at once.
        handlers: the loop, in another thread, on which async handlers run.
        tracing: makes the spans of tasks.
        closing: whether the handlers' loop is being closed; it is asked there.
    """

    def __init__(
        self,
        link: Link,
        skills: Sequence[Skill],
        slots: int,
        handlers: asyncio.AbstractEventLoop,
        timing: Timing,
        tracing: Tracing,
        closing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._link = link
        self._reports = link.reports
        self._skills = {(one.name, one.type, one.version): one for one in skills}
        self._slots = slots
        self._timing = timing
        self._tracing = tracing
        self._closing = closing
        self._loop = asyncio.get_running_loop()
        self._inward = Mailbox(self._loop)
        self._outward = Mailbox(handlers)
        self._threads = Threads("holon-handler")
        self._calls: dict[Lease, Call] = {}
        self._alarm = Alarm(self._loop, self._calls.values)
        self._granted = slots

    def __repr__(self) -> str:
        return f"Runner(slots={self._slots}, running={len(self._calls)}, uncounted={self._uncounted})"

    def offered(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        """Start a task, or reject it."""
        skill = self._skill_of(offer)
        if skill is None:
            asked = " ".join(filter(None, (offer.skill, offer.type, offer.version)))
            self._reports.reject(lease, "UNKNOWN_SKILL", f"this worker has no skill {asked!r}")
            return
        if refusal := _refusal(offer):
            self._reports.reject(lease, *refusal)
            return
        if len(self._calls) >= self._slots:
            # It crossed our word of fewer credits, or that was not said yet. Perhaps nobody else can do it, so it is to
            # come again as soon as they allow.
            self._grant()
            self._reports.reject(lease, "BUSY", f"all {self._slots} slots of the worker are in use", again_after=0)
            return
        call = self._calls[lease] = Call(lease, offer, skill, self._loop.time(), self._tracing)
        if "progress" in skill.injected:
            report = functools.partial(self._reports.progress, lease)
            call.progress = Progress(self._inward, report, self._timing.progress_every)
        if "log" in skill.injected:
            call.log = Log(self._inward, functools.partial(self._reports.logs, lease), self._timing.log_every)
        if "send_event" in skill.injected:
            call.send_event = SendEvent(self._inward, functools.partial(self._reports.event, lease), skill)
        if "files" in skill.injected:
            folder = call.folder = TaskFolder()
            call.files = Files(folder, self._threads.submit) if skill.is_async else BlockingFiles(folder)
        if offer.HasField("time_left"):
            self._alarm.set(call, offer.time_left.seconds + offer.time_left.nanos / 1e9, self._time_over)
        if skill.is_async:
            self._outward.post(self._begin, call)
        elif not self._in_thread(functools.partial(self._work, call)):
            del self._calls[lease]
            self._alarm.drop(call)
            self._reports.reject(lease, "BUSY", "no thread can be started for the task", again_after=BUSY_S)
            return
        self._reports.accept(lease)

    def stopped(self, lease: Lease, reason: str, grace: float) -> None:
        """Stop a task; what its handler returns within `grace` seconds is still its final word."""
        if call := self._calls.get(lease):
            self._stop(call, reason, max(grace, self._timing.stop_patience))

    def resumed(self, lease: Lease, time_left: float | None) -> None:
        """Go on under the limit as it is now."""
        if (call := self._calls.get(lease)) and not call.stopping:
            if time_left is None:
                self._alarm.drop(call)
            else:
                self._alarm.set(call, time_left, self._time_over)

    def settled(self, lease: Lease, committed: bool) -> None:
        """Nothing here is kept for a result."""

    def alive(self) -> None:
        """All of them: whoever runs them is here."""

    async def welcomed(self, welcome: worker_pb2.Welcome) -> None:
        """Any node will do."""

    def give_back(self) -> None:
        """Reject everything that still runs, because the worker leaves."""
        for call in tuple(self._calls.values()):
            self._tell_handler(call, "DRAINING")
            self._silence(call)
            self._hand_back(call, "DRAINING", "the worker stops before the task has ended", again_after=0)

    def close(self) -> None:
        """Stop every handler and say nothing more."""
        for call in self._calls.values():
            self._tell_handler(call, "DRAINING")
            self._silence(call)
            if call.folder is not None:
                call.folder.close()
        self._alarm.close()
        self._threads.close()

    async def cleaned_up(self, seconds: float) -> None:
        """Return once the async handlers that were stopped have ended, or so many seconds have passed.

        It is for their loop, once this one is closed.
        """
        tasks = [call.task for call in self._calls.values() if call.task is not None and not call.task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def _skill_of(self, offer: worker_pb2.TaskOffer) -> Skill | None:
        """The one that the offer names; a node that does not say of which version or type it is means any."""
        exact = self._skills.get((offer.skill, offer.type, offer.version))
        return exact or next((one for one in self._skills.values() if one.answers(offer)), None)

    @property
    def _uncounted(self) -> int:
        """How many slots are taken by what the node does not count any more, or is about not to."""
        return sum(call.outlived or not self._reports.leases.holds(lease) for lease, call in self._calls.items())

    def _grant(self) -> None:
        """Tell the node how many slots there are for it, where that has changed."""
        granted = self._slots - self._uncounted
        if granted != self._granted:
            self._granted = granted
            self._link.set_credits(granted)

    def _time_over(self, call: Call) -> None:
        call.verdict = self._timed_out(call)
        self._stop(call, DEADLINE, self._timing.stop_patience)

    def _timed_out(self, call: Call) -> worker_pb2.TaskResult:
        ran = self._loop.time() - call.began
        return failure(TIMEOUT_ERROR, f"the task reached its time limit after {ran:.1f} s, and was stopped")

    def _stop(self, call: Call, reason: str, patience: float) -> None:
        if not call.stopping:
            self._tell_handler(call, reason)
            self._alarm.set(call, patience, self._outlived)

    def _tell_handler(self, call: Call, reason: str) -> None:
        if call.stopping:
            # It cleans up, which another cancel would end.
            return
        call.stopping = reason
        if call.cancelled is not None:
            call.cancelled.set(call.stopping)
        if call.skill.is_async:
            self._outward.post(_cancel, call)
        elif call.folder is not None:
            # Its thread waits for a file, and hears of nothing else.
            call.folder.stop()

    def _outlived(self, call: Call) -> None:
        """The handler did not stop in time: its task ends without it, and its slot is lost until it returns."""
        call.outlived = True
        if call.folder is not None:
            call.folder.close()
        _log.warning(
            "task %s: the handler %s still runs after its stop (%s); its slot stays in use until it returns",
            call.lease.task_id,
            call.skill.name,
            call.stopping,
            extra={"job_id": call.offer.job_id, "task_id": call.lease.task_id, "lease_id": call.lease.lease_id},
        )
        # Before the final word: that one frees a credit, which the slot cannot honour.
        self._grant()
        self._end(call, cancelled())

    def _end(self, call: Call, result: worker_pb2.TaskResult) -> None:
        """Say the final word, unless it was said. A stopped handler counts as cancelled only if that was wanted."""
        # Of a task that was told to stop nobody waits for more.
        self._silence(call, last=not call.stopping)
        if not self._reports.leases.holds(call.lease):
            return
        if call.verdict is not None:
            result = call.verdict
        elif call.stopping and result.status == CANCELLED:
            if call.stopping == DEADLINE:
                result = self._timed_out(call)
            elif call.stopping != "CANCELLED":
                self._hand_back(call, "STALE_OFFER", f"stopped: {call.stopping}", result)
                return
        took = int((self._loop.time() - call.began) * 1e9)
        result.duration.seconds, result.duration.nanos = divmod(took, 10**9)
        self._reports.finish(call.lease, result)

    def _hand_back(
        self,
        call: Call,
        reason: str,
        message: str,
        result: worker_pb2.TaskResult | None = None,
        *,
        again_after: float | None = None,
    ) -> None:
        """Give back what was begun: that costs what its handler said, or as much as any try."""
        cost = result.cost if result is not None and result.HasField("cost") else call.skill.price
        self._reports.reject(call.lease, reason, message, again_after=again_after, cost=cost)

    def _silence(self, call: Call, *, last: bool = False) -> None:
        if call.progress:
            call.progress.end(last=last)
        if call.log:
            # Why it failed, or was slow to stop, may be in its last lines.
            call.log.end()
        self._alarm.drop(call)

    def _done(self, call: Call, result: worker_pb2.TaskResult) -> None:
        """The handler returned."""
        del self._calls[call.lease]
        if call.folder is not None:
            call.folder.close()
            if call.folder.made and not self._threads.closed:
                # Where it cannot be, it goes with the call.
                self._in_thread(call.folder.remove)
        if self._granted < self._slots:
            self._grant()
        self._end(call, result)

    def _in_thread(self, call: Callable[[], object]) -> bool:
        """Make a call in a thread; False where there is none to be had, as in a container with too many."""
        try:
            self._threads.submit(call)
        except RuntimeError as error:
            _log.warning("no thread can be started; tasks wait or are returned: %s", error)
            return False
        return True

    def _work(self, call: Call) -> None:
        """In a handler's thread."""
        self._inward.post(self._done, call, cancelled() if call.stopping else call.run())

    def _begin(self, call: Call) -> None:
        """On the handlers' loop."""
        loop = asyncio.get_running_loop()
        handling = call.run_async(self._returned, self._closing)
        # Not by the loop, whose own way to make tasks may begin them here.
        call.task = asyncio.Task(handling, loop=loop, name=f"task-{call.lease.task_id}")
        call.task.add_done_callback(functools.partial(self._over, call))

    def _returned(self, call: Call, result: worker_pb2.TaskResult) -> None:
        """On the handlers' loop, in the call's task: what becomes of that is not waited for."""
        self._inward.post(self._done, call, result)

    def _over(self, call: Call, task: asyncio.Task[None]) -> None:
        """On the handlers' loop. A task that was cancelled before its first step never ran at all."""
        # Looked at, or it would be said that nobody did.
        lost = task.cancelled() or task.exception() is not None
        if call.told:
            # Also where the task is cancelled: a handler may have done that in its last step.
            return
        if lost and not call.stopping:
            self._inward.post(self._abandoned, call)
        else:
            self._inward.post(self._done, call, cancelled())

    def _abandoned(self, call: Call) -> None:
        """The handlers' loop is being closed."""
        self._hand_back(call, "DRAINING", "the worker was stopped before the task ended")
        self._done(call, cancelled())


def _refusal(offer: worker_pb2.TaskOffer) -> tuple[str, str] | None:
    """Why an offer of a skill is rejected: reason and message; None when it is not."""
    if offer.params.HasField("ref"):
        return "PAYLOAD_UNREACHABLE", "this worker cannot fetch params"
    if offer.params.encoding:
        return "UNSUITABLE", f"this worker cannot read params with the encoding {offer.params.encoding!r}"
    return None


def _cancel(call: Call) -> None:
    if call.task:
        call.task.cancel()
