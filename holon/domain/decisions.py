"""Decisions: what one run of a handler may decide, exactly one of them, as plain values."""

from __future__ import annotations

from typing import Any

from holon.domain.costs import Cost
from holon.domain.policy import Allowed
from holon.domain.value import Value, field
from holon.domain.wants import Wants


class GoTo(Value):
    """The job goes on in the state named."""

    state: str


class AskedTask(Value, gc=True):
    """What a handler asks of a worker, be it the only task of its decision or one of many.

    Arguments:
        skill: what the worker must be able to do.
        params: the JSON object that the worker is given.
        priority: higher goes first among the tasks that wait; None: as the job says.
        timeout_seconds: the longest the task may run, once accepted; None for the node's setting.
        dispatch_timeout_seconds: the longest it may wait for a worker; None for the job's value.
        result_timeout_seconds: the longest from now to its result; None for the job's value.
        lost_after_seconds: how long after its worker's last word another does it; None for the node's setting.
        allowed_skills: those of the job's that a holon may use to do it, its own among them; None: all of them.
        max_cost: what an attempt of it may cost, in millionths of the cost unit: the highest price of who may do it,
            and what the job's budget must cover. None: whatever it costs; in a job with a budget, what whoever does it
            declares.
        wants: what else it asks of who does it; None: nothing.
        max_retries: how often it is tried again after it failed; None for the node's setting.
    """

    skill: str
    params: dict[str, Any]
    priority: float | None = None
    timeout_seconds: float | None = None
    dispatch_timeout_seconds: float | None = None
    result_timeout_seconds: float | None = None
    lost_after_seconds: float | None = None
    allowed_skills: Allowed = None
    max_cost: Cost = None
    wants: Wants | None = None
    max_retries: int | None = None


class AskedPart(Value, gc=True):
    """What a handler asks of a blueprint: a job of it, as a part of the one that asks, alone or one of many.

    Arguments:
        blueprint: its name.
        initial_data: the JSON object that the job is given.
        dispatch_timeout, result_timeout: those of each of its tasks, in seconds; None: as this job has them.
        max_cost: what it may cost, in millionths of the cost unit; None: whatever it does.
        child_job_id: the id that it is to have; empty while that is not known.
    """

    blueprint: str
    initial_data: dict[str, Any]
    dispatch_timeout: float | None = None
    result_timeout: float | None = None
    max_cost: Cost = None
    child_job_id: str = ""


class DispatchTask(Value, gc=True):
    """One task for one worker; the status it ends with names the next state.

    Arguments:
        task: what is asked for.
        transitions: the next state for each status that the worker may answer.
        events: the state that goes on by an event of the task, for each type of one; the task is stopped.
    """

    task: AskedTask
    transitions: dict[str, str]
    events: dict[str, str] = field(default_factory=dict)


class DispatchParallel(Value, gc=True):
    """Many tasks and parts at once, whose results meet in one state.

    Arguments:
        branches: what is asked for, in the order in which the results are handed over; may be empty.
        aggregate_into: the state that gets all the results.
        fail_fast: the first branch that fails for good ends the job.
        parts: how many of the branches are parts; there may be thousands, and none of them is one.
    """

    branches: tuple[AskedTask | AskedPart, ...]
    aggregate_into: str
    fail_fast: bool = False
    parts: int = 0


class RunBlueprint(Value, gc=True):
    """A job of another blueprint, as a part of this one; the status it ends with names the next state.

    Arguments:
        part: what is asked for.
        transitions: the next state for each way in which it may end.
    """

    part: AskedPart
    transitions: dict[str, str]


class AwaitApproval(Value):
    """A question to a person, whose decision names the next state.

    Arguments:
        integration: what the question is meant for, such as the name of a chat; for who brings it there.
        message: what is asked.
        transitions: the next state for each decision; `cancelled` and `timeout` are none, as in `CHOSEN_BY_NOBODY`.
        timeout_seconds: how long the decision is waited for; None: for ever.
    """

    integration: str
    message: str
    transitions: dict[str, str]
    timeout_seconds: float | None = None


class AwaitSignal(Value):
    """The job goes on by the first signal of some names; one that it keeps already counts.

    Arguments:
        transitions: the next state for each name; `cancelled` and `timeout` are none, as in `CHOSEN_BY_NOBODY`.
        timeout_seconds: how long it is waited for; None: for ever.
    """

    transitions: dict[str, str]
    timeout_seconds: float | None = None


class Sleep(Value):
    """The job goes on in the state named, when so many seconds have passed."""

    seconds: float
    state: str


Decision = GoTo | DispatchTask | DispatchParallel | RunBlueprint | AwaitApproval | AwaitSignal | Sleep
