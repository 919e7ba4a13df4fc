"""Reads of the SQLite file: committed data only, on a connection of their own, a page at a time.

Each statement fetches all that it asks for, since an open one would keep the write-ahead log from being emptied.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import aiosqlite
import orjson

from holon.domain.events import HistoryEvent
from holon.domain.job import Status
from holon.domain.task import Outcome, task_id
from holon.errors import StoreUnavailable
from holon.ports import MAX_PAGE_BYTES, JobFilter, JobRecord, Notice
from holon.storage.json_text import from_json
from holon.storage.records import decode_history, decode_job, decode_need
from holon.storage.sealing import Seal, SealBroken
from holon.storage.sqlite import endings
from holon.storage.sqlite.opening import BUSY_SECONDS, wrong
from holon.storage.sqlite.task_rows import opened_outcome, until_of
from holon.storage.waiting import RETRY_AFTER_S
from holon.telemetry.metrics import StoreMetrics
from holon.turns import Turn

# A list looks at so many jobs at a time for those that it shows, so that other reads come in between.
LOOK_AT = 5_000
BRANCHES_PAGE = 500
ENDINGS_PAGE = 16
# Bytes of outcomes that are decoded on the loop; more are in a thread.
MOST_AT_ONCE = 64 * 1024
# Each may have as many bytes as a job's state.
STATES_AT_ONCE = 50

# The single task of a job is told while it waits for a lease, or for its next attempt.
_JOB = """
    SELECT
        j.n, coalesce(j.state, states.state), j.created_at, j.updated_at, j.finished_at, j.progress, j.message,
        j.deliveries, j.history_seq, needs.need, j.cost, j.unreported, j.id, j.wake_at,
        iif(t.state = 'back_off', t.facts, NULL)
    FROM jobs j LEFT JOIN states ON states.n = j.n
    LEFT JOIN tasks t ON j.open_count > 0 AND t.job = j.n AND t.step = j.open_step AND t.place = 0
        AND t.branch = 0 AND t.state IN ('queued', 'back_off')
    LEFT JOIN needs ON needs.key = t.key AND t.state = 'queued'
"""
_JOB_BY_ID = _JOB + " WHERE j.id = ?"
_JOBS_BY_N = _JOB + " WHERE j.n IN (SELECT value FROM json_each(?)) ORDER BY j.n DESC"  # noqa: S608  constants
_PAGE = "SELECT n, status, blueprint, created_at, owner FROM jobs WHERE owner = ? AND n < ? ORDER BY n DESC LIMIT ?"
_PAGE_OF_LIVE = """
    SELECT n, status, blueprint, created_at, owner FROM jobs INDEXED BY jobs_by_end
    WHERE finished_at = 0 AND n < ? ORDER BY n DESC LIMIT ?
"""
# All of an id's characters sort before z. The plus sign keeps the search off the index of owners.
_IDS = "SELECT id FROM jobs WHERE id >= ?1 AND id < ?1 || 'z' AND +owner = ?2 ORDER BY id LIMIT ?3"
_LIVE = """
    SELECT iif(status = 'pending' AND deliveries > 0, 'running', status) seen, count(*)
    FROM jobs WHERE finished_at = 0 GROUP BY seen
"""
_SURPLUS = "SELECT finished_at FROM jobs WHERE finished_at > 0 ORDER BY finished_at DESC LIMIT 1 OFFSET ?"
_HISTORY = """
    SELECT h.last, h.events FROM jobs JOIN history h ON h.job = jobs.n
    WHERE jobs.id = ? AND h.last > ? ORDER BY h.last LIMIT ?
"""
_WAITING = """
    SELECT h.job, h.last, length(h.events), coalesce(length(j.state), length(s.state))
    FROM history h JOIN jobs j ON j.n = h.job LEFT JOIN states s ON s.n = h.job
    WHERE h.job NOT IN (SELECT value FROM json_each(?)) ORDER BY h.job, h.last LIMIT ?
"""
_NOTICES = """
    SELECT job, last, events FROM history
    WHERE job NOT IN (SELECT value FROM json_each(?)) AND (job, last) >= (?, ?) AND (job, last) <= (?, ?)
    ORDER BY job, last
"""
_BRANCHES = """
    SELECT t.place, t.outcome FROM jobs JOIN tasks t ON t.job = jobs.n
    WHERE jobs.id = ? AND t.step = ? AND t.place > ? AND t.branch = 1 AND t.outcome <> x'' ORDER BY t.place LIMIT ?
"""


class Reader:
    """A connection that sees what is committed, and writes nothing. Open while it is entered.

    Every method raises StoreUnavailable when the file cannot be read, or the connection is closed. What cannot be
    opened raises SealBroken where it alone was asked for, and is left out of lists.

    Arguments:
        path: the file, which is there.
        seal: what rows are sealed with.
        metrics: where reads are counted.
    """

    def __init__(self, path: Path, seal: Seal, metrics: StoreMetrics) -> None:
        self._path = path
        self._seal = seal
        self._metrics = metrics
        self._db: aiosqlite.Connection | None = None

    def __repr__(self) -> str:
        return f"Reader({self._path}, {'closed' if self._db is None else 'open'})"

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ConfigError: the file cannot be opened.
        """
        try:
            db = await aiosqlite.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                await db.execute_fetchall("PRAGMA query_only = ON")
            except BaseException:
                # Its thread would keep the process from ending.
                await db.close()
                raise
        except sqlite3.Error as error:
            raise wrong(self._path, error) from error
        self._db = db
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        db, self._db = self._db, None
        if db is not None:
            await db.close()

    async def _fetch(self, statement: str, parameters: Iterable[Any] = ()) -> list[Any]:
        if self._db is None:
            raise StoreUnavailable("the store is not open, or closed again")
        began = perf_counter()
        try:
            return list(await self._db.execute_fetchall(statement, parameters))
        except (sqlite3.Error, ValueError) as error:
            # aiosqlite says ValueError of a connection that was closed under a waiting call.
            raise StoreUnavailable(f"the store could not read: {error}", retry_after=RETRY_AFTER_S) from error
        finally:
            self._metrics.reads.observe(perf_counter() - began)

    async def job(self, job_id: str) -> tuple[JobRecord | None, int]:
        """One job, and how many bytes its state has."""
        found = await self._fetch(_JOB_BY_ID, (job_id,))
        return (_job_record(found[0], self._seal), len(found[0][1])) if found else (None, 0)

    async def job_ids(self, owner: str, prefix: str, limit: int) -> list[str]:
        """The first ids of an owner's jobs that begin with a prefix."""
        return [job_id for (job_id,) in await self._fetch(_IDS, (prefix, owner, limit))]

    async def surplus(self, keep: int) -> int | None:
        """When the newest of those ended jobs ended that are beyond so many; None when there are no more."""
        found = await self._fetch(_SURPLUS, (keep,))
        return int(found[0][0]) if found else None

    async def live_jobs(self) -> dict[Status, int]:
        """How many jobs are in each status that is not final, as clients see them."""
        return {Status(status): count for status, count in await self._fetch(_LIVE)}

    async def numbers(
        self, which: JobFilter, before: int, limit: int, *, of_live: bool = False
    ) -> tuple[list[int], int | None]:
        """The numbers of jobs that a list shows, newest first, and where to look on (None: there are no more).

        Looks at a bounded number of jobs, so the page may be short, or empty, with more to come.

        Arguments:
            of_live: whether to look among all that are not over, and not among all of the owner's.
        """
        look_at = LOOK_AT if of_live else min(LOOK_AT, 4 * limit)
        statuses = frozenset(map(str, which.statuses))
        if of_live:
            rows = await self._fetch(_PAGE_OF_LIVE, (before, look_at))
        else:
            rows = await self._fetch(_PAGE, (which.owner, before, look_at))
        found = [
            n
            for n, status, blueprint, created_at, owner in rows
            if owner == which.owner
            and which.blueprint in (None, blueprint)
            and (not statuses or status in statuses)
            and which.in_time(created_at)
        ]
        if len(found) >= limit:
            return found[:limit], found[limit - 1]
        # Jobs are numbered as they are created, so what follows is older still.
        if rows and which.created_after is not None and rows[-1][3] < which.created_after:
            return found, None
        return found, rows[-1][0] if len(rows) == look_at else None

    async def job_records(self, ns: Sequence[int]) -> tuple[list[JobRecord], int | None]:
        """Jobs by their numbers, newest first, as many as a page may have bytes; those that were deleted are left out.

        And the number of the last of them, where it was not all.
        """
        records: list[JobRecord] = []
        size = last = 0
        for first in range(0, len(ns), STATES_AT_ONCE):
            some = orjson.dumps(ns[first : first + STATES_AT_ONCE]).decode()
            rows, turn = await self._fetch(_JOBS_BY_N, (some,)), Turn()
            for columns in rows:
                size += len(columns[1])
                if records and size > MAX_PAGE_BYTES:
                    return records, last
                if turn.over:
                    await turn.rest()
                records += _sound_records([columns], self._seal).values()
                last = columns[0]
        return records, None

    async def history(self, job_id: str, after: int, limit: int) -> list[tuple[int, HistoryEvent]]:
        """A page of a job's history."""
        lines: list[tuple[int, HistoryEvent]] = []
        for last, events in await self._fetch(_HISTORY, (job_id, after, limit)):
            told = decode_history(self._seal.open("history", job_id, last, events))
            lines += [(n, event) for n, event in enumerate(told, start=last - len(told) + 1) if n > after]
            if len(lines) >= limit:
                break
        return lines[:limit]

    async def notices(
        self, limit: int, most: int, free: Callable[[str], bool], left_out: Collection[int]
    ) -> tuple[list[tuple[Notice, int]], set[int]]:
        """Lines of history that wait to be moved, in each job oldest first, with their stored sizes.

        And the jobs of which something that was looked at cannot be opened, by their numbers.

        Arguments:
            limit: how many to look at.
            most: about how many bytes to read, states included.
            free: whether a notice is wanted, by its id.
            left_out: jobs that are not looked at, by their numbers.
        """
        sizes: dict[tuple[int, int], int] = {}
        without = orjson.dumps(list(left_out)).decode()
        for job, last, size, state in await self._fetch(_WAITING, (without, limit)):
            if most <= 0:
                break
            if free(f"{job}:{last}"):
                sizes[job, last] = size
                most -= size + state
        if not sizes:
            return [], set()
        told = await self._fetch(_NOTICES, (without, *min(sizes), *max(sizes)))
        jobs = orjson.dumps(list({job for job, _ in sizes})).decode()
        rows = await self._fetch(_JOBS_BY_N, (jobs,))
        # Whatever the loop has to do for jobs comes in between.
        return await asyncio.to_thread(_notices, told, rows, sizes, self._seal)

    async def branches(self, job_id: str, step: int) -> list[tuple[str, Outcome]]:
        """The outcomes of a fan-out's branches, in order of their places."""
        outcomes: list[tuple[int, Outcome]] = []
        after = -1
        while found := await self._fetch(_BRANCHES, (job_id, step, after, BRANCHES_PAGE)):
            for place, outcome in found:
                outcomes.append((place, opened_outcome(task_id(job_id, step, place), outcome, self._seal)))
            after = found[-1][0]
        after = 0
        while rows := await self._fetch(endings.SELECT_OUTCOMES, (job_id, step, after, ENDINGS_PAGE)):
            if sum(len(sealed) for _, sealed in rows) <= MOST_AT_ONCE:
                outcomes += endings.outcomes(rows, job_id, self._seal)
            else:
                # Whatever the loop has to do for others comes in between.
                outcomes += await asyncio.to_thread(endings.outcomes, rows, job_id, self._seal)
            after = rows[-1][0]
        if len(outcomes) <= BRANCHES_PAGE:
            return _in_order(outcomes, job_id, step)
        return await asyncio.to_thread(_in_order, outcomes, job_id, step)


def _in_order(outcomes: list[tuple[int, Outcome]], job_id: str, step: int) -> list[tuple[str, Outcome]]:
    return [(task_id(job_id, step, place), outcome) for place, outcome in sorted(outcomes, key=itemgetter(0))]


def notice_key(notice_id: str) -> tuple[int, int]:
    """Where the lines of a notice are: the number of their job, and that of the last one."""
    job, _, last = notice_id.partition(":")
    return int(job), int(last)


def _notices(
    told: Sequence[tuple[int, int, bytes]],
    jobs: Sequence[tuple[Any, ...]],
    sizes: Mapping[tuple[int, int], int],
    seal: Seal,
) -> tuple[list[tuple[Notice, int]], set[int]]:
    records = _sound_records(jobs, seal)
    notices: list[tuple[Notice, int]] = []
    broken = {columns[0] for columns in jobs} - set(records)
    for job, last, events in told:
        if (job, last) in sizes and job in records:
            try:
                notices.append((_notice(job, last, events, records[job], seal), sizes[job, last]))
            except SealBroken:
                broken.add(job)
    return notices, broken


def _notice(job: int, last: int, events: bytes, record: JobRecord, seal: Seal) -> Notice:
    lines = tuple(decode_history(seal.open("history", record.job.id, last, events)))
    return Notice(f"{job}:{last}", record, last - len(lines) + 1, lines)


def _sound_records(rows: Iterable[tuple[Any, ...]], seal: Seal) -> dict[int, JobRecord]:
    records: dict[int, JobRecord] = {}
    for columns in rows:
        with suppress(SealBroken):
            records[columns[0]] = _job_record(columns, seal)
    return records


def _job_record(columns: tuple[Any, ...], seal: Seal) -> JobRecord:
    number, state, created_at, updated_at, finished_at, progress, message, deliveries, *rest = columns
    sequence, need, cost, unreported, job_id, wake_at, backing_off = rest
    return JobRecord(
        job=decode_job(seal.open("jobs", job_id, "state", state)).seen(deliveries),
        created_at=created_at,
        updated_at=updated_at,
        finished_at=finished_at or None,
        progress=progress,
        progress_message=seal.open_text("jobs", job_id, "message", message),
        queued_need=decode_need(need) if need is not None else None,
        sequence=sequence,
        number=number,
        cost=cost,
        unreported=sum(kept for _, kept in from_json(unreported) or ()),
        again_at=until_of(backing_off) if backing_off is not None else wake_at or None,
    )
