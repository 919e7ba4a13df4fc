"""What operations are called with: everything flat, in the order in which they read it; nothing is an empty text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote

import msgpack

from holon.domain.branches import succeeded
from holon.domain.events import CancelRequested, HistoryEvent, InboxEvent, last_event
from holon.domain.job import Job
from holon.domain.matching import Need
from holon.domain.task import Outcome, job_of
from holon.domain.value import Value
from holon.ports import LeaseRef, NewFanOut, NewJob, NewTask, Opening, Quota, Result, Seat, Step, StoreSettings, Touch
from holon.storage.redis.packing import Packed, Word
from holon.stores.records import encode_event, encode_history, encode_need, encode_outcome
from holon.stores.sealing import Seal
from holon.stores.states import encode_state
from holon.turns import Turn

Argument: TypeAlias = Word | Packed
Arguments: TypeAlias = list[Argument]

# So long a need is hardly that of another job: a client says which skills may be used, and thousands of such would take
# much memory.
MOST_REMEMBERED = 2_000
_encoded_need = lru_cache(maxsize=4096)(encode_need)


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


def maybe(number: float | None) -> Word:
    """A number, or nothing."""
    return "" if number is None else number


def _flag(value: object) -> str:
    return "1" if value else ""


def seats_arguments(seats: Iterable[tuple[Seat, int | None]]) -> Arguments:
    """Room at workers' sessions: seats, each with how many leases its session may hold in the partition."""
    arguments: Arguments = [0]
    for count, (seat, most) in enumerate(seats, 1):
        arguments[0] = count
        prices = " ".join(f"{key} {price}" for key, price in seat.prices.items()) if seat.prices else ""
        keys, only = " ".join(seat.keys), " ".join(seat.only)
        arguments += (seat.worker_id, seat.session_id, seat.n, keys, only, maybe(most), prices)
    return arguments


@lru_cache(maxsize=4096, typed=True)
def _form(*values: str | bytes | int | None) -> bytes:
    """Small values as one word: most are as those before, and an operation unpacks none twice."""
    # What unpacks them knows no bytes but those of texts.
    return b"".join([msgpack.packb(value, use_bin_type=False) for value in values])


def _need(need: Need) -> bytes:
    allowed = need.allowed_skills
    known = len(need.resources) + (0 if allowed is None else sum(map(len, allowed))) <= MOST_REMEMBERED
    return _encoded_need(need) if known else encode_need(need)


def _terms(task: NewTask) -> str:
    """What a task is made with, beside its need and its timeouts."""
    retry = task.retry
    policy = f"{retry.max_retries} {retry.first_ms} {retry.longest_ms}"
    # Said only where it is something: nodes of an earlier release do not know it.
    said = "*" if task.reserves is None else task.reserves
    lost = f" {task.lost_after}" if task.lost_after or said else ""
    reserves = f" {said}" if said else ""
    return f"{task.priority} {task.execution_timeout} {policy}{lost}{reserves}"


def _task(task: NewTask, seal: Seal) -> Arguments:
    need, trace = _need(task.need), task.trace.encode()
    form_of = _form if len(need) <= MOST_REMEMBERED else _form.__wrapped__
    form = form_of(task.need.key, need, _terms(task), task.dispatch_timeout, task.result_timeout)
    params = seal.seal("tasks", task.id, "params", task.params)
    return [task.id, form, b"%d\n%b%b" % (len(trace), trace, params)]


def _stored_task(task: NewTask, seal: Seal) -> list[Word]:
    """A task of a chunk, as it is kept there until it is made, by this release or another."""
    return [
        task.id,
        task.need.key,
        _need(task.need),
        seal.seal("tasks", task.id, "params", task.params),
        _terms(task),
        maybe(task.dispatch_timeout),
        maybe(task.result_timeout),
        task.trace,
    ]


def _chunk(chunk: Sequence[NewTask], seal: Seal) -> Iterator[Word]:
    stored = [_stored_task(task, seal) for task in chunk]
    yield sum(map(len, stored))
    for words in stored:
        yield from words


async def packed_chunks(fan: NewFanOut, seal: Seal) -> Sequence[Packed]:
    """What of a fan-out are no tasks yet, for `step_arguments`: tens of thousands, so others run in between."""
    chunks: list[Packed] = []
    turn = Turn()
    for chunk in fan.rest:
        chunks.append(Packed.of(_chunk(chunk, seal)))
        await turn.rest()
    return chunks


def _history(job_id: str, events: Sequence[HistoryEvent], seal: Seal) -> Argument:
    return seal.seal("history", job_id, "lines", encode_history(events)) if events else ""


def step_arguments(
    step: Step, limit: int, seal: Seal, before: NewJob | None = None, chunks: Sequence[Packed] | None = None
) -> Arguments:
    """A step; raises as `encode_state`.

    Arguments:
        before: the new job whose history its own goes after.
        chunks: what `packed_chunks` made of it; None: that is made here, at once.
    """
    job = step.job
    history = step.history if before is None else (*before.history, *step.history)
    form = _form(
        job.step,
        str(job.status),
        job.status.terminal,
        " ".join(map(str, step.consumed)),
        len(history),
        step.wake_after,
        # Why, for the reason of those that come late.
        step.end_tasks and str(step.ends_open),
        step.keep,
        step.reserves or None,
        len(step.tasks),
        step.fan_out is not None,
        *(_to_tell(job, history) if job.webhook else ()),
    )
    state = seal.seal("jobs", job.id, "state", encode_state(job, limit, as_it_was=step.as_it_was))
    arguments = [form, step.commit_id, state, _history(job.id, history, seal)]
    for task in step.tasks:
        arguments += _task(task, seal)
    if step.fan_out is not None:
        fan = step.fan_out
        arguments += (fan.total, int(fan.fail_fast), len(fan.rest))
        arguments += [word for chunk in fan.rest for word in _chunk(chunk, seal)] if chunks is None else chunks
    return arguments


def _to_tell(job: Job, history: Sequence[HistoryEvent]) -> tuple[bool | int, ...]:
    """Whether somebody is to be told of a job's end, and up to which of these lines of its events; said where it is."""
    if events := last_event(history):
        return job.status.terminal, events
    return (True,) if job.status.terminal else ()


class Allowance(Value):
    """Up to how many jobs of a quota a partition may make in all, under a generation; `last`: there is no more."""

    allowed: int
    generation: int
    last: bool


def quota_name(quota: Quota) -> str:
    """What the count of a quota in its period is kept under."""
    return f"{len(quota.period)}:{quota.period}:{quota.key}"


def _quota(quota: Quota, what: Allowance) -> Arguments:
    return [quota_name(quota), quota.expires_at, what.allowed, what.generation, _flag(what.last)]


def new_jobs_arguments(
    items: Sequence[NewJob], limit: int, seal: Seal, allowances: Mapping[Quota, Allowance]
) -> Arguments:
    """Jobs to create for one caller, and how many may be made of their quotas; raises as `encode_state`."""
    arguments: Arguments = [1, len(items)]
    for item in items:
        job, asked = item.job, item.request_id is not None
        lines = None if item.step is not None else len(item.history)
        status = str(job.status)
        arguments += (job.id, _form(job.owner, job.blueprint, status, asked, job.budget, item.quota is not None, lines))
        if item.request_id is not None:
            arguments += (item.request_id, item.request_digest)
        if item.quota is not None:
            arguments += _quota(item.quota, allowances[item.quota])
        if item.step is not None:
            arguments += step_arguments(item.step, limit, seal, item)
        else:
            state = seal.seal("jobs", job.id, "state", encode_state(job, limit))
            arguments += (state, _history(job.id, item.history, seal))
    return arguments


def event_arguments(job_id: str, event: InboxEvent, seal: Seal) -> Arguments:
    """An event for an inbox."""
    return [_flag(isinstance(event, CancelRequested)), seal.seal("inbox", job_id, "event", encode_event(event))]


def results_arguments(worker_id: str, results: Sequence[Result], limit: int, seal: Seal) -> Arguments:
    """Results of a worker; raises as `encode_state`."""
    arguments: Arguments = [worker_id, len(results)]
    for result in results:
        outcome, step, task = result.outcome, result.step, result.task_id
        error = outcome.error
        form = _form(
            outcome.status,
            error.code if error is not None else None,
            outcome.worker_id if outcome.worker_id != worker_id else None,
            succeeded(outcome),
            result.retry_after is not None,
            result.cost is not None,
            step is not None,
            result.share_lost,
        )
        bytes_ = seal.seal("tasks", task, "outcome", encode_outcome(outcome))
        arguments += (task, result.lease_id, form, bytes_, outcome.size, maybe(result.took))
        if error is not None:
            arguments.append(seal.seal_text("tasks", task, "error", error.message))
        if result.retry_after is not None:
            arguments.append(result.retry_after)
        if result.cost is not None:
            arguments.append(result.cost)
        if step is not None:
            arguments.append(maybe(min((event.time for event in step.history), default=None)))
            arguments += step_arguments(step, limit, seal)
    return arguments


def ends_arguments(key: str, ends: Sequence[tuple[str, Outcome]], seal: Seal) -> Arguments:
    """Failures of tasks that wait behind a match key."""
    arguments: Arguments = [len(ends)]
    for task, outcome in ends:
        error = outcome.error
        code, message = (error.code, error.message) if error is not None else ("", "")
        bytes_ = seal.seal("tasks", task, "outcome", encode_outcome(outcome))
        arguments += (task, key, code, bytes_, outcome.size, seal.seal_text("tasks", task, "error", message))
    return arguments


def opening_arguments(opening: Opening, order: int | None) -> Arguments:
    """A worker's new session, and its place in the order of them, if that is known."""
    arguments: Arguments = [opening.worker_id, opening.session_id, opening.credits, maybe(order)]
    # What names a process may be anything; among what workers are to be told it is one word.
    instance = quote(opening.instance_id, safe="")
    arguments += (maybe(opening.lease), maybe(opening.execution), instance, opening.proof, len(opening.resumed))
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
        said = maybe(handback.again_after), maybe(handback.cost), _flag(handback.unbegun), _flag(handback.unheard)
        arguments += (*_ref(handback.lease), *said, handback.reason, handback.code)
    arguments.append(len(touch.progress))
    for progress in touch.progress:
        message = seal.seal_text("jobs", job_of(progress.lease.task_id), "message", progress.message or "")
        arguments += (*_ref(progress.lease), maybe(progress.percent), _flag(progress.message is not None), message)
    return arguments
