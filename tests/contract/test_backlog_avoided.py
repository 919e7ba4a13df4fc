"""The backlog: tasks that avoid a worker, for how long, and when they come back to it."""

from __future__ import annotations

import pytest

from holon.core.touches import MOST_AT_ONCE
from tests.contract.world import BROKEN, Factory, World


async def test_a_rejected_task_avoids_its_worker_for_one_lease_and_goes_to_another_at_once(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.offered(hand)
    await world.hand_back(hand, offer, again_after=None)
    assert await world.lease(hand.seat()) == []
    [again] = await world.lease(other.seat())
    assert again.task_id == offer.task_id


async def test_a_rejected_task_comes_back_to_a_lone_worker_after_one_lease(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand)
    await world.hand_back(hand, offer, again_after=None)
    await world.after(world.settings.lease - 1)
    assert await world.lease(hand.seat()) == []
    world.clock.advance(1)
    assert [one.task_id for one in await world.lease(hand.seat())] == [offer.task_id]


async def test_a_rejected_task_comes_back_to_a_lone_worker_by_the_timers_alone(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand)
    await world.hand_back(hand, offer, again_after=None)
    until = world.now + world.settings.lease
    fired = await world.fire()
    while not await world.lease(hand.seat()):
        assert fired.next_due is not None, "the task waits for ever"
        assert fired.next_due <= until
        fired = await world.after(fired.next_due - world.now)


@pytest.mark.parametrize(("asked", "after"), [(1, 1), (2_000, 2_000), (10**12, 30_000)])
async def test_a_rejected_task_comes_back_to_its_worker_when_that_said_but_within_a_lease(
    store: Factory, asked: int, after: int
) -> None:
    world = await store(lease=30_000)
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.offered(hand)
    await world.hand_back(hand, offer, again_after=asked)
    await world.after(after - 1)
    assert await world.lease(hand.seat()) == []
    fired = await world.fire()
    assert fired.next_due is not None
    assert fired.next_due <= world.now + 1
    world.clock.advance(1)
    [again] = await world.lease(hand.seat())
    assert again.task_id == offer.task_id
    # Nobody else has to wait for that.
    await world.hand_back(hand, again, again_after=asked)
    assert [one.task_id for one in await world.lease(other.seat())] == [offer.task_id]


async def test_a_task_that_is_to_come_back_soon_does_so_often_and_no_more(world: World) -> None:
    hand = await world.hand()
    await world.dispatch()
    for _ in range(MOST_AT_ONCE):
        [offer] = await world.lease(hand.seat())
        await world.hand_back(hand, offer, again_after=10)
        await world.after(10)
    [offer] = await world.lease(hand.seat())
    await world.hand_back(hand, offer, again_after=10)
    await world.after(world.settings.lease - 1)
    assert await world.lease(hand.seat()) == []
    world.clock.advance(1)
    assert len(await world.lease(hand.seat())) == 1


async def test_a_task_goes_back_to_its_worker_at_once_so_often_and_no_more(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    await world.dispatch()
    for _ in range(MOST_AT_ONCE):
        [offer] = await world.lease(hand.seat())
        await world.hand_back(hand, offer)
        # A repeat is not another time.
        await world.hand_back(hand, offer)
    for _ in range(2):
        [offer] = await world.lease(hand.seat())
        await world.hand_back(hand, offer)
        assert await world.lease(hand.seat()) == []
        await world.after(world.settings.lease - 1)
        assert await world.lease(hand.seat()) == []
        await world.after(1)
    [offer] = await world.lease(hand.seat())
    await world.hand_back(hand, offer)
    [again] = await world.lease(other.seat())
    assert again.task_id == offer.task_id


async def test_how_often_a_task_went_back_at_once_survives_a_restart(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    await world.dispatch()
    for _ in range(MOST_AT_ONCE):
        [offer] = await world.lease(hand.seat())
        await world.hand_back(hand, offer)
    await world.restart()
    hand = await world.hand()
    [offer] = await world.lease(hand.seat())
    await world.hand_back(hand, offer)
    assert await world.lease(hand.seat()) == []


async def test_who_gave_a_task_back_unbegun_is_known_for_as_long_as_it_avoids_him(world: World) -> None:
    hands = [await world.hand(name) for name in ("w1", "w2", "w3")]
    offer = await world.accepted(hands[0])
    assert (await world.task_record(offer.task_id)).unserved == ()
    for hand, unbegun in zip(hands, (False, True, False), strict=True):
        if hand is not hands[0]:
            [offer] = await world.lease(hand.seat())
            await world.touch(accepts=(hand.ref(offer),))
        await world.hand_back(hand, offer, again_after=None, unbegun=unbegun)
        await world.after(1)
        await world.fire()
    assert (await world.task_record(offer.task_id)).unserved == ("w2",)
    await world.after(world.settings.lease - 2)
    await world.fire()
    assert (await world.task_record(offer.task_id)).unserved == ()
    assert [one.task_id for one in await world.lease(hands[1].seat())] == [offer.task_id]


@pytest.mark.parametrize("quarters", [2, 6], ids=["shortly", "longer than it avoids anybody"])
async def test_all_who_gave_a_task_back_unbegun_are_avoided_until_the_last_of_them_may_be_asked_again(
    world: World, quarters: int
) -> None:
    hands, lease = [await world.hand(f"w{n}") for n in range(4)], world.settings.lease
    task_id = await world.dispatch()
    for hand in hands:
        [offer] = await world.lease(hand.seat())
        for _ in range(quarters):
            await world.touch(extends=(hand.ref(offer),))
            await world.after(lease // 4)
            await world.fire()
        await world.hand_back(hand, offer, again_after=None, unbegun=True)
    await world.after(lease - 1)
    await world.fire()
    assert set((await world.task_record(task_id)).unserved) == {hand.worker_id for hand in hands}
    for hand in hands:
        assert await world.lease(hand.seat()) == []
    await world.after(1)
    await world.fire()
    assert (await world.task_record(task_id)).unserved == ()
    assert [one.task_id for one in await world.lease(hands[0].seat())] == [task_id]


async def test_an_offer_that_lapsed_avoids_its_worker(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.offered(hand)
    await world.after(world.settings.offer)
    assert await world.lease(hand.seat()) == []
    assert await world.waiting() == 1
    [again] = await world.lease(other.seat())
    assert again.task_id == offer.task_id


async def test_tasks_that_avoid_a_worker_are_looked_past_and_keep_their_place(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    avoiding = [await world.dispatch() for _ in range(16)]
    for offer in await world.lease(hand.seat(16)):
        await world.hand_back(hand, offer, again_after=None)
    task = await world.dispatch()
    assert [offer.task_id for offer in await world.lease(hand.seat(10))] == [task]
    assert [offer.task_id for offer in await world.lease(other.seat(20))] == avoiding


async def test_a_task_that_each_of_two_workers_has_failed_once_goes_back_to_the_first(world: World) -> None:
    hands = [await world.hand(), await world.hand("w2")]
    await world.dispatch()
    for turn in range(4):
        hand, other = hands[turn % 2], hands[1 - turn % 2]
        [offer] = await world.lease(hand.seat())
        await world.complete(offer, BROKEN, 1_000)
        await world.after(1_000)
        # Not straight back to who has just failed it, while there is another.
        assert await world.lease(hand.seat()) == []
        [again] = await world.lease(other.seat())
        await world.hand_back(other, again)


async def test_who_fails_a_task_that_another_rejected_is_not_the_only_one_that_it_avoids(world: World) -> None:
    hand, other, third = await world.hand(), await world.hand("w2"), await world.hand("w3")
    offer = await world.offered(hand)
    await world.hand_back(hand, offer, again_after=None)
    [offer] = await world.lease(other.seat())
    await world.complete(offer, BROKEN, 1_000)
    await world.after(1_000)
    assert await world.lease(hand.seat(), other.seat()) == []
    assert len(await world.lease(third.seat())) == 1
