"""The SQLite store whose file fails, is damaged or is removed: it stops, and a restart finds what was committed."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace

import aiosqlite
import pytest

from holon.clock import ManualClock
from holon.errors import ConfigError, StoreUnavailable
from holon.storage.sqlite import SqliteStorage, writer
from tests.contract.world import World
from tests.integration.sqlite_faults import Faults, FaultyBackend, settled


async def test_a_store_whose_disk_fails_stops_for_good_and_a_restart_finds_what_was_committed(tmp_path: Path) -> None:
    faults = Faults()
    world = World(FaultyBackend(faults), tmp_path, {})
    await world.open()
    store = world.storage
    assert isinstance(store, SqliteStorage)
    kept = await world.create()
    failing = asyncio.create_task(store.failure())
    await settled()
    assert not failing.done()
    faults.fail_next("disk I/O error", sqlite3.SQLITE_IOERR | (4 << 8))
    lost = world.new_job()
    with pytest.raises(StoreUnavailable):
        await store.create_jobs([lost], 0)
    with pytest.raises(StoreUnavailable, match="restart"):
        await failing
    with pytest.raises(StoreUnavailable):
        await world.create()
    await world.close()
    async with SqliteStorage(tmp_path / "holon.db", world.settings, ManualClock()) as again:
        assert await again.job(kept) is not None
        assert await again.job(lost.job.id) is None


async def test_an_i_o_error_of_a_full_disk_says_that_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults()
    world = World(FaultyBackend(faults), tmp_path, {})
    await world.open()
    store = world.storage
    assert isinstance(store, SqliteStorage)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0))
    faults.fail_next("disk I/O error", sqlite3.SQLITE_IOERR)
    with pytest.raises(StoreUnavailable):
        await world.create()
    with pytest.raises(StoreUnavailable, match=r"failed: disk I/O error, and its disk is full; the node has to"):
        await store.failure()
    await world.close()
    faults.fail_next("disk I/O error", sqlite3.SQLITE_IOERR)
    another = FaultyBackend(faults).open(tmp_path / "another", world.settings, ManualClock())
    with pytest.raises(ConfigError, match="cannot be opened: disk I/O error, and its disk is full; see STORAGE_URI"):
        await another.__aenter__()


async def test_a_file_that_is_damaged_under_a_store_is_unavailable_to_reads(tmp_path: Path) -> None:
    world = World(FaultyBackend(Faults()), tmp_path, {})
    await world.open()
    job = await world.create()
    await world.close()
    await world.open()
    file = tmp_path / "holon.db"
    file.write_bytes(b"no database" * 10_000)
    with pytest.raises(StoreUnavailable, match="could not read: file is not a database"):
        await world.storage.job(job)
    await world.close()


@pytest.mark.parametrize("another", [False, True])
@pytest.mark.parametrize("name", ["holon.db", "holon.db-wal"])
async def test_a_store_whose_file_is_removed_stops_and_accepts_nothing_that_would_be_lost(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, another: bool
) -> None:
    monkeypatch.setattr(writer, "LOOK_S", 0.0)
    store = world.storage
    assert isinstance(store, SqliteStorage)
    await world.create()
    (tmp_path / name).unlink()
    if another:
        (tmp_path / name).touch()
    with pytest.raises(StoreUnavailable, match=f"the store has stopped: .*{name} was removed while the node ran"):
        await world.create()
    with pytest.raises(StoreUnavailable, match=f"{name} was removed while the node ran"):
        await store.failure()
    with pytest.raises(StoreUnavailable, match="stopped"):
        await world.create()


async def test_a_store_that_cannot_be_read_does_not_open_and_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    before = set(threading.enumerate())
    store = SqliteStorage(tmp_path / "holon.db", clock=ManualClock())
    with monkeypatch.context() as patching:
        patching.setattr(aiosqlite.Connection, "execute_fetchall", fail)
        with pytest.raises(ConfigError, match=r"holon\.db cannot be opened: disk I/O error; see STORAGE_URI"):
            await store.__aenter__()
    for thread in set(threading.enumerate()) - before:
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive()
    async with SqliteStorage(tmp_path / "holon.db", clock=ManualClock()) as again:
        assert await again.job("0-none") is None


async def test_a_store_that_cannot_say_whose_its_file_is_leaves_it_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = SqliteStorage(tmp_path / "holon.db", clock=ManualClock())
    with monkeypatch.context() as patching:
        patching.setattr(os, "pwrite", full)
        with pytest.raises(ConfigError, match="No space left on device"):
            await store.__aenter__()
    async with store as again:
        assert await again.job("0-none") is None
