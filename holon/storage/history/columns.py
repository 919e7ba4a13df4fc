"""History as columns: what a batch of notices writes, and jobs and lines from what is read; the same in each database.

Text that a database cannot hold must not keep all that follows it from being moved: it is mended, not refused. Where
history is sealed, the columns of what is secret are empty, and `sealed` has it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from holon.domain.events import HistoryEvent
from holon.domain.job import Job, JobError, Status
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import MAX_PAGE_BYTES, JobFilter, JobRecord, Notice, WorkerEvent
from holon.stores.json_text import from_json, to_json
from holon.stores.records import pack, unpack
from holon.stores.sealing import Seal, SealBroken

Columns: TypeAlias = tuple[Any, ...]

LINE = (
    "time",
    "type",
    "state",
    "previous_state",
    "next_state",
    "duration_ms",
    "worker_id",
    "attempt_number",
    "task_id",
    "details",
    "sealed",
)
JOB = (
    "id",
    "owner",
    "blueprint",
    "status",
    "current_state",
    "created_at",
    "updated_at",
    "finished_at",
    "sequence",
    "progress",
    "message",
    "result",
    "error_code",
    "error_message",
    "error_details",
    "sealed",
    "cost",
)
# How often whoever was refused may try again, in seconds.
RETRY_AFTER_S = 2.0
# Jobs with all that is large of them are read so many at a time.
AT_ONCE = 100
# Whoever looks for a few among many is shown so many at a time, so that other reads come in between.
LOOK_AT = 5_000
_ID, _CREATED = JOB.index("id"), JOB.index("created_at")
_LARGE = tuple(JOB.index(name) for name in ("message", "result", "error_message", "error_details", "sealed"))

_LARGEST = 2**63 - 1
END_OF_TIME = (_LARGEST, "", 0)
# Before the first line of a worker, and before the first job.
NO_LINE, NO_JOB = (-1, "", 0), (-1, "")
Key = TypeVar("Key", bound=tuple[int | str, ...])


def written(notices: Sequence[Notice], seal: Seal) -> tuple[list[Columns], list[Columns]]:
    """The rows of a batch, sorted by their keys: its jobs, each once, and its lines as job, number, and `LINE`."""
    jobs: dict[str, JobRecord] = {}
    lines: list[Columns] = []
    for notice in notices:
        record = notice.record
        known = jobs.get(record.job.id)
        if known is None or known.sequence <= record.sequence:
            jobs[record.job.id] = record
        lines += [_line(record.job.id, number, event, seal) for number, event in enumerate(notice.events, notice.first)]
    # Two who write the same rows do it in the same order, and never wait for each other in a circle.
    lines.sort(key=lambda line: line[:2])
    return [_job(jobs[job_id], seal) for job_id in sorted(jobs)], lines


def _line(job_id: str, number: int, event: HistoryEvent, seal: Seal) -> Columns:
    details = to_json(event.details) if event.details else None
    return (
        job_id,
        number,
        event.time,
        _text(event.type),
        _text_or_none(event.state),
        _text_or_none(event.previous_state),
        _text_or_none(event.next_state),
        None if event.duration_ms is None else max(-_LARGEST, min(event.duration_ms, _LARGEST)),
        _text_or_none(event.worker_id),
        event.attempt_number,
        _text_or_none(event.task_id),
        None if details is None or seal.on else details.decode(),
        None if details is None or not seal.on else seal.seal("history", job_id, number, details),
    )


def _job(record: JobRecord, seal: Seal) -> Columns:
    job, error = record.job, record.job.error
    message = _text(record.progress_message)
    secret: Columns = (
        to_json(job.result).decode() if job.status is Status.FINISHED else None,
        None if error is None else _text(error.message),
        None if error is None or error.details is None else to_json(error.details).decode(),
    )
    sealed = None
    if seal.on:
        sealed = seal.seal("history", job.id, "job", pack(message, *secret))
        message, secret = "", (None, None, None)
    result, reason, details = secret
    return (
        job.id,
        _text(job.owner),
        _text(job.blueprint),
        str(job.status),
        _text(job.current_state),
        record.created_at,
        record.updated_at,
        record.finished_at,
        record.sequence,
        record.progress,
        message,
        result,
        None if error is None else _text(error.code),
        reason,
        details,
        sealed,
        record.cost,
    )


def _text(text: str) -> str:
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _text_or_none(text: str | None) -> str | None:
    return None if text is None else _text(text)


def job_record(columns: Sequence[Any], seal: Seal) -> JobRecord:
    """A job from the columns of `JOB`; raises as `Seal.open`."""
    job_id, owner, blueprint, status, state, created_at, updated_at, finished_at, sequence, *rest = columns
    progress, message, result, code, reason, details, sealed, cost = rest
    if sealed is not None:
        message, result, reason, details = unpack("history", seal.open("history", job_id, "job", sealed))
    error = None if code is None else JobError(code, reason, from_json(details))
    job = Job(job_id, blueprint, owner, {}, state, Status(status), error=error, created_at=created_at)
    job = replace(job, result=from_json(result))
    return JobRecord(job, created_at, updated_at, finished_at, progress, message, sequence=sequence, cost=cost)


def history_event(job_id: str, number: int, columns: Sequence[Any], seal: Seal) -> HistoryEvent:
    """A line of a job's history from its number and the columns of `LINE`; raises as `Seal.open`."""
    time, kind, state, previous, following, took, worker, attempt, task, details, sealed = columns
    if sealed is not None:
        details = seal.open("history", job_id, number, sealed)
    told = from_json(details) or {}
    return HistoryEvent(kind, time, state, previous, following, took, worker, attempt, task, told)


def worker_events(rows: Sequence[Columns], seal: Seal) -> list[WorkerEvent]:
    """Lines that a worker had part in, each from its job, its number and the columns of `LINE`.

    What cannot be opened is left out.
    """
    events: list[WorkerEvent] = []
    for job_id, number, *columns in rows:
        with suppress(SealBroken):
            events.append(WorkerEvent(job_id, number, history_event(job_id, number, columns, seal)))
    return events


def bounds(which: JobFilter, before: tuple[int, str] | None) -> tuple[int, str, int]:
    """Between which jobs a page lies: before this (creation, id), and created at this time or later."""
    last = before or (_LARGEST if which.created_before is None else which.created_before, "")
    return *last, 0 if which.created_after is None else which.created_after


def is_choosy(which: JobFilter) -> bool:
    """Whether a filter may pass over many of an owner's jobs that lie between its bounds of time."""
    return bool(which.statuses) or which.blueprint is not None


async def found_among(
    look: Callable[[Key, int], Awaitable[Sequence[Key]]],
    fetch: Callable[[Key, Key, int], Awaitable[Sequence[Columns]]],
    before: Key,
    end: Key,
    limit: int,
) -> list[Columns]:
    """So many rows that somebody may see, or asks for, of many that come before a key, `LOOK_AT` of these at a time.

    Arguments:
        look: reads the key that so many come between another one and itself, if there are so many.
        fetch: reads the rows before a key and from another one on, as many as are wanted.
        end: comes before every key.
    """
    rows: list[Columns] = []
    while True:
        upto = next(iter(await look(before, LOOK_AT - 1)), end)
        rows += await fetch(before, upto, limit - len(rows))
        if upto == end or len(rows) >= limit:
            return rows
        before = upto


async def page_of(
    fetch: Callable[[tuple[int, str] | None, int], Awaitable[Sequence[Columns]]],
    before: tuple[int, str] | None,
    limit: int,
    seal: Seal,
) -> list[JobRecord]:
    """A page of jobs, bounded in number and in bytes; what cannot be opened is left out.

    Arguments:
        fetch: reads the columns of so many jobs, from this (creation, id) on.
    """
    records: list[JobRecord] = []
    size = 0
    while len(records) < limit:
        asked = min(AT_ONCE, limit - len(records))
        rows = await fetch(before, asked)
        for row in rows:
            size += sum(len(row[at] or b"") for at in _LARGE)
            if records and size > MAX_PAGE_BYTES:
                return records
            with suppress(SealBroken):
                records.append(job_record(row, seal))
        if len(rows) < asked:
            break
        before = (rows[-1][_CREATED], rows[-1][_ID])
    return records


def away(where: object, error: Exception) -> StoreUnavailable:
    """What the caller gets while the database is away."""
    reason = str(error) or ("no answer came in time" if isinstance(error, TimeoutError) else type(error).__name__)
    return StoreUnavailable(
        f"the database of history ({where}) cannot be used now: {reason}; try again when it can",
        code="HISTORY_UNAVAILABLE",
        retry_after=RETRY_AFTER_S,
    )
