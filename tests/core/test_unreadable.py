"""Rows that cannot be opened: what is theirs stays as it is, and keeps nothing else from going on."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holon.domain.value import replace
from holon.errors import SealBroken
from holon.ports import Ends
from holon.storage.outbox import TAKEN_FOR_MS
from tests.contract.backends import Sqlite
from tests.contract.test_ends import HOLD, ended, take
from tests.contract.world import World

BATCH = 5
LARGE = {"it": "l" * 900_000}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(Sqlite(sealed=True), tmp_path, {"history_backlog": 10 * 2**20})
    await world.open()
    yield world
    await world.close()


async def told(world: World, notices: int, **fields: Any) -> str:
    """The id of a new job that has told something in so many commits."""
    claim = await world.start(**fields)
    for _ in range(notices - 1):
        step = world.step(claim, keep=True)
        assert not (await world.commit(step)).conflict
        claim = replace(claim, job=step.job, events=())
    return claim.job.id


def flip(world: World, job_id: str, names: str) -> None:
    """Turn the last bit of what is sealed: it does not open any more, or opens again."""
    with closing(sqlite3.connect(world._place / "holon.db", isolation_level=None)) as db:
        sealed = db.execute("SELECT value, name FROM row WHERE job = ? AND name GLOB ?", (job_id, names)).fetchall()
        assert sealed
        for value, name in sealed:
            changed = value[:-1] + bytes([value[-1] ^ 1])
            db.execute("UPDATE row SET value = ? WHERE job = ? AND name = ?", (changed, job_id, name))


async def taken(world: World) -> Counter[str]:
    """All that is free, in as many takes as it needs: how many notices, by their jobs."""
    seen: Counter[str] = Counter()
    while notices := await world.storage.take(BATCH):
        seen.update(notice.record.job.id for notice in notices)
        await world.storage.settle([notice.id for notice in notices])
    return seen


async def test_history_that_does_not_open_keeps_no_other_from_being_moved(world: World) -> None:
    broken = await told(world, 3 * BATCH, data=LARGE)
    flip(world, broken, "lines.*")
    sound = {await told(world, 2): 2 for _ in range(3)}
    assert await taken(world) == sound
    # It is looked at again after a while, and is moved once it has been put right.
    another = await told(world, 1)
    assert await taken(world) == {another: 1}
    flip(world, broken, "lines.*")
    world.clock.advance(TAKEN_FOR_MS)
    assert await taken(world) == {broken: 3 * BATCH}


async def test_a_job_that_does_not_open_is_left_out_and_told_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    broken, sound = await told(world, 1), await told(world, 1)
    await world.close()
    flip(world, broken, "state")
    await world.open()
    assert f"1 jobs cannot be opened and are left as they are: {broken}" in caplog.text
    with pytest.raises(SealBroken, match=f"row:{broken}:state"):
        await world.storage.job(broken)
    assert await world.storage.job(sound) is not None
    await world.close()
    flip(world, broken, "state")
    await world.open()
    assert await world.storage.job(broken) is not None


async def test_an_end_that_does_not_open_keeps_no_other_from_being_told(world: World) -> None:
    broken = [await ended(world) for _ in range(3)]
    await world.close()
    for job in broken:
        flip(world, job, "state")
    await world.open()
    sound = await ended(world)
    assert await take(world, 2) == [sound]
    assert await world.storage.take_ends(2, HOLD) == Ends((), world.now + HOLD)
    for job in broken:
        flip(world, job, "state")
    world.clock.advance(HOLD)
    assert set(await take(world)) == {*broken, sound}
