"""The core: its rows, as they are kept in memory while they live."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from holon.core.row import Row
from holon.domain.costs import Cost
from holon.domain.events import InboxEvent
from holon.domain.matching import Need
from holon.domain.task import Outcome, RetryPolicy
from holon.ports import SAID_WITHIN, Attempt, Committed, NewTask, Stop, Superseded


class FanOut(Row):
    """The count of a fan-out, a part of its job. `queued` of its branches wait for a lease: they are counted anew when
    a shard is loaded. `chunks` are not tasks yet.

    The timeouts of all its branches count from when it was `dispatched`.
    """

    job_id: str
    step: int
    total: int
    fail_fast: bool
    chunks: tuple[tuple[NewTask, ...], ...]
    dispatched: int
    pending: int
    spawned: int = 0
    queued: int = 0
    failed: int = 0
    progress: float = 0.0
    bytes: int = 0
    over: bool = False


class Stored(Struct, gc=False):
    """What of a job is in the store, or in a batch on its way there.

    Attributes:
        state, inbox: those that were written last, by identity.
        fan: whether there is a fan-out, and of which step.
        chunks: how many chunks it has.
        place: which indexes the job is in; see `holon.core.shard`.
    """

    state: bytes = b""
    inbox: tuple[tuple[int, InboxEvent], ...] = ()
    fan: int | None = None
    chunks: int = 0
    place: tuple[object, ...] | None = None


class JobRow(Row):
    """A job: what the store reads of it, and its state as opaque bytes.

    `due` says that a handler is to be run without any event. The open tasks are those of `open_step`, by index.
    `budget` bounds what it is charged, `cost`, with what is reserved for tasks that are open, and for leases that are
    over and of which nobody has said yet what they cost: `unreported`. `end_due` says when its end is to be told next,
    `events_due` the same of its events, which are lines after `events_after` up to `events_last`. `stored` is what of
    it is in the store.
    """

    n: int
    id: str
    owner: str
    blueprint: str
    status: str
    state: bytes
    created_at: int
    updated_at: int
    finished_at: int | None = None
    over: bool = False
    due: bool = True
    step: int = 0
    commit_id: str = ""
    reply: Committed | None = None
    request_id: str | None = None
    request_digest: bytes = b""
    progress: float | None = None
    message: str = ""
    history_seq: int = 0
    inbox: tuple[tuple[int, InboxEvent], ...] = ()
    inbox_seq: int = 0
    dedups: tuple[str, ...] = ()
    cancel_pending: bool = False
    claim_id: str = ""
    claim_until: int = 0
    deliveries: int = 0
    ready_seq: int = 0
    timer_at: int | None = None
    wake_at: int | None = None
    wake_step: int = 0
    spawn_at: int | None = None
    open_step: int = 0
    open_count: int = 0
    fan: FanOut | None = None
    budget: Cost = None
    cost: Cost = None
    reserved: int = 0
    unreported: tuple[tuple[str, int], ...] = ()
    end_due: int | None = None
    events_due: int | None = None
    events_after: int = 0
    events_last: int = 0
    stored: Stored | None = None

    @property
    def job_id(self) -> str:  # type: ignore[override]
        """Its own id."""
        return self.id

    def next_time(self) -> int | None:
        """When the job is to be looked at next: its claim is over, its timer fires, or a chunk is to be spawned."""
        if self.over:
            return None
        due = self.claim_until if self.claim_id else None
        if self.wake_at is not None:
            due = _sooner(due, self.wake_at)
        return due if self.spawn_at is None else _sooner(due, self.spawn_at)


class TaskState(StrEnum):
    """Where a task stands."""

    QUEUED = "queued"
    OFFERED = "offered"
    LEASED = "leased"
    BACK_OFF = "back_off"
    OVER = "over"


# Up to Python 3.11 a member that is looked up in its class costs as much as a call, and a task needs a score of them.
QUEUED: Final = TaskState.QUEUED
OFFERED: Final = TaskState.OFFERED
LEASED: Final = TaskState.LEASED
BACK_OFF: Final = TaskState.BACK_OFF
OVER: Final = TaskState.OVER

# How a task avoids a worker: in any case; only while another could take it; in any case, as nobody below it can do it.
HARD: Final = 0
SOFT: Final = 1
UNSERVED: Final = 2


class TaskRow(Row):
    """A task. Its `lease_id` and worker stay after the lease ran out, until the next lease, and its session too,
    unless it was given back.

    `reserves` is as in `NewTask`, `price` what its newest attempt may cost where that says nothing, `reserved` what its
    job holds for it now. `at_once` counts how often it was given back without avoiding who did that. `written_off` says
    that its last lease was charged before its attempt ended.
    `lease_lasts` is how long the leases last of who took it last, in milliseconds; 0: as long as the node says.
    `execution_due` is that of its newest attempt, also while nobody has it: who takes it back has what was left.
    `over_reason` says why its last lease is over, or was: it stays where one that ran out is taken up again.
    """

    n: int
    id: str
    job_id: str
    step: int
    index: int
    branch: bool
    need: Need
    key: str
    params: bytes
    priority: float
    retry: RetryPolicy
    trace: str
    created_at: int
    execution_timeout: int
    lost_after: int
    reserves: Cost
    reserved: int
    dispatch_due: int | None
    result_due: int | None
    execution_due: int | None = None
    state: TaskState = QUEUED
    accepted: bool = False
    worker_id: str = ""
    session_id: str = ""
    lease_id: str = ""
    lease_until: int = 0
    lease_lasts: int = 0
    until: int = 0
    applied_lease: str = ""
    applied_worker: str = ""
    generation: int = 1
    attempt: int = 0
    at_once: int = 0
    price: int = 0
    written_off: bool = False
    losses: int = 0
    avoid: tuple[tuple[str, int, int], ...] = ()
    attempts: tuple[Attempt, ...] = ()
    outcome: Outcome | None = None
    over_reason: Superseded | None = None
    progress: float = 0.0
    timer_at: int | None = None

    @classmethod
    def made(cls, n: int, job_id: str, step: int, new: NewTask, branch: bool, now: int) -> TaskRow:
        """The row of a new task. Its timeouts count from `now`."""
        need, reserves = new.need, new.reserves
        return cls(
            n,
            new.id,
            job_id,
            step,
            new.index,
            branch,
            need,
            need.key,
            new.params,
            new.priority,
            new.retry,
            new.trace,
            now,
            new.execution_timeout,
            new.lost_after,
            reserves,
            reserves or 0,
            None if new.dispatch_timeout is None else now + new.dispatch_timeout,
            None if new.result_timeout is None else now + new.result_timeout,
        )

    @property
    def undispatched_until(self) -> int | None:
        """When its dispatch timeout ends it, if nobody has begun it until then; None: nothing does.

        That an offer was accepted reaches the store a batch later.
        """
        if self.dispatch_due is None or self.accepted:
            return None
        return self.dispatch_due + SAID_WITHIN if self.state is OFFERED else self.dispatch_due

    @property
    def may_cost(self) -> int:
        """What its newest attempt may cost, of the budget of its job."""
        return self.price if self.reserves is None else self.reserves

    def next_time(self) -> int | None:
        """When the task is to be looked at next: the first of its limits is reached."""
        state = self.state
        if state is OVER:
            return None
        due, undispatched = self.result_due, self.undispatched_until
        if undispatched is not None:
            due = _sooner(due, undispatched)
        if state is QUEUED:
            for _, until, _ in self.avoid:
                due = _sooner(due, until)
            return due
        if state is BACK_OFF:
            return _sooner(due, self.until)
        due = _sooner(due, self.lease_until)
        return due if self.execution_due is None else _sooner(due, self.execution_due)


def _sooner(due: int | None, other: int) -> int:
    return other if due is None or other < due else due


class LateRow(Row):
    """How often it was told in a job's history that a worker's result for a task came too late.

    `job` and `task` are their numbers.
    """

    job_id: str
    job: int
    task: int
    worker_id: str
    told: int = 0


class WorkerRow(Row):
    """A worker's session: how many tasks it may hold, which leases count against that, and what it is to stop.

    `lease`, `execution`, `instance_id` and `proof` are as in `Opening`.

    `held` alone is changed in place, by the tables, which take that back themselves: a worker may hold thousands.
    """

    id: str
    session_id: str = ""
    live: bool = False
    credits: int = 0
    lease: int | None = None
    execution: int | None = None
    instance_id: str = ""
    proof: int = 0
    held: dict[str, str] = field(default_factory=dict)
    stops: tuple[Stop, ...] = ()
