"""What a task may cost is kept with it, and told to whoever is offered it."""

from __future__ import annotations

from holon.domain.matching import Need
from holon.domain.task import job_of
from holon.domain.value import replace
from tests.contract.world import BROKEN, Factory, T, World

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
