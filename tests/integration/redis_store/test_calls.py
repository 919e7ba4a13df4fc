"""How often a node asks its Redis."""

from __future__ import annotations

import asyncio

import pytest

from holon.domain.events import CancelRequested
from holon.domain.job import Status
from holon.errors import StoreUnavailable
from holon.ports import JobFilter, Result
from holon.storage.redis import queues
from holon.storage.waiting import MAX_WAITING, MAX_WAITING_TO_CREATE, RETRY_AFTER_S
from tests.contract.steps import unclaimed, with_step
from tests.contract.test_reads import listed
from tests.contract.world import OK, T, U
from tests.integration.redis_store.nodes import Nodes


async def test_a_job_of_one_task_costs_two_calls_and_at_most_forty_commands(nodes: Nodes) -> None:
    world = await nodes.add("a")
    hand = await world.hand()

    async def run() -> None:
        new = with_step(world)
        assert new.step is not None
        made = await world.storage.create_jobs([new], 1, [hand.seat()])
        ended = unclaimed(world, new.step.job, Status.FINISHED)
        [offer] = made.leased.offers
        done = await world.storage.complete([Result(offer.task_id, offer.lease_id, OK, step=ended)], "w1", 1, ())
        assert done.landed

    async with nodes.redis() as redis:
        await run()
        await redis.config_resetstat()
        for _ in range(10):
            await run()
        stats = await redis.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    calls = counts.pop("fcall", 0)
    # Both nodes and tests look around meanwhile, now and then.
    assert calls < 10 * 2 + 5
    assert sum(counts.values()) / calls < 40 / 2


async def test_i8_calls_beyond_so_many_are_refused_and_new_jobs_first(nodes: Nodes) -> None:
    world = await nodes.add("a")
    # All that is asked for in one turn of the loop waits until its end, beside what the node itself may ask just then.
    calls = [asyncio.create_task(world.ready()) for _ in range(MAX_WAITING_TO_CREATE)]
    creating = asyncio.create_task(world.create())
    calls += [asyncio.create_task(world.ready()) for _ in range(MAX_WAITING - MAX_WAITING_TO_CREATE + 1)]
    with pytest.raises(StoreUnavailable, match=r"the store has 500[01] calls waiting; try again") as refused:
        await creating
    assert refused.value.retry_after == RETRY_AFTER_S
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert replies.count([]) in (MAX_WAITING - 1, MAX_WAITING)
    with pytest.raises(StoreUnavailable, match="the store has 10000 calls waiting; try again"):
        await calls[-1]
    assert await world.create()


async def test_a_list_reads_no_more_of_a_job_that_is_not_asked_for_than_its_row(nodes: Nodes) -> None:
    world = await nodes.add("a")
    for _ in range(5):
        await world.dispatch()
    async with nodes.redis() as redis:
        await redis.config_resetstat()
        for which in (
            JobFilter("ann", statuses=(Status.FAILED,)),
            JobFilter("ann", blueprint="another"),
            JobFilter("ann", created_after=world.now + 1),
            JobFilter("ann", created_before=1),
        ):
            assert await world.storage.jobs(which, 10) == ([], None)
        assert "cmdstat_get" not in await redis.info("commandstats")


async def test_jobs_that_few_ask_for_are_found_among_many(nodes: Nodes) -> None:
    world = await nodes.add("a")
    made = await world.storage.create_jobs([world.new_job() for _ in range(450)], 0)
    ids = [job_id for job_id, _ in made.jobs]
    wanted = ids[::37]
    for job_id in wanted:
        await world.finish(await world.claim_of(job_id))
    statuses = (Status.FINISHED, Status.FAILED)
    for limit in (1, 3, 120):
        assert await listed(world, limit, statuses=statuses) == wanted[::-1]


async def test_a_list_goes_no_further_than_to_jobs_that_are_older_than_it_asks_for(nodes: Nodes) -> None:
    world = await nodes.add("a")
    await world.storage.create_jobs([world.new_job() for _ in range(1_000)], 0)
    nodes.clock.advance(1)
    later = [await world.create() for _ in range(3)]
    which = JobFilter("ann", created_after=world.now)
    async with nodes.redis() as redis:
        await redis.config_resetstat()
        page, more = await world.storage.jobs(which, 10)
        stats = await redis.info("commandstats")
        assert stats["cmdstat_zrevrangebyscore"]["calls"] == 1
    assert ([record.job.id for record in page], more) == (later[::-1], None)
    page, more = await world.storage.jobs(which, 2)
    assert [record.job.id for record in page] == later[:0:-1]
    page, more = await world.storage.jobs(JobFilter("ann", created_after=world.now, before=more), 2)
    assert ([record.job.id for record in page], more) == (later[:1], None)


async def test_a_long_queue_is_read_in_pages_while_it_changes(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "KEPT", 300)
    world = await nodes.add("a")
    tasks = sorted([await world.dispatch() for _ in range(700)])
    read: list[str] = []
    while page := await world.storage.queued_tasks(T.key, read[-1] if read else "", 50):
        read += [task.id for task in page]
        await world.storage.rekey([(page[0].id, U)])
        left = next(task for task in reversed(tasks) if task not in read) if len(read) < 650 else None
        if left:
            await world.storage.rekey([(left, U)])
            tasks.remove(left)
    assert read == tasks


async def test_what_is_left_of_a_large_fan_out_is_ended_in_few_commands(nodes: Nodes) -> None:
    world = await nodes.add("a")
    hand = await world.hand()
    claim = await world.start()
    branches = await world.fan_out(1_500, claim=claim)
    offers = await world.lease(hand.seat(1_000))
    for start in range(0, 990, 198):
        ended = [Result(offer.task_id, offer.lease_id, OK) for offer in offers[start : start + 198]]
        await world.storage.complete(ended, "w1", 0, ())
    held = [offer.task_id for offer in offers[990:]]
    await world.append(claim.job.id, CancelRequested("ann"))
    cancelled = world.step(await world.claim_of(claim.job.id), Status.CANCELLED, end_tasks=True)
    async with nodes.redis() as redis:
        await redis.config_resetstat()
        await world.commit(cancelled)
        stats = await redis.info("commandstats")
    # Of those that are left each is written, and what it carries deleted.
    reads = sum(stat["calls"] for name, stat in stats.items() if name in ("cmdstat_get", "cmdstat_mget"))
    assert reads < 50
    assert [stop.lease.task_id for stop in await world.stops()] == held
    assert await world.waiting() == 0
    assert {(await world.task_record(branch)).state for branch in branches[::50]} == {"over"}
