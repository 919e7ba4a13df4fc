"""The uplink: people's decisions and signals from above, for what waits behind the tasks that this holon was given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from holon.domain.texts import clipped
from holon.engine.approvals import Deciding
from holon.engine.jobs import Jobs
from holon.engine.payloads import decode
from holon.engine.signals import Sending
from holon.engine.ways_down import NOT_HELD
from holon.errors import (
    FailedPrecondition,
    HolonError,
    NotFound,
    Unavailable,
    Unimplemented,
    invalid,
)
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.uplink.delegation import Delegation, owner_of
from holon.wire.grpc_status import error_of, told
from holon.wire.values import MAX_ID, is_id, json_of
from holon.worker.reports import Reports

# So many are taken at the same time.
MOST = 64
_RETRY_S = 1.0
_LONGEST_NAME = 256
# The end of the year 9999, in epoch milliseconds.
_LATEST = 253_402_300_799_999


class Resolving:
    """Takes decisions and signals for the parent's own tasks, under their leases of now, and for nothing else.

    It keeps nothing. Each has the same id each time that it comes, and is taken once, as one of a client's is.

    Arguments:
        jobs: take what is brought, those here and those further below.
        known: what there is of a task of the parent's.
        parent: who the parent is.
        holon_id: who this holon is.
        start: has something done beside.
    """

    def __init__(
        self,
        jobs: Jobs,
        known: Callable[[str], Awaitable[Delegation | None]],
        parent: Callable[[], str],
        holon_id: str,
        reports: Reports,
        start: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        self._jobs = jobs
        self._known = known
        self._parent = parent
        self._holon_id = holon_id
        self._reports = reports
        self._start = start
        self._under_way = 0

    def __repr__(self) -> str:
        return f"Resolving(under_way={self._under_way})"

    def brought(self, request: worker_pb2.ResolveRequest) -> None:
        """The parent brings a decision or a signal."""
        if self._under_way >= MOST:
            full = Unavailable(f"{MOST} decisions and signals are being processed; retry later", retry_after=_RETRY_S)
            self._say(request, full)
            return
        self._under_way += 1
        self._start(self._answer(request), "brought-from-above")

    async def _answer(self, request: worker_pb2.ResolveRequest) -> None:
        refused: HolonError | None = None
        try:
            await self._take(request)
        except HolonError as error:
            refused = error
        except Exception as error:  # noqa: BLE001  the outermost frame of an answer; it is logged
            refused = told(error, "what the parent brought")
        finally:
            self._under_way -= 1
        self._say(request, refused)

    async def _take(self, request: worker_pb2.ResolveRequest) -> None:
        if request.kind not in (worker_pb2.RESOLVE_KIND_APPROVAL, worker_pb2.RESOLVE_KIND_SIGNAL):
            raise Unimplemented("this holon accepts only decisions and signals from above")
        if not is_id(request.command_id):
            raise invalid("command_id", "must be 1 to 128 letters, digits, dots, underscores and dashes")
        if request.kind == worker_pb2.RESOLVE_KIND_APPROVAL and not request.approval_id:
            raise invalid("approval_id", "is empty; send the id of the approval")
        if request.kind == worker_pb2.RESOLVE_KIND_SIGNAL and not all(map(is_id, request.job_ids)):
            raise invalid("job_ids", "must each be 1 to 128 letters, digits, dots, underscores and dashes")
        if request.holon_ids and request.holon_ids[-1] != self._holon_id:
            raise invalid("holon_ids", "end with another holon than this one")
        parent, entry = self._parent(), await self._known(request.task_id)
        if entry is None or entry.parent != parent or entry.lease_id != request.lease_id:
            raise Unavailable(
                f"this holon does not hold task {request.task_id[:MAX_ID]!r} under this lease now; retry later",
                code=NOT_HELD,
                retry_after=_RETRY_S,
            )
        if list(request.job_ids[:1]) != [entry.job_id]:
            raise _not_open(request, "the task no longer belongs to the job that waited")
        data = decode(text, "data") if (text := json_of(request.payload, "data")) else None
        at = min(max(0, request.decided_at.ToMilliseconds()), _LATEST)
        by = clipped(request.decided_by, _LONGEST_NAME) or "parent holon"
        client, jobs, name = owner_of(parent), self._jobs, request.name
        try:
            if request.kind == worker_pb2.RESOLVE_KIND_SIGNAL:
                sent = Sending(name, data, request.command_id, request.job_ids[-1], parent, at)
                await jobs.signals.send(client, entry.job_id, sent, by=by)
            else:
                what = request.comment, request.approval_id, request.command_id
                await jobs.approvals.resolve(client, entry.job_id, Deciding(name, data, *what, parent, at), by=by)
        except NotFound as error:
            raise _not_open(request, error.message) from error

    def _say(self, request: worker_pb2.ResolveRequest, refused: HolonError | None) -> None:
        reply = worker_pb2.CommandReply(command_id=request.command_id[:MAX_ID])
        if refused is None:
            reply.result.CopyFrom(types_pb2.Payload())
        else:
            reply.error.CopyFrom(error_of(refused))
        self._reports.reply(reply)


def _not_open(request: worker_pb2.ResolveRequest, why: str) -> FailedPrecondition:
    if request.kind == worker_pb2.RESOLVE_KIND_SIGNAL:
        to = f"job {''.join(request.job_ids[-1:])[:MAX_ID]!r}"
        return FailedPrecondition(f"no signal can be sent to {to} here: {why}", code="SIGNAL_NOT_AWAITED")
    message = f"approval {request.approval_id[:MAX_ID]!r} is not open: {why}"
    return FailedPrecondition(message, code="APPROVAL_NOT_OPEN")
