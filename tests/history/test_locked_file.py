"""A SQLite file of history that another process has locked is away until that lets go of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from holon.errors import StoreUnavailable, Unavailable
from holon.ports import JobFilter
from holon.storage.history import sqlite
from holon.testing import running_node
from tests.history.backends import SqliteDatabase
from tests.history.site import KINDS, LINES, StoreOf, moved, told, uri_of, working
from tests.integration.cases.site import one_task


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a lock."""
    monkeypatch.setattr(sqlite, "BUSY_S", 0.02)


@contextmanager
def locked(path: Path, begin: str) -> Iterator[None]:
    """Another program has begun to write to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(begin)
        yield


@pytest.mark.parametrize("new", [True, False])
async def test_a_node_starts_while_the_file_is_locked_and_moves_history_into_it_after_that(
    store_of: StoreOf, tmp_path: Path, new: bool
) -> None:
    database = SqliteDatabase(tmp_path)
    uris: dict[str, Any] = {"STORAGE_URI": store_of("sqlite"), "HISTORY_DATABASE_URI": uri_of(database)}
    if not new:
        async with database.open():
            pass
    other = sqlite3.connect(database.path, isolation_level=None)
    # Of one that has a write-ahead log, that alone keeps others from reading.
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    async with running_node(one_task(), **uris) as node:
        async with working(node):
            job = await node.run("one_task", {"n": 1})
        assert [event.event_type for event in await told(node.client, job.id)] == KINDS
        with pytest.raises(Unavailable) as away:
            await node.client.list_page()
        assert away.value.code == "HISTORY_UNAVAILABLE"
        other.close()
        await moved(database, job.id, LINES)
        assert [one.id for one in (await node.client.list_page()).jobs] == [job.id]


async def test_who_only_reads_opens_a_file_that_was_locked_too(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    async with AsyncExitStack() as stack:
        with locked(database.path, "BEGIN EXCLUSIVE"):
            history = await stack.enter_async_context(database.open())
            # Who comes while another waits for it does not wait too, and is told the same.
            both = await asyncio.gather(*(history.job("0-a") for _ in range(2)), return_exceptions=True)
            assert all(isinstance(one, StoreUnavailable) and "database is locked" in one.message for one in both)
        assert await history.job("0-a") is None


async def test_a_file_that_others_write_to_is_read_meanwhile(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    async with database.open():
        pass
    with locked(database.path, "BEGIN IMMEDIATE"):
        async with database.open() as history:
            assert await history.jobs(JobFilter("ann"), None, 10) == []
            with pytest.raises(StoreUnavailable, match="database is locked"):
                await history.purge(1, 1)
