"""Nothing is kept of workers that have gone, nor of queues that are empty: a store grows with what is alive."""

from __future__ import annotations

import pytest

from holon.core import backlog, tables
from tests.claims import claimed
from tests.contract.cancelling import cancel
from tests.contract.world import World

NOTHING = {"workers": 0, "needs": 0, "counts": 0, "entries": 0, "timers": 0, "documents": 0}


async def test_a_worker_that_left_with_nothing_is_forgotten(world: World) -> None:
    for number in range(5):
        hand = await world.hand(f"w{number}")
        await world.complete(await world.accepted(hand))
        await world.storage.close_session(hand.worker_id, hand.session_id)
    assert await world.kept() == NOTHING


async def test_a_worker_that_vanished_is_forgotten_when_its_leases_have_ended(world: World) -> None:
    hand = await world.hand()
    offers = [await world.accepted(hand), await world.offered(hand)]
    await world.storage.close_session(hand.worker_id, hand.session_id)
    assert (await world.kept())["workers"] == 1
    await world.after(world.settings.lease)
    assert (await world.kept())["workers"] == 0
    other = await world.hand("w2")
    assert {offer.task_id for offer in await world.lease(other.seat(2))} == {offer.task_id for offer in offers}


async def test_a_lease_that_its_worker_would_have_had_to_stop_ends_with_its_session(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await cancel(world, offer.job_id)
    await world.storage.close_session(hand.worker_id, hand.session_id)
    assert await world.kept() == NOTHING


async def test_a_job_that_is_cancelled_after_its_worker_vanished_frees_the_lease(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.storage.close_session(hand.worker_id, hand.session_id)
    await cancel(world, offer.job_id)
    assert await world.kept() == NOTHING


async def test_tasks_that_nobody_took_leave_no_queue_behind(world: World) -> None:
    for _ in range(5):
        task = await world.dispatch()
        await cancel(world, task.rsplit("-", 2)[0])
    assert await world.kept() == NOTHING


async def test_a_queue_is_rid_of_what_does_not_wait_any_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MOST_STALE", 20)
    stays = await world.dispatch()
    for _ in range(30):
        task = await world.dispatch()
        await cancel(world, task.rsplit("-", 2)[0])
    assert (await world.kept())["entries"] <= backlog.MOST_STALE + 2
    [offer] = await world.lease((await world.hand()).seat(5))
    assert offer.task_id == stays


async def test_timers_of_what_is_over_are_not_kept_until_they_are_due(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_STALE", 20)
    hand = await world.hand()
    for _ in range(40):
        await world.complete(await world.accepted(hand, result_timeout=365 * 86_400_000))
        for claim in await claimed(world.storage):
            await world.finish(claim)
    await world.storage.purge(world.now + 1, 1_000)
    await world.dispatch(result_timeout=5_000)
    assert (await world.kept())["timers"] == 0
    await world.after(5_000)
    assert await world.waiting() == 0
