"""The client door: JobService, by the application service of jobs."""

from __future__ import annotations

from typing import Any

import grpc

from holon.engine.jobs import Creating, Jobs, Listing
from holon.engine.payloads import decode
from holon.errors import InvalidArgument, Unavailable, Violation
from holon.rxon.v1 import job_pb2
from holon.security.access import OWNER
from holon.wire.jobs import ALL_FIELDS, LISTED_FIELDS, event_message, fields_of, job_message
from holon.wire.values import json_of, seconds
from transports.grpc.calls import missing, unary
from transports.grpc.trace import trace_of_request

SERVICE = "holon.rxon.v1.JobService"
# Where there is one token, all that comes with it is one client.

_NOT_YET = ("BatchCreateJobs", "WatchJob", "ResolveApproval", "GetJobTree")


class JobService:
    """Translates: requests into the engine's words, and its answers and records into protobuf.

    Attributes:
        draining: whether no new job is taken.
    """

    def __init__(self, jobs: Jobs) -> None:
        self.draining = False
        self._jobs = jobs

    def handler(self, max_bytes: int) -> grpc.GenericRpcHandler:
        """The service's calls by name; no answer is larger than `max_bytes`."""
        calls = {
            "CreateJob": unary("CreateJob", job_pb2.CreateJobRequest, self.create, max_bytes),
            "GetJob": unary("GetJob", job_pb2.GetJobRequest, self.get, max_bytes),
            "ListJobs": unary("ListJobs", job_pb2.ListJobsRequest, self.list, max_bytes),
            "CancelJob": unary("CancelJob", job_pb2.CancelJobRequest, self.cancel, max_bytes),
            "GetJobHistory": unary("GetJobHistory", job_pb2.GetJobHistoryRequest, self.history, max_bytes),
        }
        return grpc.method_handlers_generic_handler(SERVICE, {**calls, **{name: missing(name) for name in _NOT_YET}})

    async def create(self, request: job_pb2.CreateJobRequest) -> job_pb2.CreateJobResponse:
        """Create a job."""
        _refuse(
            {
                "webhook_url": bool(request.webhook_url),
                "priority": request.HasField("priority"),
                "budget": request.HasField("budget"),
                "skill_limit": request.HasField("skill_limit"),
                "max_transitions": request.HasField("max_transitions"),
            }
        )
        if self.draining:
            raise Unavailable(
                "this node is shutting down and takes no new jobs; send it to another, or again in a moment",
                code="DRAINING",
                retry_after=1.0,
            )
        asked = Creating(
            request.blueprint_name,
            _initial_data(request),
            request.request_id or None,
            seconds(request.dispatch_timeout) if request.HasField("dispatch_timeout") else None,
            seconds(request.result_timeout) if request.HasField("result_timeout") else None,
            trace_of_request(request.trace if request.HasField("trace") else None),
        )
        accepted = await self._jobs.create(OWNER, asked)
        return job_pb2.CreateJobResponse(job_id=accepted.job_id, existing=accepted.existing)

    async def get(self, request: job_pb2.GetJobRequest) -> job_pb2.GetJobResponse:
        """Read a job."""
        names = fields_of(request.fields, ALL_FIELDS)
        record = await self._jobs.get(OWNER, request.job_id)
        return job_pb2.GetJobResponse(job=job_message(record, self._jobs.progress_message(record), names))

    async def list(self, request: job_pb2.ListJobsRequest) -> job_pb2.ListJobsResponse:
        """Read a page of jobs."""
        _refuse(
            {
                "terminal": request.HasField("terminal"),
                "created_after": request.HasField("created_after"),
                "created_before": request.HasField("created_before"),
                "parent_job_id": bool(request.parent_job_id),
                "owner": request.owner not in ("", OWNER),
            }
        )
        names = fields_of(request.fields, LISTED_FIELDS)
        listing = Listing(
            tuple(request.statuses), request.blueprint_name or None, request.page_size, request.page_token
        )
        records, more = await self._jobs.list(OWNER, listing)
        jobs = [job_message(record, self._jobs.progress_message(record), names) for record in records]
        return job_pb2.ListJobsResponse(jobs=jobs, next_page_token=more)

    async def cancel(self, request: job_pb2.CancelJobRequest) -> job_pb2.CancelJobResponse:
        """Ask a job to stop."""
        _refuse({"reason": bool(request.reason)})
        record = await self._jobs.cancel(OWNER, request.job_id)
        return job_pb2.CancelJobResponse(job=job_message(record, self._jobs.progress_message(record)))

    async def history(self, request: job_pb2.GetJobHistoryRequest) -> job_pb2.GetJobHistoryResponse:
        """Read a page of a job's history."""
        if request.page_token and request.after_sequence:
            raise _invalid("after_sequence", "goes with the first page only; page_token goes on from there")
        if request.after_sequence < 0:
            raise _invalid("after_sequence", "is below 0")
        start = request.page_token or (str(request.after_sequence) if request.after_sequence else "")
        events, more = await self._jobs.history(OWNER, request.job_id, request.page_size, start)
        return job_pb2.GetJobHistoryResponse(
            events=[event_message(request.job_id, number, event) for number, event in events], next_page_token=more
        )


def _initial_data(request: job_pb2.CreateJobRequest) -> Any:
    text = json_of(request.initial_data, "initial_data")
    try:
        return decode(text, "initial_data")
    except InvalidArgument as error:
        details = [Violation("initial_data", "is no JSON that can be taken")]
        raise InvalidArgument(f"Invalid JSON: {error.message}", code="INVALID_JSON", details=details) from error


def _refuse(asked: dict[str, bool]) -> None:
    """Nothing is taken and then ignored: raise InvalidArgument for what is asked and not done yet, all at once."""
    wrong = [Violation(field, "is not supported by this version") for field, given in asked.items() if given]
    if wrong:
        names = ", ".join(violation.field for violation in wrong)
        raise InvalidArgument(f"not supported by this version, leave out: {names}", details=wrong)


def _invalid(field: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])
