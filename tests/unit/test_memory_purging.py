"""The store in memory: jobs are deleted without going through all that are there, and others run in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from holon.engine.retention import Retention
from holon.storage.memory import MemoryStorage
from tests.contract.backends import Memory
from tests.contract.world import World

JOBS = 200


class Counted(dict[Any, Any]):
    """Rows that count how many of them are gone through."""

    looked = 0

    def values(self) -> Any:
        return self._counted(super().values())

    def _counted(self, rows: Any) -> Iterator[Any]:
        for row in rows:
            Counted.looked += 1
            yield row


async def test_a_few_of_many_jobs_are_deleted_with_all_that_is_theirs_without_a_look_at_the_others(
    tmp_path: Path,
) -> None:
    world = World(Memory(), tmp_path, {})
    await world.open()
    storage, hand = world.storage, await world.hand()
    assert isinstance(storage, MemoryStorage)
    for _ in range(JOBS):
        offer = await world.accepted(hand)
        await world.complete(offer)
        # It comes too late, and is noted.
        await world.complete(offer, worker_id="w2")
        await world.finish(await world.claim_of(offer.job_id))
    tables = storage._tables
    tables.jobs, tables.tasks, tables.lates = Counted(tables.jobs), Counted(tables.tasks), Counted(tables.lates)
    assert await storage.purge(world.now + 1, 10) == 10
    assert Counted.looked <= 2 * 10
    assert (len(tables.jobs), len(tables.tasks), len(storage._history)) == (JOBS - 10,) * 3
    assert await storage.purge(world.now + 1, JOBS) == JOBS - 10
    left = (tables.jobs, tables.tasks, tables.lates, tables.requests, storage._history, storage._made)
    assert [len(one) for one in left] == [0] * 6


async def test_others_run_between_two_batches_though_the_store_waits_for_nothing() -> None:
    runs: list[str] = []

    async def purge(_: int, limit: int) -> int:
        runs.append("purge")
        return limit if runs.count("purge") < 3 else 0

    async def other() -> None:
        while runs.count("purge") < 3:
            runs.append("other")
            await asyncio.sleep(0)

    retention = asyncio.create_task(Retention(purge, lambda: 0, 1_000).run())
    await other()
    retention.cancel()
    with suppress(asyncio.CancelledError):
        await retention
    assert sum(pair == ("purge", "other") for pair in pairwise(runs)) >= 2
