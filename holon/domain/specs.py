"""The domain: what a handler asks for, as the tasks of its job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from holon.domain.children import RUN_BLUEPRINT, params_of
from holon.domain.decisions import AskedPart, AskedTask
from holon.domain.job import Job
from holon.domain.policy import both
from holon.domain.task import RetryPolicy, TaskSpec, task_id
from holon.domain.value import replace

# No task takes longer: ten years.
LONGEST_MS = 10 * 366 * 86_400_000


def spec_of(job: Job, index: int, asked: AskedTask, retry: RetryPolicy, now: int, *, branch: bool) -> TaskSpec:
    """A task that a handler asks for, with what its job says of it.

    Arguments:
        index: its place among those of its step, from 0.
        retry: when it is tried again, and how often where the task does not say.
        now: epoch milliseconds.
    """
    execution, dispatch, result = asked.timeout_seconds, asked.dispatch_timeout_seconds, asked.result_timeout_seconds
    result_timeout = job.result_timeout if result is None else _ms(result)
    priority = job.default_priority if asked.priority is None else asked.priority
    # In the order of its fields: so many names take longer to match than all the rest. Most tasks say nothing of their
    # times, and there may be thousands: so nothing is called for what is not said.
    return TaskSpec(
        task_id(job.id, job.step, index),
        index,
        asked.skill,
        asked.params,
        priority if job.priority is None else job.priority + min(0.0, priority),
        0 if execution is None else _ms(execution),
        job.dispatch_timeout if dispatch is None else _ms(dispatch),
        result_timeout if job.deadline is None else _within(job, result_timeout, now),
        retry if asked.max_retries is None else replace(retry, max_retries=asked.max_retries),
        branch,
        0 if asked.lost_after_seconds is None else _ms(asked.lost_after_seconds),
        both(job.allowed_skills, asked.allowed_skills),
        asked.max_cost,
        asked.wants if job.wants is None else job.wants,
    )


def spec_of_part(job: Job, index: int, asked: AskedPart, now: int, *, branch: bool) -> TaskSpec:
    """The task that a job waits for while another does a part of it: once, and for as long as the job may take.

    Arguments:
        index, now: as in `spec_of`.
    """
    priority = 0.0 if job.priority is None else job.priority
    within = _within(job, None, now)
    return TaskSpec(
        task_id(job.id, job.step, index),
        index,
        RUN_BLUEPRINT,
        params_of(asked),
        priority,
        LONGEST_MS,
        None,
        within,
        RetryPolicy(0),
        branch,
        max_cost=asked.max_cost,
    )


class Branches(Sequence[TaskSpec]):
    """What a fan-out asks for, as the tasks of its job: each is made when it is looked at, for there may be thousands.

    Arguments:
        asked: what its handler asked for.
        retry, now: as in `spec_of`.
    """

    def __init__(self, job: Job, asked: Sequence[AskedTask | AskedPart], retry: RetryPolicy, now: int) -> None:
        self.asked = asked
        self._job = job
        self._retry = retry
        self._now = now

    def __repr__(self) -> str:
        return f"Branches({len(self.asked)})"

    def __len__(self) -> int:
        return len(self.asked)

    @overload
    def __getitem__(self, index: int) -> TaskSpec: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TaskSpec]: ...

    def __getitem__(self, index: int | slice) -> TaskSpec | Sequence[TaskSpec]:
        if isinstance(index, slice):
            return [self._made(one) for one in range(*index.indices(len(self.asked)))]
        return self._made(range(len(self.asked))[index])

    def __iter__(self) -> Iterator[TaskSpec]:
        return map(self._made, range(len(self.asked)))

    def _made(self, index: int) -> TaskSpec:
        asked = self.asked[index]
        if isinstance(asked, AskedPart):
            return spec_of_part(self._job, index, asked, self._now, branch=True)
        return spec_of(self._job, index, asked, self._retry, self._now, branch=True)


def _within(job: Job, timeout: int | None, now: int) -> int | None:
    """A task's time within what its job has: whoever does it and cannot be told to stop does so by itself."""
    if job.deadline is None or job.cancelling:
        return timeout
    left = max(1, job.deadline - now)
    return left if timeout is None else min(timeout, left)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
