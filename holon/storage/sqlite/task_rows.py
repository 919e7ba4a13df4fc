"""The SQLite file: a task's row as columns. What lives in memory only (a lease's end, timers) has none.

What SQL looks at has a column of its own, and what is large; all the rest of a task is packed into one.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from holon.domain.matching import Need
from holon.domain.task import Outcome, RetryPolicy, task_id
from holon.ports import Attempt, NewTask, Superseded
from holon.storage.ledger.rows import TaskRow, TaskState
from holon.storage.records import SCHEMA, decode_outcome, encode_outcome, to_msgpack, unpack
from holon.storage.sealing import Seal
from holon.storage.sqlite.needs import need_of

INSERT = """
    INSERT INTO tasks (n, job, step, place, branch, key, state, facts, params, outcome)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
UPDATE = "UPDATE tasks SET key = ?, state = ?, facts = ? WHERE n = ?"
# A task is over once; only then its params and its outcome change.
END = "UPDATE tasks SET key = ?, state = ?, facts = ?, params = ?, outcome = ? WHERE n = ?"
_SELECT = """
    SELECT t.n, t.step, t.place, t.branch, t.state, t.facts, t.params, t.outcome, needs.need, jobs.id
    FROM jobs JOIN tasks t ON t.job = jobs.n JOIN needs ON needs.key = t.key
"""
SELECT_ONE = _SELECT + " WHERE jobs.id = ? AND t.step = ? AND t.place = ?"
SELECT_LIVE = _SELECT + " WHERE jobs.finished_at = 0 AND t.state <> 'over' ORDER BY t.n"

# Durable, and packed as they are: in this order, after what needs a form of its own.
FACTS = (
    "created_at",
    "priority",
    "execution_timeout",
    "dispatch_due",
    "result_due",
    "trace",
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
    "lost_after",
    "reserves",
    "reserved",
    "at_once",
    "written_off",
    "lease_lasts",
    "price",
)
_facts = attrgetter(*FACTS)
# Before the facts are its retries and its attempts.
_UNTIL = 4 + FACTS.index("until")
# Those that never change.
FIXED = frozenset({"created_at", "priority", "execution_timeout", "trace", "lost_after", "reserves"})
_CHANGING = ("key", "state", "attempts", "outcome", "params", *(name for name in FACTS if name not in FIXED))
_now = attrgetter(*_CHANGING)


def changed(row: TaskRow, before: TaskRow) -> bool:
    """Whether a task's columns differ from what they were."""
    return row.state is not before.state or bool(_now(row) != _now(before))


def inserted(row: TaskRow, job: int, seal: Seal) -> tuple[Any, ...]:
    """What `INSERT` takes. `job` is the number of the task's job."""
    return (
        row.n,
        job,
        row.step,
        row.index,
        int(row.branch),
        row.key,
        str(row.state),
        _packed(row),
        *_sealed(row, seal),
    )


def updated(row: TaskRow) -> tuple[Any, ...]:
    """What `UPDATE` takes."""
    return row.key, str(row.state), _packed(row), row.n


def ended(row: TaskRow, seal: Seal) -> tuple[Any, ...]:
    """What `END` takes."""
    return row.key, str(row.state), _packed(row), *_sealed(row, seal), row.n


def _sealed(row: TaskRow, seal: Seal) -> tuple[bytes, bytes]:
    outcome = seal.seal("tasks", row.id, "outcome", encode_outcome(row.outcome)) if row.outcome else b""
    return seal.seal("tasks", row.id, "params", row.params), outcome


def _packed(row: TaskRow) -> bytes:
    return to_msgpack((SCHEMA, *fields_of(row)))


def fields_of(row: TaskRow) -> tuple[Any, ...]:
    """All of a task that SQL never looks at, and that is not large, as plain values."""
    retry = row.retry
    return (retry.max_retries, retry.first_ms, retry.longest_ms, row.attempts, *_facts(row))


def until_of(packed: bytes) -> int:
    """Until when a task that has failed waits for its next attempt, by its column of facts."""
    until: int = unpack("task", packed)[_UNTIL]
    return until


def opened_outcome(task: str, outcome: bytes, seal: Seal) -> Outcome:
    """What the column of an outcome holds; raises as `Seal.open`."""
    return decode_outcome(seal.open("tasks", task, "outcome", outcome))


def task_row(columns: tuple[Any, ...], seal: Seal) -> TaskRow:
    """A task's row from its columns; what a live one has only in memory is still to be set. Raises as `Seal.open`."""
    n, step, place, branch, state, packed, params, outcome, need, job_id = columns
    name = task_id(job_id, step, place)
    opened = seal.open("tasks", name, "params", params)
    row = row_of(n, job_id, step, place, bool(branch), unpack("task", packed), opened, need_of(need))
    row.state = TaskState(state)
    row.outcome = opened_outcome(name, outcome, seal) if outcome else None
    return row


def row_of(
    n: int, job_id: str, step: int, place: int, branch: bool, fields: Sequence[Any], params: bytes, need: Need
) -> TaskRow:
    """A task's row from its `fields_of`; its state and its outcome are still to be set."""
    max_retries, first_ms, longest_ms, attempts, *values = fields
    facts = dict(zip(FACTS, values, strict=True))
    new = NewTask(
        id=task_id(job_id, step, place),
        index=place,
        need=need,
        params=params,
        priority=facts["priority"],
        execution_timeout=facts["execution_timeout"],
        dispatch_timeout=None,
        result_timeout=None,
        retry=RetryPolicy(max_retries, first_ms, longest_ms),
    )
    row = TaskRow.made(n, job_id, step, new, branch, facts["created_at"])
    for fact, value in facts.items():
        setattr(row, fact, value)
    row.attempts = tuple(Attempt(*attempt) for attempt in attempts)
    row.over_reason = Superseded(row.over_reason) if row.over_reason else None
    row.avoid = tuple((who, until, int(how)) for who, until, how in row.avoid)
    return row
