"""Of more lost leases than are waited for the rest is charged at once, and never again."""

from __future__ import annotations

import pytest

from holon.core.costs import MOST_UNREPORTED
from holon.ports import Offer, Superseded
from tests.contract.costs import cost, ends, with_budget
from tests.contract.world import Factory, Hand, World


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
