"""What jobs work on, as bytes, within the limit that a store has for that."""

from __future__ import annotations

from collections.abc import Sequence

from holon.domain.job import Job, Status
from holon.errors import TooLarge
from holon.ports import NewJob, Result
from holon.stores.records import encode_job

# More than the longest error that an end or a retry adds to a state.
_ENDING = 16 * 1024


def encode_state(job: Job, limit: int, *, as_it_was: bool = False) -> bytes:
    """A job's state as bytes, within a limit of that many.

    How it ends, and that its handler is tried again, has room beside it: else a job at its limit could do neither.

    Arguments:
        as_it_was: the job works on no more than before, whatever the limit was then.
    Raises:
        InvalidArgument: (NOT_JSON) as for `to_json`.
        TooLarge: (LIMIT_EXCEEDED) it is over the limit.
    """
    state = encode_job(job)
    if len(state) > limit and not as_it_was and len(state) > limit + (_ENDING if _adds_little(job) else 0):
        raise TooLarge(
            f"the state of job {job.id} has {len(state)} bytes, over the limit of {limit}; keep large data elsewhere",
            code="LIMIT_EXCEEDED",
        )
    return state


def _adds_little(job: Job) -> bool:
    return job.status.terminal or job.status is Status.WAITING_FOR_RETRY


def with_states(items: Sequence[NewJob], limit: int) -> list[tuple[NewJob, bytes]]:
    """New jobs with their states, after their first step where they have one; raises as `encode_state`."""
    return [(item, encode_state(item.job if item.step is None else item.step.job, limit)) for item in items]


def with_step_states(results: Sequence[Result], limit: int) -> list[tuple[Result, bytes]]:
    """Results with the states after their steps, where they have one; raises as `encode_state`."""
    return [(one, b"" if one.step is None else encode_state(one.step.job, limit)) for one in results]
