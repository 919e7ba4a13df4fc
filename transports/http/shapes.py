"""The HTTP door: jobs and their history as JSON. Times are epoch seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from holon.domain.events import HistoryEvent
from holon.domain.job import Status
from holon.errors import InvalidArgument, Violation
from holon.ports import JobRecord

_Reader = Callable[[JobRecord, str], Any]


def _error(record: JobRecord, _: str) -> dict[str, Any] | None:
    error = record.job.error
    return None if error is None else {"code": error.code, "message": error.message, "details": error.details}


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


_JOB: Mapping[str, _Reader] = {
    "id": lambda record, _: record.job.id,
    "blueprint_name": lambda record, _: record.job.blueprint,
    "status": lambda record, _: record.job.status.value,
    "current_state": lambda record, _: record.job.current_state,
    "progress": lambda record, _: record.progress,
    "progress_message": lambda _, message: message,
    "result": lambda record, _: record.job.result if record.job.status is Status.FINISHED else None,
    "error": _error,
    "created_at": lambda record, _: _seconds(record.created_at),
    "updated_at": lambda record, _: _seconds(record.updated_at),
    "finished_at": lambda record, _: _seconds(record.finished_at),
}
ALL_FIELDS = tuple(_JOB)
# A page of a thousand jobs must not carry a thousand results that nobody asked for.
LISTED_FIELDS = tuple(name for name in _JOB if name != "result")


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


def job_json(record: JobRecord, message: str, names: Iterable[str] = ALL_FIELDS) -> dict[str, Any]:
    """Return a job as clients see it.

    Arguments:
        message: its progress message, which may say why it waits.
        names: the fields wanted.
    """
    return {name: _JOB[name](record, message) for name in names}


def event_json(job_id: str, sequence: int, event: HistoryEvent) -> dict[str, Any]:
    """Return one line of a job's history."""
    return {
        "event_id": f"{job_id}:{sequence}",
        "job_id": job_id,
        "sequence": sequence,
        "timestamp": event.time / 1000,
        "event_type": event.type,
        "state": event.state,
        "previous_state": event.previous_state,
        "next_state": event.next_state,
        "duration_ms": event.duration_ms,
        "worker_id": event.worker_id,
        "attempt_number": event.attempt_number,
        "task_id": event.task_id,
        "context_snapshot": event.details or None,
    }
