"""Reads of the SQLite file: committed data only, on a connection of their own, a page at a time.

Each function is one operation of the reader's lane: it fetches all that it asks for, since an open statement would keep
the write-ahead log from being emptied.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holon.domain.events import HistoryEvent
from holon.domain.job import Status
from holon.domain.task import Outcome, task_id
from holon.errors import StoreUnavailable
from holon.ports import JobFilter, JobRecord, TaskRecord
from holon.storage.ledger.reads import task_record
from holon.storage.records import decode_history, decode_job, decode_need, decode_outcome
from holon.storage.sqlite import task_rows
from holon.storage.sqlite.lane import RETRY_AFTER_S, Call, Lane
from holon.storage.sqlite.loading import find_task
from holon.storage.sqlite.opening import opened_to_read

MAX_READS = 64
# A list looks at so many jobs at a time for those that it shows, so that other reads come in between.
LOOK_AT = 5_000
BRANCHES_PAGE = 500

# The single task of a job is told while it waits for a lease.
_JOB = """
    SELECT
        j.n, states.state, j.created_at, j.updated_at, j.finished_at, j.progress, j.message, j.deliveries,
        j.history_seq, needs.need
    FROM jobs j JOIN states ON states.n = j.n
    LEFT JOIN tasks t ON j.open_count > 0 AND t.job = j.n AND t.step = j.open_step AND t.place = 0
        AND t.branch = 0 AND t.state = 'queued'
    LEFT JOIN needs ON needs.key = t.key
"""
_JOB_BY_ID = _JOB + " WHERE j.id = ?"
_JOB_BY_N = _JOB + " WHERE j.n = ?"
_PAGE = "SELECT n, status, blueprint FROM jobs WHERE owner = ? AND n < ? ORDER BY n DESC LIMIT ?"
_LIVE = """
    SELECT iif(status = 'pending' AND deliveries > 0, 'running', status) seen, count(*)
    FROM jobs WHERE finished_at = 0 GROUP BY seen
"""
_HISTORY = """
    SELECT h.last, h.events FROM jobs JOIN history h ON h.job = jobs.n
    WHERE jobs.id = ? AND h.last > ? ORDER BY h.last LIMIT ?
"""
_BRANCHES = """
    SELECT t.place, t.outcome FROM jobs JOIN tasks t ON t.job = jobs.n
    WHERE jobs.id = ? AND t.step = ? AND t.place > ? AND t.branch = 1 AND t.outcome <> '' ORDER BY t.place LIMIT ?
"""


def run(path: Path, lane: Lane[sqlite3.Connection]) -> None:
    """The body of the reader's lane."""
    with opened_to_read(path) as db:
        lane.ready()
        while (calls := lane.take(MAX_READS)) is not None:
            done: list[Call[sqlite3.Connection]] = []
            replies: list[Any] = []
            for call in calls:
                try:
                    reply = call.operation(db)
                except Exception as error:  # noqa: BLE001 -- the caller gets it
                    lane.refuse([call], [_told(error)])
                else:
                    done.append(call)
                    replies.append(reply)
            lane.answer(done, replies)


def _told(error: Exception) -> Exception:
    if isinstance(error, sqlite3.OperationalError):
        return StoreUnavailable(f"the store could not read: {error}", retry_after=RETRY_AFTER_S)
    return error


def job(job_id: str, db: sqlite3.Connection) -> JobRecord | None:
    """One job."""
    columns = db.execute(_JOB_BY_ID, (job_id,)).fetchone()
    return _job_record(columns) if columns is not None else None


def _job_record(columns: tuple[Any, ...]) -> JobRecord:
    _, state, created_at, updated_at, finished_at, progress, message, deliveries, sequence, need = columns
    return JobRecord(
        job=decode_job(state).seen(deliveries),
        created_at=created_at,
        updated_at=updated_at,
        finished_at=finished_at or None,
        progress=progress,
        progress_message=message,
        queued_need=decode_need(need) if need is not None else None,
        sequence=sequence,
    )


def live_jobs(db: sqlite3.Connection) -> dict[Status, int]:
    """How many jobs are in each status that is not final, as clients see them."""
    return {Status(status): count for status, count in db.execute(_LIVE)}


def numbers(which: JobFilter, before: int, limit: int, db: sqlite3.Connection) -> tuple[list[int], int | None]:
    """The numbers of jobs that a list shows, newest first, and where to look on (None: there are no more).

    Looks at a bounded number of jobs, so the page may be short, or empty, with more to come.
    """
    found: list[int] = []
    last = None
    looked_at = 0
    statuses = frozenset(map(str, which.statuses))
    for n, status, blueprint in db.execute(_PAGE, (which.owner, before, LOOK_AT)):
        last, looked_at = n, looked_at + 1
        if which.blueprint in (None, blueprint) and (not statuses or status in statuses):
            found.append(n)
            if len(found) == limit:
                return found, last
    return found, last if looked_at == LOOK_AT else None


def job_records(ns: Sequence[int], db: sqlite3.Connection) -> list[JobRecord]:
    """Jobs by their numbers; those that were deleted are left out."""
    found = (db.execute(_JOB_BY_N, (n,)).fetchone() for n in ns)
    return [_job_record(columns) for columns in found if columns is not None]


def history(job_id: str, after: int, limit: int, db: sqlite3.Connection) -> list[tuple[int, HistoryEvent]]:
    """A page of a job's history."""
    lines: list[tuple[int, HistoryEvent]] = []
    for last, events in db.execute(_HISTORY, (job_id, after, limit)).fetchall():
        told = decode_history(events)
        lines += [(n, event) for n, event in enumerate(told, start=last - len(told) + 1) if n > after]
        if len(lines) >= limit:
            break
    return lines[:limit]


def task(wanted: str, db: sqlite3.Connection) -> TaskRecord | None:
    """One task."""
    columns = find_task(db, wanted)
    return task_record(task_rows.task_row(columns)) if columns is not None else None


def queued_tasks(key: str, after: str, limit: int, db: sqlite3.Connection) -> list[TaskRecord]:
    """Waiting tasks of a match key, ordered by id."""
    found = db.execute(task_rows.SELECT_WAITING, (key, after, limit)).fetchall()
    return [task_record(task_rows.task_row(columns)) for columns in found]


def branches(
    job_id: str, step: int, after: int, db: sqlite3.Connection
) -> tuple[list[tuple[str, Outcome]], int | None]:
    """A page of the outcomes of a fan-out's branches, and the place to go on after (None: that was all)."""
    found = db.execute(_BRANCHES, (job_id, step, after, BRANCHES_PAGE)).fetchall()
    outcomes = [(task_id(job_id, step, place), decode_outcome(outcome)) for place, outcome in found]
    return outcomes, found[-1][0] if len(found) == BRANCHES_PAGE else None
