"""Ends that are to be told: each is handed out until it is settled, to one at a time, and lost at no point between."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from holon.domain.job import Status
from holon.domain.value import replace
from holon.ports import MAX_PAGE_BYTES, Ends, NewJob, Result, Step
from tests.contract.world import OK, Factory, World
from tests.hints import heard, hints_of

HOOK = "https://ann.example/ended"
HOLD = 30_000


async def ended(world: World, *, webhook: str = HOOK, status: Status = Status.FINISHED, **fields: Any) -> str:
    """The id of a job that has ended."""
    claim = await world.start(webhook=webhook, **fields)
    await world.commit(world.step(claim, status))
    return claim.job.id


async def take(world: World, limit: int = 100) -> list[str]:
    """The jobs whose ends this call is handed."""
    return ids(await world.storage.take_ends(limit, HOLD))


def ids(ends: Ends) -> list[str]:
    return [record.job.id for record in ends.jobs]


@pytest.mark.parametrize("status", [status for status in Status if status.terminal])
async def test_whatever_ends_a_job_its_end_is_to_be_told_with_the_job_as_it_ended(world: World, status: Status) -> None:
    job = await ended(world, status=status)
    ends = await world.storage.take_ends(10, HOLD)
    assert ids(ends) == [job]
    assert ends.jobs[0] == await world.record(job)
    assert (ends.jobs[0].job.webhook, ends.jobs[0].job.status, ends.jobs[0].finished_at) == (HOOK, status, world.now)
    assert ends.next_due is None


async def test_of_a_job_without_a_webhook_and_of_one_that_is_not_over_nobody_is_told(world: World) -> None:
    await ended(world, webhook="")
    claim = await world.start(webhook=HOOK)
    await world.commit(world.step(claim, keep=True))
    assert await world.storage.take_ends(10, HOLD) == Ends()


async def test_a_job_that_ends_with_its_creation_is_told_of_and_a_repeat_tells_nothing_more(world: World) -> None:
    new = world.new_job(webhook=HOOK, request_id="r1")
    over = replace(new.job, step=1, status=Status.FINISHED)
    items = [NewJob(new.job, new.history, "r1", b"", Step("", world.unique("commit-"), over))]
    await world.storage.create_jobs(items)
    assert await take(world) == [new.job.id]
    await world.storage.settle_ends([new.job.id])
    await world.storage.create_jobs(items)
    assert await take(world) == []


async def test_a_job_that_ends_with_its_tasks_result_is_told_of(world: World) -> None:
    hand, claim = await world.hand(), await world.start(webhook=HOOK)
    task = world.task(claim)
    waits = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(task,))
    [offer] = (await world.commit(waits, [hand.seat()])).leased.offers
    over = replace(waits.job, step=waits.job.step + 1, status=Status.FINISHED, waiting=None)
    step = Step("", world.unique("commit-"), over)
    result = Result(task.id, offer.lease_id, OK, step=step)
    done = await world.storage.complete([result], "w1", ())
    assert done.landed == {offer.lease_id}
    assert await take(world) == [claim.job.id]
    await world.storage.complete([result], "w1", ())
    assert await take(world) == []


async def test_a_step_that_is_refused_tells_nothing_and_the_repeat_of_one_that_was_not_neither(world: World) -> None:
    claim = await world.start(webhook=HOOK)
    step = world.step(claim, Status.FINISHED)
    assert (await world.commit(replace(step, claim_id="another"))).conflict
    assert await take(world) == []
    await world.commit(step)
    assert await take(world) == [claim.job.id]
    await world.storage.settle_ends([claim.job.id])
    assert not (await world.commit(step)).conflict
    assert await take(world) == []


async def test_who_has_an_end_has_it_alone_until_the_hold_runs_out(world: World) -> None:
    job = await ended(world)
    assert await take(world) == [job]
    others = await world.storage.take_ends(10, HOLD)
    assert others == Ends((), world.now + HOLD)
    world.clock.advance(HOLD - 1)
    assert await take(world) == []
    world.clock.advance(1)
    assert await take(world) == [job]
    assert await take(world) == []


async def test_two_who_take_at_once_share(world: World) -> None:
    jobs = [await ended(world) for _ in range(10)]
    both = await asyncio.gather(take(world, 6), take(world, 6))
    assert sorted(both[0] + both[1]) == sorted(jobs)


async def test_those_that_are_due_first_come_first_and_the_rest_is_said_to_be_due(world: World) -> None:
    jobs = []
    for _ in range(4):
        jobs.append(await ended(world))
        world.clock.advance(10)
    ends = await world.storage.take_ends(3, HOLD)
    assert ids(ends) == jobs[:3]
    assert ends.next_due is not None
    assert ends.next_due <= world.now
    # What is put off has its place by when it is due again.
    await world.storage.settle_ends([jobs[1]], [(jobs[0], 50), (jobs[2], 20)])
    ends = await world.storage.take_ends(10, HOLD)
    assert (ids(ends), ends.next_due) == ([jobs[3]], world.now + 20)
    world.clock.advance(50)
    assert await take(world) == [jobs[2], jobs[0]]


async def test_what_is_put_off_is_due_no_sooner_whatever_its_hold_was(world: World) -> None:
    job = await ended(world)
    await take(world)
    await world.storage.settle_ends([], [(job, 2 * HOLD)])
    assert await world.storage.take_ends(10, HOLD) == Ends((), world.now + 2 * HOLD)
    world.clock.advance(2 * HOLD - 1)
    assert await take(world) == []
    world.clock.advance(1)
    assert await take(world) == [job]
    await world.storage.settle_ends([], [(job, 0)])
    assert await take(world) == [job]


async def test_what_is_told_is_forgotten_and_settled_again_changes_nothing(world: World) -> None:
    told, other = await ended(world), await ended(world)
    await take(world)
    for _ in range(2):
        await world.storage.settle_ends([told, "0-unknown"], [("0-another", 5)])
    # Late word of one that is told already.
    await world.storage.settle_ends([], [(told, 0)])
    world.clock.advance(HOLD)
    assert await take(world) == [other]
    await world.storage.settle_ends([])
    await world.storage.settle_ends([other])
    assert await world.storage.take_ends(10, HOLD) == Ends()


async def test_taken_and_settled_at_once_each_is_handed_out_once(world: World) -> None:
    jobs = {await ended(world) for _ in range(60)}
    seen: list[str] = []

    async def tell() -> None:
        while some := await take(world, 4):
            seen.extend(some)
            await world.storage.settle_ends(some)

    await asyncio.gather(*(tell() for _ in range(6)))
    assert len(seen) == len(jobs)
    assert set(seen) == jobs


async def test_large_jobs_come_a_few_at_a_time(world: World) -> None:
    jobs = {await ended(world, data={"much": "x" * 900_000}) for _ in range(8)}
    seen: set[str] = set()
    while True:
        ends = await world.storage.take_ends(100, HOLD)
        if not ends.jobs:
            break
        assert len(ends.jobs) * 900_000 <= MAX_PAGE_BYTES
        seen.update(ids(ends))
        if len(seen) < len(jobs):
            assert ends.next_due is not None
            assert ends.next_due <= world.now
    assert seen == jobs


async def test_a_job_is_not_deleted_before_its_end_is_told_and_holds_up_nobody_else(world: World) -> None:
    stays = await ended(world)
    world.clock.advance(1)
    goes = await ended(world, webhook="")
    world.clock.advance(1)
    assert await world.storage.purge(world.now, 10) == 1
    assert await world.storage.job(goes) is None
    await take(world)
    assert await world.storage.purge(world.now, 10) == 0
    await world.storage.settle_ends([], [(stays, 5)])
    assert await world.storage.purge(world.now, 10) == 0
    await world.storage.settle_ends([stays])
    assert await world.storage.purge(world.now, 10) == 1
    assert await world.storage.job(stays) is None


async def test_behind_thousands_of_ends_that_nobody_takes_the_others_are_deleted(world: World) -> None:
    def over(new: NewJob) -> NewJob:
        job = replace(new.job, step=1, status=Status.FINISHED)
        return replace(new, step=Step("", world.unique("commit-"), job))

    for _ in range(11):
        await world.storage.create_jobs([over(world.new_job(webhook=HOOK)) for _ in range(200)])
    world.clock.advance(1)
    goes = [await ended(world, webhook="") for _ in range(3)]
    world.clock.advance(1)
    assert [await world.storage.purge(world.now, 1) for _ in range(3)] == [1, 1, 1]
    assert [await world.storage.job(job) for job in goes] == [None] * 3
    assert await world.storage.purge(world.now, 10) == 0


async def test_who_waits_is_woken_by_an_end_that_is_to_be_told_and_by_no_other(world: World) -> None:
    silent, told = [await world.start(webhook=webhook) for webhook in ("", HOOK)]
    hints = hints_of(world.storage)
    async with aclosing(hints):
        await world.finish(silent)
        await world.dispatch()
        assert not (await heard(hints, lambda hint: bool(hint.keys) or hint.ends)).ends
        await world.finish(told)
        await heard(hints, lambda hint: hint.ends)


async def test_what_is_not_settled_outlives_the_process_and_is_another_ones_in_the_end(durable: Factory) -> None:
    world = await durable()
    told, held, off, untaken = [await ended(world) for _ in range(4)]
    assert sorted(await take(world, 4)) == sorted([told, held, off, untaken])
    world.clock.advance(HOLD)
    await take(world, 4)
    await world.storage.settle_ends([told], [(off, 2 * HOLD), (untaken, 0)])
    await world.restart()
    seen = await take(world)
    # Where one process owns the store, nobody has what that had.
    assert set(seen) in ({untaken}, {untaken, held})
    world.clock.advance(HOLD)
    assert held in {*seen, *await take(world)}
    world.clock.advance(HOLD)
    again = await take(world)
    assert off in again
    assert told not in again
    await world.storage.settle_ends([held, off, untaken])
    await world.restart()
    world.clock.advance(9 * HOLD)
    assert await world.storage.take_ends(10, HOLD) == Ends()


async def test_a_job_that_lived_through_a_restart_is_told_of_too(durable: Factory) -> None:
    world = await durable()
    job = await world.create(webhook=HOOK)
    await world.restart()
    await world.finish(await world.claim_of(job))
    await world.restart()
    assert await take(world) == [job]
