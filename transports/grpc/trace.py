"""The gRPC doors: the trace that a call belongs to: what its metadata says, unless the request itself says more."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

from holon.domain.trace import trace_of
from holon.errors import InvalidArgument, Violation
from holon.rxon.v1 import types_pb2

# A call is served in a task of its own, so nothing has to take this back.
_of_call: ContextVar[str] = ContextVar("trace of the call", default="")


def remember(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Note what the metadata of the call that is being served says; what is no trace is as none, as W3C has it."""
    parent = state = ""
    for key, value in metadata:
        if key == "traceparent" and isinstance(value, str):
            parent = value
        elif key == "tracestate" and isinstance(value, str):
            state = value
    if parent:
        _of_call.set(trace_of(parent, state))


def trace_of_call() -> str:
    """The trace that the metadata of the call says; empty when it says none."""
    return _of_call.get()


def trace_of_request(given: types_pb2.TraceContext | None) -> str:
    """The trace that what a request asks for belongs to; see `holon.domain.trace`.

    Arguments:
        given: what the request itself says; None: nothing, and its call's metadata counts.
    Raises:
        InvalidArgument: it says something that is no `traceparent`.
    """
    if given is None:
        return _of_call.get()
    trace = trace_of(given.traceparent, given.tracestate)
    if given.traceparent and not trace:
        reason = "is not a W3C traceparent"
        raise InvalidArgument(f"trace.traceparent {reason}", details=[Violation("trace.traceparent", reason)])
    return trace
