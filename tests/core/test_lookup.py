"""Jobs of shards that other nodes own: every node answers reads of them, and never with what is wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from holon.core import finished, lookup
from holon.core.reads import LOOK_AT
from holon.core.row import shard_of
from holon.domain.events import CancelRequested
from holon.domain.job import Status
from holon.domain.task import job_of
from holon.domain.value import replace
from holon.errors import SealBroken, StoreUnavailable
from holon.ports import Ends, JobFilter, JobRecord
from holon.storage import owned
from holon.stores.sealing import Seal
from tests.contract.backends import KEYS
from tests.contract.costs import ends, given
from tests.contract.test_ends import HOLD, ended, ids
from tests.contract.world import BROKEN, T, U, World
from tests.core.parts import SHARDS, Pair, hand_over, owned_by, take

EVEN = range(0, SHARDS, 2)


@pytest.fixture(params=["plain", "sealed"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path, Seal(KEYS) if request.param == "sealed" else None)
    await pair.open()
    yield pair
    await pair.close()


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    await pair.open()
    yield pair
    await pair.close()


async def all_kinds(world: World) -> list[str]:
    """A job in each state in which it may be found."""
    hand = await world.hand()
    jobs = [(await world.start()).job.id]
    waits = await world.start()
    await world.commit(world.step(waits, Status.WAITING_FOR_RETRY, wake_after=60_000))
    jobs.append(waits.job.id)
    jobs.append((await world.offered(hand)).job_id)
    jobs.append((await world.accepted(hand)).job_id)
    failed = await world.accepted(hand)
    await world.complete(failed, BROKEN, retry_after=50_000)
    jobs.append(failed.job_id)
    charged = await given(world, hand)
    await ends(world, charged, 7)
    jobs.append(charged.job_id)
    # Some branches are over, some are at a worker, and some wait.
    some = await world.fan_out(9, rest=(3,), need=U)
    offers = await world.lease(hand.seat(4, U))
    for offer in offers[:2]:
        await world.complete(offer)
    jobs.append(offers[0].job_id)
    # All of them wait, but for those that are over.
    await world.touch(extends=(hand.ref(offers[3]),))
    over = await world.fan_out(5)
    for offer in await world.lease(hand.seat(2)):
        await world.complete(offer)
    jobs.append(job_of(over[0]))
    assert len(some) == 12
    for status in Status:
        if status.terminal:
            claim = await world.start()
            await world.commit(world.step(claim, status))
            jobs.append(claim.job.id)
    jobs.append(job_of(await world.dispatch(need=U)))
    await world.append(jobs[-1], CancelRequested("ann"))
    jobs.append(await world.create())
    return jobs


async def test_every_node_shows_the_same_of_jobs_wherever_they_are(pair: Pair) -> None:
    jobs = await all_kinds(pair.first)
    before = [await pair.first.record(job_id) for job_id in jobs]
    history = [await pair.first.told(job_id) for job_id in jobs]
    inboxes = [list(await pair.first.storage.unread(job_id)) for job_id in jobs]
    tasks = [f"{job_id}-0-{index}" for job_id in jobs for index in range(12)]
    tasks_before = [await pair.first.storage.task(task) for task in tasks]
    assert any(inboxes)
    assert len([one for one in tasks_before if one is not None]) > 9
    await hand_over(pair.first, pair.second, EVEN)
    assert owned_by(pair.first) | owned_by(pair.second) == set(range(SHARDS))
    assert {shard_of(job_id) % 2 for job_id in jobs} == {0, 1}
    for world in (pair.first, pair.second):
        assert [await world.record(job_id) for job_id in jobs] == before
        assert [await world.told(job_id) for job_id in jobs] == history
        assert [list(await world.storage.unread(job_id)) for job_id in jobs] == inboxes
        assert [await world.storage.task(task) for task in tasks] == tasks_before


async def test_what_is_nowhere_is_unknown_to_every_node(plain: Pair) -> None:
    await hand_over(plain.first, plain.second, EVEN)
    for world in (plain.first, plain.second):
        for job_id in ("0-no", "1-no", "99-no", "no", ""):
            assert await world.storage.job(job_id) is None
            assert await world.storage.history(job_id, 0, 10) == []
            assert list(await world.storage.unread(job_id)) == []
            assert await world.storage.task(f"{job_id}-0-0") is None
            assert await world.storage.task(job_id) is None
            assert await world.storage.made("ann", f"request of {job_id}") is None


async def test_history_goes_on_where_a_page_ended(plain: Pair) -> None:
    claim = await plain.first.start()
    for _ in range(30):
        step = plain.first.step(claim, keep=True)
        await plain.first.commit(step)
        claim = replace(claim, job=step.job)
    await hand_over(plain.first, plain.second, [shard_of(claim.job.id)])
    lines = await plain.first.told(claim.job.id)
    found: list[Any] = []
    while page := await plain.first.storage.history(claim.job.id, len(found), 7):
        assert len(page) == min(7, len(lines) - len(found))
        found += page
    assert found == list(enumerate(lines, 1))


async def pages(world: World, which: JobFilter, limit: int) -> list[JobRecord]:
    """All jobs of a list, page by page."""
    found: list[JobRecord] = []
    while True:
        records, before = await world.storage.jobs(which, limit)
        assert len(records) == limit or before is None
        found += records
        if before is None:
            return found
        assert before == records[-1].number
        which = replace(which, before=before)


@pytest.mark.parametrize("look_at", [5, 1_000])
async def test_a_list_of_all_shards_has_each_job_once_in_order_of_arrival(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, look_at: int
) -> None:
    monkeypatch.setattr(owned, "LOOK_AT", look_at)
    world, dice = pair.first, random.Random(7)
    records = []
    for _ in range(60):
        pair.first.clock.advance(10)
        claim = await world.start(owner=dice.choice(["ann", "bob"]), blueprint=dice.choice(["bp", "other"]))
        status = dice.choice([Status.RUNNING, Status.WAITING_FOR_RETRY, Status.FINISHED, Status.FAILED])
        await world.commit(world.step(claim, status, wake_after=60_000 if status is Status.WAITING_FOR_RETRY else None))
        records.append(await world.record(claim.job.id))
    records.reverse()
    assert all(newer.number > older.number for newer, older in pairwise(records))
    await hand_over(pair.first, pair.second, EVEN)
    middle = records[30].created_at
    for which in (
        JobFilter("ann"),
        JobFilter("ann", blueprint="other"),
        JobFilter("bob", (Status.FINISHED,)),
        JobFilter("ann", (Status.FINISHED, Status.RUNNING)),
        JobFilter("ann", (Status.WAITING_FOR_RETRY, Status.FAILED, Status.FINISHED), "bp"),
        JobFilter("ann", created_after=middle),
        JobFilter("bob", created_before=middle),
        JobFilter("nobody"),
    ):
        expected = [one for one in records if one.job.owner == which.owner and which.lets(one)]
        for node in (pair.first, pair.second):
            for limit in (1, 7, 100):
                assert await pages(node, which, limit) == expected


async def test_ids_are_found_of_all_shards(plain: Pair) -> None:
    jobs = []
    for _ in range(40):
        plain.first.clock.advance(100)
        new = plain.first.new_job()
        job_id = plain.first.storage.new_job_id("ann")
        new = replace(new, job=replace(new.job, id=job_id))
        await plain.first.storage.create_jobs([new])
        jobs.append(job_id)
        if len(jobs) % 3:
            await plain.first.finish(await plain.first.claim_of(job_id))
    await hand_over(plain.first, plain.second, EVEN)
    for job_id in jobs:
        prefix = job_id[: len(job_id.partition("-")[0]) + 9]
        expected = sorted(one for one in jobs if one.startswith(prefix))[:3]
        for node in (plain.first, plain.second):
            assert await node.storage.job_ids("ann", prefix, 3) == expected


async def test_the_job_of_a_request_is_known_to_every_node(pair: Pair) -> None:
    made = {}
    for n in range(20):
        claim = await pair.first.start(request_id=f"r{n}", digest=b"%d" % n)
        made[f"r{n}"] = claim.job.id, b"%d" % n
        if n % 2:
            await pair.first.finish(claim)
    await hand_over(pair.first, pair.second, EVEN)
    for node in (pair.first, pair.second):
        assert {request: await node.storage.made("ann", request) for request in made} == made
        assert await node.storage.made("bob", "r1") is None


async def test_numbers_are_those_of_a_nodes_own_shards(plain: Pair) -> None:
    await all_kinds(plain.first)
    before = await plain.first.storage.counts()
    await hand_over(plain.first, plain.second, EVEN)
    one, two = await plain.first.storage.counts(), await plain.second.storage.counts()
    assert one.queued + two.queued == before.queued
    assert one.leased + two.leased == before.leased
    assert {status: one.jobs[status] + two.jobs[status] for status in before.jobs} == before.jobs
    assert min(sum(one.jobs.values()), sum(two.jobs.values())) > 0


# Few rows and round trips -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("leased", "completed"), [(0, 0), (1, 0), (60, 40), (60, 60), (350, 0), (350, 340)])
async def test_of_a_large_fan_out_only_some_tasks_are_read(plain: Pair, leased: int, completed: int) -> None:
    world = plain.first
    hand = await world.hand()
    job_id = job_of((await world.fan_out(350))[0])
    offers = await world.lease(hand.seat(leased)) if leased else []
    for offer in offers[:completed]:
        await world.complete(offer)
    before = await world.record(job_id)
    assert bool(before.queued_need or before.branch_need) is (leased < 350)
    await hand_over(world, plain.second, [shard_of(job_id)])
    plain.rows.reads.clear()
    assert await world.record(job_id) == before
    assert len(plain.rows.reads) <= 4


async def test_of_a_very_large_fan_out_no_more_are_read(plain: Pair) -> None:
    world = plain.first
    job_id = job_of((await world.fan_out(2_000))[0])
    await hand_over(world, plain.second, [shard_of(job_id)])
    plain.rows.reads.clear()
    assert (await world.record(job_id)).queued_need == T
    assert sum(plain.rows.reads) <= 3 + lookup.MOST_BRANCHES + LOOK_AT


async def test_a_page_of_jobs_takes_two_reads_of_a_shard(plain: Pair) -> None:
    for _ in range(100):
        await plain.first.dispatch()
    shards = list(range(4))
    jobs = [one for one in [await plain.first.create() for _ in range(200)] if shard_of(one) in shards]
    assert len(jobs) > len(shards)
    await hand_over(plain.first, plain.second, range(SHARDS))
    plain.rows.reads.clear()
    records, _ = await plain.first.storage.jobs(JobFilter("ann"), 50)
    assert len(records) == 50
    assert len(plain.rows.reads) <= 2 * SHARDS


# Shards that move while a read runs -------------------------------------------------------------------------------

Read = Callable[[World, str], Awaitable[object]]


async def by_id(world: World, job_id: str) -> object:
    return await world.storage.job(job_id)


async def by_list(world: World, job_id: str) -> object:
    records, _ = await world.storage.jobs(JobFilter("ann"), 10)
    return next((one for one in records if one.job.id == job_id), None)


async def by_request(world: World, _: str) -> object:
    return await world.storage.made("ann", "r")


async def by_task(world: World, job_id: str) -> object:
    return await world.storage.task(f"{job_id}-0-0")


async def by_history(world: World, job_id: str) -> object:
    return list(await world.storage.history(job_id, 0, 100))


async def by_id_prefix(world: World, job_id: str) -> object:
    return [one for one in await world.storage.job_ids("ann", job_id[:4], 1_000) if one == job_id]


READS = (by_id, by_list, by_request, by_task, by_history, by_id_prefix)


async def over(world: World) -> str:
    """A job that is over, of request r, with a task."""
    new = world.new_job(request_id="r", digest=b"d")
    new = replace(new, job=replace(new.job, id=world.storage.new_job_id("ann", "r")))
    await world.storage.create_jobs([new])
    offer = await world.accepted(await world.hand(), claim=await world.claim_of(new.job.id))
    await world.complete(offer)
    await world.finish(await world.claim_of(offer.job_id))
    return offer.job_id


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("move", ["lost", "acquired", "lost and owned again", "acquired and lost"])
async def test_a_job_is_found_whoever_takes_its_shard_meanwhile(
    plain: Pair, monkeypatch: pytest.MonkeyPatch, read: Read, after: int, move: str
) -> None:
    # Jobs that are over are read again each time.
    monkeypatch.setattr(finished, "KEPT_OVER", 0)
    one, two = plain.first, plain.second
    job_id = await over(one)
    shard = [shard_of(job_id)]
    expected = await read(one, job_id)
    assert expected
    giver, taker = (two, one) if "acquired" in move else (one, two)
    if giver is two:
        await hand_over(one, two, shard)

    async def moved() -> None:
        await hand_over(giver, taker, shard)
        if "and" in move:
            await hand_over(taker, giver, shard)

    async def nothing() -> None:
        pass

    plain.rows.meanwhile = [*[nothing] * after, moved]
    try:
        found = await read(one, job_id)
    except StoreUnavailable:
        plain.rows.meanwhile.clear()
        found = await read(one, job_id)
    plain.rows.meanwhile.clear()
    assert found == expected


async def test_what_another_node_has_done_is_shown_by_one_that_does_not_know_that_it_lost_the_shard(
    plain: Pair,
) -> None:
    one, two = plain.first, plain.second
    job_id = await one.create()
    await take(two, [shard_of(job_id)])
    await two.finish(await two.claim_of(job_id))
    assert shard_of(job_id) in owned_by(one)
    for read in (one.record(job_id), one.storage.jobs(JobFilter("ann"), 10)):
        try:
            await read
        except StoreUnavailable:
            continue
        # The first of them found that the shard is lost.
        assert shard_of(job_id) not in owned_by(one)
    assert (await one.record(job_id)).job.status is Status.FINISHED
    [record], _ = await one.storage.jobs(JobFilter("ann", (Status.FINISHED,)), 10)
    assert record.job.id == job_id
    assert await one.storage.jobs(JobFilter("ann", (Status.RUNNING, Status.PENDING)), 10) == ([], None)


async def test_a_list_shows_nothing_that_a_lost_shard_was_to_write(
    plain: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "FETCH_JOBS", 1)
    one, two = plain.first, plain.second
    older = one.new_job()
    await one.storage.create_jobs([older])
    claim = await one.start()
    while shard_of(claim.job.id) == shard_of(older.job.id):
        claim = await one.start()
    await hand_over(one, two, [shard_of(older.job.id)])
    finishing: list[asyncio.Task[object]] = []

    async def finish() -> None:
        # It is done in memory once the list goes on, and refused while the list reads the next job.
        await take(two, [shard_of(claim.job.id)])
        finishing.append(asyncio.create_task(one.finish(claim)))
        await asyncio.sleep(0)

    plain.rows.meanwhile = [finish]
    with pytest.raises(StoreUnavailable):
        await one.storage.jobs(JobFilter("ann"), 10)
    with pytest.raises(StoreUnavailable):
        await finishing[0]
    assert (await one.record(claim.job.id)).job.status is Status.RUNNING


async def test_a_job_that_ends_elsewhere_between_two_indexes_is_in_the_list(plain: Pair) -> None:
    one, two = plain.first, plain.second
    claim = await one.start()
    job_id = claim.job.id
    await hand_over(one, two, [shard_of(job_id)])
    claim = await two.claim_of(job_id)

    async def end() -> None:
        await two.finish(claim)

    plain.rows.meanwhile = [end]
    [record], _ = await one.storage.jobs(JobFilter("ann", (Status.RUNNING, Status.FINISHED)), 10)
    assert (record.job.id, record.job.status) == (job_id, Status.FINISHED)


# Others -----------------------------------------------------------------------------------------------------------


async def test_an_end_is_told_by_the_node_that_has_the_shard_then(plain: Pair) -> None:
    one, two = plain.first, plain.second
    job_id = await ended(one)
    await take(two, [shard_of(job_id)])
    with pytest.raises(StoreUnavailable):
        await one.storage.take_ends(10, HOLD)
    assert await one.storage.take_ends(10, HOLD) == Ends()
    one.clock.advance(HOLD)
    assert await one.storage.take_ends(10, HOLD) == Ends()
    assert ids(await two.storage.take_ends(10, HOLD)) == [job_id]


async def test_a_job_elsewhere_that_cannot_be_opened_is_an_error_and_in_no_list(tmp_path: Path) -> None:
    pair = Pair(tmp_path, Seal(KEYS))
    await pair.open()
    broken, sound = await pair.first.create(request_id="r"), await pair.first.create()
    await pair.first.append(broken, CancelRequested("ann"))
    await hand_over(pair.first, pair.second, range(SHARDS))
    rows = pair.rows._shards[shard_of(broken)].rows[broken]
    rows |= {name: value[:-1] + bytes([value[-1] ^ 1]) for name, value in rows.items() if name in ("state", "inbox")}
    for read in (
        pair.first.storage.job(broken),
        pair.first.storage.unread(broken),
        pair.first.storage.made("ann", "r"),
    ):
        with pytest.raises(SealBroken):
            await read
    records, more = await pair.first.storage.jobs(JobFilter("ann"), 10)
    assert ([one.job.id for one in records], more) == ([sound], None)
    await pair.close()
