"""The ledger: its rows, as they are kept in memory while they live."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from holon.domain.costs import Cost
from holon.domain.events import InboxEvent
from holon.domain.matching import Need
from holon.domain.task import Outcome, RetryPolicy
from holon.ports import Attempt, Committed, NewTask, Stop, Superseded
from holon.storage.ledger.row import Row


class FanOut(Row):
    """The count of a fan-out. `queued` of its branches wait for a lease; `chunks` are not tasks yet.

    The timeouts of all its branches count from when it was `dispatched`.
    """

    __slots__ = (
        "bytes",
        "chunks",
        "dispatched",
        "fail_fast",
        "failed",
        "job_id",
        "over",
        "pending",
        "progress",
        "queued",
        "spawned",
        "step",
        "total",
    )

    def __init__(
        self,
        job_id: str,
        step: int,
        total: int,
        fail_fast: bool,
        chunks: tuple[tuple[NewTask, ...], ...],
        dispatched: int,
    ) -> None:
        self.job_id = job_id
        self.step = step
        self.total = total
        self.fail_fast = fail_fast
        self.chunks = chunks
        self.dispatched = dispatched
        self.pending = total
        self.spawned = 0
        self.queued = 0
        self.failed = 0
        self.progress = 0.0
        self.bytes = 0
        self.over = False


class JobRow(Row):
    """A job: what the store reads of it, and its state as opaque bytes.

    `due` says that a handler is to be run without any event. The open tasks are those of `open_step`, by index.
    `budget` bounds what it is charged, `cost`, with what is reserved for tasks that are open, and for leases that are
    over and of which nobody has said yet what they cost: `unreported`.
    """

    __slots__ = (
        "blueprint",
        "budget",
        "cancel_pending",
        "claim_id",
        "claim_until",
        "commit_id",
        "cost",
        "created_at",
        "dedups",
        "deliveries",
        "due",
        "fan",
        "finished_at",
        "history_seq",
        "id",
        "inbox",
        "inbox_seq",
        "message",
        "n",
        "open_count",
        "open_step",
        "over",
        "owner",
        "progress",
        "ready_seq",
        "reply",
        "request_digest",
        "request_id",
        "reserved",
        "spawn_at",
        "state",
        "status",
        "step",
        "timer_at",
        "unreported",
        "updated_at",
        "wake_at",
        "wake_step",
    )

    def __init__(self, n: int, job_id: str, owner: str, blueprint: str, status: str, state: bytes, now: int) -> None:
        self.n = n
        self.id = job_id
        self.owner = owner
        self.blueprint = blueprint
        self.status = status
        self.state = state
        self.created_at = now
        self.updated_at = now
        self.finished_at: int | None = None
        self.over = False
        self.due = True
        self.step = 0
        self.commit_id = ""
        self.reply: Committed | None = None
        self.request_id: str | None = None
        self.request_digest = b""
        self.progress: float | None = None
        self.message = ""
        self.history_seq = 0
        self.inbox: tuple[tuple[int, InboxEvent], ...] = ()
        self.inbox_seq = 0
        self.dedups: tuple[str, ...] = ()
        self.cancel_pending = False
        self.claim_id = ""
        self.claim_until = 0
        self.deliveries = 0
        self.ready_seq = 0
        self.timer_at: int | None = None
        self.wake_at: int | None = None
        self.wake_step = 0
        self.spawn_at: int | None = None
        self.open_step = 0
        self.open_count = 0
        self.fan: FanOut | None = None
        self.budget: Cost = None
        self.cost: Cost = None
        self.reserved = 0
        self.unreported: tuple[tuple[str, int], ...] = ()

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


class TaskRow(Row):
    """A task. Its `lease_id` and worker stay after the lease ran out, until the next lease, and its session too,
    unless it was given back.

    `reserves` is as in `NewTask`, `reserved` what its job holds for it now. `at_once` counts how often it was given
    back without avoiding who did that. `written_off` says that its last lease was charged before its attempt ended.
    """

    __slots__ = (
        "accepted",
        "applied_lease",
        "applied_worker",
        "at_once",
        "attempt",
        "attempts",
        "avoid",
        "branch",
        "created_at",
        "dispatch_due",
        "execution_due",
        "execution_timeout",
        "generation",
        "id",
        "index",
        "job_id",
        "key",
        "lease_id",
        "lease_until",
        "losses",
        "lost_after",
        "n",
        "need",
        "outcome",
        "over_reason",
        "params",
        "priority",
        "progress",
        "reserved",
        "reserves",
        "result_due",
        "retry",
        "session_id",
        "state",
        "step",
        "timer_at",
        "trace",
        "until",
        "worker_id",
        "written_off",
    )
    FIXED = frozenset(
        {
            "branch",
            "created_at",
            "execution_timeout",
            "id",
            "index",
            "job_id",
            "lost_after",
            "n",
            "priority",
            "reserves",
            "retry",
            "step",
            "trace",
        }
    )

    def __init__(self, n: int, job_id: str, step: int, new: NewTask, branch: bool, now: int) -> None:
        self.n = n
        self.id = new.id
        self.job_id = job_id
        self.step = step
        self.index = new.index
        self.branch = branch
        self.need: Need = new.need
        self.key = new.need.key
        self.params = new.params
        self.priority = new.priority
        self.retry: RetryPolicy = new.retry
        self.trace = new.trace
        self.created_at = now
        self.execution_timeout = new.execution_timeout
        self.lost_after = new.lost_after
        self.reserves = self.reserved = new.reserves
        self.dispatch_due = None if new.dispatch_timeout is None else now + new.dispatch_timeout
        self.result_due = None if new.result_timeout is None else now + new.result_timeout
        self.execution_due: int | None = None
        self.state = QUEUED
        self.accepted = False
        self.worker_id = ""
        self.session_id = ""
        self.lease_id = ""
        self.lease_until = 0
        self.until = 0
        self.applied_lease = ""
        self.applied_worker = ""
        self.generation = 1
        self.attempt = 0
        self.at_once = 0
        self.written_off = False
        self.losses = 0
        self.avoid: tuple[tuple[str, int, bool], ...] = ()
        self.attempts: tuple[Attempt, ...] = ()
        self.outcome: Outcome | None = None
        self.over_reason: Superseded | None = None
        self.progress = 0.0
        self.timer_at: int | None = None

    @property
    def unplaced(self) -> bool:
        """Whether the dispatch timeout counts: no worker took it, or is being offered it; an offer has its own time."""
        return not self.accepted and self.state is not OFFERED

    def next_time(self) -> int | None:
        """When the task is to be looked at next: the first of its limits is reached."""
        state = self.state
        if state is OVER:
            return None
        due = self.result_due
        if self.dispatch_due is not None and self.unplaced:
            due = _sooner(due, self.dispatch_due)
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


class WorkerRow(Row):
    """A worker's session: how many tasks it may hold, which leases count against that, and what it is to stop.

    `lease` and `execution` are as in `Opening`.

    `held` alone is changed in place, by the tables, which take that back themselves: a worker may hold thousands.
    """

    __slots__ = ("credits", "execution", "held", "id", "lease", "live", "session_id", "stops")

    def __init__(self, worker_id: str) -> None:
        self.id = worker_id
        self.session_id = ""
        self.live = False
        self.credits = 0
        self.lease: int | None = None
        self.execution: int | None = None
        self.held: dict[str, str] = {}
        self.stops: tuple[Stop, ...] = ()
