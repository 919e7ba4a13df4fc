"""Reads: from memory where a job lives, from the store where it is over, and never what is not durable."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from holon.core import finished
from holon.domain.events import CancelRequested, HistoryEvent
from holon.domain.job import Status
from holon.domain.task import SUCCESS, Outcome
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
    monkeypatch.setattr(finished, "KEPT_OVER", 3)
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


async def many_pages(world: World, pages: int) -> str:
    """The id of a job whose history has so many pages of two lines, and one of one line before them."""
    claim = await world.start()
    for number in range(pages):
        history = tuple(HistoryEvent(f"line-{number}-{at}", world.now) for at in range(2))
        step = world.step(claim, keep=True, history=history)
        assert not (await world.commit(step)).conflict
        claim = replace(claim, job=step.job, events=())
    return claim.job.id


async def test_pages_of_history_are_read_together(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await many_pages(world, 30)

    async def read(after: int, limit: int) -> tuple[list[int], list[int]]:
        faults.read.clear()
        lines = [number for number, _ in await world.storage.history(job, after, limit)]
        return lines, [*faults.read]

    assert await read(0, 1_000) == ([*range(1, 62)], [31])
    assert await read(0, 1) == ([1], [1])
    assert await read(2, 4) == ([3, 4, 5, 6], [3])
    assert await read(61, 10) == ([], [1])
    monkeypatch.setattr(owned, "READ_ROWS", 10)
    assert await read(0, 1_000) == ([*range(1, 62)], [10, 10, 10, 1])


async def test_history_to_move_is_read_together_and_not_much_at_once(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings = replace(world.settings, history_backlog=2**20)
    await world.restart()
    for _ in range(4):
        await many_pages(world, 9)

    async def take(limit: int) -> tuple[int, list[int]]:
        """How many notices were taken, and how many rows each read had."""
        faults.read.clear()
        return len(await world.storage.take(limit)), [*faults.read]

    assert await take(8) == (8, [8])
    monkeypatch.setattr(owned, "FETCH_JOBS", 1)
    assert await take(15) == (15, [2, 10, 3])
    monkeypatch.setattr(owned, "TAKE_BYTES", 1)
    assert await take(100) == (1, [1])
    monkeypatch.undo()
    assert await take(100) == (16, [16])
    assert await take(100) == (0, [])


async def test_a_list_shows_all_jobs_however_few_of_those_that_are_over_stay_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []
    for _ in range(10):
        claim = await world.start()
        await world.finish(claim)
        jobs.append(claim.job.id)
    await world.restart()
    # The page reads the older half while the newer half is the first to be evicted.
    for job_id in jobs[5:]:
        await world.record(job_id)
    monkeypatch.setattr(finished, "KEPT_OVER", 5)
    shown, _ = await world.storage.jobs(JobFilter("ann"), 10)
    assert [one.job.id for one in shown] == jobs[::-1]


async def test_repeated_requests_find_their_jobs_however_few_of_those_that_are_over_stay_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [f"request-{number}" for number in range(10)]
    for request_id in requests:
        await world.finish(await world.start(request_id=request_id))
    made = {one.job.id for one in (await world.storage.jobs(JobFilter("ann"), 100))[0]}
    await world.restart()
    for request_id in requests[:5]:
        assert await world.storage.made("ann", request_id)
    monkeypatch.setattr(finished, "KEPT_OVER", 5)
    repeats = [world.new_job(request_id=request_id) for request_id in requests]
    created = await world.storage.create_jobs(repeats)
    assert {job_id for job_id, _ in created.jobs} == made
    assert len(made) == 10


@pytest.mark.parametrize(("large", "kept"), [("state", 3), ("outcome", 4), ("params", 10)])
async def test_rows_that_are_over_stay_in_memory_up_to_a_number_of_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch, large: str, kept: int
) -> None:
    # Three large rows have room. A task's row is older than that of its job, and an ended task has no params.
    monkeypatch.setattr(finished, "KEPT_OVER_BYTES", 100_000)
    text = "x" * 30_000
    hand = await world.hand()
    jobs = []
    for _ in range(10):
        claim = await world.start(data={"text": text} if large == "state" else {})
        task = world.task(claim, params=json.dumps(text if large == "params" else "").encode())
        await world.commit(world.step(claim, Status.WAITING_FOR_WORKER, tasks=(task,)))
        [offer] = await world.lease(hand.seat())
        assert not (await world.touch(accepts=(hand.ref(offer),))).lost
        outcome = Outcome(SUCCESS, json.dumps({"text": text if large == "outcome" else ""}).encode())
        assert await world.complete(offer, outcome) is None
        await world.finish(await world.claim_of(claim.job.id))
        jobs.append(claim.job.id)
    store = world.storage
    assert isinstance(store, OwnedStorage)

    def in_memory() -> list[str]:
        return [job_id for job_id in jobs if store.at_hand(job_id) is not None]

    assert in_memory() == jobs[-kept:]
    # What is read takes the place of what was there before.
    for job_id in jobs:
        assert (await world.record(job_id)).job.status is Status.FINISHED
    assert in_memory() == (jobs[-3:] if large == "state" else jobs)
    # A page is shown as a whole, whatever it takes.
    shown, _ = await store.jobs(JobFilter("ann"), 10)
    assert [one.job.id for one in shown] == jobs[::-1]
    assert await store.purge(world.now + 1, 100) == 10
    assert in_memory() == []
