"""A job for the machine, and what it is given and answers."""

from __future__ import annotations

from typing import Any

from holon.domain.change import Change, Limits
from holon.domain.decisions import Decision
from holon.domain.events import CancelRequested, InboxEvent, TaskEnded
from holon.domain.job import Job, JobError, Status, Waiting
from holon.domain.machine import decide
from holon.domain.reactions import react
from holon.domain.states import Handler, State
from holon.domain.task import Outcome, RetryPolicy, TaskError

NOW = 1_700_000_000_000
LIMITS = Limits(max_transitions=10, retry=RetryPolicy(3, 1_000, 60_000))
ANN = CancelRequested("ann")


async def _handler() -> None:
    """Never called: the machine looks only at what a handler decided."""


def state(name: str = "start", **fields: Any) -> State:
    given: dict[str, Any] = {
        "is_start": False,
        "is_end": False,
        "outcome": None,
        "is_aggregator": False,
    }
    return State(name, (Handler(_handler),), **given | fields)


START = state("start", is_start=True)
FINISH = state("finish", is_end=True, outcome="finished")
DEAD_END = state("dead_end", is_end=True, outcome="failed")


def job(**fields: Any) -> Job:
    given: dict[str, Any] = {"initial_data": {"n": 1}, "current_state": "start", "status": Status.RUNNING, "step": 4}
    return Job(id="0-a", blueprint="bp", owner="ann", **given | fields)


def waiting(aggregate_into: str | None = None, **transitions: str) -> Job:
    """A job that waits for the work of its step 4."""
    status = Status.WAITING_FOR_PARALLEL if aggregate_into else Status.WAITING_FOR_WORKER
    return job(status=status, step=5, waiting=Waiting(4, transitions, aggregate_into))


def ended(status: str = "success", code: str | None = None, tries: int = 1, step: int = 4) -> TaskEnded:
    error = None if code is None else TaskError(code, "it broke")
    return TaskEnded(step, f"0-a-{step}-0", Outcome(status, error=error, worker_id="w1"), tries)


def after(one: Job, event: InboxEvent, data: dict[str, Any] | None = None, details: Any = None) -> Change:
    change = react(one, event, data or {}, details, NOW)
    assert change is not None
    return change


def decided(decision: Decision | None, one: Job | None = None, at: State = START, returned: Any = None) -> Change:
    return decide(one or job(), at, decision, returned, LIMITS, NOW, 7)


def types(change: Change) -> list[str]:
    return [event.type for event in change.history]


def error_of(change: Change) -> JobError:
    assert change.job.error is not None
    return change.job.error
