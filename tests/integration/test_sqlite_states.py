"""The SQLite file: a job's state, in its row where it is small and apart where it is large; nothing is lost by that."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from holon.domain.job import Status
from holon.domain.value import replace
from holon.ports import Claim
from holon.storage.sqlite.job_rows import LARGEST_INSIDE
from tests.contract.backends import Sqlite
from tests.contract.world import World
from tests.integration.sqlite_versions import back_to

SMALL, LARGE = {"it": "small"}, {"it": "l" * LARGEST_INSIDE}


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    world = World(Sqlite(sealed=request.param), tmp_path, {})
    await world.open()
    yield world
    await world.close()


def places(world: World) -> tuple[int, int]:
    """How many jobs have a state in their row, and how many states are apart."""
    with closing(sqlite3.connect(world._place / "holon.db")) as db:
        inside = db.execute("SELECT count(*) FROM jobs WHERE state IS NOT NULL").fetchone()[0]
        return inside, db.execute("SELECT count(*) FROM states").fetchone()[0]


async def step(world: World, claim: Claim, history: dict[str, str]) -> None:
    step = world.step(claim)
    reply = await world.commit(replace(step, job=replace(step.job, state_history=history)))
    assert not reply.conflict


async def test_a_state_is_read_wherever_it_is_and_as_it_was_written_last(world: World) -> None:
    job_id = await world.create()
    assert places(world) == (1, 0)
    for history, where in ((LARGE, (0, 1)), (SMALL, (1, 1)), (LARGE, (0, 1)), ({}, (1, 1))):
        await step(world, await world.claim_of(job_id), history)
        assert places(world) == where
        await world.restart()
        assert (await world.record(job_id)).job.state_history == history
    await world.finish(await world.claim_of(job_id))
    assert (await world.record(job_id)).job.status is Status.FINISHED
    await world.storage.purge(world.now + 1, 10)
    assert places(world) == (0, 0)


async def test_a_file_in_which_all_states_are_apart_goes_on(world: World) -> None:
    jobs = {await world.create(data={"it": "y" * size}): size for size in (1, LARGEST_INSIDE)}
    await world.close()
    back_to(world._place / "holon.db", 5)
    await world.restart()
    assert places(world) == (0, 2)
    for job_id, size in jobs.items():
        assert (await world.record(job_id)).job.initial_data == {"it": "y" * size}
        await step(world, await world.claim_of(job_id), SMALL)
        await world.finish(await world.claim_of(job_id))
    assert len(await world.told(next(iter(jobs)))) > 1
