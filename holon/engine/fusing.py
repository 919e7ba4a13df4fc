"""Fusing: a step that waits for nothing is written together with what woke it, in one call of the store.

Nothing leaves before that call has returned, so a crash before it is as if nothing had happened. A fused step does not
raise the job's deliveries, so these are never fused: a handler that has not yet ended well in this process, a job that
was alive before it started, and a result that its worker sends again. Nor is a handler that awaits anything: it would
have to be given up half-way, and run again. One whose decision took too long to be made here has been run in vain, and
is not tried here again for a while.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import orjson

from holon.domain.change import Change
from holon.domain.events import HistoryEvent, TaskEnded
from holon.domain.job import Job, Status
from holon.domain.reactions import react
from holon.domain.task import Outcome, task_id
from holon.domain.value import Value
from holon.engine.handlers import Handlers
from holon.engine.planning import Plan, Planner
from holon.errors import InvalidArgument

MOST_BYTES = 64 * 2**20
LARGEST = 64 * 2**10
MOST_JOBS = 20_000
# For so many of the next runs of a handler whose decision took too long none is tried here.
SKIPPED = 100


class Mirror:
    """The jobs that this process committed last, and that wait for a worker: as they are at that revision.

    Bounded; what is not here is read from the store, so it is only ever a saving.
    """

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        # Beside them, and not in pairs: the garbage collector would walk each pair, and everybody waits for that.
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def __repr__(self) -> str:
        return f"Mirror(jobs={len(self._jobs)}, bytes={self._bytes})"

    def keep(self, job: Job) -> None:
        """A job was committed; it is remembered while it waits for a single task."""
        self.take(job.id)
        if job.status is not Status.WAITING_FOR_WORKER:
            return
        size = len(orjson.dumps((job.initial_data, job.state_history)))
        if size > LARGEST:
            return
        self._jobs[job.id] = job
        self._sizes[job.id] = size
        self._bytes += size
        while self._bytes > MOST_BYTES or len(self._jobs) > MOST_JOBS:
            oldest, _ = self._jobs.popitem(last=False)
            self._bytes -= self._sizes.pop(oldest)

    def take(self, job_id: str) -> Job | None:
        """A job as it was committed last, if it is here; it is forgotten."""
        job = self._jobs.pop(job_id, None)
        if job is not None:
            self._bytes -= self._sizes.pop(job_id)
        return job


class Ended(Value, gc=True):
    """How the single task of a job ended; `tries` counts its applied outcomes, `data` and `details` are decoded."""

    task_id: str
    outcome: Outcome
    tries: int
    data: dict[str, Any]
    details: Any


class Fusing:
    """Decides steps ahead of the call that would otherwise only wake their jobs.

    Arguments:
        limit: how many handlers may be under way; while so many wait for something, no other is run here.
    """

    def __init__(self, handlers: Handlers, planner: Planner, limit: int) -> None:
        self._handlers = handlers
        self._planner = planner
        self._limit = limit
        # By blueprint and state, how many of the next runs of its handler are left to the longer way.
        self._skipped: dict[tuple[str, str], int] = {}
        self.mirror = Mirror()

    def first(self, job: Job, before: tuple[HistoryEvent, ...]) -> Plan | None:
        """The first step of a job that is about to be created; None when it is not to be fused.

        Arguments:
            before: lines of history that go before those of the step.
        """
        if not self._may_run(job):
            return None
        return self._plan(job, job, self._handlers.run_now(job, before))

    def after(self, job_id: str, ended: Ended, now: int) -> Plan | None:
        """The step by which a job goes on after its task; None when it is not to be fused."""
        job = self.mirror.take(job_id)
        if job is None or job.waiting is None or ended.task_id != task_id(job.id, job.waiting.step, 0):
            return None
        event = TaskEnded(job.waiting.step, ended.task_id, ended.outcome, ended.tries)
        change = react(job, event, ended.data, ended.details, now)
        if change is not None and change.job.status.due:
            if not self._may_run(change.job):
                return None
            due = change.job
            return self._plan(job, due, self._handlers.run_now(due, change.history))
        return self._plan(job, job, change)

    def _may_run(self, job: Job) -> bool:
        if self._handlers.waiting >= self._limit or not self._handlers.prompt(job):
            return False
        return not self._skipped or not self._skip((job.blueprint, job.current_state))

    def _skip(self, handler: tuple[str, str]) -> bool:
        left = self._skipped.pop(handler, 0)
        if left > 1:
            self._skipped[handler] = left - 1
        return left > 0

    def _plan(self, job: Job, due: Job, change: Change | None) -> Plan | None:
        """The step of a change that is due to the handler of `due`, if to any."""
        if change is None or change.cancels:
            return None
        try:
            plan = self._planner.plan_now(job, change)
        except InvalidArgument:
            # The longer way finds the same, and makes it the handler's failure.
            return None
        if plan is None:
            self._skipped[due.blueprint, due.current_state] = SKIPPED
        return plan
