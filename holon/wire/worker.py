"""The wire: what passes between a node and a worker, as the engine's records and as protobuf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from holon.domain.causes import MAX_CAUSES, cause, causes_in, with_causes
from holon.domain.fleet import MAX_STATUS
from holon.domain.task import FAILURE, TRANSIENT_ERROR, Outcome, TaskError
from holon.domain.texts import MAX_ERROR_CODE, MAX_ERROR_MESSAGE, clipped
from holon.domain.trace import headers_of
from holon.errors import InvalidArgument, Violation
from holon.ports import Offer, Stop, StopReason, Superseded
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.wire.values import fill, json_of, time_limit

STOP_REASONS = {
    StopReason.CANCELLED: "CANCELLED",
    StopReason.DEADLINE: "DEADLINE",
    StopReason.LEASE_LOST: "LEASE_LOST",
}
# Why a holon gives back what it accepted: nobody there has begun it, for nobody can.
UNSERVABLE = "UNSERVABLE"
# What most tasks ask for of a skill: no version, no type.
_ANY = ("", "")


def offer_message(offer: Offer) -> worker_pb2.TaskOffer:
    """An offer, as its worker gets it."""
    message = worker_pb2.TaskOffer(
        task_id=offer.task_id,
        lease_id=offer.lease_id,
        job_id=offer.job_id,
        generation=offer.generation,
        attempt=offer.attempt,
        skill=offer.skill,
    )
    # What is empty is so anyway, and to set it takes as long.
    if offer.type:
        message.type = offer.type
    if offer.version:
        message.version = offer.version
    if offer.asked != _ANY:
        message.version_asked, message.type_asked = offer.asked
    if offer.priority:
        message.priority = offer.priority
    # In place: a message of its own would be made and copied.
    message.params.data = offer.params
    if offer.time_left is not None:
        fill(message.time_left, max(1, offer.time_left))
    if offer.deadline is not None:
        fill(message.deadline, offer.deadline)
    if offer.lasts is not None:
        fill(message.lease_duration, offer.lasts)
    if offer.allowed_skills is not None:
        message.lineage.skill_limit.skills[:] = offer.allowed_skills
        message.lineage.skill_limit.no_skills = not offer.allowed_skills
    if offer.max_cost is not None:
        message.lineage.budget = offer.max_cost
    if offer.resources:
        message.resource_requirements.data = offer.resources.encode()
    if offer.hint:
        message.resource_hint = offer.hint
    if offer.trace:
        message.trace.traceparent, message.trace.tracestate = headers_of(offer.trace)
    return message


def stop_message(stop: Stop) -> worker_pb2.StopTask:
    """A stop, as the worker gets it."""
    return worker_pb2.StopTask(
        task_id=stop.lease.task_id, lease_id=stop.lease.lease_id, reason=STOP_REASONS[stop.reason]
    )


def resumed_leases(
    kept: Sequence[Offer], dropped: Sequence[tuple[str, str, Superseded]]
) -> list[worker_pb2.ResumedLease]:
    """What becomes of the leases that a Hello listed."""
    leases = []
    for offer in kept:
        lease = worker_pb2.ResumedLease(
            task_id=offer.task_id, lease_id=offer.lease_id, decision=worker_pb2.LEASE_DECISION_KEEP
        )
        if offer.time_left is not None:
            lease.time_left.CopyFrom(time_limit(offer.time_left))
        leases.append(lease)
    for task_id, lease_id, reason in dropped:
        leases.append(
            worker_pb2.ResumedLease(
                task_id=task_id, lease_id=lease_id, decision=worker_pb2.LEASE_DECISION_DROP, reason=reason
            )
        )
    return leases


def outcome_of(result: worker_pb2.TaskResult, worker_id: str, *, passed: bool) -> Outcome:
    """How a worker says that an attempt ended. Its JSON is passed on unread.

    Arguments:
        passed: whether it may say what happened at the levels below; a plain worker's word of that is left out.
    Raises:
        InvalidArgument: STATUS_MISSING, PAYLOAD_UNSUPPORTED, or RESULT_INVALID; the message says what is wrong.
    """
    # Each look at a field of a message makes its value anew.
    status = result.status
    if not status:
        raise _invalid(
            "status", "is empty; send success, failure, cancelled, or a declared status", code="STATUS_MISSING"
        )
    if len(status) > MAX_STATUS:
        raise _invalid("status", f"has {len(status)} characters, over the limit of {MAX_STATUS}")
    if result.files or result.data_metadata or result.receipts:
        field = next(name for name in ("files", "data_metadata", "receipts") if getattr(result, name))
        raise _invalid(field, "needs a capability that this node does not list", code="PAYLOAD_UNSUPPORTED")
    if status != FAILURE and result.HasField("error"):
        raise _invalid("error", f"is only for the status failure, not for {status!r}")
    data = json_of(result.data, "data")
    error = _task_error(result.error, passed=passed) if status == FAILURE else None
    return Outcome(status, data, error, worker_id)


def took_of(result: worker_pb2.TaskResult) -> int | None:
    """How long the work took, in milliseconds; None when the worker does not say, or nonsense."""
    if not result.HasField("duration"):
        return None
    told = result.duration
    took = told.seconds * 1000 + round(told.nanos / 1_000_000)
    return took if 0 <= took < 1000 * 2**40 else None


def _task_error(error: types_pb2.TaskError, *, passed: bool) -> TaskError:
    details = json_of(error.details, "error.details")
    if passed and error.causes:
        details = _with_causes(error.causes[:MAX_CAUSES], details)
    return TaskError(
        clipped(error.code, MAX_ERROR_CODE) or TRANSIENT_ERROR,
        clipped(error.message, MAX_ERROR_MESSAGE),
        details,
        error.retryable if error.HasField("retryable") else None,
    )


def _with_causes(causes: Sequence[types_pb2.TaskErrorCause], details: bytes) -> bytes:
    """What happened at the levels below, nearest first, and beside it the details as they were sent."""
    text = orjson.dumps(with_causes((cause(one.code, one.message, one.holon_id, one.name) for one in causes), None))
    return b'%b,"details":%b}' % (text[:-1], details) if details else text


def causes_of(details: Any) -> tuple[Sequence[types_pb2.TaskErrorCause], Any]:
    """As `causes_in`, with the causes as they are sent."""
    found, beside = causes_in(details)
    return [types_pb2.TaskErrorCause(**one) for one in found], beside


def _invalid(field: str, reason: str, *, code: str = "RESULT_INVALID") -> InvalidArgument:
    return InvalidArgument(f"the result's {field} {reason}", code=code, details=[Violation(field, reason)])
