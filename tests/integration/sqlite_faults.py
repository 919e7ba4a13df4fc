"""A SQLite store whose commits can be stopped, counted and failed, and the world of the contract suite over it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event, current_thread
from typing import Any

from holon.clock import Clock
from holon.ports import StoreSettings
from holon.storage.sqlite import SqliteStorage
from tests.contract.world import World


class Faults:
    """What happens to the store's transactions. `commits` counts those that were tried."""

    def __init__(self) -> None:
        self.commits = 0
        self.on_commit: Callable[[], None] = lambda: None
        self.on_checkpoint: Callable[[], None] = lambda: None
        self.on_connect: Callable[[], None] = lambda: None
        self.max_pages: int | None = None
        self.checkpointed = Event()
        # The threads that moved the log, in order.
        self.moved_by: list[str] = []
        self.rolled_back = Event()

    def fail_next(self, message: str, code: int = sqlite3.SQLITE_BUSY) -> None:
        """The next COMMIT fails with an error of this code."""

        def fail() -> None:
            self.on_commit = lambda: None
            raise failure(message, code)

        self.on_commit = fail

    def refuse_checkpoints(self, times: int) -> Event:
        """So many checkpoints fail as on a full disk; the event is set once they have."""
        refused, tries = Event(), iter(range(times))

        def refuse() -> None:
            if (n := next(tries, None)) is not None:
                if n == times - 1:
                    refused.set()
                raise failure("database or disk is full", sqlite3.SQLITE_FULL)

        self.on_checkpoint = refuse
        return refused

    @asynccontextmanager
    async def held_up(self, world: World, *, then_fail: str = "") -> AsyncIterator[None]:
        """While the block runs, a commit of the world's store stands still; what it submits shares the next.

        `then_fail` is the error of that next commit.
        """
        reached, go_on = Event(), Event()

        def stand_still() -> None:
            reached.set()
            go_on.wait(30)
            self.on_commit = lambda: None
            if then_fail:
                self.fail_next(then_fail)

        self.on_commit = stand_still
        first = asyncio.create_task(world.create())
        await asyncio.to_thread(reached.wait, 30)
        try:
            yield
            await settled()
        finally:
            go_on.set()
            await first


def failure(message: str, code: int) -> sqlite3.Error:
    """What SQLite raises with this code."""
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error


async def settled() -> None:
    """Let every task that can run submit its call."""
    for _ in range(5):
        await asyncio.sleep(0)


def faulty(faults: Faults) -> type[SqliteStorage]:
    """The store's class, with these faults."""

    class Connection(sqlite3.Connection):
        def __init__(self, *given: Any, **named: Any) -> None:
            faults.on_connect()
            super().__init__(*given, **named)

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql.startswith("BEGIN") and faults.max_pages is not None:
                super().execute(f"PRAGMA max_page_count = {faults.max_pages}")
            if sql == "COMMIT":
                faults.commits += 1
                faults.on_commit()
            if sql.startswith("PRAGMA wal_checkpoint"):
                faults.on_checkpoint()
            done = super().execute(sql, parameters)
            if sql.startswith("PRAGMA wal_checkpoint"):
                faults.moved_by.append(current_thread().name)
                faults.checkpointed.set()
            if sql == "ROLLBACK":
                faults.rolled_back.set()
            return done

    class Store(SqliteStorage):
        connection_class = Connection

    return Store


class FaultyBackend:
    """Opens stores with these faults for the contract suite's world."""

    name = "sqlite"
    durable = True
    partitions = 1

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> SqliteStorage:
        return faulty(self._faults)(place / "holon.db", settings, clock)

    def killed(self, place: Path) -> Path:
        copy = place.with_name(f"{place.name}-killed")
        shutil.copytree(place, copy)
        return copy
