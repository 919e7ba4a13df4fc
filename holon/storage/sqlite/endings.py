"""The SQLite file: endings. Branches that ended together are one row, with all that is still to be known of each.

Only those are that were nowhere but on a sheet until then: what has a row of its own ends in that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from holon.domain.task import Outcome
from holon.storage.ledger.rows import OVER, TaskRow
from holon.storage.records import outcome_fields, outcome_of, pack, unpack
from holon.storage.sealing import Seal
from holon.storage.sqlite import needs
from holon.storage.sqlite.task_rows import fields_of, row_of

# So many branches, and bytes of what they gave, are a row at most: to know one, all of its row are read.
MOST = 200
MOST_BYTES = 256 * 1024

# `places` is a list in JSON, so that SQL finds the row of one branch among many; few are looked through for it, since
# branches are offered in order, and so most end in it. Outcomes stand apart: an aggregator wants nothing else.
INSERT = """
    INSERT INTO endings (n, job, step, first, last, places, ends, outcomes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
SELECT_OF_STEP = "SELECT e.n, e.ends FROM jobs JOIN endings e ON e.job = jobs.n WHERE jobs.id = ? AND e.step = ?"
SELECT_OUTCOMES = """
    SELECT e.n, e.outcomes FROM jobs JOIN endings e ON e.job = jobs.n
    WHERE jobs.id = ? AND e.step = ? AND e.n > ? ORDER BY e.n LIMIT ?
"""
_SELECT_ONE = """
    SELECT e.n, e.ends, e.outcomes FROM jobs JOIN endings e ON e.job = jobs.n
    WHERE jobs.id = ? AND e.step = ? AND ? BETWEEN e.first AND e.last
        AND EXISTS (SELECT 1 FROM json_each(e.places) WHERE value = ?)
"""


def together(rows: Iterable[TaskRow]) -> Iterator[list[TaskRow]]:
    """Branches of one job's step that are over, those of a row at a time."""
    some: list[TaskRow] = []
    size = 0
    for row in rows:
        some.append(row)
        size += len(row.outcome.data) if row.outcome is not None else 0
        if len(some) >= MOST or size >= MOST_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def inserted(n: int, job: int, rows: Sequence[TaskRow], seal: Seal) -> tuple[Any, ...]:
    """What `INSERT` takes, of branches of one job's step that are over.

    Arguments:
        n: the row's number, after those of all its branches.
        job: the job's number.
    """
    first = rows[0]
    places = [row.index for row in rows]
    ends = pack([(row.n, row.index, row.key, fields_of(row)) for row in rows])
    outcomes = pack([(row.index, outcome_fields(row.outcome)) for row in rows if row.outcome is not None])
    return (
        n,
        job,
        first.step,
        min(places),
        max(places),
        orjson.dumps(places).decode(),
        seal.seal("endings", first.job_id, n, ends),
        seal.seal("outcomes", first.job_id, n, outcomes),
    )


def numbers(columns: tuple[int, bytes], job_id: str, seal: Seal) -> set[int]:
    """The numbers of a row's branches; raises as `Seal.open`."""
    n, ends = columns
    return {end[0] for end in unpack("endings", seal.open("endings", job_id, n, ends))[0]}


def outcomes(rows: Iterable[tuple[int, bytes]], job_id: str, seal: Seal) -> list[tuple[int, Outcome]]:
    """The places of those of the rows' branches that have an outcome, and that; raises as `Seal.open`."""
    return [
        (place, outcome_of(outcome))
        for n, sealed in rows
        for place, outcome in unpack("outcomes", seal.open("outcomes", job_id, n, sealed))[0]
    ]


class Endings:
    """Branches that ended with others, fetched one by one; what was read for one is kept for the others of its row.

    Arguments:
        db: where they are.
        seal: what rows are sealed with.
    """

    def __init__(self, db: sqlite3.Connection, seal: Seal) -> None:
        self._db = db
        self._seal = seal
        # By job, step and place: a branch's number, key, fields, and outcome.
        self._opened: dict[tuple[str, int, int], tuple[int, str, list[Any], Outcome | None]] = {}

    def forget(self) -> None:
        """Keep nothing of what was read."""
        self._opened.clear()

    def task(self, job_id: str, step: int, place: int) -> TaskRow | None:
        """One branch, if it ended with others; raises as `Seal.open`."""
        end = self._opened.get((job_id, step, place))
        if end is None:
            columns = self._db.execute(_SELECT_ONE, (job_id, step, place, place)).fetchone()
            if columns is None:
                return None
            self._open(columns, job_id, step)
            end = self._opened[job_id, step, place]
        number, key, fields, outcome = end
        (need,) = self._db.execute(needs.SELECT_ONE, (key,)).fetchone()
        row = row_of(number, job_id, step, place, True, fields, b"", needs.need_of(need))
        row.state = OVER
        row.outcome = outcome
        return row

    def _open(self, columns: tuple[int, bytes, bytes], job_id: str, step: int) -> None:
        n, ends, sealed = columns
        known = dict(outcomes([(n, sealed)], job_id, self._seal))
        for number, place, key, fields in unpack("endings", self._seal.open("endings", job_id, n, ends))[0]:
            self._opened[job_id, step, place] = number, key, fields, known.get(place)
