"""The domain: the state machine of a job. Pure: a job and what its handler decided in, a changed job out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holon.domain.attempts import Unfinished, unfinished_line
from holon.domain.change import Change, Limits
from holon.domain.children import RUN_BLUEPRINT
from holon.domain.decisions import (
    AskedPart,
    AwaitApproval,
    AwaitSignal,
    Decision,
    DispatchParallel,
    DispatchTask,
    GoTo,
    RunBlueprint,
    Sleep,
)
from holon.domain.events import HistoryEvent
from holon.domain.job import Job, JobError, Status, Waiting
from holon.domain.policy import denied
from holon.domain.policy import told as allowed_of
from holon.domain.retries import back_off
from holon.domain.specs import Branches, spec_of, spec_of_part
from holon.domain.states import State
from holon.domain.task import (
    CONTRACT_VIOLATION,
    POLICY_DENIED,
    RetryPolicy,
    task_id,
)
from holon.domain.value import replace
from holon.domain.waiting import ask, await_signal, pause
from holon.errors import Violation


def decide(
    job: Job,
    state: State,
    decision: Decision | None,
    returned: Any,
    limits: Limits,
    now: int,
    took: int,
    *,
    state_history: dict[str, Any] | None = None,
    before: tuple[HistoryEvent, ...] = (),
    broken: Sequence[Violation] = (),
) -> Change:
    """What the handler of `state` decided, as a change of its job.

    Arguments:
        decision: what the handler asked of its `actions`; None when it asked nothing.
        returned: what the handler returned; the result of a job that ends here.
        now, took: the time and the handler's run, in milliseconds.
        state_history: the job's, as the handler left it; None: as it was.
        before: lines of history that go before those of this change.
        broken: what the result of a job that ends here breaks of what the handler says that it returns.
    """
    history = job.state_history if state_history is None else state_history
    if decision is None:
        told = (*before, _finished(state, None, now, took))
        return _at_end(job, state, returned, history, told, now, broken)
    most = limits.max_transitions if job.max_transitions is None else min(job.max_transitions, limits.max_transitions)
    if job.transitions >= most:
        told = (*before, _finished(state, None, now, took))
        message = f"exceeded maximum transitions ({most}) in state {state.name!r}"
        return end(job, Status.FAILED, JobError("TOO_MANY_TRANSITIONS", message), now, before=told)
    went_on: dict[str, Any] = {
        "failures": 0,
        "lost": 0,
        "transitions": job.transitions + 1,
        "aggregates": None,
        "state_history": history,
        "status": Status.RUNNING,
        "waiting": None,
    }
    if isinstance(decision, GoTo):
        told = (*before, _finished(state, decision.state, now, took))
        return Change(replace(job, **went_on | {"current_state": decision.state}), told)
    if isinstance(decision, RunBlueprint):
        told = (*before, _finished(state, None, now, took))
        return _run_blueprint(job, decision, now, went_on, told)
    if (skill := _denied(job, decision)) is not None:
        told = (*before, _finished(state, None, now, took))
        message = (
            f"state {state.name!r} dispatched a task for skill {skill!r}, but the job may only use "
            f"{allowed_of(job.allowed_skills)}. Nothing was dispatched; allow the skill when the job is created, or "
            "in the job above"
        )
        return end(job, Status.FAILED, JobError(POLICY_DENIED, message), now, before=told)
    if isinstance(decision, DispatchTask):
        told = (*before, _finished(state, None, now, took))
        return _dispatch(job, decision, limits.retry, now, went_on, told)
    if isinstance(decision, DispatchParallel):
        told = (*before, _finished(state, decision.aggregate_into, now, took))
        return _fan_out(job, decision, limits.retry, now, went_on, told)
    told = (*before, _finished(state, None, now, took))
    if isinstance(decision, AwaitApproval):
        return ask(job, decision, now, went_on, told)
    if isinstance(decision, AwaitSignal):
        return await_signal(job, decision, now, went_on, told)
    return pause(job, decision, now, went_on, told)


def _at_end(
    job: Job,
    state: State,
    returned: Any,
    history: dict[str, Any],
    told: tuple[HistoryEvent, ...],
    now: int,
    broken: Sequence[Violation],
) -> Change:
    if not state.is_end:
        message = f"handler of state {state.name!r} ended without an action"
        return end(job, Status.FAILED, JobError("NO_DECISION", message), now, before=told, state_history=history)
    if state.outcome == "failed":
        error = JobError("ENDED_FAILED", f"ended in state {state.name!r}", returned)
        return end(job, Status.FAILED, error, now, before=told, state_history=history)
    if job.cancelling:
        error = JobError("CANCELLED", "cancelled after its clean-up")
        return end(job, Status.CANCELLED, error, now, before=told, state_history=history)
    if broken:
        why = f"{broken[0].field} {broken[0].reason}"
        message = f"the result of state {state.name!r} does not match the return type of its handler: {why}"
        error = JobError(CONTRACT_VIOLATION, message, [{"field": one.field, "reason": one.reason} for one in broken])
        return end(job, Status.FAILED, error, now, before=told, state_history=history)
    result = result_of(returned, history)
    return end(job, Status.FINISHED, None, now, before=told, state_history=history, result=result)


def result_of(returned: Any, history: dict[str, Any]) -> Any:
    """The result of a job that ends well: what its handler returned; if that is None, its state history."""
    return history if returned is None else returned


def _dispatch(
    job: Job,
    decision: DispatchTask,
    retry: RetryPolicy,
    now: int,
    went_on: dict[str, Any],
    told: tuple[HistoryEvent, ...],
) -> Change:
    spec = spec_of(job, 0, decision.task, retry, now, branch=False)
    waits = {
        "status": Status.WAITING_FOR_WORKER,
        "waiting": Waiting(job.step, dict(decision.transitions), events=dict(decision.events)),
    }
    sent = HistoryEvent("task_dispatched", now, job.current_state, task_id=spec.id, details={"skill": spec.skill})
    return Change(replace(job, **went_on | waits), (*told, sent), (spec,))


def _run_blueprint(
    job: Job, decision: RunBlueprint, now: int, went_on: dict[str, Any], told: tuple[HistoryEvent, ...]
) -> Change:
    asked = decision.part
    waits = {
        "status": Status.WAITING_FOR_CHILD,
        "waiting": Waiting(job.step, dict(decision.transitions)),
        "parts": (asked.child_job_id,),
    }
    spec = spec_of_part(job, 0, asked, now, branch=False)
    return Change(replace(job, **went_on | waits), (*told, _part_started(job, 0, asked, now)), (spec,))


def _part_started(job: Job, index: int, asked: AskedPart, now: int) -> HistoryEvent:
    details = {"skill": RUN_BLUEPRINT, "blueprint": asked.blueprint, "child_job_id": asked.child_job_id}
    task = task_id(job.id, job.step, index)
    return HistoryEvent("sub_blueprint_started", now, job.current_state, task_id=task, details=details)


def _fan_out(
    job: Job,
    decision: DispatchParallel,
    retry: RetryPolicy,
    now: int,
    went_on: dict[str, Any],
    told: tuple[HistoryEvent, ...],
) -> Change:
    if not decision.branches:
        return Change(replace(job, **went_on | {"current_state": decision.aggregate_into}), told)
    branches = Branches(job, decision.branches, retry, now)
    parts: list[tuple[int, AskedPart]] = []
    if decision.parts:
        parts += [(at, one) for at, one in enumerate(decision.branches) if isinstance(one, AskedPart)]
    waits = {
        "status": Status.WAITING_FOR_PARALLEL,
        "waiting": Waiting(job.step, {}, decision.aggregate_into),
        "parts": tuple([one.child_job_id for _, one in parts]),
    }
    sent = HistoryEvent(
        "task_dispatched", now, job.current_state, details={"branches": len(branches), "step": job.step}
    )
    told = (*told, sent, *[_part_started(job, at, one, now) for at, one in parts])
    return Change(replace(job, **went_on | waits), told, branches, fan_out=True, fail_fast=decision.fail_fast)


def _denied(job: Job, decision: DispatchTask | DispatchParallel | AwaitApproval | AwaitSignal | Sleep) -> str | None:
    """The first skill that a decision asks for and its job may not use."""
    if job.allowed_skills is None or isinstance(decision, AwaitApproval | AwaitSignal | Sleep):
        return None
    tasks = (decision.task,) if isinstance(decision, DispatchTask) else decision.branches
    # A part may begin, and uses no more than its job may.
    return denied(job.allowed_skills, (task.skill for task in tasks if not isinstance(task, AskedPart)))


# From this failure on a back-off grows no more, whatever it began with.
_LATE = 30


def handler_failed(
    job: Job,
    error: JobError,
    limits: Limits,
    now: int,
    took: int,
    chance: float,
    *,
    before: tuple[HistoryEvent, ...] = (),
    lasts: bool = False,
) -> Change:
    """A handler failed: try it again after a back-off, or quarantine its job when its tries are used up.

    Arguments:
        chance: a random number in [0, 1), for the jitter.
        before: lines of history that go before those of this change.
        lasts: whether no other try can help.
    """
    failures = job.failures + 1
    told = HistoryEvent(
        "state_failed",
        now,
        job.current_state,
        duration_ms=took,
        attempt_number=failures + job.lost,
        details={"error": error.message},
    )
    before = (*before, told)
    if lasts or failures > limits.retry.max_retries:
        failed = "failed" if lasts else f"failed after {failures} attempts"
        message = f"handler of state {job.current_state!r} {failed}: {error.message}"
        final = replace(error, message=message)
        return end(job, Status.QUARANTINED, final, now, before=before, failures=failures)
    after = back_off(limits.retry, failures, chance)
    waiting = Waiting(job.step, {}, due=now + after)
    return Change(
        replace(job, status=Status.WAITING_FOR_RETRY, failures=failures, waiting=waiting), before, wake_after=after
    )


def not_loaded(
    job: Job, limits: Limits, now: int, chance: float, before: tuple[HistoryEvent, ...], *, again: bool
) -> Change:
    """The node has no handler of the job's state: the job waits until a node has one, and none of its tries is used up.

    Arguments:
        chance, before: as in `handler_failed`.
        again: whether it has waited for another try already; if not, another node may well have the handler.
    """
    after = back_off(limits.retry, _LATE if again else 1, chance)
    waiting = Waiting(job.step, {}, due=now + after)
    return Change(replace(job, status=Status.WAITING_FOR_RETRY, waiting=waiting), before, wake_after=after)


def end(
    job: Job,
    status: Status,
    error: JobError | None,
    now: int,
    *,
    before: tuple[HistoryEvent, ...] = (),
    end_tasks: bool = False,
    result: Any = None,
    **fields: Any,
) -> Change:
    """The job is over; clean-up after a cancel ends `cancelled` whatever happened in it.

    Arguments:
        before: lines of history that go before those of this change.
        end_tasks: whether tasks may still be open.
        result: of a job that finished.
        fields: others of the job's that change with this.
    """
    if job.cancelling and status is not Status.CANCELLED:
        why = error.message if error else None
        status, error = Status.CANCELLED, JobError("CANCELLED", "cancelled; its clean-up failed", why)
    over = replace(
        job,
        status=status,
        waiting=None,
        signals=(),
        error=error,
        result=result if status is Status.FINISHED else None,
        **fields,
    )
    details = {"status": str(status)} | ({"code": error.code, "error": error.message} if error else {})
    completed = HistoryEvent("job_completed", now, job.current_state, details=details)
    return Change(over, (*before, completed), end_tasks=end_tasks, cancels=job.parts)


def _finished(state: State, next_state: str | None, now: int, took: int) -> HistoryEvent:
    return HistoryEvent("state_finished", now, state.name, None, next_state, took)


def started(job: Job, now: int) -> HistoryEvent:
    """The line of history that says that a handler begins."""
    return HistoryEvent("state_started", now, job.current_state, attempt_number=job.failures + job.lost + 1)


def handler_lost(job: Job, times: int, now: int) -> tuple[Job, tuple[HistoryEvent, ...]]:
    """The job and its lines of history once runs of its current handler ended with their nodes, so many times."""
    first = job.failures + job.lost + 1
    lines = (
        unfinished_line(Unfinished.NODE_LOST, now, attempt, state=job.current_state)
        for attempt in range(first, first + times)
    )
    return (replace(job, lost=job.lost + times) if times else job), tuple(lines)


def moved(job: Job, target: str, **fields: Any) -> Job:
    """A job that goes on in another state."""
    return replace(job, status=Status.RUNNING, current_state=target, waiting=None, **fields)
