"""A store in Redis that has several partitions: what is promised of all of them together."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis

from holon.clock import ManualClock
from holon.domain.events import Woken
from holon.domain.job import Status
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import Creation, JobFilter, StoreSettings
from holon.storage.redis import RedisStorage
from tests.contract.backends import PARTITIONED
from tests.contract.judgement import judge, settle
from tests.contract.model import Model
from tests.contract.world import T, U, World
from tests.integration.redis_store.partitions import places, spread

SEEDS = (1, 2, 1_003)


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_every_job_ends_once_over_all_partitions(tmp_path: Path, seed: int) -> None:
    random.seed(seed)
    world = World(PARTITIONED, tmp_path, {"max_losses": 1_000})
    await world.open()
    try:
        model = Model(world, seed, restarts=seed > 1_000)
        for _ in range(200):
            await model.act()
        await settle(model)
        await judge(model)
    finally:
        await world.close()


async def test_new_jobs_go_to_every_partition_and_those_of_a_request_to_one(world: World) -> None:
    ids = [world.storage.new_job_id("ann") for _ in range(100)]
    assert places(ids) == {"0", "1", "2"}
    for number in range(20):
        assert len(places([world.storage.new_job_id("ann", f"request {number}") for _ in range(5)])) == 1
    assert len(places([world.storage.new_job_id("ann", f"request {number}") for number in range(50)])) == 3


async def test_a_repeated_request_finds_its_job_from_any_node(world: World, tmp_path: Path) -> None:
    job = await world.create(request_id="once", digest=b"same")
    other = World(PARTITIONED, tmp_path, {})
    other.settings = StoreSettings("another")
    await other.open()
    try:
        other._made = 1_000
        again = await other.storage.create_jobs([other.new_job(request_id="once", digest=b"same")], 0)
        assert again.jobs == ((job, Creation.EXISTING),)
    finally:
        await other.close()


async def test_a_list_is_put_together_newest_first_page_by_page(world: World) -> None:
    jobs = await spread(world)
    found: list[str] = []
    before: int | None = None
    while True:
        page, before = await world.storage.jobs(JobFilter("ann", before=before), 2)
        assert all(one.number > other.number for one, other in pairwise(page))
        found += [record.job.id for record in page]
        if before is None:
            break
        # What comes meanwhile is newer than what is still to be listed.
        await world.create()
    assert found == jobs[::-1]


async def test_a_suspect_of_one_partition_runs_beside_no_job_of_another(world: World) -> None:
    jobs = await spread(world, 1)
    await world.claim_of(jobs[0])
    await world.after(world.settings.claim)
    world._claims.clear()
    claims = [*await world.storage.claim(10)]
    seen: list[list[tuple[str, int]]] = []
    while claims:
        seen.append([(claim.job.id, claim.deliveries) for claim in claims])
        assert await world.storage.claim(0) == ()
        if any(claim.deliveries > 1 for claim in claims):
            assert len(claims) == 1
            # Meanwhile this node gets nothing else, whatever it asks.
            assert (await world.storage.create_jobs([world.new_job()], 5)).claims == ()
            assert (await world.fire(want=5)).claims == ()
            assert await world.storage.claim(5) == ()
        for claim in claims:
            await world.finish(claim)
        claims = [*await world.storage.claim(10)]
    assert len([one for some in seen for one in some if one[1] > 1]) == 3


async def test_counts_and_waiting_tasks_are_those_of_all_partitions(world: World) -> None:
    jobs = await spread(world)
    for job in jobs[:6]:
        await world.dispatch(claim=await world.claim_of(job))
    counts = await world.storage.counts()
    assert counts.queued == 6
    assert counts.jobs[Status.WAITING_FOR_WORKER] == 6
    assert await world.waiting() == 6
    page = [task.id for task in await world.storage.queued_tasks(T.key, "", 4)]
    rest = [task.id for task in await world.storage.queued_tasks(T.key, page[-1], 4)]
    assert len({*page, *rest}) == 6


async def test_timers_of_every_partition_fire_and_the_earliest_is_next(world: World) -> None:
    jobs = await spread(world, 1)
    began = world.now
    for wait, job in enumerate(jobs, 1):
        claim = await world.claim_of(job)
        await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=1_000 * wait))
    assert (await world.fire()).next_due == began + 1_000
    fired = await world.after(2_000, want=5)
    assert sorted(claim.job.id for claim in fired.claims) == sorted(jobs[:2])
    assert all(isinstance(claim.events[0][1], Woken) for claim in fired.claims)


async def test_what_a_partition_that_is_away_is_to_be_told_keeps_nobody_else_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = await world.hand()
    for job in await spread(world, 1):
        await world.dispatch(claim=await world.claim_of(job))
    offers = await world.lease(hand.seat(10))
    away = world.storage._partitions[1]  # type: ignore[attr-defined]
    touch = away.touch

    async def refuse(*_: object) -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(away, "touch", refuse)
    assert (await world.touch(accepts=tuple(hand.ref(offer) for offer in offers))).lost == ()
    there = [await world.task_record(offer.task_id) for offer in offers]
    assert sorted(task.state for task in there) == ["leased", "leased", "offered"]
    monkeypatch.setattr(away, "touch", touch)
    await world.touch()
    assert [(await world.task_record(offer.task_id)).state for offer in offers] == 3 * ["leased"]


async def test_what_was_claimed_for_a_batch_that_a_partition_refused_is_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [world.new_job() for _ in range(20)]
    parts = world.storage._partitions.split(items, lambda item: item.job.id)  # type: ignore[attr-defined]
    last = list(parts)[-1]

    async def refuse(*_: object) -> None:
        raise StoreUnavailable("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(last, "create_jobs", refuse)
        with pytest.raises(StoreUnavailable):
            await world.storage.create_jobs(items, 20)
    there = [item.job.id for partition, some in parts.items() if partition is not last for item in some]
    claims = {claim.job.id: claim.deliveries for _ in range(3) for claim in await world.storage.claim(20)}
    assert claims == dict.fromkeys(there, 1)


async def test_the_newest_that_ended_beyond_so_many_is_found_over_all_partitions(world: World) -> None:
    ended = []
    for job in await spread(world, 2):
        world.clock.advance(10)
        await world.finish(await world.claim_of(job))
        ended.append(world.now)
    assert [await world.storage.surplus(keep) for keep in range(7)] == [*ended[::-1], None]


async def test_another_number_of_partitions_is_refused(world: World) -> None:
    uri = world.storage._uri  # type: ignore[attr-defined]
    for count in (1, 2, 4):
        with pytest.raises(ConfigError, match=f"made with partitions=3.*STORAGE_URI says partitions={count}"):
            async with RedisStorage(uri, StoreSettings("b"), ManualClock(), partitions=count):
                pass


async def test_a_store_of_one_partition_is_not_made_into_several(tmp_path: Path) -> None:
    uri = f"{PARTITIONED.server.uri(PARTITIONED.server.database())}"
    async with RedisStorage(uri, StoreSettings("a"), ManualClock()):
        pass
    with pytest.raises(ConfigError, match="partitions=1"):
        async with RedisStorage(uri, StoreSettings("a"), ManualClock(), partitions=3):
            pass


async def test_a_partition_that_is_gone_is_not_made_anew(world: World) -> None:
    uri = world.storage._uri  # type: ignore[attr-defined]
    await world.close()
    async with Redis.from_url(uri) as redis:
        await redis.delete(*await redis.keys("{h:1}:*"))
    with pytest.raises(ConfigError, match=r"partition 1 .* is gone"):
        async with RedisStorage(uri, StoreSettings("b"), ManualClock(), partitions=3):
            pass


async def test_a_first_start_that_was_cut_short_is_gone_on_with(world: World) -> None:
    uri = world.storage._uri  # type: ignore[attr-defined]
    await world.close()
    async with Redis.from_url(uri) as redis:
        await redis.delete(*await redis.keys("{h:2}:*"))
        await redis.hdel("{h:0}:meta", "whole")
    async with RedisStorage(uri, StoreSettings("b"), ManualClock(), partitions=3) as storage:
        assert await storage.claim(1) == ()


async def test_what_waits_is_looked_up_where_a_partition_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in await spread(world, 1):
        await world.dispatch(claim=await world.claim_of(job))
    every = await world.storage.needs()
    (key,) = every

    async def refuse(*_: object) -> None:
        raise StoreUnavailable("it is away")

    for call in ("needs", "queued_tasks"):
        monkeypatch.setattr(world.storage._partitions[1], call, refuse)  # type: ignore[attr-defined]
    assert await world.storage.needs() == every
    assert len(await world.storage.queued_tasks(key, "", 10)) == 2
    for away in world.storage._partitions:  # type: ignore[attr-defined]
        monkeypatch.setattr(away, "needs", refuse)
    with pytest.raises(StoreUnavailable):
        await world.storage.needs()


async def test_who_is_cancelled_before_a_call_begins_leaves_none_of_its_parts_behind(world: World) -> None:
    here, there, _ = await spread(world, 1)
    calls = (
        lambda: world.storage.settle([here, there]),
        lambda: world.storage.settle_ends([here], [(there, 1_000)]),
        lambda: world.storage.settle_events([(here, 1, 0), (there, 1, 0)]),
        lambda: world.storage.release([(here, "claim"), (there, "claim")]),
        lambda: world.storage.rekey([(f"{here}-1-0", U), (f"{there}-1-0", U)]),
    )
    for call in calls:

        async def calling(call: Callable[[], Awaitable[object]] = call) -> None:
            caller = asyncio.current_task()
            assert caller is not None
            asyncio.get_running_loop().call_soon(caller.cancel)
            # Its reply comes, and the cancel where he waits next.
            await world.storage.counts()
            await call()

        caller = asyncio.create_task(calling())
        await asyncio.wait((caller,))
        assert caller.cancelled()
    # What was made and never awaited is told of now, and fails the test.
    gc.collect()
