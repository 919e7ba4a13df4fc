"""The client door: what a client asks for when it creates a job, in the engine's words."""

from __future__ import annotations

from typing import Any

from holon.domain.policy import allowing
from holon.engine.payloads import decode
from holon.engine.requests import Creating
from holon.errors import InvalidArgument, Violation
from holon.rxon.v1 import job_pb2
from holon.transports.grpc.trace import trace_of_request
from holon.wire.values import asked_seconds, json_of, skills_of


def creating_of(request: job_pb2.CreateJobRequest) -> Creating:
    """The job that a request asks for.

    Raises:
        InvalidArgument: what it asks for is none, or its `initial_data` cannot be read.
    """
    return Creating(
        request.blueprint_name,
        _initial_data(request),
        request.request_id or None,
        asked_seconds(request, "dispatch_timeout"),
        asked_seconds(request, "result_timeout"),
        trace_of_request(request.trace if request.HasField("trace") else None),
        allowed_skills=allowing("skill_limit", skills_of(request, "skill_limit")),
        budget=request.budget if request.HasField("budget") else None,
        webhook_url=request.webhook_url or None,
        default_priority=request.priority if request.HasField("priority") else None,
        max_transitions=request.max_transitions if request.HasField("max_transitions") else None,
    )


def _initial_data(request: job_pb2.CreateJobRequest) -> Any:
    try:
        text = json_of(request.initial_data, "initial_data")
        return decode(text, "initial_data") if text else {}
    except InvalidArgument as error:
        if error.code == "PAYLOAD_UNSUPPORTED":
            raise
        details = [Violation("initial_data", "is not valid JSON")]
        raise InvalidArgument(f"Invalid JSON: {error.message}", code="INVALID_JSON", details=details) from error
