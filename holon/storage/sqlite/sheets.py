"""The SQLite file: sheets. What befalls many tasks together is written as one row, until each has a row of its own.

The branches of a fan-out are made together and offered together, and most are over soon: then all that is written of
each alone is how it ended. There are sheets of tasks as they were made, and sheets of offers. Its own row is written at
the first change that is no offer, and is newer than both; those that end together are an ending (`endings`) instead.
Single tasks are on none: a read tells whether they wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from holon.domain.matching import Need
from holon.domain.task import RetryPolicy, task_id
from holon.ports import Attempt, NewTask
from holon.storage.ledger.rows import OFFERED, QUEUED, TaskRow
from holon.storage.records import pack, unpack
from holon.storage.sealing import Seal
from holon.storage.sqlite.task_rows import FACTS, FIXED

# A sheet is written, and deleted again: fewer tasks than this have a row each instead.
FEWEST = 3

# A sheet of tasks is numbered as its last task, so that no number is used again.
INSERT_TASKS = "INSERT INTO sheets (n, job, tasks) VALUES (?, ?, ?)"
DELETE_TASKS = "DELETE FROM sheets WHERE n = ?"
SELECT_TASKS = "SELECT s.n, s.tasks, jobs.id FROM sheets s JOIN jobs ON jobs.n = s.job ORDER BY s.n"
SELECT_WRITTEN = "SELECT n FROM tasks WHERE n BETWEEN ? AND ?"

INSERT_OFFERS = "INSERT INTO offers (n, offers) VALUES (?, ?)"
DELETE_OFFERS = "DELETE FROM offers WHERE n = ?"
SELECT_OFFERS = "SELECT n, offers FROM offers ORDER BY n"

# What branches of a step mostly have in common.
_TERMS = (
    "key",
    "priority",
    "retry.max_retries",
    "retry.first_ms",
    "retry.longest_ms",
    "execution_timeout",
    "dispatch_due",
    "result_due",
    "trace",
    "lost_after",
    "reserves",
)
_terms = attrgetter(*_TERMS)

_OF_OFFERS = {"worker_id", "session_id", "lease_id", "attempt"}
_NOT_OF_OFFERS = tuple(name for name in ("key", *FACTS) if name not in _OF_OFFERS | FIXED)
_besides = attrgetter(*_NOT_OF_OFFERS)

# A task's number, which attempt the offer is, and its lease.
_Offer: TypeAlias = tuple[int, int, str]


class Sheets:
    """Which tasks are on which sheet, of one kind, and have neither a newer row of their own nor an ending."""

    def __init__(self) -> None:
        self._sheet_of: dict[int, int] = {}
        self._left: dict[int, int] = {}

    def __contains__(self, task: int) -> bool:
        return task in self._sheet_of

    def __len__(self) -> int:
        return len(self._left)

    def add(self, sheet: int, tasks: Sequence[int]) -> None:
        """A sheet with these tasks is in the file."""
        for task in tasks:
            self._sheet_of[task] = sheet
        self._left[sheet] = len(tasks)

    def emptied(self, written: Iterable[int]) -> list[int]:
        """The sheets that are of no use any more, once these tasks have rows of their own."""
        sheet_of = self._sheet_of
        fewer: dict[int, int] = {}
        for task in written if sheet_of else ():
            if (sheet := sheet_of.get(task)) is not None:
                fewer[sheet] = fewer.get(sheet, 0) + 1
        return [sheet for sheet, count in fewer.items() if count == self._left[sheet]]

    def remove(self, written: Iterable[int]) -> None:
        """These tasks have rows of their own."""
        for task in written:
            sheet = self._sheet_of.pop(task, None)
            if sheet is not None:
                self._left[sheet] -= 1
                if not self._left[sheet]:
                    del self._left[sheet]


def as_made(row: TaskRow) -> bool:
    """Whether a new task is as a sheet tells it, but for a first offer. It may have lost that already."""
    if row.state is QUEUED:
        return row.attempt == 0
    return row.attempt == 1 and row.state is OFFERED and not row.price


def only_offered(row: TaskRow, before: TaskRow) -> bool:
    """Whether all that became of a branch is that it was offered."""
    if row.state is not OFFERED or not row.branch:
        return False
    return (
        before.state is QUEUED
        and row.attempt == before.attempt + 1
        and row.attempts[:-1] == before.attempts
        and bool(_besides(row) == _besides(before))
    )


def inserted_tasks(rows: Sequence[TaskRow], job: int, seal: Seal) -> tuple[Any, ...]:
    """What `INSERT_TASKS` takes, of new branches of one job's step. `job` is the job's number."""
    n, first = rows[-1].n, rows[0]
    terms: dict[tuple[Any, ...], int] = {}
    tasks = [(row.n, row.index, terms.setdefault(_terms(row), len(terms)), row.params) for row in rows]
    record = pack(first.step, first.created_at, list(terms), tasks)
    return n, job, seal.seal("sheets", first.job_id, n, record)


def made_tasks(columns: tuple[Any, ...], needs: Mapping[str, Need], seal: Seal) -> list[TaskRow]:
    """The tasks of a sheet as they were made; raises as `Seal.open`."""
    n, sealed, job_id = columns
    step, created_at, terms, tasks = unpack("sheet", seal.open("sheets", job_id, n, sealed))
    rows = []
    for number, index, which, params in tasks:
        key, priority, max_retries, first_ms, longest_ms, timeout, dispatch_due, result_due, *rest = terms[which]
        trace, lost_after, reserves = rest
        new = NewTask(
            id=task_id(job_id, step, index),
            index=index,
            need=needs[key],
            params=params,
            priority=priority,
            execution_timeout=timeout,
            dispatch_timeout=None,
            result_timeout=None,
            retry=RetryPolicy(max_retries, first_ms, longest_ms),
            trace=trace,
            lost_after=lost_after,
            reserves=reserves,
        )
        row = TaskRow.made(number, job_id, step, new, True, created_at)
        row.dispatch_due, row.result_due = dispatch_due, result_due
        rows.append(row)
    return rows


def inserted_offers(n: int, rows: Iterable[TaskRow]) -> tuple[Any, ...]:
    """What `INSERT_OFFERS` takes, of tasks that are offered. `n` is the sheet's number."""
    seats: dict[tuple[str, str, int], list[_Offer]] = {}
    for row in rows:
        seat = row.worker_id, row.session_id, row.attempts[-1].offered
        seats.setdefault(seat, []).append((row.n, row.attempt, row.lease_id))
    return n, pack([(*seat, offers) for seat, offers in seats.items()])


def offer_again(record: bytes, tasks: Mapping[int, TaskRow]) -> tuple[list[int], list[int]]:
    """Have tasks, by their numbers, offered as a sheet says, where they are as they were before.

    Returns:
        the numbers of those that are offered by it, and of those that are not there.
    """
    offered, unknown = [], []
    for worker_id, session_id, at, offers in unpack("offers", record)[0]:
        for n, attempt, lease_id in offers:
            row = tasks.get(n)
            if row is None:
                unknown.append(n)
            elif row.attempt < attempt:
                row.state = OFFERED
                row.worker_id, row.session_id, row.lease_id, row.attempt = worker_id, session_id, lease_id, attempt
                row.attempts = (*row.attempts, Attempt(worker_id, at, None, None))
                offered.append(n)
    return offered, unknown
