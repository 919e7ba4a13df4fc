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
    "description": "why it ended otherwise than `finished`",
    "properties": {
        "code": string("a stable name, for programs"),
        "message": string("a sentence, for people"),
        "details": {"description": "what its author or its worker added"},
    },
    "required": ["code", "message", "details"],
}
_APPROVAL: Schema = record(
    "the decision of a person that it waits for; null when it waits for none",
    {
        "approval_id": string("names this question"),
        "message": string("what is asked"),
        "integration": string("what its blueprint says that the question is meant for"),
        "decisions": {"type": "array", "items": {"type": "string"}, "description": "what may be decided"},
        "requested_at": time("when it was asked"),
        "expires_at": time_or_null("until when a decision is waited for; null: for ever"),
    },
    ["object", "null"],
)
_APPROVAL["properties"]["approval_token"] = string(
    "the right to decide this question once, for a person without the owner's token; not in lists"
)
_SIGNAL: Schema = record(
    "the signals that it waits for, the first of which leads it on; null when it waits for none",
    {
        "names": {"type": "array", "items": {"type": "string"}, "description": "what they are called"},
        "expires_at": time_or_null("until when one is waited for; null: for ever"),
    },
    ["object", "null"],
)
_BY_NAME = "shown where `fields` names it; null where only history has the job still"
_PROGRESS: Schema = {
    "type": ["number", "null"],
    "minimum": 0,
    "maximum": 100,
    "description": "in percent; null while it is not known",
}
_JOB: Mapping[str, _OfJob] = {
    "id": _OfJob(lambda record, _: record.job.id, string("what it is known by")),
    "blueprint_name": _OfJob(lambda record, _: record.job.blueprint, string("the blueprint that it runs")),
    "status": _OfJob(
        lambda record, _: record.job.status.value,
        # No enum: a client that was generated from it would fail at a status that comes later.
        string(f"where it stands: {_KNOWN}, or another that comes later; `terminal` says whether it is over"),
    ),
    "terminal": _OfJob(
        lambda record, _: record.job.status.terminal,
        {"type": "boolean", "description": "whether it is over: nothing of it changes any more"},
    ),
    "current_state": _OfJob(lambda record, _: record.job.current_state, string("its state in the blueprint")),
    "progress": _OfJob(lambda record, _: record.progress, _PROGRESS),
    "progress_message": _OfJob(lambda _, message: message, string("what was last said of it, or what it waits for")),
    "result": _OfJob(
        lambda record, _: record.job.result if record.job.status is Status.FINISHED else None,
        {"description": "once it is `finished`: what its last handler returned, or all that it gathered"},
    ),
    "error": _OfJob(_error, _ERROR),
    "created_at": _OfJob(lambda record, _: seconds(record.created_at), time("when it was created")),
    "updated_at": _OfJob(lambda record, _: seconds(record.updated_at), time("when its last step was written")),
    "finished_at": _OfJob(
        lambda record, _: seconds(record.finished_at),
        or_null("number", "when it ended, however it did; seconds since the epoch; null until then"),
    ),
    "approval": _OfJob(_approval, _APPROVAL),
    "signal": _OfJob(_signal, _SIGNAL),
    "kept_signals": _OfJob(
        lambda record, _: len(record.job.signals),
        {"type": "integer", "minimum": 0, "description": "how many signals it keeps that it has not waited for yet"},
    ),
    "parent_job_id": _OfJob(
        lambda record, _: record.job.parent_job_id or None,
        or_null("string", "the job that it is a part of; null where it is of none"),
    ),
    "cost": _OfJob(
        lambda record, _: record.cost,
        or_null("integer", "what it was charged so far, in millionths of the cost unit; null while that is nothing"),
    ),
    "budget": _OfJob(
        lambda record, _: record.job.budget,
        or_null("integer", "what its tasks may cost together, in millionths of the cost unit; null without a limit"),
    ),
    "initial_data": _OfJob(
        lambda record, _: record.initial_data, object_or_null(f"what it was created with; {_BY_NAME}")
    ),
    "state_history": _OfJob(
        lambda record, _: record.state_history,
        object_or_null(f"what its handlers and tasks have gathered; {_BY_NAME}"),
    ),
}
ALL_FIELDS = tuple(_JOB)
# Of one job, where none is asked for by name.
SHOWN_FIELDS = tuple(name for name in _JOB if name not in CARRIED)
# A page of a thousand jobs must not carry a thousand results that nobody asked for.
LISTED_FIELDS = tuple(name for name in SHOWN_FIELDS if name != "result")

_EVENT: Mapping[str, _OfEvent] = {
    "event_id": _OfEvent(lambda job_id, sequence, _: f"{job_id}:{sequence}", string("unique")),
    "job_id": _OfEvent(lambda job_id, *_: job_id, string("whose event it is")),
    "sequence": _OfEvent(
        lambda _, sequence, __: sequence,
        {"type": "integer", "minimum": 1, "description": "its place in the job's history"},
    ),
    "timestamp": _OfEvent(lambda _, __, event: event.time / 1000, time("when it happened")),
    "event_type": _OfEvent(lambda _, __, event: event.type, string("what happened, such as `task_dispatched`")),
    "state": _OfEvent(lambda _, __, event: event.state, or_null("string", "the job's state then")),
    "previous_state": _OfEvent(lambda _, __, event: event.previous_state, or_null("string", "the state before")),
    "next_state": _OfEvent(lambda _, __, event: event.next_state, or_null("string", "the state after")),
    "duration_ms": _OfEvent(
        lambda _, __, event: event.duration_ms, or_null("integer", "how long what ended with it took; milliseconds")
    ),
    "worker_id": _OfEvent(lambda _, __, event: event.worker_id, or_null("string", "the worker that had part in it")),
    "attempt_number": _OfEvent(lambda _, __, event: event.attempt_number, or_null("integer", "which try it was")),
    "task_id": _OfEvent(lambda _, __, event: event.task_id, or_null("string", "the task that it is about")),
    "context_snapshot": _OfEvent(
        lambda _, __, event: event.details or None, object_or_null("what else is known of that moment")
    ),
}

JOB: Schema = {
    "type": "object",
    "description": "One run of a blueprint: the fields that were asked for",
    "properties": {name: field.schema for name, field in _JOB.items()},
}
EVENT: Schema = {
    "type": "object",
    "description": "One line of a job's history; what does not apply is null",
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
            reason = f"{name[:128]!r} is no field of a job; known are {', '.join(ALL_FIELDS)}"
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
