"""The SQLite file: ends that are to be told, in a file of before, sealed ones, and in a transaction that fails."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from holon.errors import StoreUnavailable
from holon.ports import Ends
from tests.contract.backends import Backend, Sqlite
from tests.contract.test_ends import HOLD, ended, take
from tests.contract.world import World
from tests.integration.sqlite_faults import Faults, FaultyBackend
from tests.integration.sqlite_versions import back_to

PLAIN = Sqlite(sealed=False)


@asynccontextmanager
async def opened(place: Path, backend: Backend = PLAIN) -> AsyncIterator[World]:
    world = World(backend, place, {})
    await world.open()
    try:
        yield world
    finally:
        await world.close()


async def test_a_file_of_before_there_were_webhooks_goes_on_and_tells_of_those_that_come(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        before, over = await world.create(), await ended(world, webhook="")
    back_to(tmp_path / "holon.db", 8)
    async with opened(tmp_path) as world:
        await world.finish(await world.claim_of(before))
        assert await world.storage.take_ends(10, HOLD) == Ends()
        assert (await world.record(over)).job.webhook == ""
        # Names that no job of the world before has.
        world._made = 1_000
        job = await ended(world)
        assert await take(world) == [job]
        await world.storage.settle_ends([job])
        assert await world.storage.purge(world.now + 1, 10) == 3


def flip(place: Path, job_id: str) -> None:
    """Turn the last bit of a job's state: it does not open any more, or opens again."""
    with closing(sqlite3.connect(place / "holon.db", isolation_level=None)) as db:
        (state,) = db.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchone()
        db.execute("UPDATE jobs SET state = ? WHERE id = ?", (state[:-1] + bytes([state[-1] ^ 1]), job_id))


async def test_an_end_that_does_not_open_keeps_no_other_from_being_told(tmp_path: Path) -> None:
    async with opened(tmp_path, Sqlite(sealed=True)) as world:
        broken = [await ended(world) for _ in range(3)]
        for job in broken:
            flip(tmp_path, job)
        sound = await ended(world)
        assert await take(world, 2) == [sound]
        assert await world.storage.take_ends(2, HOLD) == Ends((), world.now + HOLD)
        for job in broken:
            flip(tmp_path, job)
        world.clock.advance(HOLD)
        assert await take(world) == [*broken, sound]


async def test_what_a_transaction_that_failed_took_or_settled_is_as_it_was(tmp_path: Path) -> None:
    faults = Faults()
    async with opened(tmp_path, FaultyBackend(faults)) as world:
        told, other = await ended(world), await ended(world)
        assert await take(world, 1) == [told]
        async with faults.held_up(world, then_fail="database or disk is full"):
            settling = asyncio.create_task(world.storage.settle_ends([told]))
            taking = asyncio.create_task(world.storage.take_ends(10, HOLD))
        for reply in await asyncio.gather(settling, taking, return_exceptions=True):
            assert isinstance(reply, StoreUnavailable)
        assert await take(world) == [other]
        world.clock.advance(HOLD)
        assert await take(world) == [told, other]


async def test_what_is_settled_is_not_handed_out_in_the_transaction_that_writes_that(tmp_path: Path) -> None:
    faults = Faults()
    async with opened(tmp_path, FaultyBackend(faults)) as world:
        told, off = await ended(world), await ended(world)
        await take(world)
        async with faults.held_up(world):
            settling = asyncio.create_task(world.storage.settle_ends([told], [(off, 5)]))
            taking = asyncio.create_task(world.storage.take_ends(10, HOLD))
        await settling
        assert await taking == Ends((), world.now + 5)
        world.clock.advance(5)
        assert await take(world) == [off]


async def test_jobs_without_a_webhook_write_nothing_of_ends_and_those_with_one_a_row(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await ended(world, webhook="")
        job = await ended(world)
        with closing(sqlite3.connect(tmp_path / "holon.db")) as db:
            assert db.execute("SELECT jobs.id, due FROM ends JOIN jobs ON n = job").fetchall() == [(job, world.now)]
