"""The domain: the state machine of a job. Pure: a job and what happened in, a changed job and its effects out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holon.domain.blueprint import State
from holon.domain.decisions import Branch, Decision, DispatchParallel, DispatchTask, GoTo
from holon.domain.events import BranchesDone, CancelRequested, HistoryEvent, InboxEvent, TaskEnded, Woken
from holon.domain.job import Job, JobError, Status, Waiting
from holon.domain.policy import both, denied
from holon.domain.policy import told as allowed_of
from holon.domain.retries import Verdict, back_off, verdict
from holon.domain.task import CANCELLED, FAILURE, POLICY_DENIED, SUCCESS, Outcome, RetryPolicy, TaskSpec, task_id
from holon.domain.value import Value, replace


class Limits(Value):
    """What bounds a job: changes of state, and how its handlers and tasks are tried again (milliseconds)."""

    max_transitions: int
    retry: RetryPolicy


class Change(Value):
    """A job after a step, and the step's effects: all of it lands together, or nothing.

    `wake_after` starts the job's timer, in milliseconds. `fan_out` says that the tasks are branches;
    `end_tasks` that what is still open of earlier steps ends now. `trace` is what its tasks belong to;
    empty: the job's.
    """

    job: Job
    history: tuple[HistoryEvent, ...] = ()
    tasks: tuple[TaskSpec, ...] = ()
    fan_out: bool = False
    fail_fast: bool = False
    wake_after: int | None = None
    end_tasks: bool = False
    trace: str = ""


# What happened ---------------------------------------------------------------------------------------------------


def react(
    job: Job,
    event: InboxEvent,
    data: Mapping[str, Any],
    error_details: Any,
    now: int,
    failed: tuple[str, Outcome] | None = None,
) -> Change | None:
    """What an inbox event changes before any handler runs; None when it is stale and changes nothing.

    Arguments:
        data: the decoded data of a task's outcome, merged into the state history; empty for other events.
        error_details: the decoded details of a task's error.
        now: epoch milliseconds.
        failed: the branch that ended the others under `fail_fast`, its task and outcome; None for other events.
    """
    if job.status.terminal:
        return None
    if isinstance(event, CancelRequested):
        return _cancel(job, event, now)
    waiting = job.waiting
    if waiting is None or waiting.step != event.step:
        return None
    if isinstance(event, Woken):
        if job.status is not Status.WAITING_FOR_RETRY:
            return None
        return Change(replace(job, status=Status.RUNNING, waiting=None))
    if isinstance(event, BranchesDone):
        return _branches_done(job, waiting, event, failed, now)
    return _task_ended(job, waiting, event, data, error_details, now)


def _cancel(job: Job, event: CancelRequested, now: int) -> Change:
    target = job.waiting.transitions.get(CANCELLED) if job.waiting and not job.cancelling else None
    told = (HistoryEvent("job_cancel_requested", now, job.current_state, details={"by": event.by}),)
    if target is None:
        error = JobError("CANCELLED", f"cancelled by {event.by}")
        return end(job, Status.CANCELLED, error, now, before=told, end_tasks=True)
    return Change(_moved(job, target, cancelling=True), told, end_tasks=True)


def _branches_done(
    job: Job, waiting: Waiting, event: BranchesDone, failed: tuple[str, Outcome] | None, now: int
) -> Change | None:
    if waiting.aggregate_into is None:
        return None
    if event.too_large:
        message = f"the results of the branches before {waiting.aggregate_into!r} are over the limit of their sum"
        return end(job, Status.FAILED, JobError("LIMIT_EXCEEDED", message), now)
    if event.fail_fast:
        which = f"branch {failed[0]}" if failed else "a branch"
        message = f"{which} before {waiting.aggregate_into!r} failed and fail_fast is set{_why(failed)}"
        return end(job, Status.FAILED, JobError("BRANCH_FAILED", message), now, end_tasks=True)
    return Change(_moved(job, waiting.aggregate_into, aggregates=event.step))


def _why(failed: tuple[str, Outcome] | None) -> str:
    if failed is None:
        return ""
    outcome = failed[1]
    if outcome.error is None:
        return f": worker {outcome.worker_id} says {outcome.status}"
    return f": {outcome.error.code}: {outcome.error.message}"


def _task_ended(
    job: Job, waiting: Waiting, event: TaskEnded, data: Mapping[str, Any], error_details: Any, now: int
) -> Change | None:
    if waiting.aggregate_into is not None:
        return None
    outcome = event.outcome
    if outcome.status == FAILURE:
        return _task_failed(job, waiting, event, error_details, now)
    target = waiting.transitions.get(outcome.status)
    if target is not None:
        return Change(_moved(job, target, state_history={**job.state_history, **data}))
    if outcome.status == CANCELLED:
        error = JobError("CANCELLED", f"worker {outcome.worker_id} cancelled task {event.task_id}")
        return end(job, Status.CANCELLED, error, now)
    message = f"Worker returned unhandled status: {outcome.status}"
    return end(job, Status.FAILED, JobError("UNHANDLED_STATUS", message), now)


def _task_failed(job: Job, waiting: Waiting, event: TaskEnded, error_details: Any, now: int) -> Change:
    outcome = event.outcome
    what = verdict(outcome)
    reason = outcome.error
    error = JobError(
        reason.code if reason else "UNKNOWN_ERROR", _story(event), error_details, reason.retryable if reason else None
    )
    transition = {Verdict.QUARANTINE: FAILURE, Verdict.END: FAILURE, Verdict.TIME_OUT: "timeout"}.get(what)
    target = waiting.transitions.get(transition) if transition else None
    if target is not None:
        seen = {"code": error.code, "message": error.message, "details": error_details}
        return Change(_moved(job, target, state_history={**job.state_history, "error": seen}))
    return end(job, Status.QUARANTINED if what is Verdict.QUARANTINE else Status.FAILED, error, now)


def _story(event: TaskEnded) -> str:
    reason = event.outcome.error
    text = f"{reason.code}: {reason.message}" if reason else "no reason given"
    if event.tries > 1:
        return f"Task failed after {event.tries} attempts: {text}"
    return f"Task failed: {text}"


# What a handler decided --------------------------------------------------------------------------------------------


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
) -> Change:
    """What the handler of `state` decided, as a change of its job.

    Arguments:
        decision: what the handler asked of its `actions`; None when it asked nothing.
        returned: what the handler returned; the result of a job that ends here.
        now, took: the time and the handler's run, in milliseconds.
        state_history: the job's, as the handler left it; None: as it was.
        before: lines of history that go before those of this change.
    """
    history = job.state_history if state_history is None else state_history
    if decision is None:
        told = (*before, _finished(state, None, now, took))
        return _at_end(job, state, returned, history, told, now)
    if job.transitions >= limits.max_transitions:
        told = (*before, _finished(state, None, now, took))
        message = f"exceeded maximum transitions ({limits.max_transitions}) in state {state.name!r}"
        return end(job, Status.FAILED, JobError("TOO_MANY_TRANSITIONS", message), now, before=told)
    went_on: dict[str, Any] = {
        "failures": 0,
        "transitions": job.transitions + 1,
        "aggregates": None,
        "state_history": history,
        "status": Status.RUNNING,
        "waiting": None,
    }
    if isinstance(decision, GoTo):
        told = (*before, _finished(state, decision.state, now, took))
        return Change(replace(job, **went_on | {"current_state": decision.state}), told)
    if (skill := _denied(job, decision)) is not None:
        told = (*before, _finished(state, None, now, took))
        message = (
            f"state {state.name!r} asked for skill {skill!r}, and the job may use {allowed_of(job.allowed_skills)}; "
            "nothing was sent. Who starts it, or the job above, must allow that skill"
        )
        return end(job, Status.FAILED, JobError(POLICY_DENIED, message), now, before=told)
    if isinstance(decision, DispatchTask):
        told = (*before, _finished(state, None, now, took))
        return _dispatch(job, decision, limits, now, went_on, told)
    told = (*before, _finished(state, decision.aggregate_into, now, took))
    return _fan_out(job, decision, limits, now, went_on, told)


def _at_end(
    job: Job, state: State, returned: Any, history: dict[str, Any], told: tuple[HistoryEvent, ...], now: int
) -> Change:
    if not state.is_end:
        message = f"handler of state {state.name!r} ended without calling one of its actions"
        return end(job, Status.FAILED, JobError("NO_DECISION", message), now, before=told, state_history=history)
    if job.cancelling:
        error = JobError("CANCELLED", "cancelled, and cleaned up")
        return end(job, Status.CANCELLED, error, now, before=told, state_history=history)
    if state.outcome == "failed":
        error = JobError("ENDED_FAILED", f"ended in state {state.name!r}", returned)
        return end(job, Status.FAILED, error, now, before=told, state_history=history)
    result = history if returned is None else returned
    return end(job, Status.FINISHED, None, now, before=told, state_history=history, result=result)


def _dispatch(
    job: Job,
    decision: DispatchTask,
    limits: Limits,
    now: int,
    went_on: dict[str, Any],
    told: tuple[HistoryEvent, ...],
) -> Change:
    if decision.max_retries is not None:
        limits = replace(limits, retry=replace(limits.retry, max_retries=decision.max_retries))
    spec = _spec(job, 0, decision, limits, now, branch=False)
    waits = {"status": Status.WAITING_FOR_WORKER, "waiting": Waiting(job.step, dict(decision.transitions))}
    sent = HistoryEvent("task_dispatched", now, job.current_state, task_id=spec.id, details={"skill": spec.skill})
    return Change(replace(job, **went_on | waits), (*told, sent), (spec,))


def _fan_out(
    job: Job,
    decision: DispatchParallel,
    limits: Limits,
    now: int,
    went_on: dict[str, Any],
    told: tuple[HistoryEvent, ...],
) -> Change:
    if not decision.branches:
        return Change(replace(job, **went_on | {"current_state": decision.aggregate_into}), told)
    specs = tuple(_spec(job, index, branch, limits, now, branch=True) for index, branch in enumerate(decision.branches))
    waits = {"status": Status.WAITING_FOR_PARALLEL, "waiting": Waiting(job.step, {}, decision.aggregate_into)}
    sent = HistoryEvent("task_dispatched", now, job.current_state, details={"branches": len(specs), "step": job.step})
    return Change(replace(job, **went_on | waits), (*told, sent), specs, fan_out=True, fail_fast=decision.fail_fast)


def _denied(job: Job, decision: DispatchTask | DispatchParallel) -> str | None:
    """The first skill that a decision asks for and its job may not use."""
    if job.allowed_skills is None:
        return None
    tasks = (decision,) if isinstance(decision, DispatchTask) else decision.branches
    return denied(job.allowed_skills, (task.skill for task in tasks))


def _spec(job: Job, index: int, asked: DispatchTask | Branch, limits: Limits, now: int, *, branch: bool) -> TaskSpec:
    execution, dispatch, result = asked.timeout_seconds, asked.dispatch_timeout_seconds, asked.result_timeout_seconds
    result_timeout = job.result_timeout if result is None else _ms(result)
    # In the order of its fields: so many names take longer to match than all the rest. Most tasks say nothing of their
    # times, and there may be thousands: so nothing is called for what is not said.
    return TaskSpec(
        task_id(job.id, job.step, index),
        index,
        asked.skill,
        asked.params,
        asked.priority if job.priority is None else job.priority + min(0.0, asked.priority),
        0 if execution is None else _ms(execution),
        job.dispatch_timeout if dispatch is None else _ms(dispatch),
        result_timeout if job.deadline is None else _within(job, result_timeout, now),
        limits.retry,
        branch,
        0 if asked.lost_after_seconds is None else _ms(asked.lost_after_seconds),
        both(job.allowed_skills, asked.allowed_skills),
        asked.max_cost,
    )


def _within(job: Job, timeout: int | None, now: int) -> int | None:
    """A task's time within what its job has: whoever does it and cannot be told to stop does so by itself."""
    if job.deadline is None or job.cancelling:
        return timeout
    left = max(1, job.deadline - now)
    return left if timeout is None else min(timeout, left)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def handler_failed(
    job: Job,
    error: JobError,
    limits: Limits,
    now: int,
    took: int,
    chance: float,
    *,
    before: tuple[HistoryEvent, ...] = (),
) -> Change:
    """A handler raised: try it again after a back-off, or quarantine its job when its tries are used up.

    Arguments:
        chance: a random number in [0, 1), for the jitter.
        before: lines of history that go before those of this change.
    """
    failures = job.failures + 1
    told = HistoryEvent(
        "state_failed",
        now,
        job.current_state,
        duration_ms=took,
        attempt_number=failures,
        details={"error": error.message},
    )
    before = (*before, told)
    if failures > limits.retry.max_retries:
        message = f"handler of state {job.current_state!r} failed after {failures} attempts: {error.message}"
        final = replace(error, message=message)
        return end(job, Status.QUARANTINED, final, now, before=before, failures=failures)
    waits = replace(job, status=Status.WAITING_FOR_RETRY, failures=failures, waiting=Waiting(job.step, {}))
    return Change(waits, before, wake_after=back_off(limits.retry, failures, chance))


def stays(job: Job, limits: Limits, chance: float) -> Change:
    """All that came in is stale, and only used up. A step ends its job's timer: who waits for that waits anew.

    Arguments:
        chance: a random number in [0, 1), for the jitter.
    """
    if job.status is not Status.WAITING_FOR_RETRY:
        return Change(job)
    waits = replace(job, waiting=Waiting(job.step, {}))
    return Change(waits, wake_after=back_off(limits.retry, job.failures, chance))


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
        status, error = Status.CANCELLED, JobError("CANCELLED", "cancelled; its clean-up did not end well", why)
    over = replace(
        job, status=status, waiting=None, error=error, result=result if status is Status.FINISHED else None, **fields
    )
    details = {"status": str(status)} | ({"code": error.code, "error": error.message} if error else {})
    completed = HistoryEvent("job_completed", now, job.current_state, details=details)
    return Change(over, (*before, completed), end_tasks=end_tasks)


def _finished(state: State, next_state: str | None, now: int, took: int) -> HistoryEvent:
    return HistoryEvent("state_finished", now, state.name, None, next_state, took)


def started(job: Job, now: int) -> HistoryEvent:
    """The line of history that says that a handler begins."""
    return HistoryEvent("state_started", now, job.current_state, attempt_number=job.failures + 1)


def _moved(job: Job, target: str, **fields: Any) -> Job:
    return replace(job, status=Status.RUNNING, current_state=target, waiting=None, **fields)


def branch_result(job_id: str, task: str, outcome: Outcome, data: Any, details: Any) -> dict[str, Any]:
    """What an aggregator sees of one branch. `data` and `details` are the outcome's, decoded."""
    error = outcome.error
    return {
        "job_id": job_id,
        "task_id": task,
        "worker_id": outcome.worker_id or None,
        "status": outcome.status,
        "data": data,
        "error": error and {"code": error.code, "message": error.message, "details": details},
    }


def succeeded(outcome: Outcome) -> bool:
    """Whether a branch with this outcome counts as done well, for `fail_fast`: any status but failure or cancelled."""
    return outcome.status == SUCCESS or outcome.status not in (FAILURE, CANCELLED)
