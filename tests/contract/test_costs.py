"""What work did cost: never more is charged and reserved than a job's budget, and nothing is charged twice."""

from __future__ import annotations

import pytest

from holon.domain.events import BranchesDone, TaskEnded
from holon.domain.job import Status
from holon.domain.task import job_of
from holon.ports import Claim, NewFanOut, Result, Superseded
from tests.claims import claimed
from tests.contract.costs import affords, cost, ends, given, with_budget
from tests.contract.world import BROKEN, OK, Factory, T, World


async def test_a_step_whose_tasks_may_cost_more_than_is_left_is_not_written(world: World) -> None:
    claim = await world.start(budget=100)
    tasks = tuple(world.task(claim, index, reserves=34) for index in range(3))
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=tasks)
    assert (await world.commit(step)).over_budget
    assert (await world.record(claim.job.id)).job.step == claim.job.step
    assert await world.waiting() == 0
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=tasks[:1])
    done = await world.commit(step)
    assert (done.over_budget, done.conflict) == (False, False)
    assert await world.waiting() == 1


async def test_the_branches_that_are_not_made_yet_are_reserved_too(world: World) -> None:
    claim = await world.start(budget=100)
    first, *_ = await world.fan_out(1, rest=(3,), claim=claim, reserves=25)
    hand = await world.hand()
    [offer] = await world.lease(hand.seat())
    assert offer.task_id == first
    # Each is charged for itself, and all is there again when all is over.
    await ends(world, offer, 25)
    await world.storage.spawn(job_of(first), 0)
    for offer in await world.lease(hand.seat(5)):
        await ends(world, offer, 5)
    assert (await world.record(claim.job.id)).cost == 40
    assert await affords(world, claim.job.id, 60)
    claim = await world.start(budget=99)
    branches = tuple(world.task(claim, index, reserves=25) for index in range(4))
    step = world.step(
        claim, Status.WAITING_FOR_PARALLEL, tasks=branches[:1], fan_out=NewFanOut(4, False, (branches[1:],))
    )
    assert (await world.commit(step)).over_budget


@pytest.mark.parametrize(("told", "charged"), [(0, 0), (12, 12), (40, 40), (41, 40), (None, 40)])
async def test_an_outcome_charges_what_it_cost_and_no_more_than_was_reserved(
    world: World, told: int | None, charged: int
) -> None:
    offer = await given(world, await world.hand())
    assert await cost(world, offer) is None
    assert await ends(world, offer, told) is None
    # A repeat is charged nothing.
    assert await ends(world, offer, told) is None
    assert await cost(world, offer) == charged
    assert not await affords(world, offer.job_id, 101 - charged)
    assert await affords(world, offer.job_id, 100 - charged)
    [line] = [one for one in await world.told(offer.job_id) if one.type == "task_finished"]
    assert line.details["cost"] == charged


async def test_a_job_without_a_budget_is_charged_what_its_tasks_cost(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await ends(world, offer, 7, BROKEN, 1_000)
    assert await cost(world, offer) == 7
    await world.after(1_000)
    [again] = await world.lease(hand.seat(1, T, only=(T,)))
    await ends(world, again, 2**53 - 1)
    assert await cost(world, offer) == 2**53 - 1


async def test_a_failure_is_charged_and_tried_again_while_the_budget_covers_it(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 100, 40)
    await ends(world, offer, 30, BROKEN, 1_000)
    assert await cost(world, offer) == 30
    await world.after(1_000)
    [again] = await world.lease(hand.seat(1, T, only=(T,)))
    await ends(world, again, 31, BROKEN, 1_000)
    # 39 are left of it, and another attempt may cost 40.
    assert await cost(world, offer) == 61
    claim = await world.claim_of(offer.job_id)
    [(_, event)] = claim.events
    assert isinstance(event, TaskEnded)
    assert event.outcome.error is not None
    assert event.outcome.error.code == "LIMIT_EXCEEDED"
    assert event.outcome.error.message.endswith("which may cost 40; the last one ended with TRANSIENT_ERROR")
    assert await world.waiting() == 0
    told = [one.details.get("code") for one in await world.told(offer.job_id) if one.type == "task_finished"]
    assert told == ["TRANSIENT_ERROR", "LIMIT_EXCEEDED"]


async def test_an_attempt_that_timed_out_stays_reserved_and_another_needs_more(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 79, 40, execution_timeout=1_000)
    await world.after(1_000)
    claim = await world.claim_of(offer.job_id)
    [(_, event)] = claim.events
    assert isinstance(event, TaskEnded)
    assert event.outcome.error is not None
    assert event.outcome.error.code == "LIMIT_EXCEEDED"
    await world.release(claim)
    assert not await affords(world, offer.job_id, 40)
    await ends(world, offer, 10)
    assert await cost(world, offer) == 10
    assert await affords(world, offer.job_id, 69)


async def test_a_task_that_nobody_took_in_its_time_is_free(world: World) -> None:
    await with_budget(world, 40, [40], dispatch_timeout=1_000)
    await world.after(1_000)
    [claim] = await claimed(world.storage)
    job_id = claim.job.id
    await world.release(claim)
    assert await affords(world, job_id, 40)


async def test_the_first_failure_of_a_fan_out_frees_what_did_not_begin(world: World) -> None:
    claim = await world.start(budget=100)
    await world.fan_out(2, rest=(2,), fail_fast=True, claim=claim, reserves=25)
    [offer] = await world.lease((await world.hand()).seat(1))
    await ends(world, offer, 10, BROKEN)
    claim = await world.claim_of(offer.job_id)
    assert [type(event) for _, event in claim.events] == [BranchesDone]
    await world.release(claim)
    assert await affords(world, offer.job_id, 90)


async def test_a_step_with_an_outcome_is_written_with_it_if_the_budget_covers_it(world: World) -> None:
    for cap, landed in ((71, False), (70, True)):
        offer = await given(world, await world.hand(), 100, 40)
        job = (await world.record(offer.job_id)).job
        claim = Claim(job, "", (), 0)
        step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim, reserves=cap),))
        result = Result(offer.task_id, offer.lease_id, OK, step=step, cost=30)
        done = await world.storage.complete([result], "w1", ())
        assert (done.verdicts, bool(done.landed)) == ((None,), landed)
        assert await cost(world, offer) == 30


async def test_what_a_job_may_still_cost_survives_a_restart(durable: Factory) -> None:
    world = await durable()
    offer = await given(world, await world.hand(), 100, 20)
    await world.hand()
    other = await world.hand("w2")
    [again] = await world.lease(other.seat())
    await world.touch(accepts=(other.ref(again),))
    await world.restart()
    await world.resume("w2", again)
    await ends(world, again, 15)
    assert await cost(world, offer) == 15
    await world.restart()
    assert not await affords(world, offer.job_id, 66)
    assert await ends(world, offer, 5) is Superseded.STALE_TASK
    assert await cost(world, offer) == 20
    assert await affords(world, offer.job_id, 80)


async def test_a_task_that_may_cost_nothing_is_charged_nothing(world: World) -> None:
    offer = await given(world, await world.hand(), 10, 0)
    await ends(world, offer, 7)
    assert await cost(world, offer) == 0
    assert await affords(world, offer.job_id, 10)
