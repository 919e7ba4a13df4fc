"""The domain: what a handler asks for, as the tasks of its job."""

from __future__ import annotations

from holon.domain.decisions import AskedTask
from holon.domain.job import Job
from holon.domain.policy import both
from holon.domain.task import RetryPolicy, TaskSpec, task_id


def spec_of(job: Job, index: int, asked: AskedTask, retry: RetryPolicy, now: int, *, branch: bool) -> TaskSpec:
    """A task that a handler asks for, with what its job says of it.

    Arguments:
        index: its place among those of its step, from 0.
        retry: how often it is tried again.
        now: epoch milliseconds.
    """
    execution, dispatch, result = asked.timeout_seconds, asked.dispatch_timeout_seconds, asked.result_timeout_seconds
    result_timeout = job.result_timeout if result is None else _ms(result)
    # In the order of its fields: so many names take longer to match than all the rest. Most tasks say nothing of their
    # times, and there may be thousands: so nothing is called for what is not said.
    return TaskSpec(
        task_id(job.id, job.step, index),
        index,
        asked.skill,
        asked.params,
        asked.priority if job.priority is None else job.priority + min(0.0, asked.priority),
        0 if execution is None else _ms(execution),
        job.dispatch_timeout if dispatch is None else _ms(dispatch),
        result_timeout if job.deadline is None else _within(job, result_timeout, now),
        retry,
        branch,
        0 if asked.lost_after_seconds is None else _ms(asked.lost_after_seconds),
        both(job.allowed_skills, asked.allowed_skills),
        asked.max_cost,
    )


def _within(job: Job, timeout: int | None, now: int) -> int | None:
    """A task's time within what its job has: whoever does it and cannot be told to stop does so by itself."""
    if job.deadline is None or job.cancelling:
        return timeout
    left = max(1, job.deadline - now)
    return left if timeout is None else min(timeout, left)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
