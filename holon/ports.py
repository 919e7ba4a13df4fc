"""What the engine needs of the world: the store, its records, and the live connections of workers.

The store's operations are atomic, durable before they return, and safe to repeat when a reply was lost. Times are
epoch milliseconds of the store's clock; durations are milliseconds. A job can become ready in many of them: each of
those takes `want`, how many jobs this node could start at once, and hands over that many claims at most. Those that
make work, or free a worker, take `sessions`, and lease the heads of the backlog to them.

Every operation raises `StoreUnavailable` when nothing of it happened or its reply was lost. A cancel comes
before a call or after its reply, never between: what a call hands over is not lost because its caller is cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import field
from enum import Enum, StrEnum
from typing import Protocol

from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.job import Job, Status
from holon.domain.matching import Need
from holon.domain.task import Outcome, RetryPolicy
from holon.domain.value import value

# Jobs ------------------------------------------------------------------------------------------------------------


@value
class NewJob:
    """A job to create. `request_id` makes the call repeatable: per owner, with the digest of what was asked.

    `step` is its first step, if that is decided already: it is written with the job.
    """

    job: Job
    history: tuple[HistoryEvent, ...]
    request_id: str | None = None
    request_digest: bytes = b""
    step: Step | None = None


class Creation(Enum):
    """What became of a `NewJob`."""

    CREATED = "created"
    EXISTING = "existing"
    CONFLICT = "conflict"


@value
class Claim:
    """The exclusive right to run one job, and all that is needed for it.

    `events` are its unread inbox with their numbers. `deliveries` counts the claims since the last commit.
    """

    job: Job
    claim_id: str
    events: tuple[tuple[int, InboxEvent], ...]
    deliveries: int


@value
class Leased:
    """Offers made, and the match keys (of those asked for) that still have tasks waiting."""

    offers: tuple[Offer, ...] = ()
    left: frozenset[str] = frozenset()


@value
class Created:
    """The reply of `create_jobs`: for each item the job's id and what became of it."""

    jobs: tuple[tuple[str, Creation], ...]
    claims: tuple[Claim, ...] = ()
    leased: Leased = Leased()


class Appended(Enum):
    """What became of an event for a job's inbox."""

    APPENDED = "appended"
    DUPLICATE = "duplicate"
    OVER = "over"
    FULL = "full"
    UNKNOWN = "unknown"


@value
class NewTask:
    """A task that a step creates. `params` is JSON text; `need` is computed by the caller.

    `trace` is the trace that its attempts belong to, see `holon.domain.trace`.
    """

    id: str
    index: int
    need: Need
    params: bytes
    priority: float
    execution_timeout: int
    dispatch_timeout: int | None
    result_timeout: int | None
    retry: RetryPolicy
    trace: str = ""


@value
class NewFanOut:
    """That the tasks of a step are branches. `rest` holds those past the first, in chunks for `spawn`."""

    total: int
    fail_fast: bool
    rest: tuple[tuple[NewTask, ...], ...] = ()


@value
class Step:
    """All that a handler's run decided; see `Storage.commit`.

    `consumed` are the numbers of the inbox events that it used up. `job.step` is one more than the claimed job's.
    `wake_after` starts the job's timer; `end_tasks` ends what is still open of earlier steps. `keep` goes on with the
    claim.
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


# Tasks -----------------------------------------------------------------------------------------------------------


@value
class Seat:
    """Room at one worker's live session: it takes up to `n` tasks of these match keys.

    `only` are those of the keys that no other worker could do: then a task does not avoid the one that failed it last.
    """

    worker_id: str
    session_id: str
    n: int
    keys: tuple[str, ...]
    only: frozenset[str] = frozenset()


@value
class Offer:
    """A task leased to a worker: what is sent to it, and what deciding about its outcome needs.

    `time_left` is what the worker has for the attempt (milliseconds; None: no limit), `deadline` the same as a time.
    `generation` is 1 plus the outcomes answered with a retry, `attempt` counts leases.
    """

    worker_id: str
    session_id: str
    task_id: str
    lease_id: str
    job_id: str
    skill: str
    version: str
    type: str
    params: bytes
    priority: float
    generation: int
    attempt: int
    time_left: int | None
    deadline: int | None
    retry: RetryPolicy
    trace: str = ""


@value
class Committed:
    """The reply of `commit`. `events` are what came in meanwhile, when the claim was kept.

    `conflict` says that the claim was lost: nothing was written, and all that was decided is void.
    `cancel_pending` says that a cancel waits in the inbox: it is to be handled next.
    """

    conflict: bool = False
    cancel_pending: bool = False
    events: tuple[tuple[int, InboxEvent], ...] = ()
    leased: Leased = Leased()
    claims: tuple[Claim, ...] = ()


class Superseded(StrEnum):
    """Why an outcome was not applied. Clients see these words."""

    JOB_NOT_FOUND = "job_not_found"
    STALE_TASK = "stale_task"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    JOB_CANCELLED = "job_cancelled"
    JOB_ALREADY_TERMINATED = "job_already_terminated"
    WORKER_MISMATCH = "worker_mismatch"


@value
class Result:
    """How an attempt ended, under the lease that it held.

    `retry_after` answers a failure with another try; None makes the outcome final. `took` is the worker's own
    measure of the attempt. `step` is what the job decides upon this outcome, if that is decided already: it is written
    with it, unless the job is no longer as it was then; in that case the job is told of the outcome.
    """

    task_id: str
    lease_id: str
    outcome: Outcome
    retry_after: int | None = None
    took: int | None = None
    step: Step | None = None


@value
class Completed:
    """The reply of `complete`: for each result None when it is committed, else why not.

    `landed` are the lease ids whose result's step was written with it.
    """

    verdicts: tuple[Superseded | None, ...]
    landed: frozenset[str] = frozenset()
    leased: Leased = Leased()
    claims: tuple[Claim, ...] = ()


@value
class LeaseRef:
    """One lease, as its holder names it."""

    worker_id: str
    session_id: str
    task_id: str
    lease_id: str


class StopReason(Enum):
    """Why a worker is told to stop."""

    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    LEASE_LOST = "lease lost"


@value
class Stop:
    """A lease whose work is to stop; it counts against its worker's credits until its final word."""

    lease: LeaseRef
    reason: StopReason


@value
class Handback:
    """A lease that its worker gives back without an outcome. `avoid`: not to this worker again, for one lease."""

    lease: LeaseRef
    avoid: bool


@value
class Progress:
    """The newest word of a running task. `percent` is 0-100 or None."""

    lease: LeaseRef
    percent: float | None
    message: str


@value
class Touch:
    """What a node's sessions had to say that needs no answer of its own: one batch a second, or sooner.

    `credits` are (worker, session, credits). `extends` renew leases and accept those not yet accepted.
    """

    accepts: tuple[LeaseRef, ...] = ()
    extends: tuple[LeaseRef, ...] = ()
    handbacks: tuple[Handback, ...] = ()
    progress: tuple[Progress, ...] = ()
    credits: tuple[tuple[str, str, int], ...] = ()


@value
class Touched:
    """The reply of `touch`: what could not be kept, and every stop that is due at this node's sessions."""

    lost: tuple[LeaseRef, ...] = ()
    stops: tuple[Stop, ...] = ()
    leased: Leased = Leased()


@value
class Opening:
    """A worker's new session. `resumed` are the (task, lease) pairs that it still holds."""

    worker_id: str
    session_id: str
    credits: int
    resumed: tuple[tuple[str, str], ...] = ()


@value
class Opened:
    """The reply of `open_session`: which resumed leases go on (as offers), and which do not, and why."""

    replaced: str | None
    kept: tuple[Offer, ...] = ()
    dropped: tuple[tuple[str, str, Superseded], ...] = ()


@value
class Fired:
    """The reply of `fire`. `next_due` is the time of the earliest timer left, None when there is none.

    `spawns` are the (job, step) of fan-outs whose next chunk is to be spawned.
    """

    next_due: int | None
    claims: tuple[Claim, ...] = ()
    leased: Leased = Leased()
    spawns: tuple[tuple[str, int], ...] = ()


# Reads -----------------------------------------------------------------------------------------------------------


@value
class JobRecord:
    """A job as clients see it. `queued_need` is what its single waiting task needs, while nobody has it.

    `sequence` is the number of its newest line of history.
    """

    job: Job
    created_at: int
    updated_at: int
    finished_at: int | None
    progress: float | None
    progress_message: str
    queued_need: Need | None = None
    sequence: int = 0


@value
class JobFilter:
    """Which jobs a list shows, newest first. `before` is the arrival number that the last page ended at."""

    owner: str
    statuses: tuple[Status, ...] = ()
    blueprint: str | None = None
    before: int | None = None


@value
class Counts:
    """How much there is of what is not over: jobs by status, tasks that wait for a lease, tasks that workers hold.

    `waiting` are the tasks that wait, by skill.
    """

    jobs: Mapping[Status, int]
    queued: int
    leased: int
    waiting: Mapping[str, int]


@value
class TaskRecord:
    """Where a task stands, for those who decide about it and for those who look."""

    id: str
    job_id: str
    state: str
    need: Need
    lease_id: str
    worker_id: str
    generation: int
    attempt: int
    retry: RetryPolicy
    params: bytes = field(repr=False)


@value
class Attempt:
    """One lease of a task, from its offer to its end. Times are epoch milliseconds; None: did not come to it."""

    worker_id: str
    offered: int
    leased: int | None
    ended: int | None


# The store's settings --------------------------------------------------------------------------------------------


@value
class StoreSettings:
    """What every backend is built with: who this node is, and its durations (milliseconds) and limits.

    `claim` is how long a node may be silent before its jobs are taken over, `lease` the same for a worker's tasks,
    `offer` how long a worker may leave an offer unanswered. A job is quarantined at its delivery after
    `max_deliveries`; a task after `max_losses` sessions that ended under it.
    """

    node_id: str
    claim: int = 10_000
    lease: int = 30_000
    offer: int = 5_000
    max_deliveries: int = 5
    max_losses: int = 10
    max_inbox: int = 1_000
    max_state_bytes: int = 2**20
    max_fan_in_bytes: int = 64 * 2**20


# The store -------------------------------------------------------------------------------------------------------


@value
class Hint:
    """That something may be worth a call. A hint can be lost or late: it is never the truth.

    `ready`: jobs wait for a claim. `stops`: a stop is due. `due`: the earliest timer is now at this time.
    `keys`: match keys with tasks that wait for a lease. `spawns`: fan-outs whose next chunk is to be spawned.
    `jobs`: watched jobs that changed, or whose tasks did.
    """

    ready: bool = False
    stops: bool = False
    due: int | None = None
    keys: frozenset[str] = frozenset()
    spawns: frozenset[tuple[str, int]] = frozenset()
    jobs: frozenset[str] = frozenset()


class Steps(Protocol):
    """The part of the store that runs jobs."""

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        """Create jobs, all or none; a repeat of a request id answers with the job that it made."""
        ...

    async def append(
        self, job_id: str, event: InboxEvent, dedup_key: str, want: int
    ) -> tuple[Appended, Sequence[Claim]]:
        """Put an event into a job's inbox; the same key is put in once."""
        ...

    async def claim(self, want: int) -> Sequence[Claim]:
        """Claim up to `want` ready jobs, oldest ready first. Never waits."""
        ...

    async def keep(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        """Renew claims, given as (job, claim id): whether each is still ours."""
        ...

    async def release(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        """Give claims back without a commit: nothing was decided, and the job is ready again."""
        ...

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        """Write a step: the job's new state and all its effects together, under its claim, or nothing."""
        ...

    async def spawn(self, job_id: str, step: int, seats: Sequence[Seat]) -> Leased:
        """Turn the next chunk of a large fan-out into tasks, if fewer than 100 of them wait for a lease."""
        ...

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        """The outcomes of a fan-out's branches, in order of index; those without one are left out."""
        ...


class Leases(Protocol):
    """The part of the store that hands tasks to workers."""

    async def open_session(self, opening: Opening) -> Opened:
        """Make a session its worker's current one; leases that it does not resume go back to the queue at once."""
        ...

    async def close_session(self, worker_id: str, session_id: str) -> None:
        """A session has ended; its leases live on until their own deadline, so that the worker can resume them."""
        ...

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        """Lease the heads of the backlog, by priority, then arrival, within the workers' credits."""
        ...

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        """Take a batch of what sessions said; answers with the stops that are due."""
        ...

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        """Apply results, each at most once and only under its task's current lease, held by this worker."""
        ...

    async def fire(self, limit: int, want: int, seats: Sequence[Seat]) -> Fired:
        """Do what is due, at most `limit` timers."""
        ...

    async def task(self, task_id: str) -> TaskRecord | None:
        """One task."""
        ...

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        """The match keys of a skill that have waiting tasks: what each needs, and how many wait."""
        ...

    async def needs(self) -> Mapping[str, Need]:
        """Every match key that has waiting tasks."""
        ...

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        """Waiting tasks of a match key, ordered by id, for a new contract to be tried on."""
        ...

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        """Give waiting tasks a new need, and with it a new place in the backlog, under their old arrival."""
        ...


class Reads(Protocol):
    """What looks at the store and changes nothing."""

    async def job(self, job_id: str) -> JobRecord | None:
        """One job."""
        ...

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        """A page of jobs, newest first, and the arrival number to go on from (None: that was all)."""
        ...

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        """A page of a job's history, with sequence numbers from 1, after the one given."""
        ...

    async def counts(self) -> Counts:
        """How much there is now of what is not over."""
        ...


class Storage(Steps, Leases, Reads, Protocol):
    """The store as a whole."""

    def now(self) -> int:
        """The store's clock, epoch milliseconds."""
        ...

    def hints(self) -> AsyncIterator[Hint]:
        """Wake-ups, as they come; several are folded into one while nobody looks."""
        ...

    async def watch(self, job_id: str) -> None:
        """Hint at every change of a job that a read after this call does not show, until `unwatch`."""
        ...

    def unwatch(self, job_id: str) -> None:
        """Hint at a job's changes no more, from now or soon."""
        ...

    async def failure(self) -> None:
        """Wait until the store is broken for good.

        Raises:
            StoreUnavailable: it is; only a new process can tell what was written.
        """
        ...

    async def purge(self, finished_before: int, limit: int) -> int:
        """Delete jobs that ended before this time, with all that is theirs; how many were."""
        ...


class WorkerConnection(Protocol):
    """A worker's live session, as the engine sees it: it only ever puts things into its outgoing queue."""

    def offer(self, offers: Sequence[Offer]) -> None:
        """Send offers."""
        ...

    def stop(self, stops: Sequence[Stop]) -> None:
        """Tell the worker to stop; an offer of the same lease that was not sent yet is dropped instead."""
        ...

    def go_away(self, reason: str, message: str, time_left: int) -> None:
        """Ask the worker to take its stream elsewhere within `time_left` milliseconds."""
        ...
