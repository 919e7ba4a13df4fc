"""The SQLite file: what a purge deletes, a transaction after another; of a job with many rows a part at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

# So many of those that ended are looked at in a call: any number of them may stay, and nobody else writes meanwhile.
LOOK_AT = 1_000
# Before the first of them: those that are not over have 0 for when they ended.
_FIRST = (0, 2**63 - 1)
_OLD = """
    SELECT n, id, finished_at,
        EXISTS (SELECT 1 FROM ends WHERE job = n) OR EXISTS (SELECT 1 FROM happened WHERE job = n){or_stays} FROM jobs
    WHERE finished_at < ? AND (finished_at, n) > (?, ?) ORDER BY finished_at, n LIMIT ?
"""
# A job whose end or events are not told yet cannot go, nor one whose history is not moved.
_FINISHED_BEFORE = _OLD.format(or_stays="")
_MOVED_FINISHED_BEFORE = _OLD.format(or_stays=" OR EXISTS (SELECT 1 FROM history WHERE job = n)")
# No more are counted than matter: a fan-out leaves as many as it had branches.
_ROWS = """
    SELECT
        (SELECT count(*) FROM (SELECT 1 FROM history WHERE job = ? LIMIT ?)) +
        (SELECT count(*) FROM (SELECT 1 FROM tasks WHERE job = ? LIMIT ?)) +
        (SELECT count(*) FROM (SELECT 1 FROM endings WHERE job = ? LIMIT ?)) +
        (SELECT count(*) FROM (SELECT 1 FROM lates WHERE job = ? LIMIT ?))
"""
# Beside these a job has its own row, and one for its state.
_OF_ITS_OWN = 2

# A job goes last, when the rest of it is small: until then a purge finds it again, also after a restart. Nobody else
# does from its first part on: its history would begin somewhere, and its request id stand for what is half gone.
HIDDEN = "UPDATE jobs SET id = 'purged ' || n, owner = '', request_id = NULL WHERE n = ?"
PARTS = (
    "DELETE FROM history WHERE job = ? AND last IN (SELECT last FROM history WHERE job = ? ORDER BY last LIMIT ?)",
    "DELETE FROM tasks WHERE job = ? AND n IN (SELECT n FROM tasks WHERE job = ? LIMIT ?)",
    "DELETE FROM endings WHERE job = ? AND n IN (SELECT n FROM endings WHERE job = ? LIMIT ?)",
    "DELETE FROM lates WHERE job = ? AND (task, worker) IN (SELECT task, worker FROM lates WHERE job = ? LIMIT ?)",
)
WHOLE = (
    "DELETE FROM history WHERE job = ?",
    "DELETE FROM tasks WHERE job = ?",
    "DELETE FROM endings WHERE job = ?",
    "DELETE FROM lates WHERE job = ?",
    "DELETE FROM states WHERE n = ?",
    "DELETE FROM jobs WHERE n = ?",
)


class Purging:
    """What one transaction deletes of jobs that are over.

    Arguments:
        db: the writer's connection.
        most: how many rows a transaction may have.
        moving: whether history is moved elsewhere.

    Attributes:
        rows: about how many rows are deleted.
    """

    def __init__(self, db: sqlite3.Connection, most: int, *, moving: bool) -> None:
        self.rows = 0
        self._db = db
        self._most = most
        self._moving = moving
        self._old = _MOVED_FINISHED_BEFORE if moving else _FINISHED_BEFORE
        self._whole: set[int] = set()
        self._parts: set[int] = set()
        # When the last that was looked at had ended, and its number; at the end it is begun anew.
        self._looked = _FIRST

    def __bool__(self) -> bool:
        return bool(self._whole or self._parts)

    def purge(self, finished_before: int, limit: int, spared: Collection[str]) -> tuple[int, bool]:
        """Delete jobs that ended before this time, at most so many, but those that are spared.

        Returns:
            how many, and whether to ask again: there may be more, or more of one.
        """
        old = self._db.execute(self._old, (finished_before, *self._looked, LOOK_AT)).fetchall()
        room = self._most
        gone = 0
        for n, job_id, finished_at, stays in old:
            if gone == limit:
                return gone, True
            if not (stays or job_id in spared or n in self._whole):
                rows = self._rows(n)
                if rows > room:
                    if room == self._most:
                        self._parts.add(n)
                        self.rows += room
                    return gone, True
                room -= rows
                gone += 1
                self._whole.add(n)
                self.rows += rows
            self._looked = finished_at, n
        more = len(old) == LOOK_AT
        if not more:
            self._looked = _FIRST
        return gone, more or gone == limit

    def _rows(self, n: int) -> int:
        (rows,) = self._db.execute(_ROWS, (n, self._most) * len(PARTS)).fetchone()
        return int(rows) + _OF_ITS_OWN

    def leave_to_be_moved(self, told: Collection[int]) -> None:
        """Of these jobs, by their numbers, the same transaction tells something: where that is moved, they stay."""
        if self._moving:
            self._whole.difference_update(told)
            self._parts.difference_update(told)

    def statements(self) -> Mapping[str, list[tuple[Any, ...]]]:
        """What is to be run, with its parameters."""
        part = (self._most - 1) // len(PARTS)
        parts = [(n, n, part) for n in self._parts]
        whole = [(n,) for n in self._whole]
        return {
            **({HIDDEN: [(n,) for n in self._parts], **dict.fromkeys(PARTS, parts)} if parts else {}),
            **(dict.fromkeys(WHOLE, whole) if whole else {}),
        }

    def clear(self) -> None:
        """The transaction is over."""
        self.rows = 0
        self._whole.clear()
        self._parts.clear()
