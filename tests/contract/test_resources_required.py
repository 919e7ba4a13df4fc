"""What a task requires of the machine that does it, and hints at, is kept with it, and told to who is offered it."""

from __future__ import annotations

from holon.domain.matching import Need
from holon.domain.task import job_of
from holon.domain.value import replace
from holon.domain.wants import Wants
from tests.contract.world import Factory, T, World

REQUIRED = '{"devices":[{"type":"gpu"}],"ram_gb":16}'
LARGE = Need("t", resources=REQUIRED, strategy="cheapest", hint="llama")
# No record of such a need is remembered.
LONG = Need("t", resources=f'{{"os":"{"x" * 4_000}"}}')


async def test_an_offer_says_what_its_task_requires_and_others_wait_apart(world: World) -> None:
    hand = await world.hand()
    large, long, any_ = [await world.dispatch(need) for need in (LARGE, LONG, T)]
    for need, task in ((T, any_), (LONG, long), (LARGE, large)):
        [offer] = await world.lease(hand.seat(5, need))
        assert (offer.task_id, offer.resources, offer.hint) == (task, need.resources, need.hint)


async def test_the_later_branches_of_a_fan_out_require_the_same(world: World) -> None:
    first, *_ = await world.fan_out(1, rest=(2,), need=LARGE)
    hand = await world.hand()
    offers = await world.lease(hand.seat(5, LARGE))
    await world.storage.spawn(job_of(first), 0)
    offers += await world.lease(hand.seat(5, LARGE))
    assert [one.resources for one in offers] == [REQUIRED] * 3


async def test_what_tasks_require_and_jobs_ask_for_survives_a_restart(durable: Factory) -> None:
    world = await durable()
    claim = await world.start()
    step = world.step(claim)
    wants = Wants("2", "", REQUIRED, hint="llama")
    await world.commit(replace(step, job=replace(step.job, wants=wants), keep=False))
    waiting = await world.dispatch(LARGE)
    held = await world.accepted(await world.hand(), LONG)
    await world.restart()
    assert (await world.record(claim.job.id)).job.wants == wants
    hand, opened = await world.resume("w1", held)
    assert [one.resources for one in opened.kept] == [LONG.resources]
    [offer] = await world.lease(hand.seat(1, LARGE))
    assert (offer.task_id, offer.resources, offer.hint) == (waiting, REQUIRED, "llama")
