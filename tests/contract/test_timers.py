"""Timers: each fires once, at its time, with its effect; what ends early leaves none behind."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.events import CancelRequested, Woken
from holon.domain.job import Status
from tests.contract.world import World


async def test_without_timers_nothing_is_due(world: World) -> None:
    await world.create()
    fired = await world.fire()
    assert (fired.next_due, fired.spawns) == (None, ())


async def test_a_jobs_timer_wakes_it_at_its_time(world: World) -> None:
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=5_000))
    assert (await world.fire()).next_due == world.now + 5_000
    await world.after(4_999)
    assert await world.ready() == []
    await world.after(1)
    again = await world.claim_of(claim.job.id)
    assert [event for _, event in again.events] == [Woken(0)]
    await world.commit(world.step(again, Status.WAITING_FOR_RETRY))
    assert (await world.fire()).next_due is None
    assert await world.ready() == []


async def test_a_timer_fires_once_however_often_it_is_asked(world: World) -> None:
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=1_000))
    world.clock.advance(1_000)
    for _ in range(3):
        await world.fire()
    assert len((await world.claim_of(claim.job.id)).events) == 1


async def test_a_job_that_is_over_has_no_timers(world: World) -> None:
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=5_000))
    await world.append(claim.job.id, CancelRequested("ann"))
    await world.commit(world.step(await world.claim_of(claim.job.id), Status.CANCELLED))
    assert (await world.fire()).next_due is None
    await world.after(5_000)
    assert await world.ready() == []


async def test_fire_does_no_more_than_its_limit_and_says_that_more_is_due(world: World) -> None:
    for wait in (1_000, 2_000, 3_000):
        claim = await world.start()
        await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=wait))
    world.clock.advance(3_000)
    fired = await world.fire(limit=1)
    assert len(await world.ready()) == 1
    assert fired.next_due is not None
    assert fired.next_due <= world.now
    await world.fire(limit=10)
    assert len(await world.ready()) == 2


async def test_next_due_is_the_earliest_of_all_timers(world: World) -> None:
    hand = await world.hand()
    begun = world.now
    await world.accepted(hand, execution_timeout=25_000)
    assert (await world.fire()).next_due == begun + 25_000
    await world.dispatch(dispatch_timeout=20_000)
    assert (await world.fire()).next_due == begun + 20_000
    await world.dispatch(result_timeout=15_000)
    assert (await world.fire()).next_due == begun + 15_000
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=10_001))
    assert (await world.fire()).next_due == begun + 10_001
    [offer] = await world.lease(hand.seat(1))
    assert (await world.fire()).next_due == begun + world.settings.offer
    await world.touch(accepts=(hand.ref(offer),))
    assert (await world.fire()).next_due == begun + 10_001


async def test_a_finished_task_leaves_no_timer(world: World) -> None:
    offer = await world.accepted(await world.hand(), dispatch_timeout=60_000, result_timeout=70_000)
    await world.complete(offer)
    await world.finish(await world.claim_of(offer.job_id))
    assert (await world.fire()).next_due is None


async def test_a_step_ends_the_timer_of_the_step_before(world: World) -> None:
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=5_000))
    await world.append(claim.job.id, Woken(9))
    await world.commit(world.step(await world.claim_of(claim.job.id), Status.WAITING_FOR_RETRY))
    assert (await world.fire()).next_due is None
    await world.after(5_000)
    assert await world.ready() == []


@pytest.mark.parametrize("timeout", ["dispatch_timeout", "result_timeout"])
async def test_what_is_due_is_done_for_all_by_one_fire(world: World, timeout: str) -> None:
    fields: dict[str, Any] = {timeout: 1_000}
    tasks = [await world.dispatch(**fields) for _ in range(3)]
    await world.after(60_000)
    assert set(await world.ready()) == {task.rsplit("-", 2)[0] for task in tasks}
