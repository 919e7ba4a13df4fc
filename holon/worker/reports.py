"""The worker SDK: what the link tells of tasks. Final words are kept here until they are acknowledged."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from holon.domain.costs import Cost
from holon.errors import HolonError, ResourceExhausted, TooLarge
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.wire.frames import member_of
from holon.wire.stream import MAX_MESSAGE_BYTES
from holon.worker.accepting import Accepting
from holon.worker.events import Events
from holon.worker.leases import Lease, Leases
from holon.worker.outcome import cancelled, too_large
from holon.worker.session import Session
from holon.worker.timing import Timing

_log = logging.getLogger("holon.worker")

_result_in = member_of(worker_pb2.TaskUpdate, "result")

# When it is of use to be offered again what could not be taken just now.
BUSY_S = 2.0
# Of so many tasks that were given back it is told again what they cost; nobody says that they were heard of.
_MOST_SPENT = 1_000
# A node that says "at once" is not asked in a tight loop.
_LEAST_RETRY = 0.05


class Reports:
    """News of tasks, to the session of the moment. Everything belongs to the link's loop.

    Arguments:
        settled: called whenever a final word is given away or acknowledged.

    Attributes:
        leases: what is owed to the node.
        events: those of tasks that are not acknowledged.
        session: the one that all is sent on; None while there is none.
        rejected: told why, whenever a task is given back.
    """

    def __init__(self, timing: Timing, settled: Callable[[], None]) -> None:
        self.rejected: Callable[[str], None] = lambda _reason: None
        self.leases = Leases()
        self.events = Events()
        self.session: Session | None = None
        self._timing = timing
        self._settled = settled
        self._accepting = Accepting(timing.accept_after, self._accept)
        self._retries: dict[Lease, asyncio.TimerHandle] = {}
        # What was given back had cost, since the session of the moment began.
        self._spent: OrderedDict[Lease, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"Reports({self.leases})"

    def accept(self, lease: Lease) -> None:
        """Tell the node that the task runs, a moment from now: a final word before that says the same."""
        if self.leases.holds(lease):
            self._accepting.soon(lease)

    def progress(self, lease: Lease, percent: float | None, message: str) -> None:
        """Tell the node how far a task is; lost when there is no session."""
        if self.leases.holds(lease):
            self._accepting.first(lease)
            self._tell(_update(lease, progress=worker_pb2.TaskProgress(percent=percent, message=message)))

    def logs(self, lease: Lease, lines: Sequence[types_pb2.LogLine]) -> None:
        """Tell the node lines of a task's log; lost when there is no session, or no room."""
        if self.session is not None and self.leases.holds(lease):
            self._accepting.first(lease)
            update = _update(lease, logs=worker_pb2.TaskLogs(lines=lines))
            try:
                self.session.put(update.SerializeToString())
            except HolonError as error:
                # Results come before lines: a stream that is full is not ended for these.
                facts = {"task_id": lease.task_id, "lease_id": lease.lease_id}
                _log.debug("%d log lines of task %s were not sent: %s", len(lines), lease.task_id, error, extra=facts)

    def event(self, lease: Lease, event: worker_pb2.Event) -> None:
        """Tell the node of an event of a task, until it is acknowledged; lost once its final word was said."""
        if self.leases.holds(lease):
            self._accepting.first(lease)
            self.events.send(lease, event)

    async def room(self, lease: Lease) -> None:
        """Wait until the node may be told of one more event of a task; of one that is not held nothing is kept."""
        if self.leases.holds(lease):
            await self.events.room(lease)

    def summary(self, lease: Lease, summary: types_pb2.JobSummary) -> None:
        """Tell the node of the job behind a task that runs, from a holon; lost when there is no session."""
        if self.leases.holds(lease):
            self._accepting.first(lease)
            self._tell(_update(lease, progress=worker_pb2.TaskProgress(summary=summary)))

    @property
    def max_message_bytes(self) -> int:
        """The largest message that the node reads."""
        return self.session.max_message_bytes if self.session is not None else MAX_MESSAGE_BYTES

    def tree(self, page: worker_pb2.TreePage) -> None:
        """Answer a question about the job behind a task, from a holon; lost when there is no session."""
        if self.session is not None:
            self.session.put_control(worker_pb2.SessionRequest(tree_page=page))

    def reply(self, reply: worker_pb2.CommandReply) -> None:
        """Say what became of a decision, from a holon; lost when there is no session, and then it comes again."""
        if self.session is not None:
            replies = worker_pb2.CommandReplies(replies=[reply])
            self.session.put_control(worker_pb2.SessionRequest(command_replies=replies))

    def reject(
        self,
        lease: Lease,
        reason: str,
        message: str,
        *,
        again_after: float | None = None,
        cost: Cost = None,
        counts: bool = False,
    ) -> bool:
        """Give a task back: the final word on its lease. False when it is not held: nobody is told anything.

        Arguments:
            again_after: seconds after which it may come again; 0: as soon as there are credits. None: the node says.
            cost: what it cost until then; None: nothing.
            counts: whether the node waits to hear what it cost, though that is nothing.
        """
        held = self.leases.drop(lease)
        if held:
            self.rejected(reason)
            self._accepting.over(lease)
            self.events.over(lease)
            if cost is not None or counts:
                self._spent[lease] = cost or 0
                if len(self._spent) > _MOST_SPENT:
                    self._spent.popitem(last=False)
            rejected = worker_pb2.TaskRejected(reason=reason, message=message, cost=cost)
            if again_after is not None:
                rejected.retry_after.SetInParent()
                rejected.retry_after.FromMilliseconds(round(again_after * 1000))
                rejected.retry_at_once = not again_after
            self._tell(_update(lease, rejected=rejected))
            self._settled()
        return held

    def finish(self, lease: Lease, result: worker_pb2.TaskResult) -> None:
        """Say how a task ended: the final word on its lease. It is kept, and repeated, until it is acknowledged.

        It is said once the task's events are acknowledged: the node may have to ask for one again.
        """
        if self.leases.keep(lease, result):
            self._accepting.over(lease)
            self._send_result(lease)

    def reject_again(self, leases: Iterable[Lease]) -> None:
        """Give back on a new session what an older one was told is given back, which crossed the Hello of this.

        What else was given back on that one may never have come there: what it cost is told until it is acknowledged.
        """
        spent, self._spent = self._spent, OrderedDict()
        for lease in leases:
            self.leases.take(lease)
            cost, message = spent.pop(lease, None), "the worker no longer holds the task"
            self.reject(lease, "STALE_OFFER", message, again_after=0, cost=cost or None, counts=cost is not None)
        for lease, told in spent.items():
            self.finish_lost(lease, cancelled(told))

    def finish_lost(self, lease: Lease, result: worker_pb2.TaskResult) -> None:
        """Say what came of the work under a lease that is over: it is not used, but its cost counts."""
        if lease not in self.leases:
            self.leases.take(lease)
            self.finish(lease, result)

    def acknowledge(self, acks: worker_pb2.UpdateAcks) -> list[tuple[Lease, bool]]:
        """Forget results that are settled, and repeat those that the node could not take.

        Returns:
            whose were settled, and whether the node used them.
        """
        settled = []
        for lease in self.events.acknowledge(acks.events):
            self._send_result(lease)
        for ack in acks.results:
            lease = Lease(ack.task_id, ack.lease_id)
            if ack.verdict == worker_pb2.VERDICT_RETRY:
                self._retry(lease, ack.error)
                continue
            if not self.leases.forget(lease):
                continue
            self.events.over(lease)
            settled.append((lease, ack.verdict == worker_pb2.VERDICT_COMMITTED))
            if ack.verdict != worker_pb2.VERDICT_COMMITTED:
                name, facts = _verdict_name(ack), {"task_id": lease.task_id, "lease_id": lease.lease_id}
                level = logging.INFO if ack.verdict == worker_pb2.VERDICT_SUPERSEDED else logging.WARNING
                _log.log(level, "the node did not use the result of task %s: %s", lease.task_id, name, extra=facts)
        self._settled()
        return settled

    def repeat(self) -> None:
        """Send every unacknowledged event on the current session, and every result."""
        if self.session is not None:
            self.events.repeat(self.session)
        for lease in self.leases.results():
            self._send_result(lease)

    def stop(self) -> None:
        """Accept and repeat nothing more."""
        self._accepting.stop()
        self.events.stop()
        for timer in self._retries.values():
            timer.cancel()

    def _accept(self, lease: Lease) -> None:
        if self.leases.holds(lease):
            update = _update(lease)
            update.accepted.SetInParent()
            self._tell(update)

    def _tell(self, update: worker_pb2.TaskUpdate) -> None:
        """Queue an update on the current session; without one it is lost."""
        if self.session is None:
            return
        try:
            self.session.put(update.SerializeToString())
        except ResourceExhausted as error:
            self.session.break_off(error.message)
        except HolonError as error:
            facts = {"task_id": update.task_id, "lease_id": update.lease_id}
            _log.debug("an update of task %s was not sent: %s", update.task_id, error, extra=facts)

    def _send_result(self, lease: Lease) -> None:
        kept = self.leases.result(lease)
        if kept is None or self.session is None or self.events.wait(lease):
            return
        size, most = len(kept.result.data.data), self.session.max_payload_bytes
        if size > most:
            kept.result = too_large(
                kept.result, _too_large(f"its data has {size} bytes, and the limit of the node is {most}")
            )
        # Not put into an update, which would be a copy of all that a holon tells beside it.
        update = _update(lease, resent=kept.sent).SerializeToString() + _result_in(kept.result.SerializeToString())
        try:
            self.session.put(update)
        except TooLarge as error:
            if kept.result.HasField("summary"):
                # What a holon tells beside it is not worth the result.
                kept.result.ClearField("summary")
                self._send_result(lease)
                return
            kept.result = too_large(kept.result, _too_large(error.message))
            self._tell(_update(lease, resent=kept.sent, result=kept.result))
        except ResourceExhausted as error:
            self.session.break_off(error.message)
        except HolonError:
            # The stream is ending; the next session gets it.
            return
        kept.sent = True

    def _retry(self, lease: Lease, error: types_pb2.Error) -> None:
        if self.leases.result(lease) is None:
            return
        after = error.retry_after.seconds + error.retry_after.nanos / 1e9
        wait = max(after, _LEAST_RETRY) if error.HasField("retry_after") else self._timing.retry_result
        facts = {"task_id": lease.task_id, "lease_id": lease.lease_id}
        _log.info(
            "the node cannot store the result of task %s now; next try in %.1f s", lease.task_id, wait, extra=facts
        )
        if timer := self._retries.pop(lease, None):
            timer.cancel()
        self._retries[lease] = asyncio.get_running_loop().call_later(wait, self._repeat, lease)

    def _repeat(self, lease: Lease) -> None:
        self._retries.pop(lease, None)
        self._send_result(lease)


def _update(lease: Lease, **what: object) -> worker_pb2.TaskUpdate:
    return worker_pb2.TaskUpdate(task_id=lease.task_id, lease_id=lease.lease_id, **what)  # type: ignore[arg-type]


def _too_large(how: str) -> str:
    return f"the result is too large: {how}; store large data elsewhere and return its address"


def _verdict_name(ack: worker_pb2.ResultAck) -> str:
    known = ack.verdict in worker_pb2.Verdict.values()
    name = worker_pb2.Verdict.Name(ack.verdict).removeprefix("VERDICT_") if known else str(ack.verdict)
    return " ".join(filter(None, (name, ack.reason, ack.error.reason, ack.error.message)))
