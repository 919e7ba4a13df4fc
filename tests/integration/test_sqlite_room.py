"""Room in the SQLite store's log: made while the store is idle, written over by commits, and in nobody's way."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from holon.clock import ManualClock
from holon.storage.sqlite import SqliteStorage
from holon.storage.sqlite.log_moves import LOG_BYTES
from holon.storage.sqlite.room import PIECE, Room
from tests.contract.world import World
from tests.integration.sqlite_faults import Faults, FaultyBackend

BEFORE = b"a commit that is in the log"


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def world(tmp_path: Path, faults: Faults) -> AsyncIterator[World]:
    (tmp_path / "store").mkdir()
    world = World(FaultyBackend(faults), tmp_path / "store", {})
    await world.open()
    yield world
    await world.close()


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        yield db


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "log"
    log.write_bytes(BEFORE)
    return log


async def test_i1_commits_write_over_the_room_of_an_idle_store_and_survive_a_kill(
    world: World, tmp_path: Path, faults: Faults
) -> None:
    log = tmp_path / "store" / "holon.db-wal"
    jobs = [await world.create()]
    assert await asyncio.to_thread(faults.rolled_back.wait, 30)
    assert log.stat().st_size == LOG_BYTES
    jobs += [await world.create() for _ in range(20)]
    assert log.stat().st_size == LOG_BYTES
    killed = FaultyBackend(faults).killed(tmp_path / "store")
    async with SqliteStorage(killed / "holon.db", world.settings, ManualClock()) as again:
        assert [job for job in jobs if await again.job(job) is None] == []


async def test_a_store_whose_disk_has_no_room_for_its_log_goes_on(
    world: World, tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "store" / "holon.db-wal"
    full(monkeypatch)
    job = await world.create()
    before = log.stat().st_size
    assert await asyncio.to_thread(faults.rolled_back.wait, 30)
    assert log.stat().st_size == before
    assert await world.storage.job(job) is not None
    await world.create()


def test_room_is_made_behind_what_is_in_the_log(db: sqlite3.Connection, log: Path) -> None:
    made = Room(log, 2 * PIECE)
    made.make(db, lambda: 0)
    assert made.made
    assert log.read_bytes() == BEFORE.ljust(2 * PIECE, b"\0")
    assert not db.in_transaction


def test_a_log_that_is_long_enough_stays_as_it_is(db: sqlite3.Connection, log: Path) -> None:
    made = Room(log, len(BEFORE) - 1)
    made.make(db, lambda: 0)
    assert made.made
    assert log.read_bytes() == BEFORE


def test_whoever_waits_waits_for_a_piece_and_not_for_all(db: sqlite3.Connection, log: Path) -> None:
    made = Room(log, 4 * PIECE)
    waiting = iter([0, 1, 0, 0, 0])
    made.make(db, lambda: next(waiting))
    assert log.stat().st_size == len(BEFORE) + PIECE
    made.make(db, lambda: next(waiting))
    assert log.stat().st_size == 4 * PIECE


def test_nothing_is_written_where_another_program_writes(tmp_path: Path, log: Path) -> None:
    path = tmp_path / "file"
    other = sqlite3.connect(path, isolation_level=None)
    db = sqlite3.connect(path, isolation_level=None, timeout=0)
    with closing(other), closing(db):
        other.execute("BEGIN IMMEDIATE")
        made = Room(log, PIECE)
        made.make(db, lambda: 0)
        assert log.read_bytes() == BEFORE
    assert not made.made


def test_a_disk_that_is_full_gets_back_what_it_gave_and_is_not_asked_again(
    db: sqlite3.Connection, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(monkeypatch, after=2)
    made = Room(log, 4 * PIECE)
    made.make(db, lambda: 0)
    assert made.made
    assert log.read_bytes() == BEFORE
    assert not db.in_transaction


def test_a_disk_that_is_nearly_full_is_left_as_it_is(
    db: sqlite3.Connection, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Room(log, PIECE)
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=9, f_frsize=PIECE))
    made.make(db, lambda: 0)
    assert made.made
    assert log.read_bytes() == BEFORE


def full(monkeypatch: pytest.MonkeyPatch, after: int = 0) -> None:
    """Have the disk be full once it was waited for so often, as some file systems say only then."""
    times = iter(range(after))

    def fsync(file: int) -> None:
        if next(times, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
