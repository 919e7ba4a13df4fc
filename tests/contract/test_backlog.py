"""The backlog: by priority, then arrival; nothing overtakes, nothing blocks, nothing is lost from it."""

from __future__ import annotations

import pytest

from holon.domain.job import Status
from holon.domain.matching import Need
from holon.ports import NewFanOut
from holon.storage.ledger.touches import MOST_AT_ONCE
from tests.contract.world import BROKEN, Factory, T, U, World

OLD, NEW = Need("s", contracts=("old",)), Need("s", contracts=("new", "old"))


async def order(world: World, *needs: Need) -> list[str]:
    """The tasks in the order in which one worker with room for one is given them."""
    hand, found = await world.hand("probe"), []
    while offers := await world.lease(hand.seat(1, *needs)):
        found.append(offers[0].task_id)
    return found


@pytest.mark.in_order
async def test_tasks_are_leased_in_the_order_of_their_arrival(world: World) -> None:
    tasks = [await world.dispatch() for _ in range(10)]
    assert await order(world, T) == tasks


@pytest.mark.in_order
async def test_those_of_one_step_go_by_priority_and_arrival_also_when_they_are_offered_with_it(world: World) -> None:
    hand, claim = await world.hand(), await world.start()
    waiting = await world.dispatch(priority=1.0)
    tasks = tuple(world.task(claim, at, priority=p) for at, p in enumerate((0.0, 5.0, -1.0, 5.0, 0.0)))
    step = world.step(claim, Status.WAITING_FOR_PARALLEL, tasks=tasks, fan_out=NewFanOut(len(tasks), fail_fast=False))
    done = await world.commit(step, [hand.seat(4)])
    assert [one.task_id for one in done.leased.offers] == [tasks[1].id, tasks[3].id, waiting, tasks[0].id]
    assert [one.task_id for one in await world.lease(hand.seat(4))] == [tasks[4].id, tasks[2].id]


@pytest.mark.in_order
async def test_higher_priority_goes_first_and_equals_by_arrival(world: World) -> None:
    low, first, high, second = [await world.dispatch(priority=p) for p in (-1.5, 0.0, 10.0, 0.0)]
    assert await order(world, T) == [high, first, second, low]


@pytest.mark.in_order
async def test_nothing_overtakes_across_the_match_keys_of_one_worker(world: World) -> None:
    tasks = [await world.dispatch(need) for need in (U, T, T, U, T)]
    urgent = await world.dispatch(U, priority=1.0)
    assert await order(world, T, U) == [urgent, *tasks]


@pytest.mark.in_order
async def test_one_call_leases_in_order_too(world: World) -> None:
    hand = await world.hand()
    tasks = [await world.dispatch(need) for need in (U, T, U, T)]
    assert [offer.task_id for offer in await world.lease(hand.seat(10))] == tasks


async def test_the_tasks_of_one_step_keep_their_order(world: World) -> None:
    assert await order(world, T) == []
    branches = await world.fan_out(20)
    assert await order(world, T) == branches


async def test_a_worker_is_given_only_what_it_names(world: World) -> None:
    hand = await world.hand()
    await world.dispatch(T)
    other = await world.dispatch(U)
    assert [offer.task_id for offer in await world.lease(hand.seat(10, U))] == [other]


async def test_a_need_that_nobody_satisfies_blocks_nobody(world: World) -> None:
    for _ in range(100):
        await world.dispatch(U, priority=9.0)
    task = await world.dispatch(T)
    assert await order(world, T) == [task]
    assert await world.waiting(U) == 100


@pytest.mark.in_order
async def test_a_commits_new_task_does_not_overtake_what_waits(world: World) -> None:
    hand, waits = await world.hand(), await world.dispatch()
    claim = await world.start()
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),))
    done = await world.commit(step, [hand.seat(1)])
    assert [offer.task_id for offer in done.leased.offers] == [waits]
    assert done.leased.left == {T.key}


@pytest.mark.in_order
async def test_seats_are_filled_in_the_callers_order(world: World) -> None:
    first, second = await world.hand("w2"), await world.hand("w1")
    tasks = [await world.dispatch() for _ in range(2)]
    offers = await world.lease(first.seat(), second.seat())
    assert [(offer.worker_id, offer.task_id) for offer in offers] == [("w2", tasks[0]), ("w1", tasks[1])]


async def test_left_names_the_keys_asked_for_that_still_have_tasks(world: World) -> None:
    hand = await world.hand()
    for need in (T, T, U):
        await world.dispatch(need)
    assert (await world.storage.lease([hand.seat(1, T)])).left == {T.key}
    assert (await world.storage.lease([hand.seat(1, T)])).left == frozenset()
    assert (await world.storage.lease([hand.seat(0)])).left == {U.key}


@pytest.mark.in_order
async def test_a_task_that_comes_back_waits_under_its_first_arrival(world: World) -> None:
    hand = await world.hand()
    first, second, third = [await world.dispatch() for _ in range(3)]
    offers = {offer.task_id: offer for offer in await world.lease(hand.seat(2))}
    await world.hand_back(hand, offers[second])
    assert (await world.task_record(second)).attempt == 1
    await world.touch(accepts=(hand.ref(offers[first]),))
    await world.after(world.settings.lease)
    assert await order(world, T) == [first, second, third]


@pytest.mark.in_order
async def test_a_task_of_a_lost_session_waits_under_its_first_arrival(world: World) -> None:
    first = await world.offered(await world.hand())
    second = await world.dispatch()
    await world.hand()
    assert await order(world, T) == [first.task_id, second]


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


@pytest.mark.in_order
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


async def test_a_retry_enters_the_backlog_after_its_back_off(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.complete(offer, BROKEN, 1_000)
    assert await world.waiting() == 0
    await world.after(1_000)
    assert await world.waiting() == 1


async def test_what_waits_is_listed_by_skill_and_by_key(world: World) -> None:
    assert dict(await world.storage.queued("s")) == {}
    for need in (OLD, OLD, NEW, T):
        await world.dispatch(need)
    assert dict(await world.storage.queued("s")) == {OLD.key: (OLD, 2), NEW.key: (NEW, 1)}
    assert dict(await world.storage.needs()) == {OLD.key: OLD, NEW.key: NEW, T.key: T}
    await world.lease((await world.hand()).seat(10, OLD, NEW))
    assert dict(await world.storage.queued("s")) == {}
    assert dict(await world.storage.needs()) == {T.key: T}


async def test_the_tasks_of_a_key_are_read_in_pages(world: World) -> None:
    tasks = {await world.dispatch(OLD) for _ in range(5)}
    page = await world.storage.queued_tasks(OLD.key, "", 3)
    rest = await world.storage.queued_tasks(OLD.key, page[-1].id, 3)
    assert (len(page), len(rest)) == (3, 2)
    assert {record.id for record in (*page, *rest)} == tasks
    assert await world.storage.queued_tasks(OLD.key, rest[-1].id, 3) == []
    assert rest[0].need == OLD
    assert rest[0].params == b"{}"


@pytest.mark.in_order
async def test_a_task_with_a_new_need_waits_there_under_its_old_arrival(world: World) -> None:
    moved, later = await world.dispatch(OLD), await world.dispatch(NEW)
    await world.storage.rekey([(moved, NEW)])
    assert dict(await world.storage.queued("s")) == {NEW.key: (NEW, 2)}
    assert (await world.task_record(moved)).need == NEW
    assert await order(world, NEW) == [moved, later]


async def test_a_new_need_for_a_task_that_no_longer_waits_does_not_put_it_back(world: World) -> None:
    hand = await world.hand()
    leased = await world.accepted(hand, OLD)
    over = await world.accepted(hand, OLD)
    await world.complete(over)
    await world.storage.rekey([(leased.task_id, NEW), (over.task_id, NEW), ("0-unknown-1-0", NEW)])
    assert dict(await world.storage.queued("s")) == {}
    assert await order(world, OLD, NEW) == []
    assert await world.complete(leased) is None
