"""Ends that are to be told, between several nodes and partitions in Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.domain.events import WORKER_EVENT
from holon.errors import StoreUnavailable
from holon.storage.redis import channel
from tests.contract.test_ends import HOLD, HOOK, ended, ids, take
from tests.contract.test_happened import happened, tells
from tests.contract.world import World
from tests.hints import GUARD, hints_of
from tests.integration.redis_store.nodes import Nodes
from tests.integration.redis_store.partitions import places, spread


async def test_what_a_node_has_taken_another_gets_when_that_is_silent(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    jobs = []
    for _ in range(2):
        jobs.append(await ended(first))
        nodes.clock.advance(1)
    assert await take(first, 1) == jobs[:1]
    assert await take(second) == jobs[1:]
    nodes.clock.advance(HOLD - 1)
    assert await take(second) == []
    nodes.clock.advance(1)
    assert sorted(await take(second)) == sorted(jobs)
    # The first one says late what became of it: that is as good.
    await first.storage.settle_ends(jobs[:1])
    nodes.clock.advance(HOLD)
    assert await take(first) == jobs[1:]


async def test_only_the_node_whose_call_ended_a_job_is_woken(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "LOOK_EVERY_S", 10 * GUARD)
    first, second = await nodes.add("a"), await nodes.add("b")
    claim, hints, others = await first.start(webhook=HOOK), hints_of(first.storage), hints_of(second.storage)
    await first.finish(claim)
    async with asyncio.timeout(GUARD):
        while not (await anext(hints)).ends:
            pass
        await first.create()
        await second.create()
        while not (hint := await anext(others)).ready:
            assert not hint.ends
    assert await take(second) == [claim.job.id]


async def test_an_end_whose_job_is_gone_is_forgotten(nodes: Nodes) -> None:
    world = await nodes.add("a")
    gone, job = await ended(world), await ended(world)
    async with nodes.redis() as redis:
        await redis.delete("{h:0}:j:" + gone)
        assert await take(world) == [job]
        assert await redis.zrange("{h:0}:ends", 0, -1) == [job.encode()]


async def test_many_that_are_due_are_looked_at_a_page_at_a_time(nodes: Nodes) -> None:
    world = await nodes.add("a")
    jobs = [await ended(world) for _ in range(150)]
    seen = await take(world, 130)
    assert len(seen) == 130
    assert sorted(seen + await take(world, 130)) == sorted(jobs)


async def test_jobs_without_a_webhook_leave_no_key_of_ends_and_those_with_one_none_once_they_are_told(
    nodes: Nodes,
) -> None:
    world = await nodes.add("a")
    await ended(world, webhook="")
    async with nodes.redis() as redis:
        assert not await redis.exists("{h:0}:ends")
        job = await ended(world)
        assert await redis.zrange("{h:0}:ends", 0, -1) == [job.encode()]
        await take(world)
        await world.storage.settle_ends([job])
        await world.storage.settle_ends([], [(job, 5)])
        assert not await redis.exists("{h:0}:ends")


async def hooked(world: World) -> list[str]:
    """Jobs that have ended and are to be told of, two in each partition."""
    jobs = await spread(world, 2, webhook=HOOK)
    for job in jobs:
        await world.finish(await world.claim_of(job))
    return jobs


async def test_all_partitions_are_asked_each_time_from_another_one_on(world: World) -> None:
    jobs = await hooked(world)
    firsts = [await take(world, 1) for _ in range(3)]
    assert places([job for some in firsts for job in some]) == {"0", "1", "2"}
    ends = await world.storage.take_ends(10, HOLD)
    assert sorted(ids(ends) + [job for some in firsts for job in some]) == sorted(jobs)
    assert ends.next_due == world.now + HOLD
    await world.storage.settle_ends(jobs[:2], [(job, 7) for job in jobs[2:]])
    assert (await world.storage.take_ends(10, HOLD)).next_due == world.now + 7
    world.clock.advance(7)
    assert sorted(await take(world)) == sorted(jobs[2:])


async def test_a_partition_that_is_away_holds_up_no_ends_of_others_and_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = await hooked(world)

    async def refuse(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("it is away")

    away = world.storage._partitions[1]  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(away, "take_untold", refuse)
        ends = await world.storage.take_ends(10, HOLD)
        assert sorted(ids(ends)) == sorted(job for job in jobs if not job.startswith("1-"))
        assert ends.next_due is not None
        assert world.now < ends.next_due < world.now + HOLD
        with pytest.raises(StoreUnavailable, match="it is away"):
            await world.storage.take_ends(10, HOLD)
        patch.setattr(type(away), "away", property(lambda one: one is away))
        assert (await world.storage.take_ends(10, HOLD)).next_due == ends.next_due
    assert sorted(await take(world)) == sorted(job for job in jobs if job.startswith("1-"))


async def test_jobs_that_are_gone_are_forgotten_a_thousand_at_a_time(nodes: Nodes) -> None:
    world = await nodes.add("a")
    async with nodes.redis() as redis:
        await redis.zadd("{h:0}:ends", {f"0-gone-{n}": n for n in range(2_500)})
        job = await ended(world)
        for left in (1_501, 501):
            ends = await world.storage.take_ends(10, HOLD)
            assert (ids(ends), await redis.zcard("{h:0}:ends")) == ([], left)
            assert ends.next_due is not None
            assert ends.next_due <= world.now
        assert await take(world) == [job]
        assert await redis.zrange("{h:0}:ends", 0, -1) == [job.encode()]


async def test_events_leave_no_key_where_nobody_is_told_or_all_is_and_none_of_a_job_that_is_gone(nodes: Nodes) -> None:
    world = await nodes.add("a")
    await happened(world, webhook="")
    async with nodes.redis() as redis:
        assert not await redis.exists("{h:0}:events", "{h:0}:happened")
        (gone, _), (job, _) = await happened(world), await happened(world)
        await redis.delete("{h:0}:j:" + gone)
        assert [record.job.id for record, _ in (await world.storage.take_events(10, HOLD)).jobs] == [job]
        assert await redis.hgetall("{h:0}:happened") == {job.encode(): b"1 4"}
        assert await redis.zrange("{h:0}:events", 0, -1) == [job.encode()]
        await world.storage.settle_events([(job, 4, 0)])
        assert not await redis.exists("{h:0}:events", "{h:0}:happened")


async def test_events_are_taken_and_settled_in_all_partitions(world: World) -> None:
    jobs = await spread(world, 2, webhook=HOOK)
    for job in jobs:
        await tells(world, await world.claim_of(job), f"{WORKER_EVENT}a")
    taken = await world.storage.take_events(10, HOLD)
    assert sorted(record.job.id for record, _ in taken.jobs) == sorted(jobs)
    await world.storage.settle_events([(job, 2 if job in jobs[:2] else 1, 7) for job in jobs])
    assert (await world.storage.take_events(10, HOLD)).next_due == world.now + 7
    world.clock.advance(7)
    assert sorted(record.job.id for record, _ in (await world.storage.take_events(10, HOLD)).jobs) == sorted(jobs[2:])
