"""The SQLite file: how often it was told that a worker's result for a task came too late, as columns."""

from __future__ import annotations

import sqlite3
from typing import Any

from holon.storage.ledger.rows import LateRow

REPLACE = "INSERT OR REPLACE INTO lates (job, task, worker, told) VALUES (?, ?, ?, ?)"
_SELECT_ONE = """
    SELECT jobs.id, l.job, l.task, l.worker, l.told FROM lates l JOIN jobs ON jobs.n = l.job
    WHERE l.task = ? AND l.worker = ?
"""


def replaced(row: LateRow) -> tuple[Any, ...]:
    """What `REPLACE` takes."""
    return row.job, row.task, row.worker_id, row.told


def fetched(db: sqlite3.Connection, task: int, worker_id: str) -> LateRow | None:
    """What the file has of a worker's late results for the task of this number."""
    columns = db.execute(_SELECT_ONE, (task, worker_id)).fetchone()
    return LateRow(*columns) if columns is not None else None
