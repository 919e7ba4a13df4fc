"""The SQLite file: the ends of jobs that are to be told. Who has them for now is known in memory alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

from holon.ports import MAX_PAGE_BYTES
from holon.storage.ledger.rows import JobRow

_INSERT = "INSERT INTO ends (job, due) VALUES (?, ?)"
_PUT_OFF = "UPDATE ends SET due = ? WHERE job = (SELECT n FROM jobs WHERE id = ?)"
_DELETE = "DELETE FROM ends WHERE job = (SELECT n FROM jobs WHERE id = ?)"
OF_ENDS = (_INSERT, _PUT_OFF, _DELETE)
_DUE = """
    SELECT e.job, e.due, jobs.id, coalesce(length(jobs.state), length(states.state))
    FROM ends e JOIN jobs ON jobs.n = e.job LEFT JOIN states ON states.n = e.job
    WHERE e.due <= ? ORDER BY e.due, e.job
"""
_NEXT = "SELECT min(due) FROM ends WHERE due > ?"


class Untold:
    """Which ends somebody has, and what one transaction writes of those that are settled.

    Arguments:
        db: the writer's connection.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        # By job, until when it is not to be handed out, whatever the file says.
        self._held: dict[str, int] = {}
        self._taken: list[str] = []
        self._told: set[str] = set()
        self._put_off: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Untold(held={len(self._held)})"

    def __bool__(self) -> bool:
        return bool(self._told or self._put_off)

    def take(self, limit: int, hold: int, now: int) -> tuple[list[int], int | None]:
        """Take what is due, as `Outbox.take_ends`: the numbers of the jobs, and when the next one is due."""
        self._held = {job_id: until for job_id, until in self._held.items() if until > now}
        others = min(self._held.values(), default=None)
        taken: list[int] = []
        size = 0
        with closing(self._db.execute(_DUE, (now,))) as found:
            for n, due, job_id, state in found:
                if job_id in self._held:
                    continue
                size += state
                if len(taken) == limit or (taken and size > MAX_PAGE_BYTES):
                    return taken, due
                self._held[job_id] = now + hold
                self._taken.append(job_id)
                taken.append(n)
        (later,) = self._db.execute(_NEXT, (now,)).fetchone()
        return taken, min((due for due in (others, later) if due is not None), default=None)

    def settle(self, told: Sequence[str], again: Sequence[tuple[str, int]], now: int) -> None:
        """Settle what was taken, as `Outbox.settle_ends`."""
        self._told.update(told)
        for job_id, after in again:
            self._put_off[job_id] = now + after
            # The file says so only when the transaction is over.
            self._held[job_id] = now + after

    def statements(self, ended: Iterable[JobRow]) -> Mapping[str, list[tuple[Any, ...]]]:
        """What is to be run, with its parameters, where jobs end as well whose ends are due at once."""
        every: dict[str, list[tuple[Any, ...]]] = {
            _INSERT: [(row.n, row.finished_at) for row in ended],
            _PUT_OFF: [(due, job_id) for job_id, due in self._put_off.items()],
            _DELETE: [(job_id,) for job_id in self._told],
        }
        return {statement: rows for statement, rows in every.items() if rows}

    def written(self) -> None:
        """What was settled is in the file, which holds it back from now on, or does not have it any more."""
        for job_id in (*self._told, *self._put_off):
            self._held.pop(job_id, None)

    def take_back(self) -> None:
        """The transaction failed: nobody has got what it took."""
        for job_id in self._taken:
            self._held.pop(job_id, None)

    def clear(self) -> None:
        """The transaction is over."""
        self._taken.clear()
        self._told.clear()
        self._put_off.clear()
