"""The client: jobs as they are sent to be created, one in a call or many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import orjson

from holon.client.calls import Calls, duration_of, names_of, repeatable, request_of
from holon.client.failures import error_in_band
from holon.client.shapes import CreatedJob, JobRequest
from holon.domain.costs import costing
from holon.domain.plain import no_number, unwritten
from holon.errors import HolonError, InvalidArgument, ResourceExhausted, Violation
from holon.rxon.v1 import job_pb2, types_pb2

if TYPE_CHECKING:
    from holon.rxon.v1.job_pb2_grpc import JobServiceAsyncStub

# Of one call; a batch is also within the size of one message.
_BATCH = 256
_BATCH_BYTES = 2 * 2**20
# In the words of gRPC.
_TOO_LARGE = "larger than max"


def creation_of(job: JobRequest) -> job_pb2.CreateJobRequest:
    """A job as it is asked for; without a request id it gets a new one.

    Raises:
        InvalidArgument: something of it cannot be sent, or its request id or its webhook is empty; where it is its
            initial data, as NOT_JSON.
    """
    data = payload_of({} if job.initial_data is None else job.initial_data, "initial_data")
    if job.webhook_url == "":
        raise InvalidArgument(
            "webhook_url is empty; give an address, or leave it out", details=[Violation("webhook_url", "is empty")]
        )
    skills = None if job.allowed_skills is None else names_of("allowed_skills", job.allowed_skills)
    return request_of(
        job_pb2.CreateJobRequest,
        request_id=repeatable(job.request_id),
        blueprint_name=job.blueprint,
        initial_data=data,
        dispatch_timeout=duration_of("dispatch_timeout", job.dispatch_timeout),
        result_timeout=duration_of("result_timeout", job.result_timeout),
        skill_limit=None if skills is None else request_of(types_pb2.SkillLimit, skills=skills, no_skills=not skills),
        budget=costing("budget", job.budget),
        webhook_url=job.webhook_url or "",
        priority=job.priority,
        max_transitions=job.max_transitions,
    )


def payload_of(value: object, what: str) -> types_pb2.Payload:
    """A value as the JSON that is sent; raises InvalidArgument, as NOT_JSON, for what is none."""
    try:
        data = orjson.dumps(value)
    except TypeError as error:
        why = unwritten(value, what, orjson.dumps) or f"{what}: {error}"
        raise InvalidArgument(why, code="NOT_JSON") from error
    if b"null" in data and (where := no_number(value, what)):
        raise InvalidArgument(where, code="NOT_JSON")
    return types_pb2.Payload(data=data)


async def create_all(
    calls: Calls, stub: JobServiceAsyncStub, jobs: Sequence[JobRequest]
) -> list[CreatedJob | HolonError]:
    """Create many jobs, each by itself, in as few calls as they fit into.

    Returns:
        for each, in their order, the job, or why it was refused.
    Raises:
        HolonError: a call failed that one job alone is not the reason for; what was sent before it exists.
    """
    outcomes: list[CreatedJob | HolonError] = []
    requests: list[job_pb2.CreateJobRequest] = []
    unsent: dict[int, HolonError] = {}
    for place, job in enumerate(jobs):
        try:
            requests.append(creation_of(job))
        except InvalidArgument as error:
            unsent[place] = error
    for batch in _batches(requests):
        outcomes += await _send(calls, stub, batch)
    told = iter(outcomes)
    return [unsent[place] if place in unsent else next(told) for place in range(len(jobs))]


async def _send(
    calls: Calls, stub: JobServiceAsyncStub, batch: list[job_pb2.CreateJobRequest]
) -> list[CreatedJob | HolonError]:
    try:
        answer = await calls.call(stub.BatchCreateJobs, job_pb2.BatchCreateJobsRequest(requests=batch))
    except ResourceExhausted as error:
        # The node names what it has too much of. Without a name it is the transport, which takes no message so large.
        if error.code != ResourceExhausted.code or (len(batch) > 1 and _TOO_LARGE not in error.message):
            raise
        if len(batch) == 1:
            return [error]
        # As where GRPC_MESSAGE_MAX_BYTES is small; of such a call nothing was read.
        half = len(batch) // 2
        return await _send(calls, stub, batch[:half]) + await _send(calls, stub, batch[half:])
    return [_outcome(result) for result in answer.results]


def _batches(requests: Sequence[job_pb2.CreateJobRequest]) -> Iterator[list[job_pb2.CreateJobRequest]]:
    batch: list[job_pb2.CreateJobRequest] = []
    size = 0
    for request in requests:
        if batch and (len(batch) == _BATCH or size + request.ByteSize() > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(request)
        size += request.ByteSize()
    if batch:
        yield batch


def _outcome(result: job_pb2.BatchCreateJobsResult) -> CreatedJob | HolonError:
    if result.HasField("created"):
        return CreatedJob(result.created.job_id, result.created.existing)
    return error_in_band(result.error)
