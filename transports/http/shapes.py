"""The HTTP door: jobs and their history as JSON: each field as it is read and as it is described."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from holon.domain.events import HistoryEvent
from holon.domain.job import CARRIED, Status
from holon.errors import InvalidArgument, Violation
from holon.ports import JobRecord

Schema: TypeAlias = dict[str, Any]

# Any JSON, in the form that generators of clients know.
ANYTHING: Schema = {}
COUNTS: Schema = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}


@dataclass(frozen=True, slots=True)
class _OfJob:
    read: Callable[[JobRecord, str], Any]
    schema: Schema


@dataclass(frozen=True, slots=True)
class _OfEvent:
    read: Callable[[str, int, HistoryEvent], Any]
    schema: Schema


def string(about: str, **more: Any) -> Schema:
    """A field that is a string."""
    return {"type": "string", "description": about, **more}


def or_null(kind: str, about: str, **more: Any) -> Schema:
    """A field that may be null."""
    return {"type": [kind, "null"], "description": about, **more}


def object_or_null(about: str) -> Schema:
    """A field that is an object of any fields, or null."""
    return or_null("object", about, additionalProperties=ANYTHING)


def time(about: str) -> Schema:
    """A field that is a time."""
    return {"type": "number", "description": f"{about}; seconds since the epoch"}


def time_or_null(about: str) -> Schema:
    """A field that is a time, or null."""
    return or_null("number", f"{about}; seconds since the epoch")


def record(about: str, properties: dict[str, Schema], kind: str | list[str] = "object") -> Schema:
    """An object that has all of these fields; `kind` is another where it may be null."""
    return {"type": kind, "description": about, "properties": properties, "required": list(properties)}


def _error(record: JobRecord, _: str) -> dict[str, Any] | None:
    error = record.job.error
    return None if error is None else {"code": error.code, "message": error.message, "details": error.details}


def _approval(record: JobRecord, _: str) -> dict[str, Any] | None:
    waiting = record.job.waiting
    if waiting is None or waiting.question is None:
        return None
    question = waiting.question
    return {
        "approval_id": question.id,
        "message": question.message,
        "integration": question.integration,
        "decisions": waiting.decisions,
        "requested_at": question.asked_at / 1000,
        "expires_at": seconds(waiting.due),
    }


def _signal(record: JobRecord, _: str) -> dict[str, Any] | None:
    waiting = record.job.waiting
    if waiting is None or record.job.status is not Status.WAITING_FOR_SIGNAL:
        return None
    return {"names": waiting.decisions, "expires_at": seconds(waiting.due)}


def seconds(ms: int | None) -> float | None:
    """A time, or how long something took, as clients see it: seconds, of milliseconds."""
    return None if ms is None else ms / 1000


JOB_STATUSES = [status.value for status in Status]
_KNOWN = ", ".join(f"`{status}`" for status in JOB_STATUSES)
_ERROR: Schema = {
    "type": ["object", "null"],
    "description": "why the job ended; null if it is `finished` or has not ended",
    "properties": {
        "code": string("a stable name, for programs"),
        "message": string("a sentence, for people"),
        "details": {"description": "details that the blueprint or the worker added"},
    },
    "required": ["code", "message", "details"],
}
_APPROVAL: Schema = record(
    "the decision of a person that the job waits for; null if it waits for none",
    {
        "approval_id": string("the id of this request for a decision"),
        "message": string("the question"),
        "integration": string("the channel that the blueprint names for the question"),
        "decisions": {"type": "array", "items": {"type": "string"}, "description": "the possible decisions"},
        "requested_at": time("when the decision was requested"),
        "expires_at": time_or_null("when the request expires; null: never"),
    },
    ["object", "null"],
)
_APPROVAL["properties"]["approval_token"] = string(
    "the right to make this decision once, for a person without the owner's token; not in lists"
)
_SIGNAL: Schema = record(
    "the signals that the job waits for; the first to arrive counts; null if it waits for none",
    {
        "names": {"type": "array", "items": {"type": "string"}, "description": "the names of the signals"},
        "expires_at": time_or_null("when the wait expires; null: never"),
    },
    ["object", "null"],
)
_BY_NAME = "only shown if `fields` names it; null if only the history still has the job"
_PROGRESS: Schema = {
    "type": ["number", "null"],
    "minimum": 0,
    "maximum": 100,
    "description": "in percent; null if not known",
}
_JOB: Mapping[str, _OfJob] = {
    "id": _OfJob(lambda record, _: record.job.id, string("the id of the job")),
    "blueprint_name": _OfJob(lambda record, _: record.job.blueprint, string("the name of the job's blueprint")),
    "status": _OfJob(
        lambda record, _: record.job.status.value,
        # No enum: a client that was generated from it would fail at a status that comes later.
        string(f"the status: {_KNOWN}. Later versions may add others; `terminal` says whether the job has ended"),
    ),
    "terminal": _OfJob(
        lambda record, _: record.job.status.terminal,
        {"type": "boolean", "description": "true if the job has ended; an ended job no longer changes"},
    ),
    "current_state": _OfJob(lambda record, _: record.job.current_state, string("the job's state in the blueprint")),
    "progress": _OfJob(lambda record, _: record.progress, _PROGRESS),
    "progress_message": _OfJob(
        lambda _, message: message, string("the newest progress message, or what the job waits for")
    ),
    "result": _OfJob(
        lambda record, _: record.job.result if record.job.status is Status.FINISHED else None,
        {"description": "for a `finished` job: what its last handler returned, or else its state history"},
    ),
    "error": _OfJob(_error, _ERROR),
    "created_at": _OfJob(lambda record, _: seconds(record.created_at), time("when the job was created")),
    "updated_at": _OfJob(lambda record, _: seconds(record.updated_at), time("when the job's newest step was stored")),
    "finished_at": _OfJob(
        lambda record, _: seconds(record.finished_at),
        or_null("number", "when the job ended; seconds since the epoch; null if it has not ended"),
    ),
    "approval": _OfJob(_approval, _APPROVAL),
    "signal": _OfJob(_signal, _SIGNAL),
    "kept_signals": _OfJob(
        lambda record, _: len(record.job.signals),
        {"type": "integer", "minimum": 0, "description": "how many signals the job keeps and has not used yet"},
    ),
    "parent_job_id": _OfJob(
        lambda record, _: record.job.parent_job_id or None,
        or_null("string", "the job that started this job; null for a job of a client"),
    ),
    "cost": _OfJob(
        lambda record, _: record.cost,
        or_null("integer", "the cost so far, in millionths of the cost unit; null if zero"),
    ),
    "budget": _OfJob(
        lambda record, _: record.job.budget,
        or_null("integer", "the most that the tasks may cost together, in millionths of the cost unit; null: no limit"),
    ),
    "initial_data": _OfJob(
        lambda record, _: record.initial_data, object_or_null(f"the data that the job was created with; {_BY_NAME}")
    ),
    "state_history": _OfJob(
        lambda record, _: record.state_history,
        object_or_null(f"the data that handlers and tasks have added; {_BY_NAME}"),
    ),
}
ALL_FIELDS = tuple(_JOB)
# Of one job, where none is asked for by name.
SHOWN_FIELDS = tuple(name for name in _JOB if name not in CARRIED)
# A page of a thousand jobs must not carry a thousand results that nobody asked for.
LISTED_FIELDS = tuple(name for name in SHOWN_FIELDS if name != "result")

_EVENT: Mapping[str, _OfEvent] = {
    "event_id": _OfEvent(lambda job_id, sequence, _: f"{job_id}:{sequence}", string("unique")),
    "job_id": _OfEvent(lambda job_id, *_: job_id, string("the job of the event")),
    "sequence": _OfEvent(
        lambda _, sequence, __: sequence,
        {"type": "integer", "minimum": 1, "description": "the number of the event in the job's history"},
    ),
    "timestamp": _OfEvent(lambda _, __, event: event.time / 1000, time("when it happened")),
    "event_type": _OfEvent(lambda _, __, event: event.type, string("the type of the event, such as `task_dispatched`")),
    "state": _OfEvent(lambda _, __, event: event.state, or_null("string", "the state of the job at this time")),
    "previous_state": _OfEvent(
        lambda _, __, event: event.previous_state, or_null("string", "the state before a transition")
    ),
    "next_state": _OfEvent(lambda _, __, event: event.next_state, or_null("string", "the state after a transition")),
    "duration_ms": _OfEvent(
        lambda _, __, event: event.duration_ms,
        or_null("integer", "how long the step or the attempt took; milliseconds"),
    ),
    "worker_id": _OfEvent(lambda _, __, event: event.worker_id, or_null("string", "the worker of the event")),
    "attempt_number": _OfEvent(
        lambda _, __, event: event.attempt_number, or_null("integer", "the number of the attempt")
    ),
    "task_id": _OfEvent(lambda _, __, event: event.task_id, or_null("string", "the task of the event")),
    "context_snapshot": _OfEvent(
        lambda _, __, event: event.details or None, object_or_null("more facts about the event")
    ),
}

JOB: Schema = {
    "type": "object",
    "description": "One run of a blueprint, with the requested fields",
    "properties": {name: field.schema for name, field in _JOB.items()},
}
EVENT: Schema = {
    "type": "object",
    "description": "One line of a job's history; fields that do not apply are null",
    "properties": {name: field.schema for name, field in _EVENT.items()},
    "required": list(_EVENT),
}


@lru_cache(maxsize=64)
def fields_of(text: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the fields of a job that a query asks for, by a list with commas; `default` when it asks for none.

    Raises:
        InvalidArgument: one is no field of a job.
    """
    if text is None:
        return default
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in _JOB:
            reason = f"{name[:128]!r} is not a field of a job; use {', '.join(ALL_FIELDS)}"
            raise InvalidArgument(f"fields: {reason}", details=[Violation("fields", reason)])
    return names


def job_json(record: JobRecord, message: str, names: Iterable[str] = SHOWN_FIELDS) -> dict[str, Any]:
    """Return a job as clients see it.

    Arguments:
        message: its progress message, which may say why it waits.
        names: the fields wanted.
    """
    return {name: _JOB[name].read(record, message) for name in names}


def event_json(job_id: str, sequence: int, event: HistoryEvent) -> dict[str, Any]:
    """Return one line of a job's history."""
    return {name: field.read(job_id, sequence, event) for name, field in _EVENT.items()}
