"""What operations are called with: everything flat, in the order in which they read it; nothing is an empty text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote

from holon.domain.events import CancelRequested, HistoryEvent, InboxEvent
from holon.domain.machine import succeeded
from holon.domain.task import job_of
from holon.domain.value import Value
from holon.ports import LeaseRef, NewFanOut, NewJob, NewTask, Opening, Quota, Result, Seat, Step, StoreSettings, Touch
from holon.storage.records import encode_event, encode_history, encode_need, encode_outcome
from holon.storage.sealing import Seal
from holon.storage.states import encode_state

Argument: TypeAlias = str | bytes | int | float
Arguments: TypeAlias = list[Argument]

_need = lru_cache(maxsize=4096)(encode_need)


def settings_text(settings: StoreSettings, partitions: int) -> str:
    """The durations and limits that operations go by, and how many partitions there are."""
    return " ".join(
        map(
            str,
            (
                settings.claim,
                settings.lease,
                settings.offer,
                settings.max_inbox,
                settings.max_losses,
                settings.max_fan_in_bytes,
                partitions,
                settings.execution,
                *(() if settings.history_backlog is None else (settings.history_backlog,)),
            ),
        )
    )


def maybe(number: float | None) -> Argument:
    """A number, or nothing."""
    return "" if number is None else number


def _flag(value: object) -> str:
    return "1" if value else ""


def seats_arguments(seats: Iterable[tuple[Seat, int | None]]) -> Arguments:
    """Room at workers' sessions: seats, each with how many leases its session may hold in the partition."""
    arguments: Arguments = [0]
    for count, (seat, most) in enumerate(seats, 1):
        arguments[0] = count
        arguments += (seat.worker_id, seat.session_id, seat.n, " ".join(seat.keys), " ".join(seat.only), maybe(most))
    return arguments


def _task(task: NewTask, seal: Seal) -> Arguments:
    retry = task.retry
    policy = f"{retry.max_retries} {retry.first_ms} {retry.longest_ms}"
    # Said only where it is something: nodes of an earlier release do not know it.
    lost = f" {task.lost_after}" if task.lost_after or task.reserves else ""
    reserves = f" {task.reserves}" if task.reserves else ""
    return [
        task.id,
        task.need.key,
        _need(task.need),
        seal.seal("tasks", task.id, "params", task.params),
        f"{task.priority} {task.execution_timeout} {policy}{lost}{reserves}",
        maybe(task.dispatch_timeout),
        maybe(task.result_timeout),
        task.trace,
    ]


def _tasks(tasks: Iterable[NewTask], seal: Seal) -> Arguments:
    arguments: Arguments = []
    for task in tasks:
        arguments += _task(task, seal)
    return arguments


def _fan_out(fan: NewFanOut, seal: Seal) -> Arguments:
    arguments: Arguments = [fan.total, int(fan.fail_fast), len(fan.rest)]
    for chunk in fan.rest:
        tasks = _tasks(chunk, seal)
        arguments += (len(tasks), *tasks)
    return arguments


def _history(job_id: str, events: Sequence[HistoryEvent], seal: Seal) -> Argument:
    return seal.seal("history", job_id, "lines", encode_history(events)) if events else ""


def step_arguments(step: Step, limit: int, seal: Seal, before: NewJob | None = None) -> Arguments:
    """A step; `before` is the new job whose history its own goes after. Raises as `encode_state`."""
    job = step.job
    history = step.history if before is None else (*before.history, *step.history)
    return [
        job.id,
        step.claim_id,
        step.commit_id,
        job.step,
        str(job.status),
        _flag(job.status.terminal),
        seal.seal("jobs", job.id, "state", encode_state(job, limit, as_it_was=step.as_it_was)),
        " ".join(map(str, step.consumed)),
        len(history),
        _history(job.id, history, seal),
        maybe(min((event.time for event in step.history), default=None)),
        maybe(step.wake_after),
        _flag(step.end_tasks),
        _flag(step.keep),
        step.reserves or "",
        len(step.tasks),
        *_tasks(step.tasks, seal),
        *(("1", *_fan_out(step.fan_out, seal)) if step.fan_out is not None else ("",)),
    ]


class Allowance(Value):
    """Up to how many jobs of a quota a partition may make in all, under a generation; `last`: there is no more."""

    allowed: int
    generation: int
    last: bool


def quota_name(quota: Quota) -> str:
    """What the count of a quota in its period is kept under."""
    return f"{len(quota.period)}:{quota.period}:{quota.key}"


def _quota(quota: Quota | None, allowances: Mapping[Quota, Allowance]) -> Arguments:
    if quota is None:
        return [""]
    what = allowances[quota]
    return ["1", quota_name(quota), quota.expires_at, what.allowed, what.generation, _flag(what.last)]


def new_jobs_arguments(
    items: Sequence[NewJob], limit: int, seal: Seal, allowances: Mapping[Quota, Allowance]
) -> Arguments:
    """Jobs to create for one caller, and how many may be made of their quotas; raises as `encode_state`."""
    arguments: Arguments = [1, len(items)]
    for item in items:
        job = item.job
        arguments += (job.id, job.owner, job.blueprint, str(job.status))
        arguments += ("1", item.request_id) if item.request_id is not None else ("",)
        arguments += (item.request_digest, maybe(job.budget))
        arguments += _quota(item.quota, allowances)
        if item.step is not None:
            arguments += ("1", *step_arguments(item.step, limit, seal, item))
        else:
            state = seal.seal("jobs", job.id, "state", encode_state(job, limit))
            arguments += ("", state, len(item.history), _history(job.id, item.history, seal))
    return arguments


def event_arguments(job_id: str, event: InboxEvent, seal: Seal) -> Arguments:
    """An event for an inbox."""
    return [_flag(isinstance(event, CancelRequested)), seal.seal("inbox", job_id, "event", encode_event(event))]


def results_arguments(results: Sequence[Result], limit: int, seal: Seal) -> Arguments:
    """Results of a worker; raises as `encode_state`."""
    arguments: Arguments = [len(results)]
    for result in results:
        outcome = result.outcome
        error = outcome.error
        arguments += (result.task_id, result.lease_id, maybe(result.retry_after), maybe(result.took))
        arguments += (
            outcome.status,
            _flag(error),
            error.code if error else "",
            seal.seal_text("tasks", result.task_id, "error", error.message) if error else "",
            outcome.worker_id,
            outcome.size,
            _flag(succeeded(outcome)),
            seal.seal("tasks", result.task_id, "outcome", encode_outcome(outcome)),
            maybe(result.cost),
        )
        arguments += ("1", *step_arguments(result.step, limit, seal)) if result.step is not None else ("",)
    return arguments


def opening_arguments(opening: Opening, order: int | None) -> Arguments:
    """A worker's new session, and its place in the order of them, if that is known."""
    arguments: Arguments = [opening.worker_id, opening.session_id, opening.credits, maybe(order)]
    # What names a process may be anything; among what workers are to be told it is one word.
    instance = quote(opening.instance_id, safe="")
    arguments += (maybe(opening.lease), maybe(opening.execution), instance, len(opening.resumed))
    for pair in opening.resumed:
        arguments += pair
    return arguments


def _ref(ref: LeaseRef) -> tuple[str, str, str, str]:
    return ref.worker_id, ref.session_id, ref.task_id, ref.lease_id


def touch_arguments(touch: Touch, seal: Seal) -> Arguments:
    """What sessions said."""
    arguments: Arguments = [len(touch.credits)]
    for granted in touch.credits:
        arguments += granted
    arguments.append(len(touch.accepts) + len(touch.extends))
    for accept in touch.accepts:
        arguments += (*_ref(accept.lease), accept.ago)
    for ref in touch.extends:
        arguments += (*_ref(ref), 0)
    arguments.append(len(touch.handbacks))
    for handback in touch.handbacks:
        said = maybe(handback.again_after), maybe(handback.cost), _flag(handback.unbegun)
        arguments += (*_ref(handback.lease), *said)
    arguments.append(len(touch.progress))
    for progress in touch.progress:
        message = seal.seal_text("jobs", job_of(progress.lease.task_id), "message", progress.message or "")
        arguments += (*_ref(progress.lease), maybe(progress.percent), _flag(progress.message is not None), message)
    return arguments
