"""What callers are told of a job or a task that cannot do what they ask, in the same words whatever they asked."""

from __future__ import annotations

from holon.domain.job import Status
from holon.errors import AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted

_STATUSES = frozenset(map(str, Status))


def not_found(job_id: str) -> NotFound:
    """There is no such job, or it is another's."""
    message = f"Job not found: {job_id[:128]!r}"
    if job_id in _STATUSES:
        message += f" is a status; to list jobs, use ?status={job_id} or `holon jobs list --status {job_id}`"
    return NotFound(message, code="JOB_NOT_FOUND")


def terminated(job_id: str, status: Status) -> FailedPrecondition:
    """It is over."""
    return FailedPrecondition(f"job {job_id} has ended: it is {status}", code="JOB_TERMINATED")


def inbox_full(job_id: str) -> ResourceExhausted:
    """Too much waits for it."""
    return ResourceExhausted(f"the inbox of job {job_id} is full; retry later", code="INBOX_FULL", retry_after=1.0)


def signal_reused(request_id: str) -> AlreadyExists:
    """It knows a signal by this request id already, and that is another."""
    return AlreadyExists(
        f"request_id {request_id!r} was used for another signal; use a new one for each", code="REQUEST_ID_REUSED"
    )


def not_held(task_id: str, lease_id: str) -> NotFound:
    """The session that says something of a task does not hold it."""
    return NotFound(
        f"this session does not hold task {task_id[:128]!r} under lease {lease_id[:128]!r}", code="TASK_NOT_HELD"
    )
