"""The SQLite file: ends and events of jobs that are to be told. Who has them for now is known in memory alone."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar

from holon.ports import MAX_PAGE_BYTES
from holon.storage.ledger.tables import Tables

_INSERT_END = "INSERT INTO ends (job, due) VALUES (?, ?)"
_PUT_OFF_END = "UPDATE ends SET due = ? WHERE job = (SELECT n FROM jobs WHERE id = ?)"
_DELETE_END = "DELETE FROM ends WHERE job = (SELECT n FROM jobs WHERE id = ?)"
# Those that are there already are due when they were, and begin where they did.
_INSERT_EVENTS = """
    INSERT INTO happened (job, due, told, last) VALUES (?, ?, ?, ?)
    ON CONFLICT (job) DO UPDATE SET last = excluded.last
"""
_PUT_OFF_EVENTS = "UPDATE happened SET due = ?, told = max(told, ?) WHERE job = (SELECT n FROM jobs WHERE id = ?)"
_DELETE_EVENTS = "DELETE FROM happened WHERE job = (SELECT n FROM jobs WHERE id = ?) AND last <= told"
OF_UNTOLD = (_INSERT_END, _PUT_OFF_END, _DELETE_END, _INSERT_EVENTS, _PUT_OFF_EVENTS, _DELETE_EVENTS)
_DUE = """
    SELECT e.job, {after}, e.due, jobs.id, coalesce(length(jobs.state), length(states.state))
    FROM {table} e JOIN jobs ON jobs.n = e.job LEFT JOIN states ON states.n = e.job
    WHERE e.due <= ? ORDER BY e.due, e.job
"""
_NEXT = "SELECT min(due) FROM {table} WHERE due > ?"


class Untold(ABC):
    """Of which jobs somebody has what is to be told, and what one transaction writes of that which is settled.

    Arguments:
        db: the writer's connection.
    """

    TABLE: ClassVar[str]
    # The number of the line after which it begins.
    AFTER: ClassVar[str]

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._due = _DUE.format(table=self.TABLE, after=self.AFTER)
        self._next = _NEXT.format(table=self.TABLE)
        # By job, until when it is not to be handed out, whatever the file says.
        self._held: dict[str, int] = {}
        self._taken: list[str] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}(held={len(self._held)})"

    @abstractmethod
    def __bool__(self) -> bool:
        """Whether something is settled in this transaction."""

    @abstractmethod
    def statements(self, tables: Tables) -> Mapping[str, list[tuple[Any, ...]]]:
        """What is to be run, with its parameters; in this transaction there may be more that is to be told."""

    @abstractmethod
    def settled(self) -> Sequence[str]:
        """The jobs of which something is settled in this transaction."""

    def take(self, limit: int, hold: int, now: int) -> tuple[list[tuple[int, int]], int | None]:
        """Take what is due, as `Outbox` says: the numbers of the jobs and of lines, and when the next one is due."""
        self._held = {job_id: until for job_id, until in self._held.items() if until > now}
        others = min(self._held.values(), default=None)
        taken: list[tuple[int, int]] = []
        size = 0
        with closing(self._db.execute(self._due, (now,))) as found:
            for n, after, due, job_id, state in found:
                if job_id in self._held:
                    continue
                size += state
                if len(taken) == limit or (taken and size > MAX_PAGE_BYTES):
                    return taken, due
                self._held[job_id] = now + hold
                self._taken.append(job_id)
                taken.append((n, after))
        (later,) = self._db.execute(self._next, (now,)).fetchone()
        return taken, min((due for due in (others, later) if due is not None), default=None)

    def hold(self, job_id: str, due: int) -> None:
        """A job is put off: the file says so only when the transaction is over."""
        self._held[job_id] = due

    def written(self) -> None:
        """What was settled is in the file, which holds it back from now on, or does not have it any more."""
        for job_id in self.settled():
            self._held.pop(job_id, None)

    def take_back(self) -> None:
        """The transaction failed: nobody has got what it took."""
        for job_id in self._taken:
            self._held.pop(job_id, None)

    def clear(self) -> None:
        """The transaction is over."""
        self._taken.clear()


class UntoldEnds(Untold):
    """Ends that are to be told."""

    TABLE = "ends"
    AFTER = "0"

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db)
        self._told: set[str] = set()
        self._put_off: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._told or self._put_off)

    def settle(self, told: Sequence[str], again: Sequence[tuple[str, int]], now: int) -> None:
        """Settle what was taken, as `Outbox.settle_ends`."""
        self._told.update(told)
        for job_id, after in again:
            self._put_off[job_id] = now + after
            self.hold(job_id, now + after)

    def settled(self) -> Sequence[str]:
        return *self._told, *self._put_off

    def statements(self, tables: Tables) -> Mapping[str, list[tuple[Any, ...]]]:
        return _some(
            {
                _INSERT_END: [(row.n, row.finished_at) for row in tables.ends],
                _PUT_OFF_END: [(due, job_id) for job_id, due in self._put_off.items()],
                _DELETE_END: [(job_id,) for job_id in self._told],
            }
        )

    def clear(self) -> None:
        super().clear()
        self._told.clear()
        self._put_off.clear()


class UntoldEvents(Untold):
    """Events that are to be told: of each job those after one line of its history, up to another."""

    TABLE = "happened"
    AFTER = "e.told"

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db)
        self._heard: list[tuple[str, int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._heard)

    def settle(self, heard: Sequence[tuple[str, int, int]], now: int) -> None:
        """Settle what was taken, as `Outbox.settle_events`."""
        for job_id, through, after in heard:
            self._heard.append((job_id, through, now + after))
            self.hold(job_id, now + after)

    def settled(self) -> Sequence[str]:
        return [job_id for job_id, _, _ in self._heard]

    def statements(self, tables: Tables) -> Mapping[str, list[tuple[Any, ...]]]:
        return _some(
            {
                _INSERT_EVENTS: [(row.n, row.updated_at, after, last) for row, after, last in tables.happened],
                _PUT_OFF_EVENTS: [(due, through, job_id) for job_id, through, due in self._heard],
                _DELETE_EVENTS: [(job_id,) for job_id, _, _ in self._heard],
            }
        )

    def clear(self) -> None:
        super().clear()
        self._heard.clear()


def _some(every: dict[str, list[tuple[Any, ...]]]) -> Mapping[str, list[tuple[Any, ...]]]:
    return {statement: rows for statement, rows in every.items() if rows}
