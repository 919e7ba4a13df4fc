"""The client door: a person's decision, and a signal, in the engine's words."""

from __future__ import annotations

from typing import Any

from holon.engine.approvals import Deciding
from holon.engine.payloads import decode
from holon.engine.requests import request_id_of
from holon.engine.signals import Sending
from holon.errors import InvalidArgument, Violation
from holon.rxon.v1 import job_pb2
from holon.wire.values import json_of


def deciding_of(request: job_pb2.ResolveApprovalRequest) -> Deciding:
    """The decision that a request brings; raises InvalidArgument where its data or its request id cannot be read."""
    return Deciding(
        request.decision,
        _data(request),
        request.comment,
        request.approval_id,
        request_id_of(request.request_id),
    )


def sending_of(request: job_pb2.SendSignalRequest) -> Sending:
    """The signal that a request brings; raises as `deciding_of`."""
    return Sending(request.name, _data(request), request_id_of(request.request_id), request.to_job_id)


def _data(request: job_pb2.ResolveApprovalRequest | job_pb2.SendSignalRequest) -> Any:
    if not request.HasField("data"):
        return None
    try:
        return decode(json_of(request.data, "data"), "data")
    except InvalidArgument as error:
        if error.code == "PAYLOAD_UNSUPPORTED":
            raise
        details = [Violation("data", "is not valid JSON")]
        raise InvalidArgument(f"Invalid JSON: {error.message}", code="INVALID_JSON", details=details) from error
