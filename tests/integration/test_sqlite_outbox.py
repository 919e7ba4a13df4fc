"""The SQLite file: history that cannot be opened stays where it is, and keeps nothing else from being moved."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holon.domain.value import replace
from tests.contract.backends import Sqlite
from tests.contract.world import World

BATCH = 5
# A take looks at a few jobs of this size, whatever they tell.
LARGE = {"it": "l" * 900_000}
STATE = "UPDATE states SET state = ? WHERE n = ?", "SELECT state, n FROM states WHERE n = ?"
LINES = (
    "UPDATE history SET events = ? WHERE job = ? AND last = ?",
    "SELECT events, job, last FROM history WHERE job = ?",
)


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


def change(world: World, job_id: str, update: str, select: str) -> None:
    """Turn the last bit of what is sealed: it does not open any more, or opens again."""
    with closing(sqlite3.connect(world._place / "holon.db", isolation_level=None)) as db:
        (n,) = db.execute("SELECT n FROM jobs WHERE id = ?", (job_id,)).fetchone()
        sealed = db.execute(select, (n,)).fetchall()
        assert sealed
        db.executemany(update, [(text[:-1] + bytes([text[-1] ^ 1]), *where) for text, *where in sealed])


async def taken(world: World) -> Counter[str]:
    """All that is free, in as many takes as it needs: how many notices, by their jobs."""
    seen: Counter[str] = Counter()
    while notices := await world.storage.take(BATCH):
        seen.update(notice.record.job.id for notice in notices)
        await world.storage.settle([notice.id for notice in notices])
    return seen


@pytest.mark.parametrize("what", [STATE, LINES], ids=["state", "lines"])
async def test_a_job_that_does_not_open_keeps_no_other_history_from_being_moved(
    world: World, what: tuple[str, str]
) -> None:
    broken = await told(world, 3 * BATCH, data=LARGE)
    change(world, broken, *what)
    sound = {await told(world, 2): 2 for _ in range(3)}
    assert await taken(world) == sound
    # It is looked at again after a while, and is moved once it has been put right.
    world.clock.advance(world.settings.claim)
    another = await told(world, 1)
    assert await taken(world) == {another: 1}
    change(world, broken, *what)
    world.clock.advance(world.settings.claim)
    assert await taken(world) == {broken: 3 * BATCH}


async def test_what_opens_of_a_job_is_moved_though_something_else_of_it_does_not(world: World) -> None:
    claim = await world.start()
    change(world, claim.job.id, *LINES)
    await world.finish(claim)
    assert await taken(world) == {claim.job.id: 1}
