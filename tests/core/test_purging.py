"""Jobs that are over are deleted with all that is theirs, in batches of bounded size."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from holon.domain.value import replace
from holon.ports import JobFilter, Put, Quota
from holon.storage import owned
from holon.storage.shared_records import KEPT_LONGER
from tests.contract.world import World
from tests.core.faults import Faults, settled


async def over(world: World, branches: int, request_id: str | None = None) -> str:
    """The id of a job that is over, and that has a task for each of its branches."""
    hand = await world.hand()
    await world.fan_out(branches, claim=(claim := await world.start(request_id=request_id)))
    for offer in await world.lease(hand.seat(branches)):
        await world.complete(offer)
    await world.finish(await world.claim_of(claim.job.id))
    return claim.job.id


def rows(world: World) -> set[str]:
    """The jobs that have any row."""
    with closing(sqlite3.connect(world._place / "holon.db")) as db:
        return {job for (job,) in db.execute("SELECT DISTINCT job FROM row WHERE job <> ''")}


async def test_large_jobs_are_deleted_one_after_the_other_and_small_ones_together(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "PURGE_AT_A_TIME", 100)
    for branches in (100, 100, *[1] * 7):
        await over(world, branches)
    alive = await world.create()
    before = faults.writes
    assert await world.storage.purge(world.now + 1, 1_000) == 9
    assert 3 <= faults.writes - before <= 6
    assert rows(world) == {alive}
    assert await world.storage.purge(world.now + 1, 1_000) == 0


async def test_no_more_are_deleted_than_the_limit(world: World) -> None:
    for _ in range(12):
        await world.finish(await world.start())
    assert await world.storage.purge(world.now + 1, 10) == 10
    assert len(rows(world)) == 2


async def test_what_is_noted_of_late_results_goes_with_the_job(world: World) -> None:
    hands = [await world.hand(name) for name in ("w1", "w2")]
    await world.fan_out(40, claim=(claim := await world.start()))
    for hand in hands:
        for offer in (offers := await world.lease(hand.seat(40))):
            await world.hand_back(hand, offer)
        for offer in offers:
            await world.complete(offer)
    for offer in await world.lease((await world.hand("w3")).seat(40)):
        await world.complete(offer)
    await world.finish(await world.claim_of(claim.job.id))
    assert await world.storage.purge(world.now + 1, 10) == 1
    assert rows(world) == set()


async def test_a_job_that_is_being_deleted_is_there_for_nobody(world: World, faults: Faults) -> None:
    job = await over(world, 10, request_id="r1")
    await world.restart()
    faults.go_on.clear()
    faults.reached.clear()
    purging = [asyncio.create_task(world.storage.purge(world.now + 1, 10)) for _ in range(3)]
    await faults.reached.wait()
    reading = asyncio.create_task(world.storage.job(job))
    listing = asyncio.create_task(world.storage.jobs(JobFilter("ann"), 10))
    making = asyncio.create_task(world.create(request_id="r1"))
    await settled()
    faults.go_on.set()
    assert sum(await asyncio.gather(*purging)) == 1
    again = await making
    assert await reading is None
    assert job not in [record.job.id for record in (await listing)[0]]
    assert again != job
    await world.restart()
    assert await world.storage.job(again) is not None
    assert await world.storage.job(job) is None
    assert await world.create(request_id="r1") == again


async def test_however_much_has_expired_is_deleted(world: World) -> None:
    many, quota = 2_500, Quota("ann", 5, "2026-11", world.now + 1_000)
    for kind in ("a_kind", "another"):
        puts = [Put(str(n), b"{}", 0, 1_000 if n else None) for n in range(many)]
        await world.storage.put_documents(kind, puts)
    await world.storage.create_jobs([replace(world.new_job(), quota=quota)], 0)
    world.clock.advance(1_000 + KEPT_LONGER)
    assert await world.storage.purge(world.now, 10) == 0
    assert (await world.kept())["documents"] == 2
    assert await world.quota_used("ann", "2026-11") == 0


async def test_a_job_whose_history_is_not_moved_stays_until_it_is(world: World) -> None:
    world.settings = replace(world.settings, history_backlog=2**20)
    await world.restart()
    for _ in range(23):
        await world.finish(await world.start())
    storage, at = world.storage, world.now + 1
    told = await storage.take(100)
    last = told[-1].record.job.id
    await storage.settle([one.id for one in told if one.record.job.id == last])
    assert await storage.purge(at, 10) == 1
    await world.restart()
    assert await world.storage.purge(at, 100) == 0
    told = await world.storage.take(100)
    await world.storage.settle([one.id for one in told])
    assert await world.storage.purge(at, 100) == 22
    assert rows(world) == set()
