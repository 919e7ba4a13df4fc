"""The worker door: a holon below is given decisions and signals from above, and says what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holon.domain.signals import Signal
from holon.engine.ways_down import Decision, PassedDown
from holon.errors import ResourceExhausted, TooLarge, Unavailable, Unimplemented
from holon.rxon.v1 import worker_pb2
from holon.wire.decisions import refusal_of
from holon.wire.values import json_payload, timestamp

# A holon is given so many at a time.
MAX_DECISIONS = 64
_RETRY_S = 1.0
# What each is called, and the code while it is under way already.
_WORDS = {Decision: ("decision", "APPROVAL_PENDING"), Signal: ("signal", "HOLON_AWAY")}


class ChildDecisions:
    """A linked holon, as those know it who bring decisions. Nothing that it says ends its session.

    Arguments:
        holon_id: who it is.
        send: queues a decision for it; raises TooLarge where it could not read that.
        takes: whether it says that it takes them.
        before: the same holon on its stream before, if that is there still: what was sent there is answered here.

    Attributes:
        sent: who waits for which answer, by command.
    """

    def __init__(
        self,
        holon_id: str,
        send: Callable[[worker_pb2.ResolveRequest], None],
        *,
        takes: bool,
        before: ChildDecisions | None = None,
    ) -> None:
        self._holon_id = holon_id
        self._send = send
        self._takes = takes
        self.sent: dict[str, asyncio.Future[worker_pb2.CommandReply]] = {} if before is None else before.sent

    def __repr__(self) -> str:
        return f"ChildDecisions({self._holon_id}, sent={len(self.sent)})"

    async def decide(self, passed: PassedDown, seconds: float) -> None:
        """As `Decider.decide`; on cancel an answer that still comes is passed over."""
        what, pending = _WORDS[type(passed.brought)]
        if not self._takes:
            raise Unimplemented(
                f"holon {self._holon_id} does not list HOLON, so it accepts no {what}s from above; send it to the "
                "ADMIN_SOCKET of that holon"
            )
        if len(self.sent) >= MAX_DECISIONS:
            raise ResourceExhausted(
                f"holon {self._holon_id} has {MAX_DECISIONS} unanswered decisions and signals; retry later",
                retry_after=_RETRY_S,
            )
        if passed.command_id in self.sent:
            raise Unavailable(
                f"holon {self._holon_id} is processing this {what}; retry later",
                code=pending,
                retry_after=_RETRY_S,
            )
        answer = self.sent[passed.command_id] = asyncio.get_running_loop().create_future()
        try:
            self._put(passed)
            async with asyncio.timeout(seconds):
                reply = await answer
        except TimeoutError:
            raise Unavailable(
                f"holon {self._holon_id} did not answer within {seconds:.1f} s, and may have accepted the {what} or "
                "not; retry with the same request id",
                code="HOLON_AWAY",
                retry_after=_RETRY_S,
            ) from None
        finally:
            del self.sent[passed.command_id]
        if reply.HasField("error"):
            raise refusal_of(reply.error, self._holon_id)

    def _put(self, passed: PassedDown) -> None:
        try:
            self._send(_request_of(passed))
        except TooLarge as error:
            raise TooLarge(f"the message is larger than holon {self._holon_id} accepts: {error.message}") from error
        except (ResourceExhausted, Unavailable) as error:
            raise Unavailable(
                f"holon {self._holon_id} cannot be reached now: {error.message}; retry later",
                code="HOLON_AWAY",
                retry_after=_RETRY_S,
            ) from error

    def await_any(self, replies: worker_pb2.CommandReplies) -> bool:
        """Whether there is an answer among these that somebody waits for."""
        waited = (self.sent.get(reply.command_id) for reply in replies.replies)
        return any(answer is not None and not answer.done() for answer in waited)

    def replied(self, replies: worker_pb2.CommandReplies) -> None:
        """Answers have come; those that nobody waits for, perhaps any more, are passed over."""
        for reply in replies.replies:
            answer = self.sent.get(reply.command_id)
            if answer is not None and not answer.done():
                answer.set_result(reply)


def _request_of(passed: PassedDown) -> worker_pb2.ResolveRequest:
    brought = passed.brought
    request = worker_pb2.ResolveRequest(
        command_id=passed.command_id,
        task_id=passed.task_id,
        lease_id=passed.lease_id,
        job_ids=passed.job_ids,
        holon_ids=passed.holon_ids,
        decided_by=brought.by,
    )
    match brought:
        case Decision():
            request.kind, request.name = worker_pb2.RESOLVE_KIND_APPROVAL, brought.decision
            request.approval_id, request.comment = brought.approval_id, brought.comment
            request.decided_at.CopyFrom(timestamp(brought.decided_at))
        case Signal():
            request.kind, request.name = worker_pb2.RESOLVE_KIND_SIGNAL, brought.name
            request.decided_at.CopyFrom(timestamp(brought.sent_at))
    if brought.data:
        request.payload.CopyFrom(json_payload(brought.data))
    return request
