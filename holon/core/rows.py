"""The core: the rows that it keeps in memory."""

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
    """The counts of a job's fan-out.

    Attributes:
        chunks: branches that are not tasks yet.
        dispatched: when the timeouts of all branches began, epoch milliseconds.
        pending: the number of branches that are not over.
        spawned: the number of branches that became tasks.
        queued: the number of tasks that wait for a lease or a retry; counted anew when a shard is loaded.
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
    """What the store has of a job, or will have after the batch in flight.

    Attributes:
        state, inbox: the objects that were written last; a change is found by identity.
        fan: the step of the stored fan-out; None: none is stored.
        chunks: the number of stored chunks.
        place: decides which index entries the job has; see `holon.core.shard._place`. None: not written yet.
    """

    state: bytes = b""
    inbox: tuple[tuple[int, InboxEvent], ...] = ()
    fan: int | None = None
    chunks: int = 0
    place: tuple[object, ...] | None = None


class JobRow(Row):
    """A job: the fields that rules read, and its state as opaque bytes. Times are epoch milliseconds.

    Attributes:
        due: whether a handler must run even without an event.
        open_step, open_count: the step of the open tasks, and their number; their indexes count from 0.
        budget: the limit of `cost`, `reserved` and `unreported` together; None: no limit.
        cost: what the job was charged so far.
        reserved: the amount reserved for its open tasks.
        unreported: (lease id, amount) of each ended lease whose cost is not reported yet.
        end_due: when to notify the webhook of the job's end next; None: no notification is pending.
        events_due: the same for its events, which are in the lines of history from `events_after` + 1 to `events_last`.
        stored: what the store has of the job; None: nothing yet.
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
        """The job's own id."""
        return self.id

    def next_time(self) -> int | None:
        """When to process the job next: its timer fires, or its next chunk becomes tasks."""
        if self.over:
            return None
        return self.spawn_at if self.wake_at is None else _sooner(self.spawn_at, self.wake_at)


class TaskState(StrEnum):
    """The state of a task."""

    QUEUED = "queued"
    OFFERED = "offered"
    LEASED = "leased"
    BACK_OFF = "back_off"
    OVER = "over"


# Up to Python 3.11, reading an enum member from its class costs as much as a call. One task needs about 20 such reads.
QUEUED: Final = TaskState.QUEUED
OFFERED: Final = TaskState.OFFERED
LEASED: Final = TaskState.LEASED
BACK_OFF: Final = TaskState.BACK_OFF
OVER: Final = TaskState.OVER

# How a task avoids a worker. HARD: always. SOFT: only while another worker could take the task. UNSERVED: always,
# because no worker below this one can do the task.
HARD: Final = 0
SOFT: Final = 1
UNSERVED: Final = 2


class TaskRow(Row):
    """A task. Times are epoch milliseconds.

    Attributes:
        n: the task's arrival number.
        reserves: as in `NewTask`.
        reserved: the amount that its job reserves for it now.
        price: what its newest attempt may cost; used if `reserves` is None.
        lease_id, worker_id: those of the last lease; kept after it ends, until the next lease.
        session_id: the session of the last lease; emptied when the lease is given back, or its execution times out.
        lease_lasts: how long leases of the last worker last, in milliseconds; 0: the node's setting.
        execution_due: when the execution timeout of the newest attempt ends. A resumed lease keeps it.
        until: when the retry is due, in state BACK_OFF.
        at_once: how many handbacks let the same worker have the task again sooner than after one lease.
        written_off: whether the last lease was charged in full before its attempt ended.
        avoid: (worker id, end, how) of each worker that the task avoids.
        over_reason: why the last lease ended. It stays if the lease is resumed after that.
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
        """When the dispatch timeout ends the task; None if it has no such timeout, or a worker has begun it.

        While the task is offered, `SAID_WITHIN` is added, because the acceptance reaches the store a batch later.
        """
        if self.dispatch_due is None or self.accepted:
            return None
        return self.dispatch_due + SAID_WITHIN if self.state is OFFERED else self.dispatch_due

    @property
    def may_cost(self) -> int:
        """What the newest attempt may cost of its job's budget."""
        return self.price if self.reserves is None else self.reserves

    def next_time(self) -> int | None:
        """When to process the task next: when the first of its time limits is reached."""
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
    """The number of lines in a job's history about late results of one worker for one task: `told`.

    `job` and `task` are arrival numbers.
    """

    job_id: str
    job: int
    task: int
    worker_id: str
    told: int = 0


class WorkerRow(Row):
    """A worker's session. It is in memory only.

    Attributes:
        credits: how many tasks the worker may hold.
        lease, execution, instance_id, proof: as in `Opening`.
        held: task ids by lease id, for the leases that count against `credits`. The dict is changed in place, because a
            worker may hold thousands of leases.
        stops: leases that the worker must be told to stop.
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
