"""The domain: a unit of work for one worker, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holon.domain.costs import Cost
from holon.domain.policy import Allowed
from holon.domain.value import Value
from holon.domain.wants import Wants

SUCCESS = "success"
FAILURE = "failure"
CANCELLED = "cancelled"
# Among the ways of a task: whatever other status it ends with, but failure and cancelled. No worker can answer it.
ANY_STATUS = ""
# The way of a task whose time was over; a word of the node's.
TIMEOUT = "timeout"
# What a worker need not declare.
COMMON_STATUSES = frozenset({SUCCESS, FAILURE, CANCELLED, TIMEOUT, ANY_STATUS})

# What a worker's code counts as that says nothing to the node.
TRANSIENT_ERROR = "TRANSIENT_ERROR"
INVALID_INPUT_ERROR = "INVALID_INPUT_ERROR"
# Codes that the node itself gives to an outcome; the worker's own are in `holon.domain.retries`.
DISPATCH_TIMEOUT = "DISPATCH_TIMEOUT"
RESULT_TIMEOUT = "RESULT_TIMEOUT"
TIMEOUT_ERROR = "TIMEOUT_ERROR"
WORKER_LOST = "WORKER_LOST"
CONTRACT_VIOLATION = "CONTRACT_VIOLATION"
LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
POLICY_DENIED = "POLICY_DENIED"
BRANCH_FAILED = "BRANCH_FAILED"
# Codes of a child holon about the job that did a task of its parent.
CHILD_FAILED = "CHILD_FAILED"
CHILD_QUARANTINED = "CHILD_QUARANTINED"
CANCELLED_BY_CHILD = "CANCELLED_BY_CHILD"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


class RetryPolicy(Value):
    """How often a failed task is tried again, and after how long (milliseconds, doubling, full jitter)."""

    max_retries: int = 3
    first_ms: int = 1_000
    longest_ms: int = 60_000


class TaskError(Value):
    """What a worker says of a failure. `details` is JSON text, opaque here.

    `retryable` is a holon's own word on whether another try may help; None: the code says so. A LIMIT_EXCEEDED is
    retryable where lost attempts have used up a budget.
    """

    code: str
    message: str
    details: bytes = b""
    retryable: bool | None = None


class Outcome(Value):
    """How an attempt ended: a status, its data as JSON text (a JSON object, or empty), or an error."""

    status: str
    data: bytes = b""
    error: TaskError | None = None
    worker_id: str = ""

    @property
    def size(self) -> int:
        """How much an aggregator gets of it, in bytes: data, and what is said of an error."""
        said = 0 if self.error is None else len(self.error.message) + len(self.error.details)
        return len(self.data) + said

    @staticmethod
    def failed(code: str, message: str, worker_id: str = "", *, retryable: bool | None = None) -> Outcome:
        """An outcome that the node writes in the place of a worker's."""
        return Outcome(FAILURE, error=TaskError(code, message, retryable=retryable), worker_id=worker_id)


class TaskSpec(Value, gc=True):
    """What a step asks for: the work itself, without any trace of who will do it.

    Timeouts are milliseconds, None means no limit; an execution timeout of 0 leaves it to the worker that takes the
    task. `index` counts the tasks of one step from 0. `lost_after` is as in `NewTask` of the ports.
    `allowed_skills` are what may be used to do it, where it takes more than one worker; `max_cost` is what an
    attempt of it may cost. `wants` is what else it asks of who does it; None: nothing.
    """

    id: str
    index: int
    skill: str
    params: dict[str, Any]
    priority: float
    execution_timeout: int
    dispatch_timeout: int | None
    result_timeout: int | None
    retry: RetryPolicy
    branch: bool
    lost_after: int = 0
    allowed_skills: Allowed = None
    max_cost: Cost = None
    wants: Wants | None = None


def task_id(job_id: str, step: int, index: int) -> str:
    """The id of a step's task; it holds its job's id, so that a store finds both from either."""
    return f"{job_id}-{step}-{index}"


def job_of(task: str) -> str:
    """The id of the job that a task id belongs to; the text itself when it is no id of ours."""
    return task.rsplit("-", 2)[0]


def step_of(task: str) -> int:
    """The step that made a task of ours, by its id."""
    return int(task.rsplit("-", 2)[1])


def own_statuses(transitions: Iterable[str]) -> tuple[str, ...]:
    """Those of the statuses that a job goes on by which only some workers have, in order."""
    # Looked for once per task of a job; hardly any has one.
    return () if COMMON_STATUSES.issuperset(transitions) else tuple(sorted({*transitions} - COMMON_STATUSES))
