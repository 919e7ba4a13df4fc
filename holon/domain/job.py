"""The domain: what a job is, and the states that it passes through."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from holon.domain.client import NO_PLAN
from holon.domain.costs import Cost
from holon.domain.policy import Allowed
from holon.domain.signals import KeptSignal
from holon.domain.value import Value, field, replace
from holon.domain.wants import Wants
from holon.domain.wishes import Wish


class Status(StrEnum):
    """Where a job stands. Clients see these words; a terminal one is final.

    Attributes:
        terminal: whether a job with this status is over.
        due: whether the handler of the job's current state is to be run next.
    """

    PENDING = "pending"
    RUNNING = "running"
    WAITING_FOR_WORKER = "waiting_for_worker"
    WAITING_FOR_PARALLEL = "waiting_for_parallel"
    WAITING_FOR_HUMAN = "waiting_for_human"
    WAITING_FOR_TIMER = "waiting_for_timer"
    WAITING_FOR_SIGNAL = "waiting_for_signal"
    WAITING_FOR_CHILD = "waiting_for_child"
    WAITING_FOR_RETRY = "waiting_for_retry"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"

    def __init__(self, word: str) -> None:
        # Looked at a dozen times for each job, so neither is made of the word each time.
        self.terminal = word in ("finished", "failed", "cancelled", "quarantined")
        self.due = word in ("pending", "running")


# What a job that waits for a person or a signal may go on by, and neither brings: a cancel, and the end of its time.
CHOSEN_BY_NOBODY = frozenset(("cancelled", "timeout"))

TERMINAL = frozenset(status for status in Status if status.terminal)


class JobError(Value, gc=True):
    """Why a job did not finish: a stable code, one sentence, and what its author or worker added.

    `retryable` is the word of the holon whose failure it is on whether another try may help; None: there is none. It is
    also set where lost attempts used up the job's budget.
    """

    code: str
    message: str
    details: Any = None
    retryable: bool | None = None


class Question(Value):
    """What a job asks a person. `id` is no other question's; `asked_at` is in epoch milliseconds.

    `integration` is what it is meant for, as its handler said: the node brings it nowhere.
    """

    id: str
    message: str
    integration: str
    asked_at: int


class Waiting(Value):
    """What the last step left open.

    `step` is the step that opened it: an event of another step is stale and ignored.
    `transitions` maps the status of a single task to the next state, or a decision, or the name of a signal, or
    `timeout` where the job's timer leads on; `aggregate_into` is the state after a fan-out. `question` is what a person
    is to decide. `due` is when that wait, a pause, or the time until another try is over, in epoch milliseconds; None:
    nothing ends it. `events` maps the type of an event of a single task to the state that goes on by it.
    """

    step: int
    transitions: dict[str, str]
    aggregate_into: str | None = None
    question: Question | None = None
    due: int | None = None
    events: dict[str, str] = field(default_factory=dict)

    @property
    def decisions(self) -> tuple[str, ...]:
        """What a person may decide, or the names of the signals that are waited for."""
        return tuple(word for word in self.transitions if word not in CHOSEN_BY_NOBODY)


# What handlers work on: large, and told of a job only where it is asked for by name.
CARRIED = frozenset({"initial_data", "state_history"})


class Job(Value, gc=True):
    """One run of a blueprint. Times are epoch milliseconds of the store's clock; timeouts are milliseconds.

    `step` counts commits and is the revision that the store compares. `transitions` counts the changes of state,
    `failures` the failed runs of the current handler, `lost` those that ended with their node. `cancelling` is set
    while clean-up runs after a cancel.
    `aggregates` is the step of the fan-out whose results the current handler gets. `trace` is the trace that it belongs
    to, see `holon.domain.trace`. `created_at` is when a node took it; 0: not noted. `plan` and `client_params` are its
    owner's when it was created, as in `holon.domain.client`. `priority` is the highest that its tasks may have, and
    what theirs count from; None: they have their own. `allowed_skills` are all that it may use, here and below.
    `budget` is what its tasks may cost together, in millionths of the cost unit; None: whatever they do.
    `deadline` is until when its tasks have time at most, but for those of its clean-up; None: they have their own.
    `parent_job_id` is the job that it is a part of, `depth` how many there are above it. `parts` are the
    ids of those of its own that it waits for, or that may still clean up.
    `wants` is what its tasks ask of their workers, where it only passes one on; None: they say it.
    `webhook` is the address that is told of its events and its end; empty: nobody is.
    `events` counts the lines of its history that tell of events.
    `default_priority` is that of its tasks that do not say one. `max_transitions` is how many changes of state it may
    make, where that is less than the node lets it make; None: as many.
    `signals` are those that came before it waited for them, the oldest first. `wishes` are the newest decisions and
    signals that it took and that have a request id.
    """

    id: str
    blueprint: str
    owner: str
    initial_data: dict[str, Any]
    current_state: str
    status: Status = Status.PENDING
    step: int = 0
    transitions: int = 0
    failures: int = 0
    cancelling: bool = False
    state_history: dict[str, Any] = field(default_factory=dict)
    waiting: Waiting | None = None
    aggregates: int | None = None
    result: Any = None
    error: JobError | None = None
    dispatch_timeout: int | None = None
    result_timeout: int | None = None
    trace: str = ""
    created_at: int = 0
    plan: str = NO_PLAN
    client_params: bytes = b""
    priority: float | None = None
    allowed_skills: Allowed = None
    budget: Cost = None
    deadline: int | None = None
    parent_job_id: str = ""
    depth: int = 0
    parts: tuple[str, ...] = ()
    wants: Wants | None = None
    webhook: str = ""
    events: int = 0
    default_priority: float = 0.0
    max_transitions: int | None = None
    signals: tuple[KeptSignal, ...] = ()
    wishes: tuple[Wish, ...] = ()
    lost: int = 0

    def seen(self, deliveries: int) -> Job:
        """This job as clients see it: a pending one that was handed to an executor runs."""
        if self.status is Status.PENDING and deliveries:
            return replace(self, status=Status.RUNNING)
        return self
