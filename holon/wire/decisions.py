"""The wire: what a holon below says became of a decision or a signal, as the error that it is here."""

from __future__ import annotations

import re

import grpc

from holon import errors
from holon.domain.texts import clipped
from holon.errors import HolonError, Violation
from holon.rxon.v1 import types_pb2
from holon.wire.grpc_status import MAX_MESSAGE_BYTES
from holon.wire.values import seconds

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_MOST_VIOLATIONS = 16
_LONGEST_RETRY_S = 60.0
_RETRY_S = 2.0
# What is about what was brought, or its job. Of all else the cause is below, and who brings it cannot mend it.
_KINDS = {
    kind.value[0]: error
    for kind, error in (
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidArgument),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.FailedPrecondition),
        (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unimplemented),
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
    )
}


def refusal_of(error: types_pb2.Error, holon_id: str) -> HolonError:
    """Why it was not taken, by the word of the holon that was to take it."""
    said = clipped(error.message, MAX_MESSAGE_BYTES)
    # The lowest of them has said why.
    message = said if said.startswith("holon ") else f"holon {holon_id}: {said}"
    kind = _KINDS.get(error.code)
    if kind is None:
        return errors.Unavailable(message, code="HOLON_AWAY", retry_after=_RETRY_S)
    again = seconds(error.retry_after) if error.HasField("retry_after") else None
    if again is None and kind in (errors.Unavailable, errors.ResourceExhausted):
        again = _RETRY_S
    return kind(
        message,
        code=error.reason if _REASON.fullmatch(error.reason) else None,
        details=[Violation(one.field, one.reason) for one in error.field_violations[:_MOST_VIOLATIONS]],
        retry_after=None if again is None else min(max(0.0, again), _LONGEST_RETRY_S),
    )
