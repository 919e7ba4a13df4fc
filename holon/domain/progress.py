"""The domain: how far a job is: where its state stands among those of its blueprint, and how far it is in that."""

from __future__ import annotations

from collections.abc import Iterable

from holon.domain.blueprint import Blueprint
from holon.domain.events import HistoryEvent
from holon.domain.job import Job, Status

_WAITING_FOR_TASKS = (Status.WAITING_FOR_WORKER, Status.WAITING_FOR_PARALLEL, Status.WAITING_FOR_CHILD)


def percent_of(job: Job, blueprint: Blueprint | None, of_tasks: float | None) -> float | None:
    """How far a job is, 0 to 100, by the spans of its blueprint's states; None: that is not known.

    It knows nothing of the way that led to a state: a job that goes back to one is as far as it was there before.

    Arguments:
        blueprint: the job's; None: it is not here any more.
        of_tasks: how far the tasks are that it waits for, 0 to 100; None: they have not said. What it last waited for
            may be told yet while it waits for none: that is in what was passed.
    """
    if job.status is Status.FINISHED:
        return 100.0
    span = _span(blueprint, job.current_state) if blueprint is not None else None
    if span is None:
        return None
    passed, own = span
    if of_tasks is not None and job.status in _WAITING_FOR_TASKS:
        return round(passed + own * of_tasks / 100, 1)
    return round(passed, 1) or None


def passed_by(blueprint: Blueprint, history: Iterable[HistoryEvent]) -> float:
    """How far a job was at most, 0 to 100, by the states that it entered, and those that it left once their tasks were
    over: it may have gone back since.

    Arguments:
        history: its lines, all or those that say that a state was entered or a task sent.
    """
    most, sent_in = 0.0, ""
    for line in history:
        if line.type == "state_started":
            before = _span(blueprint, sent_in) or (0.0, 0.0)
            entered = _span(blueprint, line.state or "") or (0.0, 0.0)
            most, sent_in = max(most, sum(before), entered[0]), ""
        elif line.type in ("task_dispatched", "sub_blueprint_started"):
            sent_in = line.state or ""
    return round(most, 1)


def _span(blueprint: Blueprint, name: str) -> tuple[float, float] | None:
    """Which part of a job a state is; None: nobody can say."""
    state = blueprint.states.get(name)
    # What went wrong may have done so anywhere before.
    return None if state is None or state.outcome == "failed" else blueprint.spans[name]
