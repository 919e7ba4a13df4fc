"""The SQLite store on a disk that is full, and when its log is moved into the file."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path
from threading import current_thread

import pytest

from holon.errors import StoreUnavailable
from holon.ports import Creation
from holon.storage.sqlite import log_moves
from tests.contract.world import World
from tests.integration.sqlite_faults import Faults, FaultyBackend, failure


async def test_i2_when_the_disk_is_full_everybody_is_told_and_no_job_of_the_group_exists(
    world: World, faults: Faults
) -> None:
    kept = await world.create()
    small = [world.new_job() for _ in range(20)]
    large = world.new_job(data={"text": "x" * 500_000})
    async with faults.held_up(world):
        faults.max_pages = 100
        group = [*small[:10], large, *small[10:]]
        creating = [asyncio.create_task(world.storage.create_jobs([new], 1)) for new in group]
    replies = await asyncio.gather(*creating, return_exceptions=True)
    for reply in replies:
        assert isinstance(reply, StoreUnavailable)
        assert reply.retry_after is not None
        assert "full" in reply.message
    for new in group:
        assert await world.storage.job(new.job.id) is None

    faults.max_pages = 1_000_000
    again = await world.storage.create_jobs(group, 0)
    assert {made for _, made in again.jobs} == {Creation.CREATED}
    assert {kept, *(new.job.id for new in group)} <= set(await world.ready())


async def test_a_disk_that_stays_full_is_told_once_and_then_that_it_has_room(
    world: World, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.storage.sqlite")
    for _ in range(3):
        faults.fail_next("database or disk is full", sqlite3.SQLITE_FULL)
        with pytest.raises(StoreUnavailable):
            await world.create()
    assert [await world.create() for _ in range(2)]
    said = [record.getMessage().partition(".db ")[2] for record in caplog.records]
    assert said == ["took nothing of 1 calls: database or disk is full", "takes what is written again"]


async def test_a_full_disk_has_its_log_moved_which_may_be_all_the_room_that_is_left(
    world: World, faults: Faults
) -> None:
    await world.create()
    assert await asyncio.to_thread(faults.checkpointed.wait, 30)
    faults.checkpointed.clear()
    faults.fail_next("database or disk is full", sqlite3.SQLITE_FULL)
    with pytest.raises(StoreUnavailable):
        await world.create()
    assert await asyncio.to_thread(faults.checkpointed.wait, 30)


async def test_what_becomes_free_on_a_full_disk_is_for_the_file_before_the_log_takes_it(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_moves, "FULL_S", 1e6)
    refused = faults.refuse_checkpoints(1)
    faults.fail_next("database or disk is full", sqlite3.SQLITE_FULL)
    with pytest.raises(StoreUnavailable):
        await world.create()
    assert await asyncio.to_thread(refused.wait, 30)
    await world.create()
    assert await asyncio.to_thread(faults.checkpointed.wait, 30)
    assert faults.moved_by == ["holon-sqlite-writer"]


async def test_a_log_that_cannot_be_moved_is_tried_again_while_nothing_is_written_and_told_of_once(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log_moves, "FULL_S", 0.0)
    faults.refuse_checkpoints(3)
    await world.create()
    assert await asyncio.to_thread(faults.checkpointed.wait, 30)
    said = [record.getMessage().partition(".db ")[2] for record in caplog.records]
    assert said == ["stays as it is for now: database or disk is full"]
    await world.create()


async def test_an_idle_store_moves_its_log_into_the_file(world: World, faults: Faults) -> None:
    await world.create()
    assert await asyncio.to_thread(faults.checkpointed.wait, 30)


async def test_a_log_that_has_outgrown_what_is_moved_beside_is_moved_once_where_it_is_written(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_moves, "LOG_BYTES", 1)
    monkeypatch.setattr(log_moves, "LARGE_LOG_PAGES", 100)
    async with asyncio.timeout(30):
        while "holon-sqlite-writer" not in faults.moved_by:
            await world.create()
    # From here on SQLite's file is as long as that, whatever is in it: that is not what counts.
    faults.moved_by.clear()
    for _ in range(60):
        await world.create()
    assert faults.moved_by.count("holon-sqlite-writer") < 20


async def test_a_log_for_which_no_second_connection_is_to_be_had_is_moved_by_the_writer(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        if current_thread().name == "holon-sqlite-checkpoints":
            raise failure("unable to open database file", sqlite3.SQLITE_CANTOPEN)

    monkeypatch.setattr(log_moves, "FULL_S", 0.0)
    faults.on_connect = refuse
    world = World(FaultyBackend(faults), tmp_path, {})
    await world.open()
    await world.create()
    assert await asyncio.to_thread(faults.checkpointed.wait, 30)
    assert faults.moved_by == ["holon-sqlite-writer"]
    await world.close()
