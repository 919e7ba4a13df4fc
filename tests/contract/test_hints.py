"""Hints: whatever needs a call is hinted at; nothing depends on it."""

from __future__ import annotations

from holon.domain.events import CancelRequested
from holon.domain.job import Status
from tests.contract.hinted import Hints
from tests.contract.world import BROKEN, T, World


async def test_a_new_task_that_waits_is_hinted_at_by_its_key(world: World) -> None:
    hints = Hints(world)
    await world.dispatch(T)
    await hints.until(lambda hint: T.key in hint.keys)


async def test_branches_that_a_spawn_made_are_hinted_at_by_their_key(world: World) -> None:
    hints = Hints(world)
    tasks = await world.fan_out(1, rest=(1,))
    await hints.until(lambda hint: T.key in hint.keys)
    await world.lease((await world.hand()).seat())
    await world.storage.spawn(tasks[0].rsplit("-", 2)[0], 0)
    await hints.until(lambda hint: T.key in hint.keys)


async def test_a_task_that_comes_back_is_hinted_at_by_its_key(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand)
    hints = Hints(world)
    await world.hand_back(hand, offer)
    await hints.until(lambda hint: T.key in hint.keys)
    await world.lease(hand.seat())
    await world.hand()
    await hints.until(lambda hint: T.key in hint.keys)
    [offer] = await world.lease((await world.hand()).seat())
    await world.after(world.settings.lease)
    await hints.until(lambda hint: T.key in hint.keys)


async def test_a_task_whose_back_off_is_over_is_hinted_at_by_its_key(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await world.complete(offer, BROKEN, 1_000)
    hints = Hints(world)
    await world.after(1_000)
    await hints.until(lambda hint: T.key in hint.keys)


async def test_a_rejected_task_is_hinted_at_again_when_it_may_come_back(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand)
    await world.hand_back(hand, offer, again_after=None)
    hints = Hints(world)
    await world.after(world.settings.lease)
    await hints.until(lambda hint: T.key in hint.keys)


async def test_a_stop_is_hinted_at(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await world.append(offer.job_id, CancelRequested("ann"))
    claim = await world.claim_of(offer.job_id)
    hints = Hints(world)
    await world.commit(world.step(claim, Status.CANCELLED, end_tasks=True))
    await hints.until(lambda hint: hint.stops)


async def test_an_earlier_timer_is_hinted_at_with_its_time(world: World) -> None:
    claim, other = await world.start(), await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=9_000))
    await world.commit(world.step(other, Status.WAITING_FOR_RETRY))
    await world.fire()
    hints = Hints(world)
    await world.dispatch(dispatch_timeout=3_000)
    due = world.now + 3_000
    await hints.until(lambda hint: hint.due is not None and hint.due <= due)


async def test_a_fan_out_with_chunks_left_is_hinted_at(world: World) -> None:
    hints = Hints(world)
    tasks = await world.fan_out(2, rest=(2,))
    job = tasks[0].rsplit("-", 2)[0]
    await hints.until(lambda hint: (job, 0) in hint.spawns)


async def test_a_fan_out_below_a_hundred_waiting_branches_is_hinted_at_again(world: World) -> None:
    tasks = await world.fan_out(105, rest=(10,))
    job = tasks[0].rsplit("-", 2)[0]
    hints = Hints(world)
    await world.lease((await world.hand()).seat(10))
    await hints.until(lambda hint: (job, 0) in hint.spawns)
