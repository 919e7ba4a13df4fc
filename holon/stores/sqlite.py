"""A row store in one SQLite file: the store of a node without a server. It has one shard, and one process at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar

import aiosqlite

from holon.clock import Clock, SystemClock
from holon.errors import ConfigError, HolonError, StoreBroken
from holon.stores.memory import RECEIVE_S, expiry_of
from holon.stores.port import (
    NOBODY,
    Batch,
    Change,
    Draw,
    Drawn,
    Found,
    Head,
    Record,
    RowKey,
    Word,
)
from holon.stores.sqlite_file import StoreFile

log = logging.getLogger(__name__)

T = TypeVar("T")

# Rows for one statement. SQLite lets other threads run once a statement, not once a row.
_CHUNKS = (256, 64, 16, 4, 1)
# Without work for so long, the writer moves the log into the file.
_IDLE_S = 1.0
_READ_KEYS = 400

_RANGE = (
    "SELECT score, member FROM entry WHERE name = ? AND score BETWEEN ? AND ? ORDER BY score {0}, member {0} LIMIT ?"
)


class SqliteRows:
    """A row store in a SQLite file; see `RowStore`.

    Arguments:
        path: the file.
        synchronous: "FULL": a batch survives a power cut. "NORMAL": it survives a crash of the process.
        clock: the store's clock.
    """

    shards = 1
    exclusive = True
    objection = ""

    def __init__(self, path: Path, synchronous: str = "FULL", clock: Clock | None = None) -> None:
        self._path = path
        self._synchronous = synchronous
        self._clock = clock or SystemClock()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._statements: dict[tuple[str, int], str] = {}
        self._mail: list[bytes] = []
        self._came = asyncio.Event()
        self._broken: StoreBroken | None = None

    def __repr__(self) -> str:
        return f"SqliteRows({self._path})"

    async def __aenter__(self) -> Self:
        """Open the file, or make it.

        Raises:
            ConfigError: it cannot be opened, belongs to another process, or another version made it.
        """
        self._loop = asyncio.get_running_loop()
        opening = asyncio.ensure_future(asyncio.to_thread(StoreFile, self._path, self._synchronous))
        try:
            self._file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on and locks the file.
            with contextlib.suppress(ConfigError):
                (await opening).close()
            raise
        try:
            self._db = self._file.db
            self.id, self.generation = self._db.execute("SELECT id, generation FROM store").fetchone()
            self._reader = await aiosqlite.connect(self._file.reader(), uri=True, isolation_level=None)
        except BaseException:
            self._file.close()
            raise
        self._thread = Thread(target=self._work, name="holon-sqlite-writer", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Finish what was asked for, and close the file."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await self._reader.close()
        await asyncio.to_thread(self._file.close)

    # Ownership: the lock of the file is the fence; tokens only tell one ownership from another --------------------

    async def heads(self) -> Sequence[Head]:
        return [await self._write(self._head)]

    async def acquire(self, seen: Head, token: str, node: str, schema: int) -> Head | None:
        def acquire() -> Head | None:
            head = self._head()
            if head.token != token:
                if head.seen() != seen.seen():
                    return None
                self._db.execute(
                    "UPDATE head SET epoch = epoch + 1, token = ?, node = ?, schema = ?, time = ?",
                    (token, node, schema, head.time),
                )
            return self._head()

        return await self._write(acquire)

    async def release(self, head: Head, batch: int) -> bool:
        def release() -> bool:
            if self._head().seen() != (head.epoch, head.token, batch):
                return False
            self._db.execute("UPDATE head SET token = ?", (NOBODY,))
            return True

        return await self._write(release)

    async def apply(self, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        return await self._write(lambda: [self._apply(batch) for batch in batches], sum(map(len, batches)))

    def _apply(self, batch: Batch) -> tuple[Word, Head]:
        head = self._head()
        if (head.epoch, head.token) != (batch.epoch, batch.token):
            return Word.FENCED, head
        if batch.number > head.batch + 1:
            return Word.GAP, head
        if batch.number == head.batch + 1:
            self._many("DELETE FROM row WHERE job IN (", "?", ")", batch.purged, batch.purged)
            flat = chain.from_iterable
            self._many(
                "DELETE FROM row WHERE (job, name) IN (VALUES ", "(?,?)", ")", batch.deletes, flat(batch.deletes)
            )
            self._many("REPLACE INTO row VALUES ", "(?,?,?)", "", batch.puts, flat(batch.puts))
            self._many(
                "DELETE FROM entry WHERE (name, score, member) IN (VALUES ", "(?,?,?)", ")", batch.removed,
                flat(batch.removed),
            )  # fmt: skip
            self._many("REPLACE INTO entry VALUES ", "(?,?,?)", "", batch.entries, flat(batch.entries))
            time = max(head.time, batch.stamp)
            self._db.execute("UPDATE head SET batch = ?, time = ?", (batch.number, time))
        return Word.APPLIED, self._head()

    def _many(self, head: str, item: str, tail: str, rows: Sequence[Any], values: Iterable[Any]) -> None:
        """Run a statement for many rows, as few times as it takes."""
        left, width, flat = len(rows), item.count("?"), iter(values)
        for size in _CHUNKS:
            while left >= size:
                statement = self._statements.get((head, size))
                if statement is None:
                    statement = self._statements[head, size] = f"{head}{','.join([item] * size)}{tail}"
                self._db.execute(statement, tuple(islice(flat, size * width)))
                left -= size

    def _head(self) -> Head:
        epoch, token, batch, time, node, schema = self._db.execute("SELECT * FROM head").fetchone()
        return Head(0, epoch, token, batch, max(time, self._clock.now_ms()), node, schema)

    # Reading -------------------------------------------------------------------------------------------------------

    async def read(self, shard: int, keys: Sequence[RowKey]) -> Sequence[bytes | None]:
        found: dict[RowKey, bytes] = {}
        for first in range(0, len(keys), _READ_KEYS):
            some = keys[first : first + _READ_KEYS]
            marks = ",".join(["(?,?)"] * len(some))
            query = f"SELECT job, name, value FROM row WHERE (job, name) IN (VALUES {marks})"
            for job, name, value in await self._rows(query, tuple(chain.from_iterable(some))):
                found[job, name] = value
        return [found.get(key) for key in keys]

    async def names(self, shard: int, job: str) -> Sequence[str]:
        return [name for (name,) in await self._rows("SELECT name FROM row WHERE job = ?", (job,))]

    async def range(
        self, index: str, shards: Collection[int], low: int, high: int, limit: int, *, newest_first: bool = False
    ) -> Sequence[Found]:
        query = _RANGE.format("DESC" if newest_first else "ASC")
        return [Found(0, score, member) for score, member in await self._rows(query, (index, low, high, limit))]

    async def count(self, index: str, shards: Collection[int]) -> int:
        [(count,)] = await self._rows("SELECT count(*) FROM entry WHERE name = ?", (index,))
        return int(count)

    async def _rows(self, query: str, arguments: Sequence[Any]) -> Iterable[Any]:
        try:
            return await self._reader.execute_fetchall(query, arguments)
        except sqlite3.Error as error:
            raise self._file.error(error) from error

    # Mail: from this process to itself -----------------------------------------------------------------------------

    async def send(self, node: str, bodies: Sequence[bytes]) -> None:
        self._mail += bodies
        self._came.set()

    async def receive(self, node: str) -> Sequence[bytes]:
        if not self._mail:
            self._came.clear()
            try:
                async with asyncio.timeout(RECEIVE_S):
                    await self._came.wait()
            except TimeoutError:
                pass
        mail, self._mail = self._mail, []
        return mail

    # Shared records ------------------------------------------------------------------------------------------------

    async def records(self, kind: str, keys: Sequence[str] | None = None) -> Sequence[Record]:
        query = "SELECT key, version, value, expires_at FROM record WHERE kind = ? AND coalesce(expires_at > ?, 1)"
        arguments: tuple[Any, ...] = (kind, self._clock.now_ms())
        if keys is not None:
            query += f" AND key IN ({','.join('?' * len(keys))})"
            arguments += tuple(keys)
        return [Record(kind, *row) for row in await self._rows(query, arguments)]

    async def exchange(self, changes: Sequence[Change]) -> Sequence[tuple[bool, Record | None]]:
        return await self._write(lambda: [self._exchange(change) for change in changes], len(changes))

    def _exchange(self, change: Change) -> tuple[bool, Record | None]:
        now = self._clock.now_ms()
        row = self._db.execute(
            "SELECT version, value, expires_at FROM record WHERE kind = ? AND key = ? AND coalesce(expires_at > ?, 1)",
            (change.kind, change.key, now),
        ).fetchone()
        record = None if row is None else Record(change.kind, change.key, *row)
        if (record.version if record else 0) != change.version:
            return False, record
        if change.value is None:
            self._db.execute("DELETE FROM record WHERE kind = ? AND key = ?", (change.kind, change.key))
            return True, None
        expires_at = None if change.ttl is None else now + change.ttl
        self._db.execute("UPDATE store SET version = version + 1")
        (version,) = self._db.execute("SELECT version FROM store").fetchone()
        made = Record(change.kind, change.key, version, change.value, expires_at)
        self._db.execute(
            "REPLACE INTO record VALUES (?, ?, ?, ?, ?)", (made.kind, made.key, made.version, made.value, expires_at)
        )
        return True, made

    async def draw(self, draws: Sequence[Draw]) -> Sequence[Drawn]:
        return await self._write(lambda: [self._draw(draw) for draw in draws], len(draws))

    def _draw(self, draw: Draw) -> Drawn:
        now = self._clock.now_ms()
        value, expires_at = self._db.execute(
            "SELECT value, expires_at FROM counter WHERE kind = ? AND key = ? AND expires_at > ?",
            (draw.kind, draw.key, now),
        ).fetchone() or (0, expiry_of(draw, now))
        granted = value + draw.amount <= draw.limit
        drawn = Drawn(granted, value + draw.amount * granted, expires_at - now)
        self._db.execute("REPLACE INTO counter VALUES (?, ?, ?, ?)", (draw.kind, draw.key, drawn.value, expires_at))
        return drawn

    async def count_records(self, kind: str) -> int:
        [(count,)] = await self._rows("SELECT count(*) FROM record WHERE kind = ?", (kind,))
        return int(count)

    async def expire(self, limit: int) -> int:
        return await self._write(lambda: self._expire("record", limit) + self._expire("counter", limit), limit)

    def _expire(self, table: str, limit: int) -> int:
        deleted = self._db.execute(
            f"DELETE FROM {table} WHERE (kind, key) IN (SELECT kind, key FROM {table} WHERE expires_at <= ? LIMIT ?)",
            (self._clock.now_ms(), limit),
        )
        return deleted.rowcount

    # The writer's thread -------------------------------------------------------------------------------------------

    async def _write(self, act: Callable[[], T], rows: int = 1) -> T:
        """Run something in a transaction of the writer's thread, with whatever else waits for one."""
        if self._broken is not None:
            raise self._broken
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Job(act, future, rows))
        return await future

    def _work(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=_IDLE_S)
            except Empty:
                self._file.move_log(idle=True)
                continue
            if job is None:
                return
            jobs = [job]
            for _ in range(self._queue.qsize()):
                if (job := self._queue.get()) is None:
                    self._queue.put(None)
                    break
                jobs.append(job)
            self._transact(jobs)
            self._file.move_log(idle=False)

    def _transact(self, jobs: Sequence[_Job]) -> None:
        """Run all in one transaction; an error of one is the error of all, and nothing is written."""
        answers: Sequence[Any] = ()
        error: HolonError | None = None
        try:
            self._file.check()
            # It commits, or rolls back after an error.
            with self._db as db:
                db.execute("BEGIN IMMEDIATE")
                answers = [job.act() for job in jobs]
            self._file.grown(sum(job.rows for job in jobs))
        except sqlite3.Error as failure:
            error = self._file.error(failure)
        except StoreBroken as failure:
            error = failure
        except Exception as failure:
            # Without an answer, all callers would wait for ever.
            log.exception("a transaction of the store failed")
            error = StoreBroken(f"the store's file {self._path}: a transaction failed: {failure!r}; restart the node")
            error.__cause__ = failure
        self._loop.call_soon_threadsafe(self._answer, jobs, answers, error)

    def _answer(self, jobs: Sequence[_Job], answers: Sequence[Any], error: HolonError | None) -> None:
        if isinstance(error, StoreBroken):
            self._broken = error
        for at, job in enumerate(jobs):
            if job.future.done():
                continue
            if error is None:
                job.future.set_result(answers[at])
            else:
                job.future.set_exception(error)


class _Job:
    """Something to run in a transaction, and who waits for it."""

    __slots__ = ("act", "future", "rows")

    def __init__(self, act: Callable[[], Any], future: asyncio.Future[Any], rows: int) -> None:
        self.act = act
        self.future = future
        self.rows = rows
