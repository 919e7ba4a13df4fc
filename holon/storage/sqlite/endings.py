"""The SQLite file: endings. Branches that ended together are one row, with all that is still to be known of each.

Only those are that were nowhere but on a sheet until then: what has a row of its own ends in that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from holon.domain.task import Outcome
from holon.storage.ledger.rows import TaskRow, TaskState
from holon.storage.records import outcome_fields, outcome_of, pack, unpack
from holon.storage.sealing import Seal
from holon.storage.sqlite.task_rows import fields_of, need_of, row_of

# `places` is a list in JSON, so that SQL finds the row of one branch among many.
INSERT = "INSERT INTO endings (n, job, step, places, ends) VALUES (?, ?, ?, ?, ?)"
SELECT_OF_STEP = "SELECT e.n, e.ends FROM jobs JOIN endings e ON e.job = jobs.n WHERE jobs.id = ? AND e.step = ?"
_SELECT_ONE = SELECT_OF_STEP + " AND EXISTS (SELECT 1 FROM json_each(e.places) WHERE value = ?)"  # noqa: S608  constants
_SELECT_NEED = "SELECT need FROM needs WHERE key = ?"


def inserted(n: int, job: int, rows: Sequence[TaskRow], seal: Seal) -> tuple[Any, ...]:
    """What `INSERT` takes, of branches of one job's step that are over.

    Arguments:
        n: the row's number, after those of all its branches.
        job: the job's number.
    """
    first = rows[0]
    ends = [(row.n, row.index, row.key, fields_of(row), row.outcome and outcome_fields(row.outcome)) for row in rows]
    places = orjson.dumps([row.index for row in rows]).decode()
    return n, job, first.step, places, seal.seal("endings", first.job_id, n, pack(ends))


def numbers(columns: tuple[int, bytes], job_id: str, seal: Seal) -> set[int]:
    """The numbers of a row's branches; raises as `Seal.open`."""
    return {end[0] for end in _opened(columns, job_id, seal)}


def outcomes(columns: tuple[int, bytes], job_id: str, seal: Seal) -> Iterator[tuple[int, Outcome]]:
    """The places of those of a row's branches that have an outcome, and that; raises as `Seal.open`."""
    return ((place, outcome_of(outcome)) for _, place, _, _, outcome in _opened(columns, job_id, seal) if outcome)


def fetch(db: sqlite3.Connection, job_id: str, step: int, place: int, seal: Seal) -> TaskRow | None:
    """One branch, if it ended with others; raises as `Seal.open`."""
    columns = db.execute(_SELECT_ONE, (job_id, step, place)).fetchone()
    if columns is None:
        return None
    n, _, key, fields, outcome = next(end for end in _opened(columns, job_id, seal) if end[1] == place)
    (need,) = db.execute(_SELECT_NEED, (key,)).fetchone()
    row = row_of(n, job_id, step, place, True, fields, b"", need_of(need))
    row.state = TaskState.OVER
    row.outcome = outcome_of(outcome) if outcome else None
    return row


def _opened(columns: tuple[int, bytes], job_id: str, seal: Seal) -> list[Any]:
    n, sealed = columns
    ends: list[Any] = unpack("endings", seal.open("endings", job_id, n, sealed))[0]
    return ends
