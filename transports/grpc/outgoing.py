"""The worker door: what a node says in one session; control goes first, then offers and verdicts in batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

from holon.domain.attempts import Unfinished
from holon.engine.members import Member
from holon.engine.results import Answer
from holon.engine.workers import Workers
from holon.errors import (
    Aborted,
    HolonError,
    InvalidArgument,
    ResourceExhausted,
    StoreUnavailable,
    TooLarge,
    Unavailable,
)
from holon.ports import Offer, Stop, StopReason
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.telemetry.metrics import StreamMetrics
from holon.wire.frames import frames_of
from holon.wire.grpc_status import error_of, told
from holon.wire.stream import BATCH_ITEMS, StreamWriter
from holon.wire.values import duration, timestamp
from holon.wire.worker import STOP_REASONS, offer_message, stop_message

log = logging.getLogger(__name__)

# Of messages that are wrong, whoever finds that out: one that only comes at the wrong time is not.
MAX_REFUSALS = 100
_TOO_EARLY = (ResourceExhausted, Unavailable)

Response = worker_pb2.SessionResponse

_OFFERS = frames_of(Response, "task_offers", "offers")
_ACKS = frames_of(Response, "update_acks", "results")


class Outgoing:
    """The engine's connection to one worker. Nothing here waits: all of it is queued for the stream's one writer.

    Arguments:
        writer: the stream's.
        workers: who gets back what could not be sent.
        can_stop: whether the worker listed CANCEL.
        accepts: whether it may say which offers it takes; else it takes whatever it is sent.
        end: ends the stream, with an error, after what is queued (True) or at once.
        metrics: where refusals are counted.
    """

    def __init__(
        self,
        writer: StreamWriter,
        workers: Workers,
        can_stop: bool,
        accepts: bool,
        end: Callable[[HolonError, bool], None],
        metrics: StreamMetrics,
    ) -> None:
        self._writer = writer
        self._workers = workers
        self._can_stop = can_stop
        self._accepts = accepts
        self._end = end
        self._metrics = metrics
        self._member: Member | None = None
        self._leaving = False
        self._refusals = 0
        self.sent_away = False
        self._offers = writer.lane(worker_pb2.TaskOffer, _OFFERS)
        self._acks = writer.lane(worker_pb2.ResultAck, _ACKS)

    def __repr__(self) -> str:
        return f"Outgoing({self._writer!r}, leaving={self._leaving}, refusals={self._refusals})"

    def open(self, member: Member, welcome: worker_pb2.Welcome) -> None:
        """The session has opened, and nothing was sent on it before."""
        self._member = member
        self._control(Response(welcome=welcome))

    # What the engine says ----------------------------------------------------------------------------------------

    def offer(self, offers: Sequence[Offer]) -> None:
        """Send offers. One that cannot be sent goes back to the queue."""
        for offer in offers:
            if self._leaving:
                self._give_back(offer.task_id, offer.lease_id)
                continue
            try:
                self._offers.put(offer_message(offer))
                if not self._accepts and self._member is not None:
                    self._workers.accepted(self._member, offer.task_id, offer.lease_id)
            except (TooLarge, ResourceExhausted) as error:
                # It does not fit now, or never will: somebody else may take it, and this worker later.
                log.warning(
                    "task %s cannot be offered to worker %s: %s",
                    offer.task_id,
                    offer.worker_id,
                    error.message,
                    extra={
                        "job_id": offer.job_id,
                        "task_id": offer.task_id,
                        "worker_id": offer.worker_id,
                        "lease_id": offer.lease_id,
                    },
                )
                self._give_back(offer.task_id, offer.lease_id, None)
            except HolonError as error:
                self._give_back(offer.task_id, offer.lease_id)
                self._end(error, False)
            except Exception as error:  # noqa: BLE001  who calls serves every worker: it ends this stream, and is logged
                self._give_back(offer.task_id, offer.lease_id, None)
                self._end(told(error, f"the offer of task {offer.task_id} to worker {offer.worker_id}"), False)

    def stop(self, stops: Sequence[Stop]) -> None:
        """Tell the worker to stop what it has; what was not sent yet is taken back instead."""
        wanted: dict[str, Stop] = {}
        for stop in stops:
            # A lease ends for one reason and is then found lost besides: the first says more.
            if self._holds(stop.lease.lease_id):
                wanted.setdefault(stop.lease.lease_id, stop)
        for unsent in self._offers.discard(lambda offer: offer.lease_id in wanted):
            del wanted[unsent.lease_id]
            self._give_back(unsent.task_id, unsent.lease_id)
        self._send_stops([stop_message(stop) for stop in wanted.values()])

    def go_away(self, reason: str, message: str, time_left: int) -> None:
        """Ask the worker to go, and offer it nothing more; one that was replaced is shown out."""
        self.leave()
        self.sent_away = True
        going = worker_pb2.GoAway(reason=reason, message=message, time_left=duration(time_left))
        self._control(Response(go_away=going))
        if reason == "REPLACED":
            self._end(Aborted(f"{message}; do not reconnect", code="SESSION_REPLACED"), True)

    # What the door says ------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Offer nothing more; what was not sent yet goes back to the queue."""
        self._leaving = True
        for offer in self._offers.discard(lambda _: True):
            self._give_back(offer.task_id, offer.lease_id)

    def beat(self, sequence: int, now_ms: int) -> None:
        """Answer a heartbeat."""
        self._control(Response(heartbeat_ack=worker_pb2.HeartbeatAck(sequence=sequence, node_time=timestamp(now_ms))))

    def renewed(self, until_ms: float) -> None:
        """A new access token was taken; the session now ends at this time, in epoch milliseconds."""
        answer = worker_pb2.Reauthenticated()
        if until_ms < math.inf:
            answer.session_expires_at.CopyFrom(timestamp(int(until_ms)))
        self._control(Response(reauthenticated=answer))

    def lost(self, leases: Sequence[types_pb2.LeaseRef | worker_pb2.TaskUpdate]) -> None:
        """Tell the worker that it does not hold these."""
        reason = STOP_REASONS[StopReason.LEASE_LOST]
        self._send_stops(
            [worker_pb2.StopTask(task_id=one.task_id, lease_id=one.lease_id, reason=reason) for one in leases]
        )

    def refuse(self, frame: int, error: HolonError, task_id: str = "", lease_id: str = "") -> None:
        """Say what is wrong with a message of the worker, or with one update in it; too many such end the stream."""
        self._metrics.refusals.add(error.code)
        refusal = worker_pb2.SessionError(frame=frame, error=error_of(error), task_id=task_id, lease_id=lease_id)
        self._control(Response(session_error=refusal))
        self._refused(error)

    def _refused(self, error: HolonError) -> None:
        if isinstance(error, _TOO_EARLY):
            return
        self._refusals += 1
        if self._refusals == MAX_REFUSALS:
            message = f"the node refused {MAX_REFUSALS} messages of this session; the last one: {error.message}"
            self._end(InvalidArgument(message, code="TOO_MANY_ERRORS"), True)

    def ask(self, request: worker_pb2.TreeRequest) -> None:
        """Ask a holon for a tree."""
        self._control(Response(tree_request=request))

    def resolve(self, request: worker_pb2.ResolveRequest) -> None:
        """Give a holon a decision. Raises what `StreamWriter.put_control` raises: who brings it can do without."""
        self._writer.put_control(Response(resolve_request=request))

    def answer(self, answers: Sequence[Answer]) -> None:
        """Send verdicts."""
        for answer in answers:
            self._acknowledge(_ack(answer))

    def took_events(self, refused: Mapping[str, HolonError | None]) -> None:
        """Say what became of events, by their ids: taken, or why not."""
        acks = [
            worker_pb2.EventAck(event_id=event_id, error=None if error is None else error_of(error))
            for event_id, error in refused.items()
        ]
        for start in range(0, len(acks), BATCH_ITEMS):
            self._control(Response(update_acks=worker_pb2.UpdateAcks(events=acks[start : start + BATCH_ITEMS])))

    def refuse_event(self, event_id: str, error: HolonError) -> None:
        """Say what is wrong with an event; too many such end the stream, as other refusals do.

        But a holon passes on what others said: theirs is no reason to end the link of all that it does.
        """
        self._metrics.refusals.add(error.code)
        self.took_events({event_id: error})
        if self._member is None or not self._member.session.is_holon:
            self._refused(error)

    def later(self, task_id: str, lease_id: str, error: HolonError) -> None:
        """Ask for a result to be sent again, after the error's `retry_after`."""
        self._acknowledge(
            worker_pb2.ResultAck(
                task_id=task_id, lease_id=lease_id, verdict=worker_pb2.VERDICT_RETRY, error=error_of(error)
            )
        )

    # How it is sent ----------------------------------------------------------------------------------------------

    def _holds(self, lease_id: str) -> bool:
        return self._member is not None and lease_id in self._member.session.leases

    def _give_back(self, task_id: str, lease_id: str, again_after: int | None = 0) -> None:
        if self._member is not None:
            self._workers.rejected(
                self._member, task_id, lease_id, again_after=again_after, reason=Unfinished.NOT_DELIVERED
            )

    def _send_stops(self, stops: Sequence[worker_pb2.StopTask]) -> None:
        if self._can_stop:
            for start in range(0, len(stops), BATCH_ITEMS):
                batch = stops[start : start + BATCH_ITEMS]
                self._control(Response(stop_tasks=worker_pb2.StopTasks(stops=batch)))

    def _acknowledge(self, ack: worker_pb2.ResultAck) -> None:
        try:
            self._acks.put(ack)
        except HolonError as error:
            self._end(error, False)

    def _control(self, frame: Response) -> None:
        try:
            self._writer.put_control(frame)
        except HolonError as error:
            self._end(error, False)


def _ack(answer: Answer) -> worker_pb2.ResultAck:
    ack = worker_pb2.ResultAck(task_id=answer.task_id, lease_id=answer.lease_id, verdict=worker_pb2.VERDICT_COMMITTED)
    if answer.again_after is not None:
        ack.verdict = worker_pb2.VERDICT_RETRY
        away = StoreUnavailable(
            "the node's store is not available; send the result again after retry_after", retry_after=answer.again_after
        )
        ack.error.CopyFrom(error_of(away))
    elif answer.superseded is not None:
        ack.verdict, ack.reason = worker_pb2.VERDICT_SUPERSEDED, answer.superseded
    elif answer.invalid is not None:
        ack.verdict = worker_pb2.VERDICT_INVALID
        ack.error.CopyFrom(error_of(answer.invalid))
    return ack
