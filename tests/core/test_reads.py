"""Reads: from memory where a job lives, from the store where it is over, and never what is not durable."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from holon.core import shard
from holon.domain.events import CancelRequested
from holon.domain.job import Status
from holon.domain.value import replace
from holon.ports import JobFilter
from holon.storage import owned
from holon.storage.owned import OwnedStorage
from holon.stores.sqlite import SqliteRows
from tests.contract.costs import ends, given
from tests.contract.world import World
from tests.core.faults import Faults, settled


async def test_a_job_that_lives_is_read_from_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = await world.start()
    monkeypatch.setattr(SqliteRows, "read", None)
    assert (await world.record(claim.job.id)).job.status is Status.RUNNING


async def test_what_was_answered_is_seen_by_every_read_after_it_however_many_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small that jobs that are over come and go all the time.
    monkeypatch.setattr(shard, "KEPT_OVER", 3)
    chance = random.Random(1)
    steps: dict[str, int] = {}
    writing = True

    async def write() -> None:
        claim = await world.start()
        job_id = claim.job.id
        for number in range(40):
            step = world.step(claim, keep=True)
            assert not (await world.commit(step)).conflict
            steps[job_id] = number + 1
            claim = replace(claim, job=step.job, events=())
        await world.finish(claim)

    async def read() -> None:
        while writing:
            for job_id in chance.sample(sorted(steps), min(3, len(steps))):
                at_least = steps[job_id]
                assert (await world.record(job_id)).job.step >= at_least
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(5)]
    await asyncio.gather(*(write() for _ in range(6)))
    writing = False
    await asyncio.gather(*readers)
    for job_id in steps:
        assert (await world.record(job_id)).job.status is Status.FINISHED


async def test_what_a_job_that_is_over_is_charged_is_shown_once_it_is_durable(world: World, faults: Faults) -> None:
    offer = await given(world, await world.hand())
    await world.append(offer.job_id, CancelRequested("ann"))
    await world.commit(world.step(await world.claim_of(offer.job_id), Status.CANCELLED, end_tasks=True))
    store = world.storage
    assert isinstance(store, OwnedStorage)
    assert (await world.record(offer.job_id)).cost is None
    async with faults.held_up(world):
        ending = asyncio.create_task(ends(world, offer, 5))
        # It reads of the store what it has to know, and waits for its batch beside the job that is created.
        while store.waiting < 2:  # noqa: ASYNC110  nobody says when
            await asyncio.sleep(0)
        reading = asyncio.create_task(world.record(offer.job_id))
        await settled()
        assert not ending.done()
        assert not reading.done()
    await ending
    assert (await reading).cost == 5


async def test_what_is_deleted_while_it_is_read_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = []
    for _ in range(3):
        claim = await world.start()
        await world.finish(claim)
        jobs.append(claim.job.id)
    await world.restart()
    store, read = world.storage, SqliteRows.read
    assert isinstance(store, OwnedStorage)

    async def late(rows: SqliteRows, *arguments: Any) -> Any:
        values = await read(rows, *arguments)
        monkeypatch.undo()
        # What was read is no longer so.
        assert await store.purge(world.now + 1, 10) == 3
        return values

    monkeypatch.setattr(SqliteRows, "read", late)
    assert await store.job(jobs[0]) is None
    assert [await store.job(job) for job in jobs] == [None] * 3


async def test_those_that_are_not_over_are_found_without_going_through_all_that_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "LOOK_AT", 5)
    live = [(await world.start(owner=owner)).job.id for owner in ("ann", "bob", "ann")]
    for _ in range(60):
        await world.finish(await world.start())
    newest = (await world.start()).job.id
    with monkeypatch.context() as patching:
        patching.setattr(SqliteRows, "read", None)
        shown, more = await world.storage.jobs(JobFilter("ann", (Status.PENDING, Status.RUNNING)), 10)
    assert ([one.job.id for one in shown], more) == ([newest, live[2], live[0]], None)
    ended, _ = await world.storage.jobs(JobFilter("ann", (Status.RUNNING, Status.FINISHED)), 100)
    assert len(ended) == 60
    rare, more = await world.storage.jobs(JobFilter("bob"), 10)
    assert ([one.job.id for one in rare], more) == ([live[1]], None)
