"""The SQLite file: a job's row as columns. What lives in memory only (claims, readiness, timers) has none."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from holon.domain.events import CancelRequested
from holon.domain.job import Status
from holon.storage.json_text import from_json, to_json
from holon.storage.ledger.rows import JobRow
from holon.storage.records import decode_inbox, encode_inbox
from holon.storage.sealing import Seal

INSERT = """
    INSERT INTO jobs (
        n, id, owner, blueprint, request_id, request_digest, created_at,
        status, step, commit_id, updated_at, finished_at, progress, message, history_seq, deliveries,
        wake_at, wake_step, open_step, open_count, inbox_seq, inbox, dedups, budget, cost, reserved, unreported, state
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = """
    UPDATE jobs SET
        status = ?, step = ?, commit_id = ?, updated_at = ?, finished_at = ?, progress = ?, message = ?,
        history_seq = ?, deliveries = ?, wake_at = ?, wake_step = ?, open_step = ?, open_count = ?,
        inbox_seq = ?, inbox = ?, dedups = ?, budget = ?, cost = ?, reserved = ?, unreported = ?"""
UPDATE = _UPDATE + " WHERE n = ?"
UPDATE_WITH_STATE = _UPDATE + ", state = ? WHERE n = ?"
_SELECT = """
    SELECT
        n, id, owner, blueprint, request_id, request_digest, created_at,
        status, step, commit_id, updated_at, finished_at, progress, message, history_seq, deliveries,
        wake_at, wake_step, open_step, open_count, inbox_seq, inbox, dedups, budget, cost, reserved, unreported,
        coalesce(jobs.state, states.state)
    FROM jobs LEFT JOIN states USING (n)
"""
SELECT_ONE = _SELECT + " WHERE id = ?"
SELECT_LIVE = _SELECT + " WHERE finished_at = 0 ORDER BY n"

# A state of more bytes has a row of its own, so that not all of it is written with every change of its job. One that
# was large and is small now leaves that row behind, until the job goes.
LARGEST_INSIDE = 1024
REPLACE_STATE = "REPLACE INTO states (n, state) VALUES (?, ?)"

_CHANGING = (
    "status",
    "step",
    "commit_id",
    "updated_at",
    "finished_at",
    "progress",
    "message",
    "history_seq",
    "deliveries",
    "wake_at",
    "wake_step",
    "open_step",
    "open_count",
    "inbox_seq",
    "inbox",
    "dedups",
    "budget",
    "cost",
    "reserved",
    "unreported",
)
_now = attrgetter(*_CHANGING)


def changed(row: JobRow, before: JobRow) -> bool:
    """Whether a job's columns (not its state) differ from what they were."""
    return bool(_now(row) != _now(before))


def inserted(row: JobRow, seal: Seal) -> tuple[Any, ...]:
    """What `INSERT` takes."""
    first = (row.n, row.id, row.owner, row.blueprint, row.request_id, row.request_digest, row.created_at)
    return (*first, *_changing(row, seal), _inside(row, seal))


def updated(row: JobRow, seal: Seal) -> tuple[Any, ...]:
    """What `UPDATE` takes."""
    return (*_changing(row, seal), row.n)


def updated_with_state(row: JobRow, seal: Seal) -> tuple[Any, ...]:
    """What `UPDATE_WITH_STATE` takes."""
    return (*_changing(row, seal), _inside(row, seal), row.n)


def apart(row: JobRow) -> bool:
    """Whether a job's state is so large that it has a row of its own."""
    return len(row.state) > LARGEST_INSIDE


def replaced_state(row: JobRow, seal: Seal) -> tuple[Any, ...]:
    """What `REPLACE_STATE` takes."""
    return row.n, seal.seal("jobs", row.id, "state", row.state)


def _inside(row: JobRow, seal: Seal) -> bytes | None:
    return None if apart(row) else seal.seal("jobs", row.id, "state", row.state)


def _changing(row: JobRow, seal: Seal) -> tuple[Any, ...]:
    return (
        str(row.status),
        row.step,
        row.commit_id,
        row.updated_at,
        row.finished_at or 0,
        row.progress,
        seal.seal_text("jobs", row.id, "message", row.message),
        row.history_seq,
        row.deliveries,
        row.wake_at or 0,
        row.wake_step,
        row.open_step,
        row.open_count,
        row.inbox_seq,
        seal.seal("jobs", row.id, "inbox", encode_inbox(row.inbox)) if row.inbox else "",
        to_json(row.dedups) if row.dedups else "",
        row.budget,
        row.cost,
        row.reserved,
        to_json(row.unreported) if row.unreported else "",
    )


def job_row(columns: tuple[Any, ...], seal: Seal) -> JobRow:
    """A job's row from its columns, without its fan-out; raises as `Seal.open`."""
    n, job_id, owner, blueprint, request_id, request_digest, created_at, *changing, state = columns
    status = Status(changing[0])
    row = JobRow(n, job_id, owner, blueprint, status, seal.open("jobs", job_id, "state", state), created_at, created_at)
    row.request_id, row.request_digest = request_id, request_digest or b""
    _, row.step, row.commit_id, row.updated_at, finished_at, row.progress, message = changing[:7]
    row.message = seal.open_text("jobs", job_id, "message", message)
    row.finished_at = finished_at or None
    row.over = status.terminal
    row.due = status.due
    row.history_seq, row.deliveries, wake_at, row.wake_step, row.open_step, row.open_count = changing[7:13]
    row.wake_at = wake_at or None
    row.inbox_seq, inbox, dedups, row.budget, row.cost, row.reserved, unreported = changing[13:]
    row.inbox = decode_inbox(seal.open("jobs", job_id, "inbox", inbox)) if inbox else ()
    row.cancel_pending = any(isinstance(event, CancelRequested) for _, event in row.inbox)
    row.dedups = tuple(from_json(dedups)) if dedups else ()
    row.unreported = tuple((lease, kept) for lease, kept in from_json(unreported)) if unreported else ()
    return row
