"""The one codec of what is stored: msgpack, with a schema number first, so that later releases can upgrade on read.

What users put into jobs is kept as JSON text within, so that whatever is accepted can also be answered: JSON keeps
integers as integers, and refuses what no client could read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack
from msgspec.msgpack import Encoder

from holon.domain.client import NO_PLAN
from holon.domain.events import BranchesDone, CancelRequested, HistoryEvent, InboxEvent, TaskEnded, Woken
from holon.domain.job import Job, JobError, Status, Waiting
from holon.domain.matching import Need
from holon.domain.policy import Allowed
from holon.domain.task import Outcome, RetryPolicy, TaskError
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import NewTask
from holon.storage.json_text import from_json, to_json

SCHEMA = 8
# What makes the fields of an older record those of the next schema, by kind and schema; those that stay are not named.
UPGRADES: dict[tuple[str, int], Callable[[list[Any]], list[Any]]] = {
    ("job", 1): lambda fields: [*fields, NO_PLAN, b""],
    ("job", 2): lambda fields: [*fields, None],
    ("task", 2): lambda fields: [*fields, 0],
    ("task", 3): lambda fields: [*fields, 0, 0],
    ("task", 4): lambda fields: [*fields, 0, False],
    ("task", 6): lambda fields: [*fields, 0],
    ("endings", 6): lambda fields: [[[*end[:3], [*end[3], 0]] for end in fields[0]]],
    ("job", 3): lambda fields: [*fields, None, None],
    ("job", 5): lambda fields: [*fields, None],
    ("need", 3): lambda fields: [*fields, None, None],
    ("need", 7): lambda fields: [*fields, ()],
    ("chunk", 2): lambda fields: [[[*task, 0] for task in fields[0]]],
    ("chunk", 3): lambda fields: [[[*task[:2], [*task[2], None, None], *task[3:], 0] for task in fields[0]]],
    ("chunk", 7): lambda fields: [[[*task[:2], [*task[2], ()], *task[3:]] for task in fields[0]], *fields[1:]],
}
# In the place of a result that is the state history, which is there already.
_HISTORY = True


# Byte for byte what `msgpack` packs, in less than half the time; in reading it there is nothing to gain.
to_msgpack = Encoder().encode


def pack(*fields: Any) -> bytes:
    """Plain values as a record."""
    return to_msgpack((SCHEMA, *fields))


class NewerRecord(StoreUnavailable):
    """Expected: a newer release wrote what was to be read; a node of that release can take the call."""


def unpack(kind: str, record: bytes) -> list[Any]:
    """The values of a record, as this release has them whichever wrote it.

    Raises:
        NewerRecord: a newer release wrote it.
    """
    fields: list[Any]
    schema, *fields = msgpack.unpackb(record, use_list=True)
    if schema > SCHEMA:
        raise NewerRecord(
            f"a record of the store ({kind}) is of schema {schema}, and this release reads {SCHEMA} at most: "
            "replace this node by one of the newer release"
        )
    for older in range(schema, SCHEMA):
        if (upgrade := UPGRADES.get((kind, older))) is not None:
            fields = upgrade(fields)
    return fields


def encode_job(job: Job) -> bytes:
    """A job as bytes.

    Raises:
        InvalidArgument: (NOT_JSON) as for `to_json`.
    """
    waiting, error = job.waiting, job.error
    return pack(
        job.id,
        job.blueprint,
        job.owner,
        to_json(job.initial_data, "initial_data"),
        job.current_state,
        str(job.status),
        job.step,
        job.transitions,
        job.failures,
        job.cancelling,
        to_json(job.state_history, "state_history"),
        waiting and (waiting.step, waiting.transitions, waiting.aggregate_into),
        job.aggregates,
        _HISTORY if job.result is job.state_history else _returned(job.result),
        error and (error.code, error.message, _returned(error.details), *_word(error)),
        job.dispatch_timeout,
        job.result_timeout,
        job.trace,
        job.created_at,
        job.plan,
        job.client_params,
        job.priority,
        job.allowed_skills,
        job.budget,
        job.deadline,
    )


def _returned(value: Any) -> bytes | None:
    """What a handler has ended its job with."""
    return None if value is None else to_json(value, "result")


def decode_job(record: bytes) -> Job:
    """A job from its state's bytes."""
    (
        job_id,
        blueprint,
        owner,
        initial_data,
        current_state,
        status,
        step,
        transitions,
        failures,
        cancelling,
        history,
        waiting,
        aggregates,
        result,
        error,
        dispatch_timeout,
        result_timeout,
        trace,
        created_at,
        plan,
        client_params,
        priority,
        allowed_skills,
        budget,
        deadline,
    ) = unpack("job", record)
    state_history = from_json(history)
    return Job(
        id=job_id,
        blueprint=blueprint,
        owner=owner,
        initial_data=from_json(initial_data),
        current_state=current_state,
        status=Status(status),
        step=step,
        transitions=transitions,
        failures=failures,
        cancelling=cancelling,
        state_history=state_history,
        waiting=waiting and Waiting(*waiting),
        aggregates=aggregates,
        result=state_history if result == _HISTORY else result and from_json(result),
        error=error and JobError(error[0], error[1], error[2] and from_json(error[2]), *error[3:]),
        dispatch_timeout=dispatch_timeout,
        result_timeout=result_timeout,
        trace=trace,
        created_at=created_at,
        plan=plan,
        client_params=client_params,
        priority=priority,
        allowed_skills=_allowed(allowed_skills),
        budget=budget,
        deadline=deadline,
    )


def _allowed(names: list[str] | None) -> Allowed:
    return None if names is None else tuple(names)


def outcome_fields(outcome: Outcome) -> tuple[Any, ...]:
    """A task's outcome as plain values."""
    error = outcome.error
    told = error and (error.code, error.message, error.details, *_word(error))
    return outcome.status, outcome.data, told, outcome.worker_id


def _word(error: TaskError | JobError) -> tuple[bool, ...]:
    """A holon's word on another try; of most errors there is none."""
    return () if error.retryable is None else (error.retryable,)


def outcome_of(fields: list[Any]) -> Outcome:
    """A task's outcome from `outcome_fields`."""
    return Outcome(fields[0], fields[1], fields[2] and TaskError(*fields[2]), fields[3])


def encode_outcome(outcome: Outcome) -> bytes:
    """A task's outcome as bytes."""
    return pack(*outcome_fields(outcome))


def decode_outcome(record: bytes) -> Outcome:
    """A task's outcome from its bytes."""
    return outcome_of(unpack("outcome", record))


def encode_event(event: InboxEvent) -> bytes:
    """An inbox event as bytes."""
    match event:
        case TaskEnded(step, task_id, outcome, tries):
            return pack("task", step, task_id, outcome_fields(outcome), tries)
        case BranchesDone(step, failed, fail_fast, too_large):
            return pack("branches", step, failed, fail_fast, too_large)
        case Woken(step):
            return pack("woken", step)
        case CancelRequested(by, insist):
            return pack("cancel", by) if insist else pack("cancel", by, insist)


def decode_event(record: bytes) -> InboxEvent:
    """An inbox event from its bytes."""
    kind, *fields = unpack("event", record)
    match kind:
        case "task":
            return TaskEnded(fields[0], fields[1], outcome_of(fields[2]), fields[3])
        case "branches":
            return BranchesDone(*fields)
        case "woken":
            return Woken(*fields)
        case "cancel":
            return CancelRequested(*fields)
        case _:
            raise ValueError(f"an inbox event of kind {kind!r}, which this release does not know")


def encode_inbox(inbox: tuple[tuple[int, InboxEvent], ...]) -> bytes:
    """A job's unread events with their numbers as bytes."""
    return pack([(number, encode_event(event)) for number, event in inbox])


def decode_inbox(record: bytes) -> tuple[tuple[int, InboxEvent], ...]:
    """A job's unread events with their numbers from their bytes."""
    return tuple((number, decode_event(event)) for number, event in unpack("inbox", record)[0])


def to_lines(events: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """Lines of a job's history as they are stored: details are JSON text, or empty; raises as `to_json`."""
    return [replace(one, details=to_json(one.details)) if one.details else one for one in events]


def from_lines(lines: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """The same, back."""
    return [replace(one, details=_details(one.details)) if one.details else one for one in lines]


def encode_history(events: Sequence[HistoryEvent]) -> bytes:
    """Lines of a job's history as bytes: lists of their fields."""
    return pack(to_lines(events))


def decode_history(record: bytes) -> list[HistoryEvent]:
    """Lines of a job's history from their bytes."""
    events = []
    for kind, time, state, previous, following, took, worker, attempt, task, details in unpack("history", record)[0]:
        # Most have none: that is not worth a call.
        told = _details(details) if details else {}
        events.append(HistoryEvent(kind, time, state, previous, following, took, worker, attempt, task, told))
    return events


def _details(text: Any) -> dict[str, Any]:
    details: dict[str, Any] = from_json(text) or {}
    return details


def encode_need(need: Need) -> bytes:
    """A need as bytes."""
    return pack(*_need_fields(need))


def _need_fields(need: Need) -> tuple[Any, ...]:
    return (
        need.skill,
        need.version,
        need.type,
        need.contracts,
        need.refused,
        need.allowed_skills,
        need.max_cost,
        need.statuses,
    )


def _need(fields: list[Any]) -> Need:
    skill, version, kind, contracts, refused, allowed, max_cost, statuses = fields
    return Need(skill, version, kind, tuple(contracts), tuple(refused), _allowed(allowed), max_cost, tuple(statuses))


def decode_need(record: bytes) -> Need:
    """A need from its bytes."""
    return _need(unpack("need", record))


def encode_chunk(chunk: tuple[NewTask, ...], dispatched: int) -> bytes:
    """Tasks that are not made yet as bytes, with when their fan-out was dispatched."""
    return pack([_new_task_fields(task) for task in chunk], dispatched)


def _new_task_fields(task: NewTask) -> tuple[Any, ...]:
    need, retry = task.need, task.retry
    return (
        task.id,
        task.index,
        _need_fields(need),
        task.params,
        task.priority,
        task.execution_timeout,
        task.dispatch_timeout,
        task.result_timeout,
        (retry.max_retries, retry.first_ms, retry.longest_ms),
        task.trace,
        task.lost_after,
        task.reserves,
    )


def decode_chunk(record: bytes) -> tuple[tuple[NewTask, ...], int | None]:
    """Tasks that are not made yet from their bytes, and when their fan-out was dispatched; None: that was not noted."""
    # It was added at the end, where an earlier release leaves it unread.
    tasks, *dispatched = unpack("chunk", record)
    chunk = tuple(
        NewTask(
            id=fields[0],
            index=fields[1],
            need=_need(fields[2]),
            params=fields[3],
            priority=fields[4],
            execution_timeout=fields[5],
            dispatch_timeout=fields[6],
            result_timeout=fields[7],
            retry=RetryPolicy(*fields[8]),
            trace=fields[9],
            lost_after=fields[10],
            reserves=fields[11],
        )
        for fields in tasks
    )
    return chunk, dispatched[0] if dispatched else None
