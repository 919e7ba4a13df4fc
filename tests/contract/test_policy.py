"""What a task's job may use is kept with both, in every store, and told to whoever is offered the task."""

from __future__ import annotations

from holon.domain.matching import Need
from holon.domain.task import job_of
from holon.domain.value import replace
from tests.contract.world import BROKEN, Factory, T, World

LIMITED = Need("t", allowed_skills=("t", "u"))
NONE = Need("t", allowed_skills=())


async def test_an_offer_says_what_its_task_may_use(world: World) -> None:
    hand = await world.hand()
    for need in (LIMITED, NONE, T):
        offer = await world.accepted(hand, need)
        assert offer.allowed_skills == need.allowed_skills


async def test_tasks_that_may_use_different_skills_wait_apart(world: World) -> None:
    hand = await world.hand()
    limited, none = await world.dispatch(LIMITED), await world.dispatch(NONE)
    assert await world.lease(hand.seat(5, T)) == []
    assert [one.task_id for one in await world.lease(hand.seat(5, NONE))] == [none]
    assert [one.task_id for one in await world.lease(hand.seat(5, LIMITED))] == [limited]


async def test_a_task_that_is_tried_again_may_use_the_same(world: World) -> None:
    offer = await world.accepted(await world.hand(), LIMITED)
    await world.complete(offer, BROKEN, 1_000)
    await world.after(1_000)
    [again] = await world.lease((await world.hand("w2")).seat(1, LIMITED))
    assert (again.task_id, again.allowed_skills) == (offer.task_id, ("t", "u"))


async def test_the_later_branches_of_a_fan_out_may_use_the_same(world: World) -> None:
    first, *_ = await world.fan_out(1, rest=(2,), need=LIMITED)
    hand = await world.hand()
    offers = await world.lease(hand.seat(5, LIMITED))
    await world.storage.spawn(job_of(first), 0)
    offers += await world.lease(hand.seat(5, LIMITED))
    assert [one.allowed_skills for one in offers] == [("t", "u")] * 3


async def test_what_a_job_and_its_tasks_may_use_survives_a_restart(durable: Factory) -> None:
    world = await durable()
    claim = await world.start()
    step = world.step(claim)
    await world.commit(replace(step, job=replace(step.job, allowed_skills=("t",)), keep=False))
    waiting = await world.dispatch(NONE)
    held = await world.accepted(await world.hand(), LIMITED)
    await world.restart()
    assert (await world.record(claim.job.id)).job.allowed_skills == ("t",)
    hand, opened = await world.resume("w1", held)
    assert [one.allowed_skills for one in opened.kept] == [("t", "u")]
    [offer] = await world.lease(hand.seat(1, NONE))
    assert (offer.task_id, offer.allowed_skills) == (waiting, ())
