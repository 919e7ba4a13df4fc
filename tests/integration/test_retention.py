"""Retention on a store: what it deletes by age and by count, and what it leaves."""

from __future__ import annotations

import asyncio
from functools import partial

from holon.engine.retention import Retention
from tests.contract.backends import Memory
from tests.contract.world import World

YEAR_MS = 365 * 86_400_000
GUARD = 20


async def kept(keep_ms: int, most: int, ages_ms: tuple[int, ...]) -> list[int]:
    """The ages of the ended jobs that are left, of those that there were; a job that has not ended is beside them."""
    world = World(Memory(), None, {})  # type: ignore[arg-type]  # memory needs no place
    await world.open()
    ages: dict[str, int] = {}
    for age, later in zip(ages_ms, (*ages_ms[1:], 0), strict=True):
        claim = await world.start()
        await world.finish(claim)
        ages[claim.job.id] = age
        world.clock.advance(age - later)
    alive = await world.create()
    retention = Retention(world.storage.purge, world.storage.now, keep_ms, partial(world.storage.surplus, most))
    running = asyncio.create_task(retention.run())
    # Nothing here waits for anything outside, so a few turns are enough for the first round.
    for _ in range(GUARD):
        await asyncio.sleep(0)
    running.cancel()
    assert await world.storage.job(alive) is not None
    left = [age for job_id, age in ages.items() if await world.storage.job(job_id) is not None]
    await world.close()
    return left


async def test_ended_jobs_are_deleted_by_age() -> None:
    assert await kept(250, 10, (400, 300, 200, 100)) == [200, 100]


async def test_ended_jobs_beyond_so_many_are_deleted_the_oldest_first() -> None:
    assert await kept(YEAR_MS, 3, (400, 300, 200, 100)) == [300, 200, 100]


async def test_whichever_bound_is_the_narrower_counts() -> None:
    assert await kept(150, 3, (400, 300, 200, 100)) == [100]
    assert await kept(350, 1, (400, 300, 200, 100)) == [100]
