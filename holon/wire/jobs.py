"""The wire: jobs and their history, as clients get them by gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from holon.domain.events import HistoryEvent
from holon.domain.job import CARRIED, Status
from holon.errors import InvalidArgument, PermissionDenied, Violation
from holon.ports import JobRecord
from holon.rxon.v1 import job_pb2
from holon.wire.values import json_payload, timestamp

_Writer = Callable[[job_pb2.Job, JobRecord, str], None]


def _plain(field: str, value: Callable[[JobRecord, str], Any]) -> _Writer:
    def write(message: job_pb2.Job, record: JobRecord, progress: str) -> None:
        setattr(message, field, value(record, progress))

    return write


def _time(field: str, value: Callable[[JobRecord], int | None]) -> _Writer:
    def write(message: job_pb2.Job, record: JobRecord, _: str) -> None:
        ms = value(record)
        if ms is not None:
            getattr(message, field).CopyFrom(timestamp(ms))

    return write


def _carried(field: str) -> _Writer:
    def write(message: job_pb2.Job, record: JobRecord, _: str) -> None:
        carried = getattr(record, field)
        if carried is not None:
            getattr(message, field).CopyFrom(json_payload(orjson.dumps(carried)))

    return write


def _progress(message: job_pb2.Job, record: JobRecord, _: str) -> None:
    if record.progress is not None:
        message.progress = record.progress


def _result(message: job_pb2.Job, record: JobRecord, _: str) -> None:
    if record.job.status is Status.FINISHED:
        message.result.CopyFrom(json_payload(orjson.dumps(record.job.result)))


def _error(message: job_pb2.Job, record: JobRecord, _: str) -> None:
    error = record.job.error
    if error is not None:
        message.error.code, message.error.message = error.code, error.message
        if error.details is not None:
            message.error.details.CopyFrom(json_payload(orjson.dumps(error.details)))


def _cost(message: job_pb2.Job, record: JobRecord, _: str) -> None:
    if record.cost is not None:
        message.cost = record.cost


def _budget(message: job_pb2.Job, record: JobRecord, _: str) -> None:
    if record.job.budget is not None:
        message.budget = record.job.budget


def _approval(message: job_pb2.Job, record: JobRecord, _: str) -> None:
    waiting = record.job.waiting
    if waiting is None or waiting.question is None:
        return
    question, asked = waiting.question, message.approval
    asked.approval_id, asked.message, asked.integration = question.id, question.message, question.integration
    asked.decisions.extend(waiting.decisions)
    asked.requested_at.CopyFrom(timestamp(question.asked_at))
    if waiting.due is not None:
        asked.expires_at.CopyFrom(timestamp(waiting.due))


def _signal(message: job_pb2.Job, record: JobRecord, _: str) -> None:
    waiting = record.job.waiting
    if waiting is None or record.job.status is not Status.WAITING_FOR_SIGNAL:
        return
    message.signal.names.extend(waiting.decisions)
    if waiting.due is not None:
        message.signal.expires_at.CopyFrom(timestamp(waiting.due))


_FIELDS: Mapping[str, _Writer] = {
    "id": _plain("id", lambda record, _: record.job.id),
    "blueprint_name": _plain("blueprint_name", lambda record, _: record.job.blueprint),
    "status": _plain("status", lambda record, _: record.job.status.value),
    "current_state": _plain("current_state", lambda record, _: record.job.current_state),
    "progress": _progress,
    "progress_message": _plain("progress_message", lambda _, progress: progress),
    "result": _result,
    "error": _error,
    "created_at": _time("created_at", lambda record: record.created_at),
    "updated_at": _time("updated_at", lambda record: record.updated_at),
    "finished_at": _time("finished_at", lambda record: record.finished_at),
    "terminal": _plain("terminal", lambda record, _: record.job.status.terminal),
    "owner": _plain("owner", lambda record, _: record.job.owner),
    "approval": _approval,
    "parent_job_id": _plain("parent_job_id", lambda record, _: record.job.parent_job_id),
    "cost": _cost,
    "budget": _budget,
    "sequence": _plain("sequence", lambda record, _: record.sequence),
    "signal": _signal,
    "kept_signals": _plain("kept_signals", lambda record, _: len(record.job.signals)),
    "initial_data": _carried("initial_data"),
    "state_history": _carried("state_history"),
}
# Of one job, where none is asked for by name.
SHOWN_FIELDS = tuple(name for name in _FIELDS if name not in CARRIED)
# A page of a thousand jobs must not carry a thousand results that nobody asked for.
LISTED_FIELDS = tuple(name for name in SHOWN_FIELDS if name != "result")
# What handlers and workers say may hold what the job was given.
_OF_ITS_OWNER = CARRIED | {"result", "error", "progress_message", "approval", "signal"}
_OF_ANYBODY = tuple(name for name in _FIELDS if name not in _OF_ITS_OWNER)


def fields_of(asked: Iterable[str], default: tuple[str, ...]) -> tuple[str, ...]:
    """The fields of a job that a request asks for by name; `default` when it asks for none.

    Raises:
        InvalidArgument: one is no field of a job that this node fills.
    """
    names = tuple(dict.fromkeys(asked))
    for name in names:
        if name not in _FIELDS:
            reason = f"{name[:128]!r} is not a field of a job that this node knows; use {', '.join(_FIELDS)}"
            raise InvalidArgument(f"fields: {reason}", details=[Violation("fields", reason)])
    return names or default


def fields_of_others(asked: Iterable[str]) -> tuple[str, ...]:
    """The same for jobs that are not the caller's: where and when each is, not what was said in it.

    Raises:
        InvalidArgument: as `fields_of`.
        PermissionDenied: one is for the job's owner alone.
    """
    names = fields_of(asked, _OF_ANYBODY)
    if secret := [name for name in names if name in _OF_ITS_OWNER]:
        raise PermissionDenied(
            f"fields: {', '.join(secret)} of a job is only for its owner; leave it out, or list your own jobs"
        )
    return names


def job_message(record: JobRecord, progress: str, names: Iterable[str] = SHOWN_FIELDS) -> job_pb2.Job:
    """A job as clients see it.

    Arguments:
        progress: its progress message, which may say why it waits.
        names: the fields wanted.
    """
    message = job_pb2.Job()
    for name in names:
        _FIELDS[name](message, record, progress)
    return message


def progress_message(percent: float | None, message: str, status: str, state: str) -> job_pb2.JobProgress:
    """How far a job is, in percent, if that is known."""
    return job_pb2.JobProgress(percent=percent, message=message, status=status, current_state=state)


def event_message(job_id: str, sequence: int, event: HistoryEvent) -> job_pb2.HistoryEvent:
    """One line of a job's history."""
    message = job_pb2.HistoryEvent(
        event_id=f"{job_id}:{sequence}",
        job_id=job_id,
        sequence=sequence,
        timestamp=timestamp(event.time),
        event_type=event.type,
        state=event.state or "",
        previous_state=event.previous_state or "",
        next_state=event.next_state or "",
        duration_ms=event.duration_ms,
        worker_id=event.worker_id or "",
        attempt_number=event.attempt_number,
        task_id=event.task_id or "",
    )
    if event.details:
        message.context_snapshot.CopyFrom(json_payload(orjson.dumps(event.details)))
    return message
