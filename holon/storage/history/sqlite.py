"""History in a SQLite file of its own, which every process may read while the node writes."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiosqlite
import orjson

from holon.domain.events import HistoryEvent
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import JobFilter, JobRecord, Notice, WorkerEvent
from holon.storage.history.columns import (
    END_OF_TIME,
    JOB,
    LINE,
    NO_JOB,
    NO_LINE,
    away,
    bounds,
    found_among,
    history_event,
    is_choosy,
    job_record,
    page_of,
    worker_events,
    written,
)
from holon.storage.history.sqlite_schema import upgrade
from holon.stores.sealing import Seal
from holon.stores.sqlite_file import make_private, reason_of

log = logging.getLogger(__name__)

# How long a write waits for another process that writes.
BUSY_S = 5.0

_CLOSED = ValueError("it is not open, or closed again")
_JOB, _LINE = ", ".join(JOB), ", ".join(LINE)
_ADD_JOB = f"""
    INSERT INTO jobs ({_JOB}) VALUES ({", ".join("?" * len(JOB))})
    ON CONFLICT (id) DO UPDATE SET ({_JOB}) = ({", ".join(f"excluded.{name}" for name in JOB)})
    WHERE excluded.sequence >= jobs.sequence
"""  # noqa: S608  constants
_ADD_LINE = f"""
    INSERT INTO history (job, sequence, {_LINE}) VALUES (?, ?, {", ".join("?" * len(LINE))}) ON CONFLICT DO NOTHING
"""  # noqa: S608  constants
_ONE = f"SELECT {_JOB} FROM jobs WHERE id = ?"  # noqa: S608  constants
_LIST = f"""
    SELECT {_JOB} FROM jobs
    WHERE owner = ?1 AND (created_at, id) < (?2, ?3) AND created_at >= ?4 AND (?5 IS NULL OR blueprint = ?5)
        AND (?6 = '[]' OR status IN (SELECT value FROM json_each(?6))) AND (created_at, id) >= (?7, ?8)
    ORDER BY created_at DESC, id DESC LIMIT ?9
"""  # noqa: S608  constants
# All of an id's characters sort before z. The plus sign keeps the search off the index of owners.
_IDS = "SELECT id FROM jobs WHERE id >= ?1 AND id < ?1 || 'z' AND +owner = ?2 ORDER BY id LIMIT ?3"
_LOOK_AT_JOBS = """
    SELECT created_at, id FROM jobs WHERE owner = ? AND (created_at, id) < (?, ?) AND created_at >= ?
    ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET ?
"""
_HISTORY = f"""
    SELECT sequence, {_LINE} FROM history WHERE job = ? AND sequence > ? ORDER BY sequence LIMIT ?
"""  # noqa: S608  constants
_OF_WORKER = f"""
    SELECT h.job, h.sequence, {", ".join(f"h.{name}" for name in LINE)} FROM history h JOIN jobs j ON j.id = h.job
    WHERE h.worker_id = ? AND j.owner = ? AND (h.time, h.job, h.sequence) < (?, ?, ?)
        AND (h.time, h.job, h.sequence) >= (?, ?, ?)
    ORDER BY h.time DESC, h.job DESC, h.sequence DESC LIMIT ?
"""  # noqa: S608  constants
_LOOK_AT_LINES = """
    SELECT time, job, sequence FROM history WHERE worker_id = ? AND (time, job, sequence) < (?, ?, ?)
    ORDER BY time DESC, job DESC, sequence DESC LIMIT 1 OFFSET ?
"""
_OLD = "SELECT id FROM jobs WHERE finished_at < ? ORDER BY finished_at LIMIT ?"
_PURGE = ("DELETE FROM history WHERE job = ?", "DELETE FROM jobs WHERE id = ?")


class SqliteHistory:
    """A history in one file. Open while it is entered; a file that was removed meanwhile is made, and opened, anew.

    One that another process has locked is opened once it is used, and can be.

    Arguments:
        path: the file; it and its directory are made when there is none, for this user alone.
        seal: what is secret is sealed with it.
    """

    def __init__(self, path: Path, seal: Seal | None = None) -> None:
        self._path = path
        self._seal = seal or Seal()
        self._entered = False
        self._open = AsyncExitStack()
        # What tells the files that are open from others of their names.
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._reader: aiosqlite.Connection | None = None
        self._writer: aiosqlite.Connection | None = None
        self._writing = asyncio.Lock()
        # Why it is not open, while it is not.
        self._why: Exception = _CLOSED

    def __repr__(self) -> str:
        return f"SqliteHistory({self._path}, {'closed' if self._writer is None else 'open'})"

    async def __aenter__(self) -> Self:
        """Open the file; one that another process has locked is away.

        Raises:
            ConfigError: it cannot be opened, is another program's, or a later release wrote it.
        """
        try:
            await self._open_file()
        except StoreUnavailable as error:
            log.warning("%s; history waits in the store meanwhile (HISTORY_DATABASE_URI)", error.message)
        self._entered = True
        return self

    async def _open_file(self) -> None:
        try:
            make_private(self._path)
            writer = await self._connect()
            await writer.execute_fetchall("PRAGMA journal_mode = WAL")
            await upgrade(writer, self._path)
            reader = await self._connect()
            await reader.execute_fetchall("PRAGMA query_only = ON")
        except (OSError, sqlite3.Error) as error:
            await self._open.aclose()
            if _is_locked(error):
                self._why = error
                raise away(self._path, error) from error
            reason = reason_of(self._path, error)
            raise ConfigError(f"{self._path} cannot be opened: {reason}; see HISTORY_DATABASE_URI") from error
        except BaseException:
            await self._open.aclose()
            raise
        self._files = {path: _identity(path) for path in (self._path, Path(f"{self._path}-wal"))}
        self._writer, self._reader, self._why = writer, reader, _CLOSED

    async def _connect(self) -> aiosqlite.Connection:
        connection = aiosqlite.connect(self._path, timeout=BUSY_S, isolation_level=None)
        return await self._open.enter_async_context(connection)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the write that runs, and close the file."""
        async with self._writing:
            self._entered = False
            await self._close_file()

    async def _close_file(self) -> None:
        self._reader = self._writer = None
        await self._open.aclose()

    async def add(self, notices: Sequence[Notice]) -> None:
        # Whatever the loop has to do for jobs comes in between.
        jobs, lines = await asyncio.to_thread(written, notices, self._seal)
        async with self._transaction() as db:
            await db.executemany(_ADD_JOB, jobs)
            await db.executemany(_ADD_LINE, lines)

    async def job(self, job_id: str) -> JobRecord | None:
        found = await self._fetch(_ONE, (job_id,))
        return job_record(found[0], self._seal) if found else None

    async def jobs(self, which: JobFilter, before: tuple[int, str] | None, limit: int) -> Sequence[JobRecord]:
        statuses = orjson.dumps(list(map(str, which.statuses))).decode()

        async def fetch(since: tuple[int, str] | None, count: int) -> list[Any]:
            time, last_id, after = bounds(which, since)

            async def look(before: tuple[int, str], skip: int) -> list[Any]:
                return await self._fetch(_LOOK_AT_JOBS, (which.owner, *before, after, skip))

            async def some(before: tuple[int, str], upto: tuple[int, str], most: int) -> list[Any]:
                first = max(after, upto[0])
                asked = (which.owner, *before, first, which.blueprint, statuses, *upto, most)
                return await self._fetch(_LIST, asked)

            if not is_choosy(which):
                return await some((time, last_id), NO_JOB, count)
            return await found_among(look, some, (time, last_id), NO_JOB, count)

        return await page_of(fetch, before, limit, self._seal)

    async def job_ids(self, owner: str, prefix: str, limit: int) -> Sequence[str]:
        return [job_id for (job_id,) in await self._fetch(_IDS, (prefix, owner, limit))]

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        found = await self._fetch(_HISTORY, (job_id, after, limit))
        return [(n, history_event(job_id, n, columns, self._seal)) for n, *columns in found]

    async def of_worker(
        self, owner: str, worker_id: str, before: tuple[int, str, int] | None, limit: int
    ) -> Sequence[WorkerEvent]:
        async def look(since: tuple[int, str, int], skip: int) -> list[Any]:
            return await self._fetch(_LOOK_AT_LINES, (worker_id, *since, skip))

        async def some(since: tuple[int, str, int], upto: tuple[int, str, int], most: int) -> list[Any]:
            return await self._fetch(_OF_WORKER, (worker_id, owner, *since, *upto, most))

        return worker_events(await found_among(look, some, before or END_OF_TIME, NO_LINE, limit), self._seal)

    async def purge(self, finished_before: int, limit: int) -> int:
        async with self._transaction() as db:
            old = list(await db.execute_fetchall(_OLD, (finished_before, limit)))
            for statement in _PURGE:
                await db.executemany(statement, old)
        return len(old)

    async def _fetch(self, statement: str, parameters: Iterable[Any]) -> list[Any]:
        reader = self._reader or await self._opened()
        try:
            return list(await reader.execute_fetchall(statement, parameters))
        except (sqlite3.Error, ValueError) as error:
            # aiosqlite says ValueError of a connection that was closed under a waiting call.
            raise away(self._path, error) from error

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """A write that is in the file of this name when it is over."""
        async with self._writing:
            if self._entered and self._writer is None:
                await self._open_again()
            db = self._writer
            if db is None:
                raise self._closed()
            try:
                await db.execute_fetchall("BEGIN IMMEDIATE")
                yield db
                await db.execute_fetchall("COMMIT")
            except BaseException as error:
                # After a cancel too: the thread comes to this when it has done what it was asked for before.
                await asyncio.shield(db.rollback())
                if isinstance(error, sqlite3.Error | ValueError):
                    raise away(self._path, error) from error
                raise
            await self._look()

    async def _look(self) -> None:
        """Raise when a file is not there any more: SQLite goes on with what nobody will ever open again."""
        if all(_identity(path) == known for path, known in self._files.items()):
            return
        await self._close_file()
        with suppress(StoreUnavailable):
            await self._open_again()
        raise away(self._path, FileNotFoundError("it was removed while it was open, and is made anew"))

    async def _opened(self) -> aiosqlite.Connection:
        """What reads the file, which is not open yet; who comes while another tries to open it is not held up."""
        if self._entered and not self._writing.locked():
            async with self._writing:
                if self._reader is None:
                    await self._open_again()
        if self._reader is None:
            raise self._closed()
        return self._reader

    async def _open_again(self) -> None:
        try:
            await self._open_file()
        except ConfigError as error:
            raise away(self._path, error) from error

    def _closed(self) -> StoreUnavailable:
        return away(self._path, self._why)


def _is_locked(error: Exception) -> bool:
    """Whether another process has the file, and will let go of it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one of its name; None where there is none."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_dev, facts.st_ino
