"""The domain: how a job ended, as whoever had it done is told: a holon above, or the job that it is a part of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holon.domain.causes import LOST, MAX_CAUSES, Cause, cause, causes_in, with_causes
from holon.domain.job import Job, JobError, Status
from holon.domain.states import State
from holon.domain.task import (
    BRANCH_FAILED,
    CANCELLED,
    CANCELLED_BY_CHILD,
    CHILD_FAILED,
    CHILD_QUARANTINED,
    DEADLINE_EXCEEDED,
    FAILURE,
    LIMIT_EXCEEDED,
    SUCCESS,
)
from holon.domain.texts import MAX_ERROR_MESSAGE, clipped
from holon.domain.value import Value

CODES = {
    Status.FAILED: CHILD_FAILED,
    Status.QUARANTINED: CHILD_QUARANTINED,
    Status.CANCELLED: CANCELLED_BY_CHILD,
}
_HOW = {Status.FAILED: "failed", Status.QUARANTINED: "was quarantined", Status.CANCELLED: "was cancelled"}


class PartEnded(Value, gc=True):
    """How a job ended that is a part of another, as the outcome of the task that it was for that.

    `data` is that of a success, `details` those of an error; `code` is empty where there is none.
    """

    status: str
    data: dict[str, Any] | None = None
    code: str = ""
    message: str = ""
    details: Any = None


def part_ended(job: Job, state: State | None, holon_id: str, *, out_of_time: bool) -> PartEnded:
    """What the job above is told of a part of it that is over. Its outcome counts, and no state's name.

    Arguments:
        state: the one that it ended in; None: its blueprint does not have that any more.
        holon_id: this holon's.
        out_of_time: whether it was cancelled since its time was over.
    """
    if job.status is Status.FINISHED:
        return PartEnded(state.status or SUCCESS if state is not None else SUCCESS, data_of(job))
    error = error_of(job)
    if job.status is Status.CANCELLED:
        if out_of_time:
            return PartEnded(FAILURE, None, DEADLINE_EXCEEDED, _told(job, error))
        return PartEnded(CANCELLED)
    below = causes_of(job, holon_id, error)
    # What its author has it say.
    said = error.details if error.code == "ENDED_FAILED" else None
    return PartEnded(FAILURE, None, CODES[job.status], _told(job, error), with_causes(below, said))


def _told(job: Job, error: JobError) -> str:
    return clipped(story(job, error), MAX_ERROR_MESSAGE)


def data_of(job: Job) -> dict[str, Any]:
    """The data of a job that finished: its result, under the key `result` if it is no JSON object."""
    return job.result if isinstance(job.result, dict) else {"result": job.result}


def error_of(job: Job) -> JobError:
    """Why a job ended otherwise."""
    return job.error or JobError(CODES[job.status], "no reason given")


def story(job: Job, error: JobError) -> str:
    """The same in a sentence for whoever had it done."""
    return f"job {job.id} of blueprint {job.blueprint} {_HOW[job.status]}: {error.message}"


def causes_of(job: Job, holon_id: str, error: JobError) -> Sequence[Cause]:
    """What went wrong here, then what went wrong below, as that was told."""
    causes = [cause(error.code, error.message, holon_id, job.blueprint)]
    below, _ = causes_in(error.details)
    if share_lost(job) and not _names_lost(below):
        message = f"lost attempts used up the budget of {job.budget}"
        causes.append(cause(LOST, message, holon_id, job.blueprint))
    return [*causes, *below][:MAX_CAUSES]


def share_lost(job: Job) -> bool:
    """Whether a job failed because lost attempts used up its budget, at this level or below."""
    error = job.error
    if job.budget is None or error is None or job.status not in (Status.FAILED, Status.QUARANTINED):
        return False
    if error.code in (LIMIT_EXCEEDED, BRANCH_FAILED) and error.retryable is True:
        return True
    return _names_lost(causes_in(error.details)[0])


def _names_lost(causes: Sequence[Cause]) -> bool:
    return any(one["code"] == LOST for one in causes)
