"""Many calls at once: each is whole, and what only one may have only one gets."""

from __future__ import annotations

import asyncio

import pytest

from holon.domain.events import BranchesDone, Woken
from holon.domain.job import Status
from holon.domain.value import replace
from holon.errors import TooLarge
from holon.ports import MAX_DOCUMENT_BYTES, Appended, Claim, Creation, Note, Put, Result
from tests.claims import claimed
from tests.contract.world import OK, World


async def test_jobs_created_at_once_are_all_created(world: World) -> None:
    items = [world.new_job() for _ in range(100)]
    await asyncio.gather(*(world.storage.create_jobs([item]) for item in items))
    assert await world.ready() == [item.job.id for item in items]


async def test_one_request_sent_many_times_at_once_makes_one_job(world: World) -> None:
    items = [world.new_job(request_id="r") for _ in range(20)]
    created = await asyncio.gather(*(world.storage.create_jobs([item]) for item in items))
    answers = [one.jobs[0] for one in created]
    assert len({job for job, _ in answers}) == 1
    assert [what for _, what in answers].count(Creation.CREATED) == 1


async def test_one_event_put_in_many_times_at_once_is_there_once(world: World) -> None:
    job = await world.create()
    answers = await asyncio.gather(*(world.append(job, Woken(0), "key") for _ in range(20)))
    assert sorted(answers, key=str) == [Appended.APPENDED] + [Appended.DUPLICATE] * 19
    assert len((await world.claim_of(job)).events) == 1


async def test_of_two_commits_under_one_claim_one_lands(world: World) -> None:
    claim = await world.start()
    steps = [world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),)) for _ in range(2)]
    done = await asyncio.gather(*(world.commit(step) for step in steps))
    assert sorted(one.conflict for one in done) == [False, True]
    assert await world.waiting() == 1


async def test_a_task_is_leased_once_however_many_ask(world: World) -> None:
    hands = [await world.hand(f"w{number}") for number in range(10)]
    tasks = [await world.dispatch() for _ in range(5)]
    offers = await asyncio.gather(*(world.lease(hand.seat(2)) for hand in hands))
    assert sorted(offer.task_id for some in offers for offer in some) == sorted(tasks)


async def test_credits_hold_when_offers_come_from_all_sides(world: World) -> None:
    hand = await world.hand(credits=3)
    for _ in range(10):
        await world.dispatch()
    offers = await asyncio.gather(*(world.lease(hand.seat(2)) for _ in range(10)))
    assert sum(len(some) for some in offers) == 3


async def test_branches_that_end_at_once_wake_their_job_once(world: World) -> None:
    await world.fan_out(50)
    offers = await world.lease((await world.hand()).seat(50))
    results = [Result(offer.task_id, offer.lease_id, OK) for offer in offers]
    done = await asyncio.gather(*(world.storage.complete([result], "w1", ()) for result in results * 2))
    assert all(one.verdicts == (None,) for one in done)
    [claim] = await claimed(world.storage)
    assert [event for _, event in claim.events] == [BranchesDone(0)]


async def test_a_call_that_was_cancelled_can_be_repeated(world: World) -> None:
    item = world.new_job(request_id="r")
    call = asyncio.ensure_future(world.storage.create_jobs([item]))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    await world.storage.create_jobs([item])
    assert await world.ready() == [item.job.id]


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("noted", [False, True])
async def test_a_job_whose_creator_is_cancelled_is_begun_if_it_is_made(world: World, noted: bool, turns: int) -> None:
    item = world.new_job()
    if noted:
        item = replace(item, note=Note("notes", Put("n", b"1", 0)))
    begun: list[Claim] = []
    world.storage.run_jobs(1, begun.append)
    call = asyncio.create_task(world.storage.create_jobs([item]))
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    made = await world.storage.job(item.job.id) is not None
    assert len(begun) == made


async def test_a_job_whose_note_is_refused_is_not_made_or_is_ready_for_the_next(world: World) -> None:
    large = Note("notes", Put("n", bytes(MAX_DOCUMENT_BYTES + 1), 0))
    item = replace(world.new_job(), note=large)
    with pytest.raises(TooLarge):
        await world.storage.create_jobs([item])
    made = await world.storage.job(item.job.id) is not None
    assert await world.ready() == [item.job.id] * made
