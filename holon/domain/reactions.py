"""The domain: what an event changes of a job, before any handler runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holon.domain.change import Change
from holon.domain.children import is_nodes_own
from holon.domain.client import OPERATOR, SCHEDULER
from holon.domain.event_types import APPROVAL_RESOLVED, APPROVAL_TIMED_OUT, SIGNAL_RECEIVED, SIGNAL_TIMED_OUT
from holon.domain.events import (
    OUT_OF_TIME,
    WORKER_EVENT,
    ApprovalResolved,
    BranchesDone,
    CancelRequested,
    HistoryEvent,
    InboxEvent,
    TaskEnded,
    TaskEvent,
    Woken,
)
from holon.domain.job import Job, JobError, Status, Waiting
from holon.domain.machine import end, moved
from holon.domain.retries import Verdict, lost_share, verdict
from holon.domain.signals import Signal, keeps
from holon.domain.task import (
    ANY_STATUS,
    BRANCH_FAILED,
    CANCELLED,
    CHILD_FAILED,
    CHILD_QUARANTINED,
    DEADLINE_EXCEEDED,
    FAILURE,
    TIMEOUT,
    Outcome,
    TaskError,
)
from holon.domain.value import replace
from holon.domain.wishes import DECISION, SIGNAL, Wish, with_wish

APPROVAL_TIMEOUT = "APPROVAL_TIMEOUT"
SIGNAL_TIMEOUT = "SIGNAL_TIMEOUT"
_NO_REASON = "no reason given"


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
        data: the decoded data of a task's outcome, of a decision or of a signal, or the payload of an event, merged
            into the state history; empty for others.
        error_details: the decoded details of a task's error.
        now: epoch milliseconds.
        failed: the branch that ended the others under `fail_fast`, its task and outcome; None for other events.
    """
    if job.status.terminal:
        return None
    if isinstance(event, CancelRequested):
        return None if job.cancelling and not event.insist else _cancel(job, event, now)
    waiting = job.waiting
    if waiting is None:
        return None
    if isinstance(event, Signal):
        return _signalled(job, waiting, event, data, now)
    if isinstance(event, ApprovalResolved):
        return _decided(job, waiting, event, data, now)
    if waiting.step != event.step and not _is_due(event, waiting, now):
        return None
    if isinstance(event, TaskEvent):
        return _occurred(job, waiting, event, data, now)
    if _time_is_over(job, event, failed, now):
        # Whose time it is asks for the same, and may be slower than what was to come after that.
        return _cancel(job, CancelRequested(OUT_OF_TIME), now)
    if isinstance(event, Woken):
        return _woken(job, waiting, now)
    if isinstance(event, BranchesDone):
        return _branches_done(job, waiting, event, failed, now)
    return _task_ended(job, waiting, event, data, error_details, now)


def _is_due(event: InboxEvent, waiting: Waiting, now: int) -> bool:
    """Whether it is the time that is waited for. A timer of an older step counts too: on a node that is slower than
    timers are short, the next step would overtake each of them.
    """
    return isinstance(event, Woken) and waiting.due is not None and now >= waiting.due


def _time_is_over(
    job: Job, event: TaskEnded | BranchesDone | Woken, failed: tuple[str, Outcome] | None, now: int
) -> bool:
    """Whether nothing has failed but that the time for the whole job is over, or is for those who are to do it."""
    if job.deadline is None or job.cancelling or isinstance(event, Woken):
        return False
    outcome: Outcome | None
    if isinstance(event, TaskEnded):
        outcome, has_failed = event.outcome, event.outcome.status == FAILURE
    else:
        outcome, has_failed = failed[1] if failed else None, event.failed > 0
    if not has_failed or now >= job.deadline:
        return has_failed
    error = outcome.error if outcome else None
    return error is not None and error.code == DEADLINE_EXCEEDED and error.retryable is False


def _woken(job: Job, waiting: Waiting, now: int) -> Change | None:
    if job.status is Status.WAITING_FOR_RETRY:
        return Change(replace(job, status=Status.RUNNING, waiting=None))
    if waiting.due is None:
        return None
    target = waiting.transitions.get(TIMEOUT)
    details: dict[str, Any]
    if waiting.question is not None:
        what, details = APPROVAL_TIMED_OUT, {"approval_id": waiting.question.id}
        seconds = (waiting.due - waiting.question.asked_at) / 1000
        error = JobError(APPROVAL_TIMEOUT, f"no decision came within {seconds:g} s")
    elif job.status is Status.WAITING_FOR_SIGNAL:
        what, details = SIGNAL_TIMED_OUT, {"names": list(waiting.decisions)}
        error = JobError(SIGNAL_TIMEOUT, f"no signal came in time: {', '.join(waiting.decisions)}")
    else:
        return Change(moved(job, target)) if target is not None else None
    told = (HistoryEvent(what, now, job.current_state, None, target, details=details),)
    job = replace(job, events=job.events + 1)
    if target is None:
        return end(job, Status.FAILED, error, now, before=told)
    seen = {"code": error.code, "message": error.message, "details": None}
    return Change(moved(job, target, state_history={**job.state_history, "error": seen}), told)


def _decided(job: Job, waiting: Waiting, event: ApprovalResolved, data: Mapping[str, Any], now: int) -> Change | None:
    question, target = waiting.question, waiting.transitions.get(event.decision)
    if question is None or question.id != event.approval_id or target is None:
        return None
    details: dict[str, Any] = {"approval_id": question.id, "decision": event.decision, "by": event.by}
    details |= {"comment": event.comment} if event.comment else {}
    details |= {"request_id": event.request_id} if event.request_id else {}
    details |= {"parent_holon_id": event.above, "decided_at": event.decided_at / 1000} if event.above else {}
    told = HistoryEvent(APPROVAL_RESOLVED, now, job.current_state, None, target, details=details)
    history = {**job.state_history, **data}
    wishes = with_wish(job.wishes, Wish(DECISION, event.request_id, event.decision))
    return Change(moved(job, target, state_history=history, events=job.events + 1, wishes=wishes), (told,))


def _signalled(job: Job, waiting: Waiting, event: Signal, data: Mapping[str, Any], now: int) -> Change:
    """A job that waits for a signal goes on by it; any other keeps it, and waits as before."""
    details: dict[str, Any] = {"name": event.name, "by": event.by}
    details |= {"request_id": event.request_id} if event.request_id else {}
    details |= {"parent_holon_id": event.above, "sent_at": event.sent_at / 1000} if event.above else {}
    target = None
    if job.status is Status.WAITING_FOR_SIGNAL and event.name in waiting.decisions:
        target = waiting.transitions[event.name]
    told = HistoryEvent(SIGNAL_RECEIVED, now, job.current_state, None, target, details=details)
    wishes = with_wish(job.wishes, Wish(SIGNAL, event.request_id, event.name))
    if target is not None:
        history = {**job.state_history, **data}
        return Change(moved(job, target, state_history=history, events=job.events + 1, wishes=wishes), (told,))
    kept = keeps(job.signals, event, data)
    if kept is None:
        return Change(job, (replace(told, type="signal_dropped"),), as_it_was=True)
    told = replace(told, details=details | {"kept": True})
    return Change(replace(job, signals=kept, events=job.events + 1, wishes=wishes), (told,), as_it_was=True)


def _cancel(job: Job, event: CancelRequested, now: int) -> Change:
    target = job.waiting.transitions.get(CANCELLED) if job.waiting and not job.cancelling else None
    details = {"by": event.by} | ({"reason": event.reason} if event.reason else {})
    told = (HistoryEvent("job_cancel_requested", now, job.current_state, details=details),)
    if target is None:
        why = f": {event.reason}" if event.reason else ""
        error = JobError("CANCELLED", f"cancelled by {_named(event.by, job.owner)}{why}")
        ended = end(job, Status.CANCELLED, error, now, before=told, end_tasks=True)
        return replace(ended, insists=True) if job.cancelling and job.parts else ended
    return Change(moved(job, target, cancelling=True), told, end_tasks=True, cancels=job.parts)


def _named(by: str, owner: str) -> str:
    """Who asked for a cancel, in words that need no knowledge of the node."""
    if by.startswith("@"):
        return "the parent holon"
    # Nobody else may but the `operator`, at the node's socket, and administrators at jobs of schedules; or it is a
    # reason.
    return f"client {by!r}" if by == owner or (owner == SCHEDULER and by != OPERATOR) else f"the {by}"


def _branches_done(
    job: Job, waiting: Waiting, event: BranchesDone, failed: tuple[str, Outcome] | None, now: int
) -> Change | None:
    if waiting.aggregate_into is None:
        return None
    if event.too_large:
        message = (
            f"the results of the branches before {waiting.aggregate_into!r} are together over the limit; store large "
            "data elsewhere, and return its address"
        )
        return end(job, Status.FAILED, JobError("LIMIT_EXCEEDED", message), now)
    if event.fail_fast:
        which = f"branch {failed[0]}" if failed else "a branch"
        message = f"{which} before {waiting.aggregate_into!r} failed and fail_fast is set{_why(failed)}"
        retryable = True if failed and lost_share(failed[1].error) else None
        return end(job, Status.FAILED, JobError(BRANCH_FAILED, message, retryable=retryable), now, end_tasks=True)
    # Some of those that failed may have been given up, and go on; who is over stays as it is.
    left = job.parts if event.failed else ()
    return Change(moved(job, waiting.aggregate_into, aggregates=event.step, parts=()), cancels=left)


def _why(failed: tuple[str, Outcome] | None) -> str:
    if failed is None:
        return ""
    outcome = failed[1]
    if outcome.error is None:
        who = "its child job" if is_nodes_own(outcome.worker_id) else f"worker {outcome.worker_id}"
        return f": {who} ended as {outcome.status}"
    return f": {_said(outcome.error)}"


def _task_ended(
    job: Job, waiting: Waiting, event: TaskEnded, data: Mapping[str, Any], error_details: Any, now: int
) -> Change | None:
    if waiting.aggregate_into is not None:
        return None
    outcome = event.outcome
    if job.status is Status.WAITING_FOR_CHILD:
        return _part_ended(job, waiting, event, data, error_details, now)
    if outcome.status == FAILURE:
        return _task_failed(job, waiting, event, error_details, now)
    target = waiting.transitions.get(outcome.status)
    if target is None and outcome.status != CANCELLED:
        target = waiting.transitions.get(ANY_STATUS)
    if target is not None:
        return Change(moved(job, target, state_history={**job.state_history, **data}))
    if outcome.status == CANCELLED:
        error = JobError("CANCELLED", f"worker {outcome.worker_id} cancelled task {event.task_id}")
        return end(job, Status.CANCELLED, error, now)
    message = f"Worker returned unhandled status: {outcome.status}; state {job.current_state!r} has transitions for "
    message += ", ".join(map(repr, waiting.transitions)) or "no status"
    return end(job, Status.FAILED, JobError("UNHANDLED_STATUS", message), now)


def _part_ended(
    job: Job, waiting: Waiting, event: TaskEnded, data: Mapping[str, Any], error_details: Any, now: int
) -> Change | None:
    """A job goes on after a part of it; of an end that was not the part's own, that hears."""
    outcome, parts = event.outcome, job.parts
    alone = replace(job, status=Status.WAITING_FOR_WORKER, parts=())
    if outcome.status == CANCELLED and CANCELLED not in waiting.transitions:
        return end(alone, Status.CANCELLED, JobError("CANCELLED", f"its child job {parts[0]} was cancelled"), now)
    change = _task_ended(alone, waiting, event, data, error_details, now)
    is_its_own = outcome.error is None or outcome.error.code in (CHILD_FAILED, CHILD_QUARANTINED)
    return change if change is None or is_its_own else replace(change, cancels=parts)


def _occurred(job: Job, waiting: Waiting, event: TaskEvent, data: Mapping[str, Any], now: int) -> Change:
    """What happened is told, and where the job waits for that, it goes on by it, and without the task."""
    details = {
        "event_id": event.event_id,
        "occurred": event.time,
        "payload": data,
        "holon_ids": list(event.holon_ids),
        "job_ids": list(event.job_ids),
        "origin_worker_id": event.origin_worker_id,
    }
    told = HistoryEvent(
        f"{WORKER_EVENT}{event.type}",
        now,
        job.current_state,
        worker_id=event.worker_id,
        task_id=event.task_id,
        details={name: value for name, value in details.items() if value},
    )
    job = replace(job, events=job.events + 1)
    target = waiting.events.get(event.type)
    if target is None:
        return Change(job, (told,), as_it_was=True)
    return Change(moved(job, target, state_history={**job.state_history, **data}), (told,), end_tasks=True)


def _task_failed(job: Job, waiting: Waiting, event: TaskEnded, error_details: Any, now: int) -> Change:
    outcome = event.outcome
    what = verdict(outcome)
    reason = outcome.error
    error = JobError(
        reason.code if reason else "UNKNOWN_ERROR", _story(event), error_details, reason.retryable if reason else None
    )
    transition = {Verdict.QUARANTINE: FAILURE, Verdict.END: FAILURE, Verdict.TIME_OUT: TIMEOUT}.get(what)
    target = waiting.transitions.get(transition) if transition else None
    if target is not None:
        seen = {"code": error.code, "message": error.message, "details": error_details}
        return Change(moved(job, target, state_history={**job.state_history, "error": seen}))
    return end(job, Status.QUARANTINED if what is Verdict.QUARANTINE else Status.FAILED, error, now)


def _story(event: TaskEnded) -> str:
    reason = event.outcome.error
    text = _said(reason) if reason else _NO_REASON
    if event.tries > 1:
        return f"Task failed after {event.tries} attempts: {text}"
    return f"Task failed: {text}"


def _said(error: TaskError) -> str:
    return f"{error.code}: {error.message or _NO_REASON}"
