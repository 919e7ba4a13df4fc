"""What a task cost that is given back is charged once, and no more than it might."""

from __future__ import annotations

import pytest

from holon.domain.events import TaskEnded
from tests.contract.costs import affords, cost, ends, given
from tests.contract.world import World


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


async def test_what_is_given_back_late_is_told_also_when_another_has_the_task_meanwhile(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 100, 40)
    await world.after(world.settings.lease)
    other = await world.hand("w2")
    [again] = await world.lease(other.seat())
    await world.touch(accepts=(other.ref(again),))
    await world.hand_back(hand, offer, cost=12)
    assert await cost(world, offer) == 12
    [line] = [one for one in await world.told(offer.job_id) if one.type == "result_superseded"]
    assert (line.worker_id, line.task_id) == ("w1", offer.task_id)
    assert line.details == {"reason": "stale_task", "status": "rejected", "cost": 12}


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
