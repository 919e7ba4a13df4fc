"""Fan-out: branches count down in the store, wake their job once, and hand their results over in order."""

from __future__ import annotations

import random
from typing import Any

import pytest

from holon.domain.events import BranchesDone
from holon.domain.job import Status
from holon.domain.task import DISPATCH_TIMEOUT, FAILURE, RESULT_TIMEOUT, SUCCESS, Outcome, TaskError
from holon.ports import NewFanOut, Offer, Result, Superseded
from tests.claims import claimed
from tests.contract.world import BROKEN, OK, Factory, T, World


async def branched(world: World, n: int, *, fail_fast: bool = False) -> list[Offer]:
    """The branches of a new job, leased."""
    await world.fan_out(n, fail_fast=fail_fast)
    return await world.lease((await world.hand()).seat(n))


async def events(world: World, job: str) -> list[object]:
    return [event for _, event in (await world.claim_of(job)).events]


async def test_the_last_branch_wakes_the_job_and_only_the_last(world: World) -> None:
    offers = await branched(world, 3)
    for offer in offers[:2]:
        assert await world.complete(offer) is None
        assert await world.ready() == []
    assert await world.complete(offers[2]) is None
    assert await events(world, offers[0].job_id) == [BranchesDone(0, failed=0)]


async def test_the_results_are_handed_over_in_the_order_of_the_branches(world: World) -> None:
    offers = await branched(world, 12)
    shuffled = random.Random(1).sample(offers, len(offers))
    for offer in shuffled:
        number = offer.task_id.rsplit("-", 1)[1].encode()
        await world.complete(offer, Outcome(SUCCESS, b'{"n":' + number + b"}"))
    outcomes = await world.storage.branches(offers[0].job_id, 0)
    assert [task for task, _ in outcomes] == [offer.task_id for offer in offers]
    assert [outcome.data for _, outcome in outcomes] == [b'{"n":%d}' % number for number in range(12)]


async def test_branches_without_an_outcome_are_left_out(world: World) -> None:
    offers = await branched(world, 3)
    assert list(await world.storage.branches(offers[0].job_id, 0)) == []
    await world.complete(offers[1])
    assert list(await world.storage.branches(offers[0].job_id, 0)) == [(offers[1].task_id, OK)]
    assert list(await world.storage.branches("0-unknown", 0)) == []


async def test_a_repeated_branch_result_counts_once(world: World) -> None:
    offers = await branched(world, 2)
    for _ in range(3):
        assert await world.complete(offers[0]) is None
    assert await world.ready() == []
    await world.complete(offers[1])
    assert await events(world, offers[0].job_id) == [BranchesDone(0, failed=0)]
    assert await world.complete(offers[0]) is None


async def test_a_whole_fan_out_may_end_in_one_batch(world: World) -> None:
    offers = await branched(world, 50)
    results = [Result(offer.task_id, offer.lease_id, OK) for offer in offers]
    await world.storage.complete(results, "w1", ())
    assert await events(world, offers[0].job_id) == [BranchesDone(0, failed=0)]


async def test_a_failed_branch_is_counted_and_does_not_end_the_others(world: World) -> None:
    offers = await branched(world, 3)
    await world.complete(offers[0], BROKEN)
    await world.complete(offers[1], Outcome("cancelled"))
    assert await world.ready() == []
    await world.complete(offers[2], Outcome("a_status_of_its_own"))
    assert await events(world, offers[0].job_id) == [BranchesDone(0, failed=2)]
    outcomes = await world.storage.branches(offers[0].job_id, 0)
    assert [outcome.status for _, outcome in outcomes] == ["failure", "cancelled", "a_status_of_its_own"]


async def test_a_branch_is_tried_again_before_it_counts(world: World) -> None:
    [offer] = await branched(world, 1)
    await world.complete(offer, BROKEN, 1_000)
    assert await world.ready() == []
    await world.after(1_000)
    [again] = await world.lease((await world.hand("w2")).seat())
    assert again.generation == 2
    await world.complete(again)
    assert await events(world, offer.job_id) == [BranchesDone(0, failed=0)]


async def test_fail_fast_wakes_the_job_at_the_first_failure_and_never_again(world: World) -> None:
    offers = await branched(world, 4, fail_fast=True)
    await world.complete(offers[0])
    assert await world.ready() == []
    await world.complete(offers[1], BROKEN)
    [event] = await events(world, offers[0].job_id)
    assert isinstance(event, BranchesDone)
    assert (event.step, event.fail_fast, event.failed) == (0, True, 1)
    await world.complete(offers[2], BROKEN)
    await world.complete(offers[3])
    assert await world.ready() == []


async def test_a_fan_out_that_failed_fast_ends_its_open_branches_with_its_job(world: World) -> None:
    hand = await world.hand()
    await world.fan_out(3, fail_fast=True)
    first, second = await world.lease(hand.seat(2))
    await world.complete(first, BROKEN)
    await world.commit(world.step(await world.claim_of(first.job_id), Status.FAILED, end_tasks=True))
    assert await world.waiting() == 0
    assert [stop.lease for stop in await world.stops()] == [hand.ref(second)]
    assert await world.complete(second) is Superseded.JOB_ALREADY_TERMINATED


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(SUCCESS, b'{"x":"' + b"x" * 400 + b'"}'),
        Outcome(FAILURE, error=TaskError("PERMANENT_ERROR", "", b'{"x":"' + b"x" * 400 + b'"}')),
        Outcome(FAILURE, error=TaskError("PERMANENT_ERROR", "x" * 400)),
    ],
    ids=["data", "details of an error", "messages"],
)
async def test_results_over_the_limit_of_their_sum_wake_the_job_once_and_say_so(
    store: Factory, outcome: Outcome
) -> None:
    world = await store(max_fan_in_bytes=1_000)
    offers = await branched(world, 4)
    for offer in offers:
        await world.complete(offer, outcome)
    [event] = await events(world, offers[0].job_id)
    assert isinstance(event, BranchesDone)
    assert event.too_large


async def test_what_the_store_says_of_branches_that_nobody_did_counts_too(store: Factory) -> None:
    world = await store(max_fan_in_bytes=100)
    await world.fan_out(4, dispatch_timeout=1_000)
    await world.after(1_000)
    [claim] = await claimed(world.storage)
    [(_, event)] = claim.events
    assert isinstance(event, BranchesDone)
    assert event.too_large


async def test_results_up_to_the_limit_are_not_too_large(store: Factory) -> None:
    world = await store(max_fan_in_bytes=1_000)
    offers = await branched(world, 2)
    for offer in offers:
        await world.complete(offer, Outcome(SUCCESS, b'{"x":"' + b"x" * 400 + b'"}'))
    assert await events(world, offers[0].job_id) == [BranchesDone(0, failed=0)]


async def test_the_branches_of_one_step_are_apart_from_those_of_the_next(world: World) -> None:
    offers = await branched(world, 2)
    for offer in offers:
        await world.complete(offer)
    claim = await world.claim_of(offers[0].job_id)
    await world.fan_out(1, claim=claim)
    assert list(await world.storage.branches(claim.job.id, 1)) == []
    [again] = await world.lease((await world.hand()).seat(5))
    assert await world.complete(again) is None
    assert await events(world, claim.job.id) == [BranchesDone(1, failed=0)]


async def test_chunks_become_tasks_one_after_the_other_and_every_branch_once(world: World) -> None:
    tasks = await world.fan_out(3, rest=(2, 2, 1))
    job = tasks[0].rsplit("-", 2)[0]
    counts = [await world.waiting()]
    for _ in range(5):
        await world.storage.spawn(job, 0)
        counts.append(await world.waiting())
    assert counts == [3, 5, 7, 8, 8, 8]
    assert (await world.fire()).next_due is None
    offers = await world.lease((await world.hand()).seat(100))
    assert [offer.task_id for offer in offers] == tasks
    for offer in offers:
        assert await world.ready() == []
        await world.complete(offer)
    assert await events(world, job) == [BranchesDone(0, failed=0)]
    assert [task for task, _ in await world.storage.branches(job, 0)] == tasks


async def test_what_a_spawn_made_is_leased_next(world: World) -> None:
    hand = await world.hand()
    tasks = await world.fan_out(1, rest=(2,))
    job = tasks[0].rsplit("-", 2)[0]
    await world.storage.spawn(job, 0)
    assert [offer.task_id for offer in await world.lease(hand.seat(10))] == tasks


async def test_a_job_is_not_woken_while_chunks_of_its_fan_out_are_left(world: World) -> None:
    tasks = await world.fan_out(1, rest=(1,))
    job = tasks[0].rsplit("-", 2)[0]
    hand = await world.hand()
    [offer] = await world.lease(hand.seat())
    await world.complete(offer)
    assert await world.ready() == []
    await world.storage.spawn(job, 0)
    [again] = await world.lease(hand.seat())
    await world.complete(again)
    assert await events(world, job) == [BranchesDone(0, failed=0)]


async def test_nothing_is_spawned_while_a_hundred_branches_wait(world: World) -> None:
    tasks = await world.fan_out(101, rest=(10, 10))
    job = tasks[0].rsplit("-", 2)[0]
    hand = await world.hand()
    await world.storage.spawn(job, 0)
    assert await world.waiting() == 101
    [offer] = await world.lease(hand.seat(1))
    await world.storage.spawn(job, 0)
    assert await world.waiting() == 100
    await world.lease(hand.seat(1))
    await world.storage.spawn(job, 0)
    assert await world.waiting() == 109
    await world.storage.spawn(job, 0)
    assert await world.waiting() == 109
    assert await world.complete(offer) is None


async def test_a_spawn_that_nobody_did_is_called_for_by_a_timer(world: World) -> None:
    tasks = await world.fan_out(2, rest=(2, 2))
    job = tasks[0].rsplit("-", 2)[0]
    seen = set()
    for _ in range(10):
        due = await world.fire()
        seen |= set(due.spawns)
        if due.next_due is None or seen:
            break
        world.clock.advance(max(0, due.next_due - world.now))
    assert seen == {(job, 0)}


async def test_spawning_for_a_job_that_is_unknown_or_over_does_nothing(world: World) -> None:
    hand = await world.hand()
    tasks = await world.fan_out(1, rest=(5,), fail_fast=True)
    job = tasks[0].rsplit("-", 2)[0]
    [offer] = await world.lease(hand.seat())
    await world.complete(offer, BROKEN)
    await world.commit(world.step(await world.claim_of(job), Status.FAILED, end_tasks=True))
    for args in ((job, 0), (job, 7), ("0-unknown", 0)):
        await world.storage.spawn(*args)
        assert await world.lease(hand.seat(5)) == []
    assert await world.waiting() == 0


async def test_the_needs_of_chunks_not_spawned_are_not_yet_waiting(world: World) -> None:
    await world.fan_out(1, rest=(5,))
    assert await world.waiting(T) == 1


async def codes(world: World, job: str) -> list[str]:
    """The codes of the errors that a job's branches ended with, each with its index."""
    return [
        f"{task.rsplit('-', 1)[1]} {outcome.error.code if outcome.error else ''}"
        for task, outcome in await world.storage.branches(job, 0)
    ]


@pytest.mark.parametrize(
    ("timeout", "code"), [("dispatch_timeout", DISPATCH_TIMEOUT), ("result_timeout", RESULT_TIMEOUT)]
)
async def test_the_timeouts_of_branches_that_are_spawned_later_count_from_the_dispatch_too(
    world: World, timeout: str, code: str
) -> None:
    fields: dict[str, Any] = {timeout: 5_000}
    tasks = await world.fan_out(1, rest=(1, 1), **fields)
    job = tasks[0].rsplit("-", 2)[0]
    for _ in range(2):
        world.clock.advance(2_000)
        await world.storage.spawn(job, 0)
    assert await world.waiting() == 3
    await world.after(999)
    assert await codes(world, job) == []
    await world.after(1)
    assert await codes(world, job) == [f"{index} {code}" for index in range(3)]
    assert await events(world, job) == [BranchesDone(0, failed=3)]


@pytest.mark.parametrize(
    ("timeout", "code"), [("dispatch_timeout", DISPATCH_TIMEOUT), ("result_timeout", RESULT_TIMEOUT)]
)
async def test_branches_whose_time_was_over_before_they_were_spawned_end_at_once(
    world: World, timeout: str, code: str
) -> None:
    hand = await world.hand()
    fields: dict[str, Any] = {timeout: 1_000}
    tasks = await world.fan_out(1, rest=(4, 2), **fields)
    job = tasks[0].rsplit("-", 2)[0]
    await world.after(1_000)
    await world.storage.spawn(job, 0)
    assert await world.lease(hand.seat(10)) == []
    assert (await codes(world, job), await world.waiting()) == ([f"{index} {code}" for index in range(5)], 0)
    assert await world.ready() == []
    await world.storage.spawn(job, 0)
    assert await world.lease(hand.seat(10)) == []
    assert (await world.task_record(tasks[-1])).state == "over"
    assert await events(world, job) == [BranchesDone(0, failed=7)]
    ends = [(event.task_id, event.details["code"]) for event in await world.told(job) if event.type == "task_finished"]
    assert ends == [(task, code) for task in tasks]


async def test_a_branch_that_ends_as_it_is_spawned_may_end_the_others(world: World) -> None:
    claim = await world.start()
    first, *rest = (world.task(claim, index, dispatch_timeout=1_000 if index == 3 else None) for index in range(6))
    fan = NewFanOut(6, True, (tuple(rest[:4]), tuple(rest[4:])))
    await world.commit(world.step(claim, Status.WAITING_FOR_PARALLEL, tasks=(first,), fan_out=fan))
    hand = await world.hand()
    [offer] = await world.lease(hand.seat())
    await world.after(1_000)
    job = claim.job.id
    await world.storage.spawn(job, 0)
    assert await world.lease(hand.seat(10)) == []
    assert (await codes(world, job), await world.waiting()) == ([f"3 {DISPATCH_TIMEOUT}"], 0)
    assert [stop.lease for stop in await world.stops()] == [hand.ref(offer)]
    [event] = await events(world, job)
    assert isinstance(event, BranchesDone)
    assert (event.fail_fast, event.failed) == (True, 1)
    await world.storage.spawn(job, 0)
    assert await world.lease(hand.seat(10)) == []
