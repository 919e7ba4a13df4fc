"""Ports: what a store shows to those who look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holon.domain.costs import Cost, total
from holon.domain.job import Job, Status
from holon.domain.matching import Need
from holon.domain.task import RetryPolicy
from holon.domain.value import Value, shown

# So many bytes the states of a page of jobs have together, at most, unless it is one job alone.
MAX_PAGE_BYTES = 3 * 1024 * 1024


# Jobs that no worker does anything for, and that may wait for ever.
_AT_REST = (Status.WAITING_FOR_HUMAN, Status.WAITING_FOR_SIGNAL)


class JobRecord(Value, gc=True):
    """A job as clients see it. `queued_need` is what its single waiting task needs, while nobody has it.

    Of a job that waits for a fan-out it is what one of the branches needs that wait, while nobody has any of them;
    `branch_need` is that while workers have others of them.
    `again_at` is when its handler or its single task is tried again, which has failed, or when the time is over that
    it waits for, in epoch milliseconds; None: it does not wait for any.
    `sequence` is the number of its newest line of history. `number` is that of its arrival in the store, where a list
    goes on below it; 0: it is not there any more. `cost` is what it was charged so far; None: nothing. `unreported`
    is what lost leases may yet be charged, of which nobody has said what they cost; of a job that is not in the store
    any more that is not known.
    """

    job: Job
    created_at: int
    updated_at: int
    finished_at: int | None
    progress: float | None
    progress_message: str
    queued_need: Need | None = None
    sequence: int = 0
    number: int = 0
    cost: Cost = None
    unreported: int = 0
    again_at: int | None = None
    branch_need: Need | None = None

    @property
    def waits(self) -> bool:
        """Whether there is more to say of what it waits for than of how far it is.

        Branches that wait beside others are passed over for what a worker has said of those.
        """
        beside = self.branch_need is not None and not self.progress_message
        at_rest = self.again_at is not None or self.job.status in _AT_REST
        return beside or self.queued_need is not None or at_rest

    @property
    def initial_data(self) -> dict[str, Any] | None:
        """What the job was created with; None: only history has the job, which does not keep that."""
        return self.job.initial_data if self.number else None

    @property
    def state_history(self) -> dict[str, Any] | None:
        """What its handlers and its tasks have gathered; None: only history has the job, which does not keep that."""
        return self.job.state_history if self.number else None

    @property
    def spent(self) -> Cost:
        """All that it may have cost, by what is known now; None: nothing."""
        return total(self.cost, self.unreported or None)


class JobFilter(Value):
    """Which jobs a list shows, newest first. `before` is the arrival number that the last page ended at.

    Those created at `created_after` or later, and before `created_before`: epoch milliseconds, None is no bound.
    """

    owner: str
    statuses: tuple[Status, ...] = ()
    blueprint: str | None = None
    before: int | None = None
    created_after: int | None = None
    created_before: int | None = None

    def in_time(self, created_at: int) -> bool:
        """Whether the bounds of time let a job pass that was created then."""
        early = self.created_after is not None and created_at < self.created_after
        return not early and (self.created_before is None or created_at < self.created_before)

    def lets(self, record: JobRecord) -> bool:
        """Whether a job of the owner's is one of these."""
        job = record.job
        named = (not self.statuses or job.status in self.statuses) and self.blueprint in (None, job.blueprint)
        return named and self.in_time(record.created_at)


class TaskRecord(Value):
    """Where a task stands, for those who decide about it and for those who look.

    `result_due` is when its result timeout is over, in epoch milliseconds; None: it has none. `begun` says that
    somebody has had it, but for leases that were given back unbegun. `unserved` are the workers to which it does
    not go for now, since they gave it back as nobody below them could do it; all of them until the last may be asked.
    """

    id: str
    job_id: str
    state: str
    need: Need
    lease_id: str
    worker_id: str
    generation: int
    attempt: int
    retry: RetryPolicy
    params: bytes
    result_due: int | None = None
    begun: bool = False
    unserved: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return shown(self, but="params")


class Counts(Value):
    """How much there is of what is not over: jobs by status, tasks that wait for a lease, tasks that workers hold.

    `waiting` are the tasks that wait, by skill.
    """

    jobs: Mapping[Status, int]
    queued: int
    leased: int
    waiting: Mapping[str, int]

    @property
    def held(self) -> int:
        """The tasks that workers hold: those by which jobs wait for their parts are nobody's but the nodes'."""
        return max(0, self.leased - self.jobs.get(Status.WAITING_FOR_CHILD, 0))
