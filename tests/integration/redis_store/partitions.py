"""Jobs in each partition of a store in Redis."""

from __future__ import annotations

from typing import Any

from msgspec.structs import force_setattr

from holon.ports import NewJob
from tests.contract.backends import PARTITIONED
from tests.contract.world import World


def places(ids: list[str]) -> set[str]:
    """The partitions of some jobs or tasks."""
    return {one.partition("-")[0] for one in ids}


async def spread(world: World, n: int = 3, **fields: Any) -> list[str]:
    """Jobs, `n` in each partition, created one millisecond after the other."""
    jobs = []
    for number in range(n * PARTITIONED.partitions):
        world.clock.advance(1)
        new = new_at(world, number % PARTITIONED.partitions, **fields)
        jobs.append((await world.storage.create_jobs([new], 0)).jobs[0][0])
    return jobs


def new_at(world: World, partition: int, **fields: Any) -> NewJob:
    """A new job of this partition."""
    new = world.new_job(**fields)
    force_setattr(new.job, "id", f"{partition}-{new.job.id.partition('-')[2]}")
    return new
