"""Ports: jobs and their steps, as the store and the engine hand them over."""

from __future__ import annotations

from enum import Enum

from holon.domain.attempts import Loss
from holon.domain.costs import Cost
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.job import Job, Status
from holon.domain.task import Outcome
from holon.domain.value import Value
from holon.ports.reads import JobRecord
from holon.ports.shared import Put, Quota
from holon.ports.tasks import (
    Leased,
    NewFanOut,
    NewTask,
    Superseded,
)


class Step(Value, gc=True):
    """All that a handler's run decided; see `Storage.commit`.

    `consumed` are the numbers of the inbox events that it used up. `job.step` is one more than the claimed job's.
    `wake_after` starts the job's timer; `end_tasks` ends what is still open of earlier steps. `keep` goes on with the
    claim. `as_it_was`: the job works on no more than before, so that its state is not over its limit by this.
    """

    claim_id: str
    commit_id: str
    job: Job
    consumed: tuple[int, ...] = ()
    history: tuple[HistoryEvent, ...] = ()
    tasks: tuple[NewTask, ...] = ()
    fan_out: NewFanOut | None = None
    wake_after: int | None = None
    end_tasks: bool = False
    keep: bool = False
    as_it_was: bool = False

    @property
    def ends_open(self) -> Superseded | None:
        """Why what is still open of earlier steps ends with it; None: that does not."""
        job = self.job
        if job.status.terminal:
            return Superseded.JOB_CANCELLED if job.status is Status.CANCELLED else Superseded.JOB_ALREADY_TERMINATED
        if not self.end_tasks:
            return None
        return Superseded.JOB_CANCELLED if job.cancelling else Superseded.JOB_WENT_ON

    @property
    def reserves(self) -> int:
        """What its tasks reserve of the job's budget with it, those included that are not made at once."""
        later = self.fan_out.rest if self.fan_out is not None else ()
        return sum(task.reserves or 0 for tasks in (self.tasks, *later) for task in tasks)


class Note(Value):
    """A document to be written with a new job, and whatever becomes of that; see `Shared.put_document`."""

    kind: str
    put: Put


class NewJob(Value, gc=True):
    """A job to create. `request_id` makes the call repeatable: per owner, with the digest of what was asked.

    `step` is its first step, if that is decided already: it is written with the job. `quota` is what it counts against.
    `note` is in the store no later than the job, as far as the store does one thing after the other.
    """

    job: Job
    history: tuple[HistoryEvent, ...]
    request_id: str | None = None
    request_digest: bytes = b""
    step: Step | None = None
    quota: Quota | None = None
    note: Note | None = None


class Creation(Enum):
    """What became of a `NewJob`: made, made by an earlier call, or not made.

    It is not, where its request id made another job, or where its quota is used up. OUTDATED: its note has another
    version, and was not written; the job is not to be used, if it was made all the same.
    """

    CREATED = "created"
    EXISTING = "existing"
    CONFLICT = "conflict"
    OVER_QUOTA = "over_quota"
    OUTDATED = "outdated"


class Ends(Value, gc=True):
    """The reply of `take_ends`: jobs that are over, of which somebody is to be told.

    `next_due` is when the earliest of the others is due, epoch milliseconds: it may be now, or past; None: there is
    none.
    """

    jobs: tuple[JobRecord, ...] = ()
    next_due: int | None = None


class Happened(Value, gc=True):
    """The reply of `take_events`: jobs in whose history there are events that somebody is to be told of.

    Each comes with the number of the line after which they begin. `next_due` is as in `Ends`.
    """

    jobs: tuple[tuple[JobRecord, int], ...] = ()
    next_due: int | None = None


class Claim(Value, gc=True):
    """The exclusive right to run one job, and all that is needed for it.

    `events` are its unread inbox with their numbers. `deliveries` counts the claims since the last commit.
    """

    job: Job
    claim_id: str
    events: tuple[tuple[int, InboxEvent], ...]
    deliveries: int


class Created(Value, gc=True):
    """The reply of `create_jobs`: for each item the job's id and what became of it.

    `notes` are the new versions of the items' notes; empty where no item has one.
    """

    jobs: tuple[tuple[str, Creation], ...]
    leased: Leased = Leased()
    notes: tuple[int | None, ...] = ()


class Appended(Enum):
    """What became of an event for a job's inbox."""

    APPENDED = "appended"
    DUPLICATE = "duplicate"
    OVER = "over"
    FULL = "full"
    UNKNOWN = "unknown"


class Committed(Value, gc=True):
    """The reply of `commit`. `events` are what came in meanwhile, when the claim was kept.

    `conflict` says that the claim was lost: nothing was written, and all that was decided is void.
    `cancel_pending` says that a cancel waits in the inbox: it is to be handled next.
    `over_budget` says that what is left of the job's budget does not cover the step's tasks: nothing was written, and
    the claim is as it was.
    """

    conflict: bool = False
    cancel_pending: bool = False
    events: tuple[tuple[int, InboxEvent], ...] = ()
    leased: Leased = Leased()
    over_budget: bool = False


class Result(Value, gc=True):
    """How an attempt ended, under the lease that it held.

    `retry_after` answers a failure with another try; None makes the outcome final. `took` is the worker's own
    measure of the attempt. `step` is what the job decides upon this outcome, if that is decided already: it is written
    with it, unless the job is no longer as it was then, or has not the budget for it; in that case the job is told of
    the outcome. `cost` is what the attempt cost, which the job is charged; None: nobody says.
    `share_lost`: lost attempts below used up what the attempt might cost. The retry after it is not one of the task's
    `max_retries`; the job's budget bounds these retries.
    """

    task_id: str
    lease_id: str
    outcome: Outcome
    retry_after: int | None = None
    took: int | None = None
    step: Step | None = None
    cost: Cost = None
    share_lost: bool = False


class Completed(Value, gc=True):
    """The reply of `complete`: for each result None when it is committed, else why not.

    `landed` are the lease ids whose result's step was written with it. `unstored` are those whose result could not be
    stored now, where the store has several partitions: nothing is said of it, and it is to be sent again.
    """

    verdicts: tuple[Superseded | None, ...]
    landed: frozenset[str] = frozenset()
    leased: Leased = Leased()
    unstored: frozenset[str] = frozenset()


class Fired(Value, gc=True):
    """The reply of `fire`. `next_due` is the time of the earliest timer left, None when there is none.

    `spawns` are the (job, step) of fan-outs whose next chunk is to be spawned, `losses` the attempts that were lost or
    timed out.
    """

    next_due: int | None
    spawns: tuple[tuple[str, int], ...] = ()
    losses: tuple[Loss, ...] = ()
