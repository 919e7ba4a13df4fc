"""What work may cost and did: never more is charged and reserved than a job's budget, and nothing is charged twice."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.events import BranchesDone, CancelRequested, TaskEnded
from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.task import CANCELLED, Outcome, job_of
from holon.domain.value import replace
from holon.ports import Claim, Committed, JobFilter, NewFanOut, Offer, Result, Superseded
from holon.storage.ledger.costs import MOST_UNREPORTED
from tests.contract.world import BROKEN, OK, Factory, Hand, T, World

DEAR = Need("t", max_cost=2**53 - 1)
FREE = Need("t", max_cost=0)


async def test_an_offer_says_what_its_task_may_cost(world: World) -> None:
    hand = await world.hand()
    for need in (DEAR, FREE, T):
        offer = await world.accepted(hand, need)
        assert offer.max_cost == need.max_cost


async def test_tasks_that_may_cost_different_sums_wait_apart(world: World) -> None:
    hand = await world.hand()
    dear, free = await world.dispatch(DEAR), await world.dispatch(FREE)
    assert await world.lease(hand.seat(5, T)) == []
    assert [one.task_id for one in await world.lease(hand.seat(5, FREE))] == [free]
    assert [one.task_id for one in await world.lease(hand.seat(5, DEAR))] == [dear]


async def test_a_task_that_is_tried_again_may_cost_the_same(world: World) -> None:
    offer = await world.accepted(await world.hand(), FREE)
    await world.complete(offer, BROKEN, 1_000)
    await world.after(1_000)
    [again] = await world.lease((await world.hand("w2")).seat(1, FREE))
    assert (again.task_id, again.max_cost) == (offer.task_id, 0)


async def test_the_later_branches_of_a_fan_out_may_cost_the_same(world: World) -> None:
    first, *_ = await world.fan_out(1, rest=(2,), need=FREE)
    hand = await world.hand()
    offers = await world.lease(hand.seat(5, FREE))
    await world.storage.spawn(job_of(first), 0)
    offers += await world.lease(hand.seat(5, FREE))
    assert [one.max_cost for one in offers] == [0] * 3


async def test_what_a_jobs_tasks_may_cost_survives_a_restart(durable: Factory) -> None:
    world = await durable()
    claim = await world.start()
    step = world.step(claim)
    await world.commit(replace(step, job=replace(step.job, budget=7), keep=False))
    waiting = await world.dispatch(FREE)
    held = await world.accepted(await world.hand(), DEAR)
    await world.restart()
    assert (await world.record(claim.job.id)).job.budget == 7
    hand, opened = await world.resume("w1", held)
    assert [one.max_cost for one in opened.kept] == [2**53 - 1]
    [offer] = await world.lease(hand.seat(1, FREE))
    assert (offer.task_id, offer.max_cost) == (waiting, 0)


async def with_budget(world: World, budget: int, caps: list[int], **more: Any) -> Committed:
    """A new job with so much to spend asks for a task, or for several, each of which may cost so much."""
    claim = await world.start(budget=budget)
    tasks = tuple(world.task(claim, index, reserves=cap, **more) for index, cap in enumerate(caps))
    return await world.commit(world.step(claim, Status.WAITING_FOR_WORKER, tasks=tasks))


async def given(world: World, hand: Hand, budget: int = 100, cap: int = 40, **more: Any) -> Offer:
    """The only task of a new job with this budget, accepted."""
    assert not (await with_budget(world, budget, [cap], **more)).over_budget
    [offer] = await world.lease(hand.seat())
    await world.touch(accepts=(hand.ref(offer),))
    return offer


async def ends(
    world: World, offer: Offer, cost: int | None, outcome: Outcome = OK, retry_after: int | None = None
) -> Superseded | None:
    result = Result(offer.task_id, offer.lease_id, outcome, retry_after, cost=cost)
    return (await world.storage.complete([result], offer.worker_id, 0, ())).verdicts[0]


async def affords(world: World, job_id: str, cap: int) -> bool:
    """Whether a job, which is ready, may have another task that may cost so much; if so it has."""
    claim = await world.claim_of(job_id)
    task = world.task(claim, reserves=cap)
    done = await world.commit(world.step(claim, Status.WAITING_FOR_WORKER, tasks=(task,)))
    if done.over_budget:
        # Nothing was written, and the claim is as it was.
        assert await world.keep(claim) == [True]
        await world.release(claim)
    return not done.over_budget


async def cost(world: World, offer: Offer) -> int | None:
    return (await world.record(offer.job_id)).cost


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


async def test_a_lost_lease_stays_reserved_until_its_worker_reports(world: World) -> None:
    offer = await given(world, await world.hand(), 100, 40)
    await world.hand()
    other = await world.hand("w2")
    [again] = await world.lease(other.seat())
    await world.touch(accepts=(other.ref(again),))
    await ends(world, again, 40)
    assert not await affords(world, offer.job_id, 21)
    # Late, it costs what it says, once.
    for _ in range(2):
        assert await ends(world, offer, 15) is Superseded.STALE_TASK
    assert await cost(world, offer) == 55
    assert not await affords(world, offer.job_id, 46)
    assert await affords(world, offer.job_id, 45)


async def test_what_is_not_reported_is_told_and_counts_as_spent_in_full(world: World) -> None:
    claim = await world.start(budget=100)
    await world.fan_out(3, claim=claim, reserves=20)
    hand = await world.hand()
    first, second, _ = await world.lease(hand.seat(3))
    record = await world.record(first.job_id)
    assert (record.cost, record.unreported, record.spent) == (None, 0, None)
    await ends(world, first, 7)
    other = await world.hand()
    record = await world.record(first.job_id)
    assert (record.cost, record.unreported, record.spent) == (7, 40, 47)
    # The one of them that goes on is no longer lost.
    again = {one.task_id: one for one in await world.lease(other.seat(1))}
    assert await ends(world, second, 3) in (None, Superseded.STALE_TASK)
    record = await world.record(first.job_id)
    assert (record.cost, record.unreported, record.spent) == (10, 20, 30)
    assert len(again) == 1
    [page] = (await world.storage.jobs(JobFilter("ann"), 10))[0]
    assert (page.cost, page.unreported, page.spent) == (10, 20, 30)


async def test_what_is_not_reported_of_a_job_that_is_over_is_told_until_it_is(world: World) -> None:
    offer = await given(world, await world.hand(), 100, 40)
    await world.append(offer.job_id, CancelRequested("ann"))
    claim = await world.claim_of(offer.job_id)
    await world.commit(world.step(claim, Status.CANCELLED))
    record = await world.record(offer.job_id)
    assert (record.cost, record.unreported, record.spent) == (None, 40, 40)
    await ends(world, offer, 5)
    record = await world.record(offer.job_id)
    assert (record.cost, record.unreported, record.spent) == (5, 0, 5)


async def test_a_lost_lease_whose_replacement_the_budget_does_not_cover_ends_its_task(world: World) -> None:
    offer = await given(world, await world.hand(), 79, 40)
    await world.hand()
    assert await world.lease((await world.hand("w2")).seat()) == []
    claim = await world.claim_of(offer.job_id)
    [(_, event)] = claim.events
    assert isinstance(event, TaskEnded)
    assert event.outcome.error is not None
    assert event.outcome.error.code == "LIMIT_EXCEEDED"
    assert await ends(world, offer, 40) is not None
    assert await cost(world, offer) == 40


async def test_a_lease_that_ran_out_and_goes_on_is_reserved_once(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 80, 40)
    await world.after(world.settings.lease)
    assert await world.waiting() == 1
    assert (await world.touch(extends=(hand.ref(offer),))).lost == ()
    await ends(world, offer, 40)
    assert await affords(world, offer.job_id, 40)


async def test_the_result_of_a_lease_that_ran_out_is_charged_once(world: World) -> None:
    offer = await given(world, await world.hand(), 80, 40)
    await world.after(world.settings.lease)
    assert await ends(world, offer, 30) is None
    assert await cost(world, offer) == 30
    assert await affords(world, offer.job_id, 50)


async def test_what_is_given_back_costs_nothing(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 40, 40)
    await world.hand_back(hand, offer)
    [again] = await world.lease(hand.seat())
    await ends(world, again, 0)
    assert await affords(world, offer.job_id, 40)


@pytest.mark.parametrize(("told", "charged"), [(0, 0), (12, 12), (40, 40), (41, 40)])
async def test_what_is_given_back_is_charged_what_it_cost_before(world: World, told: int, charged: int) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 100, 40)
    for _ in range(2):
        # A repeat is charged nothing.
        await world.hand_back(hand, offer, again_after=None, cost=told)
    assert await cost(world, offer) == charged
    [again] = await world.lease((await world.hand("w2")).seat())
    await ends(world, again, 3)
    assert await cost(world, offer) == charged + 3
    assert not await affords(world, offer.job_id, 98 - charged)
    assert await affords(world, offer.job_id, 97 - charged)


async def test_what_is_given_back_late_is_charged_what_it_cost_before_once(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 100, 40)
    await world.after(world.settings.lease)
    for _ in range(2):
        await world.hand_back(hand, offer, cost=12)
        assert await cost(world, offer) == 12
    assert await world.waiting() == 1


@pytest.mark.parametrize("goes_on", [False, True])
async def test_what_a_worker_has_stopped_that_lost_its_lease_is_charged_once(world: World, goes_on: bool) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 100, 40)
    await world.after(world.settings.lease)
    if goes_on:
        await world.touch(extends=(hand.ref(offer),))
    for _ in range(2):
        assert await ends(world, offer, 12, outcome=Outcome(CANCELLED)) is Superseded.STALE_TASK
        assert await cost(world, offer) == 12
    [again] = await world.lease((await world.hand("w2")).seat())
    await ends(world, again, 3)
    assert await cost(world, offer) == 15
    assert not await affords(world, offer.job_id, 86)
    assert await affords(world, offer.job_id, 85)


async def test_what_is_given_back_and_has_used_up_the_budget_is_over(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 79, 40)
    await world.hand_back(hand, offer, cost=40)
    assert await world.waiting() == 0
    claim = await world.claim_of(offer.job_id)
    [(_, event)] = claim.events
    assert isinstance(event, TaskEnded)
    assert event.outcome.error is not None
    assert event.outcome.error.code == "LIMIT_EXCEEDED"
    [line] = [one for one in await world.told(offer.job_id) if one.type == "task_finished"]
    assert line.details["cost"] == 40
    assert await cost(world, offer) == 40


@pytest.mark.parametrize("late", [False, True])
async def test_what_its_worker_did_not_give_back_itself_stays_reserved_until_that_reports(
    world: World, *, late: bool
) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 100, 40)
    if late:
        await world.after(world.settings.lease)
    await world.hand_back(hand, offer, unheard=True)
    other = await world.hand("w2")
    [again] = await world.lease(other.seat())
    await ends(world, again, 40)
    record = await world.record(offer.job_id)
    assert (record.cost, record.unreported) == (40, 40)
    await ends(world, offer, 15)
    record = await world.record(offer.job_id)
    assert (record.cost, record.unreported) == (55, 0)


async def test_what_its_worker_did_not_give_back_itself_is_over_where_another_attempt_is_not_covered(
    world: World,
) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 79, 40)
    await world.hand_back(hand, offer, unheard=True)
    assert await world.lease((await world.hand("w2")).seat()) == []
    [(_, event)] = (await world.claim_of(offer.job_id)).events
    assert isinstance(event, TaskEnded)
    assert event.outcome.error is not None
    assert event.outcome.error.code == "LIMIT_EXCEEDED"


async def test_a_job_without_a_budget_is_charged_what_is_given_back(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.hand_back(hand, offer, cost=7)
    assert await cost(world, offer) == 7
    [again] = await world.lease(hand.seat())
    assert (again.task_id, again.generation) == (offer.task_id, 1)
    await ends(world, again, 5)
    assert await cost(world, offer) == 12


async def test_what_is_given_back_late_is_free(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 80, 40)
    await world.after(world.settings.lease)
    other = await world.hand("w2")
    [again] = await world.lease(other.seat())
    await world.hand_back(hand, offer)
    await ends(world, again, 0)
    assert await affords(world, offer.job_id, 80)


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
    [job_id] = [claim.job.id for claim in (await world.after(1_000, want=1)).claims]
    await world.after(world.settings.claim)
    assert await affords(world, job_id, 40)


async def test_what_runs_when_its_job_is_cancelled_is_charged_when_it_reports(world: World) -> None:
    offer = await given(world, await world.hand(), 100, 40)
    await world.append(offer.job_id, CancelRequested("ann"))
    claim = await world.claim_of(offer.job_id)
    await world.commit(world.step(claim, Status.RUNNING, end_tasks=True))
    assert not await affords(world, offer.job_id, 61)
    assert await ends(world, offer, 5) is Superseded.JOB_CANCELLED
    assert await ends(world, offer, 5) is Superseded.JOB_CANCELLED
    assert await cost(world, offer) == 5
    assert await affords(world, offer.job_id, 95)


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
        done = await world.storage.complete([result], "w1", 0, ())
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


async def test_a_lease_that_goes_on_leaves_the_others_what_its_replacement_would_have_had(world: World) -> None:
    claim = await world.start(budget=120)
    await world.fan_out(2, claim=claim, reserves=40)
    hand, other = await world.hand(), await world.hand("w2")
    [first] = await world.lease(hand.seat())
    await world.touch(accepts=(hand.ref(first),))
    await world.after(world.settings.lease - 1)
    [second] = await world.lease(other.seat())
    await world.touch(accepts=(other.ref(second),))
    await world.after(1)
    assert await world.waiting() == 1
    assert (await world.touch(extends=(hand.ref(first),))).lost == ()
    await ends(world, second, 40, BROKEN, 1_000)
    await world.after(1_000)
    [again] = await world.lease(other.seat(1, T, only=(T,)))
    assert again.task_id == second.task_id


async def test_of_more_lost_leases_than_are_waited_for_the_rest_is_charged_at_once(world: World) -> None:
    tasks = MOST_UNREPORTED + 4
    await with_budget(world, 2 * tasks, [1] * tasks)
    hand = await world.hand()
    offers = await world.lease(hand.seat(tasks))
    await world.touch(accepts=tuple(map(hand.ref, offers)))
    await world.hand()
    record = await world.record(offers[0].job_id)
    assert record.cost == 4
    for offer in offers:
        await ends(world, offer, 0)
    assert await cost(world, offers[0]) == 4


async def one_too_many(world: World) -> tuple[Hand, Offer]:
    """A lease, and its session, that was lost when a job waited for the reports of as many as it does."""
    tasks = MOST_UNREPORTED + 1
    await with_budget(world, 4 * tasks, [2] * tasks)
    many, hand = await world.hand(), await world.hand("w2")
    offers = await world.lease(many.seat(MOST_UNREPORTED))
    await world.touch(accepts=tuple(map(many.ref, offers)))
    world.clock.advance(world.settings.lease - 1)
    [offer] = await world.lease(hand.seat())
    await world.touch(accepts=(hand.ref(offer),))
    await world.after(1)
    assert await cost(world, offer) is None
    await world.after(world.settings.lease - 1)
    assert await cost(world, offer) == 2
    return hand, offer


@pytest.mark.parametrize("told", [0, 1, None])
async def test_a_lease_that_was_charged_at_once_is_not_charged_again_for_its_result(
    world: World, told: int | None
) -> None:
    _, offer = await one_too_many(world)
    assert await ends(world, offer, told) is None
    assert await cost(world, offer) == 2
    [line] = [one for one in await world.told(offer.job_id) if one.type == "task_finished"]
    assert line.details["cost"] == 2


async def test_a_lease_that_was_charged_at_once_and_goes_on_is_not_charged_again(world: World) -> None:
    hand, offer = await one_too_many(world)
    assert (await world.touch(extends=(hand.ref(offer),))).lost == ()
    # Lost once more, and gone on with.
    await world.after(world.settings.lease)
    hand, opened = await world.resume("w2", offer)
    assert [one.lease_id for one in opened.kept] == [offer.lease_id]
    assert await ends(world, offer, 1) is None
    assert await cost(world, offer) == 2


async def test_a_lease_that_was_charged_at_once_is_over_as_to_money_when_another_has_the_task(world: World) -> None:
    _, offer = await one_too_many(world)
    other = await world.hand("w3")
    again = next(one for one in await world.lease(other.seat(300)) if one.task_id == offer.task_id)
    assert await ends(world, offer, 1) is Superseded.STALE_TASK
    assert await cost(world, offer) == 2
    # Who has it now is charged as ever.
    assert await ends(world, again, 1) is None
    assert await cost(world, offer) == 3


async def test_what_was_charged_at_once_is_known_after_a_restart(durable: Factory) -> None:
    world = await durable()
    _, offer = await one_too_many(world)
    await world.restart()
    assert await ends(world, offer, 1) is None
    assert await cost(world, offer) == 2


async def charged_late(world: World, offer: Offer) -> list[tuple[str, Any]]:
    """Of what came too late for a task: its status, and what it cost."""
    lines = [one.details for one in await world.told(offer.job_id) if one.type == "result_superseded"]
    return [(details["status"], details.get("cost")) for details in lines]


async def cancelled(world: World, offer: Offer) -> None:
    """The offer's job is over while its task is out."""
    await world.append(offer.job_id, CancelRequested("ann"))
    await world.commit(world.step(await world.claim_of(offer.job_id), Status.CANCELLED, end_tasks=True))


@pytest.mark.parametrize(("said", "charged"), [(0, 0), (12, 12), (41, 40), (None, 40)])
async def test_a_late_result_is_told_with_what_its_job_was_charged(
    world: World, said: int | None, charged: int
) -> None:
    offer = await given(world, await world.hand())
    await cancelled(world, offer)
    for _ in range(2):
        assert await ends(world, offer, said) is Superseded.JOB_CANCELLED
    assert await charged_late(world, offer) == [("success", charged)]


async def test_what_is_charged_once_a_job_is_over_is_told_however_much_was_told_before(world: World) -> None:
    offer = await given(world, await world.hand())
    await cancelled(world, offer)
    made_up = replace(offer, lease_id="made-up")
    assert await ends(world, made_up, 3) is Superseded.JOB_CANCELLED
    for _ in range(2):
        assert await ends(world, offer, 12) is Superseded.JOB_CANCELLED
    assert await charged_late(world, offer) == [("success", 3), ("success", 12)]
    assert await cost(world, offer) == 12


async def test_what_is_given_back_once_its_job_is_over_is_moved_with_what_it_cost(store: Factory) -> None:
    world = await store(history_backlog=2**30)
    hand = await world.hand()
    dear, free = await given(world, hand), await given(world, hand)
    for offer in (dear, free):
        await cancelled(world, offer)
    while notices := await world.storage.take(100):
        await world.storage.settle([notice.id for notice in notices])
    for _ in range(2):
        await world.hand_back(hand, dear, cost=12)
        await world.hand_back(hand, free, cost=0)
    [notice] = await world.storage.take(100)
    assert (notice.record.job.id, notice.record.cost) == (dear.job_id, 12)
    [line] = notice.events
    assert (line.type, line.task_id, line.worker_id) == ("result_superseded", dear.task_id, "w1")
    assert line.details == {"reason": "job_cancelled", "status": "rejected", "cost": 12}
