"""Watched jobs: every change of theirs that a read does not show yet is hinted at, and what is not watched is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from holon.domain.events import CancelRequested, HistoryEvent
from holon.domain.job import Status
from holon.domain.value import replace
from holon.ports import Progress
from tests.contract.world import OK, World
from tests.hints import heard, hints_of

GUARD = 60.0  # seconds; reached only by a hint that does not come


async def changes(world: World, job_id: str, change: Callable[[], Awaitable[object]]) -> None:
    """Make a change, and see that a hint names the job."""
    await world.storage.watch(job_id)
    hints = hints_of(world.storage)
    await change()
    await heard(hints, lambda hint: job_id in hint.jobs)


async def test_a_claim_a_step_and_an_end_of_a_watched_job_are_hinted_at(world: World) -> None:
    job = await world.create()
    await changes(world, job, world.ready)
    claim = await world.claim_of(job)
    await changes(world, job, lambda: world.commit(world.step(claim, keep=True)))
    await changes(world, job, lambda: world.append(job, CancelRequested("ann")))
    claim = await world.claim_of(await world.create())
    await changes(world, claim.job.id, lambda: world.finish(claim))


async def test_what_becomes_of_the_task_of_a_watched_job_is_hinted_at(world: World) -> None:
    hand = await world.hand()
    task = await world.dispatch()
    job = task.rsplit("-", 2)[0]
    await changes(world, job, lambda: world.lease(hand.seat()))
    assert (await world.task_record(task)).state == "offered"


async def test_progress_and_the_result_of_a_watched_job_are_hinted_at(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    told = Progress(hand.ref(offer), 40.0, "nearly half")
    await changes(world, offer.job_id, lambda: world.touch(progress=(told,)))
    assert (await world.record(offer.job_id)).progress == 40.0
    await changes(world, offer.job_id, lambda: world.complete(offer, OK))


async def test_a_branch_that_ends_is_a_change_of_its_job(world: World) -> None:
    tasks = await world.fan_out(2)
    job = tasks[0].rsplit("-", 2)[0]
    [offer] = await world.lease((await world.hand()).seat())
    await changes(world, job, lambda: world.complete(offer, OK))
    assert (await world.record(job)).progress == 50.0


async def test_jobs_that_nobody_watches_are_not_named(world: World) -> None:
    watched, other, left = [await world.create() for _ in range(3)]
    await world.storage.watch(watched)
    await world.storage.watch(left)
    world.storage.unwatch(left)
    hints = hints_of(world.storage)
    named: set[str] = set()
    for job in (other, left, watched):
        await world.append(job, CancelRequested("ann"))
    async with asyncio.timeout(GUARD):
        async for hint in hints:
            named |= hint.jobs
            if watched in named:
                break
    assert named == {watched}


async def test_a_change_that_came_before_the_watch_is_in_the_next_read(world: World) -> None:
    claim = await world.start()
    done = asyncio.create_task(world.finish(claim))
    await asyncio.sleep(0)
    await world.storage.watch(claim.job.id)
    hints = hints_of(world.storage)
    seen = (await world.record(claim.job.id)).job.status
    if seen is not Status.FINISHED:
        async with asyncio.timeout(GUARD):
            while claim.job.id not in (await anext(hints)).jobs:
                pass
    await done
    assert (await world.record(claim.job.id)).job.status is Status.FINISHED


async def test_a_record_says_how_long_its_history_is(world: World) -> None:
    claim = await world.start()
    assert (await world.record(claim.job.id)).sequence == 1
    await world.finish(claim)
    record = await world.record(claim.job.id)
    assert record.sequence == len(await world.told(claim.job.id)) == 3


@pytest.mark.parametrize("claimed", [False, True])
async def test_what_is_not_over_is_counted(world: World, claimed: bool) -> None:
    await world.finish(await world.start())
    await world.accepted(await world.hand())
    await world.dispatch()
    jobs = [await world.create() for _ in range(3)]
    if claimed:
        assert await world.ready() == jobs
    counts = await world.storage.counts()
    new = Status.RUNNING if claimed else Status.PENDING
    assert dict(counts.jobs) == {Status.WAITING_FOR_WORKER: 2, new: 3}
    assert (counts.queued, counts.leased) == (1, 1)


async def test_a_job_that_was_expected_is_watched_and_at_hand_as_it_is_read_by_others(world: World) -> None:
    job_id = world.job_id("ann")
    new = world.new_job()
    new = replace(new, job=replace(new.job, id=job_id))
    if not world.storage.expect(job_id, history=True):
        assert (world.storage.at_hand(job_id), world.storage.over_at_hand(job_id)) == (None, None)
        assert world.storage.history_at_hand(job_id) is None
        return
    assert world.storage.history_at_hand(job_id) is None
    assert (world.storage.at_hand(job_id), world.storage.over_at_hand(job_id)) == (None, None)
    hints = hints_of(world.storage)
    await world.storage.create_jobs([new])
    async with asyncio.timeout(GUARD):
        while job_id not in (await anext(hints)).jobs:
            pass
    claim = await world.claim_of(job_id)
    details: dict[str, object] = {"what": ("a", {"b": 1.0}), "of": Status.FAILED}
    for step in range(2):
        history = tuple(HistoryEvent(f"line_{step}_{n}", world.now, details=details) for n in range(2))
        await world.commit(world.step(claim, keep=True, history=history))
        claim = replace(claim, job=replace(claim.job, step=claim.job.step + 1))
        assert world.storage.over_at_hand(job_id) is False
        record = world.storage.at_hand(job_id)
        assert record is not None
        assert record.sequence == 1 + 2 * (step + 1)
        assert record == await world.storage.job(job_id)
    told = await world.storage.history(job_id, 0, 10)
    assert [number for number, _ in told] == [1, 2, 3, 4, 5]
    assert world.storage.history_at_hand(job_id) == told
    assert await world.storage.history(job_id, 2, 2) == told[2:4]
    assert await world.storage.history(job_id, 5, 2) == []
    # As they are stored, whatever they were made of.
    world.storage.unwatch(job_id)
    assert await world.storage.history(job_id, 0, 10) == told
    other = await world.create()
    assert world.storage.at_hand(other) in (None, await world.storage.job(other))
    await world.finish(claim)
    assert world.storage.over_at_hand(job_id) is True
    record = world.storage.at_hand(job_id)
    assert record == await world.storage.job(job_id)
    assert world.storage.over_at_hand(job_id) is True
    # One that was never made.
    assert world.storage.expect("0-never", history=True)
    world.storage.unwatch("0-never")
    assert (world.storage.at_hand("0-never"), world.storage.over_at_hand("0-never")) == (None, None)


async def test_what_is_too_much_to_be_at_hand_is_read_all_the_same(world: World) -> None:
    new = world.new_job(data={"much": "x" * 20_000})
    lines = tuple(HistoryEvent("job_created", 1, details={"much": "x" * 20_000}) for _ in range(2))
    world.storage.expect(new.job.id, history=True)
    await world.storage.create_jobs([replace(new, history=lines)])
    assert (await world.record(new.job.id)).job.initial_data == new.job.initial_data
    assert [one.details for one in await world.told(new.job.id)] == [one.details for one in lines]
    assert world.storage.history_at_hand(new.job.id) in (None, await world.storage.history(new.job.id, 0, 10))
    claim = await world.claim_of(new.job.id)
    await world.commit(world.step(claim, keep=True))
    assert len(await world.told(new.job.id)) == 3
