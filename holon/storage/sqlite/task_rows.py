"""The SQLite file: a task's row as columns. What lives in memory only (a lease's end, timers) has none."""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any

from holon.domain.task import RetryPolicy
from holon.ports import NewTask, Superseded
from holon.storage.ledger.rows import TaskRow, TaskState
from holon.storage.records import (
    decode_attempts,
    decode_need,
    decode_outcome,
    encode_attempts,
    encode_outcome,
    from_json,
    to_json,
)

INSERT = """
    INSERT INTO tasks (
        n, id, job, step, place, branch, created_at, priority, execution_timeout, dispatch_due, result_due,
        max_retries, first_ms, longest_ms, trace,
        key, state, accepted, worker_id, session_id, lease_id, until, execution_due, applied_lease, applied_worker,
        generation, attempt, losses, progress, over_reason, avoid, attempts, outcome, params
    ) VALUES (
        ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
    )
"""
UPDATE = """
    UPDATE tasks SET
        key = ?, state = ?, accepted = ?, worker_id = ?, session_id = ?, lease_id = ?, until = ?, execution_due = ?,
        applied_lease = ?, applied_worker = ?, generation = ?, attempt = ?, losses = ?, progress = ?, over_reason = ?,
        avoid = ?, attempts = ?, outcome = ?, params = ?
    WHERE n = ?
"""
_COLUMNS = """
    SELECT
        t.n, t.id, t.step, t.place, t.branch, t.created_at, t.priority, t.execution_timeout, t.dispatch_due,
        t.result_due, t.max_retries, t.first_ms, t.longest_ms, t.trace,
        t.state, t.accepted, t.worker_id, t.session_id, t.lease_id, t.until, t.execution_due, t.applied_lease,
        t.applied_worker, t.generation, t.attempt, t.losses, t.progress, t.over_reason, t.avoid, t.attempts,
        t.outcome, t.params, needs.need, jobs.id
    FROM jobs JOIN tasks t ON t.job = jobs.n JOIN needs ON needs.key = t.key
"""
SELECT_ONE = _COLUMNS + " WHERE jobs.id = ? AND t.step = ? AND t.place = ?"
SELECT_LIVE = _COLUMNS + " WHERE jobs.finished_at = 0 AND t.state <> 'over' ORDER BY t.n"
SELECT_WAITING = (
    _COLUMNS.replace("FROM jobs JOIN tasks t ON t.job = jobs.n", "FROM tasks t JOIN jobs ON jobs.n = t.job")
    + " WHERE t.key = ? AND t.state = 'queued' AND t.id > ? ORDER BY t.id LIMIT ?"
)

INSERT_NEED = "INSERT OR IGNORE INTO needs (key, need) VALUES (?, ?)"

_CHANGING = (
    "key",
    "state",
    "accepted",
    "worker_id",
    "session_id",
    "lease_id",
    "until",
    "execution_due",
    "applied_lease",
    "applied_worker",
    "generation",
    "attempt",
    "losses",
    "progress",
    "over_reason",
    "avoid",
    "attempts",
    "outcome",
    "params",
)
_now = attrgetter(*_CHANGING)
_then = itemgetter(*map(TaskRow.__slots__.index, _CHANGING))
key_then = itemgetter(TaskRow.__slots__.index("key"))


def changed(row: TaskRow, before: tuple[Any, ...]) -> bool:
    """Whether a task's columns differ from what they were."""
    return bool(_now(row) != _then(before))


def inserted(row: TaskRow, job: int) -> tuple[Any, ...]:
    """What `INSERT` takes. `job` is the number of the task's job."""
    retry = row.retry
    first = (
        row.n,
        row.id,
        job,
        row.step,
        row.index,
        int(row.branch),
        row.created_at,
        row.priority,
        row.execution_timeout,
        row.dispatch_due or 0,
        row.result_due or 0,
        retry.max_retries,
        retry.first_ms,
        retry.longest_ms,
        row.trace,
    )
    return first + _changing(row)


def updated(row: TaskRow) -> tuple[Any, ...]:
    """What `UPDATE` takes."""
    return (*_changing(row), row.n)


def _changing(row: TaskRow) -> tuple[Any, ...]:
    return (
        row.key,
        str(row.state),
        int(row.accepted),
        row.worker_id,
        row.session_id,
        row.lease_id,
        row.until,
        row.execution_due or 0,
        row.applied_lease,
        row.applied_worker,
        row.generation,
        row.attempt,
        row.losses,
        row.progress,
        str(row.over_reason or ""),
        to_json(row.avoid) if row.avoid else "",
        encode_attempts(row.attempts) if row.attempts else "",
        encode_outcome(row.outcome) if row.outcome else "",
        row.params or "",
    )


# Many tasks need the same: they share one object.
_need = lru_cache(maxsize=4096)(decode_need)


def task_row(columns: tuple[Any, ...]) -> TaskRow:
    """A task's row from its columns; what a live one has only in memory is still to be set."""
    n, task_id, step, place, branch, created_at, priority, execution_timeout, dispatch_due, result_due = columns[:10]
    trace, *changing, params, need, job_id = columns[13:]
    new = NewTask(
        id=task_id,
        index=place,
        need=_need(need),
        params=params or b"",
        priority=priority,
        execution_timeout=execution_timeout,
        dispatch_timeout=None,
        result_timeout=None,
        retry=RetryPolicy(*columns[10:13]),
        trace=trace,
    )
    row = TaskRow(n, job_id, step, new, bool(branch), created_at)
    row.dispatch_due, row.result_due = dispatch_due or None, result_due or None
    state, accepted, row.worker_id, row.session_id, row.lease_id, row.until, execution_due = changing[:7]
    row.state, row.accepted, row.execution_due = TaskState(state), bool(accepted), execution_due or None
    row.applied_lease, row.applied_worker, row.generation, row.attempt, row.losses, row.progress = changing[7:13]
    over_reason, avoid, attempts, outcome = changing[13:]
    row.over_reason = Superseded(over_reason) if over_reason else None
    row.avoid = tuple((who, until, soft) for who, until, soft in from_json(avoid)) if avoid else ()
    row.attempts = decode_attempts(attempts) if attempts else ()
    row.outcome = decode_outcome(outcome) if outcome else None
    return row
