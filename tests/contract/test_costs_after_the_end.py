"""What is charged once a job is over, or was cancelled, is told."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.events import CancelRequested
from holon.domain.job import Status
from holon.domain.value import replace
from holon.ports import Offer, Superseded
from tests.contract.costs import affords, cost, ends, given
from tests.contract.world import Factory, World


async def test_what_is_not_reported_of_a_job_that_is_over_is_told_until_it_is(world: World) -> None:
    offer = await given(world, await world.hand(), 100, 40)
    await world.append(offer.job_id, CancelRequested("ann"))
    claim = await world.claim_of(offer.job_id)
    await world.commit(world.step(claim, Status.CANCELLED))
    record = await world.record(offer.job_id)
    assert (record.cost, record.unreported, record.spent) == (None, 40, 40)
    await ends(world, offer, 5)
    record = await world.record(offer.job_id)
    assert (record.cost, record.unreported, record.spent) == (5, 0, 5)


async def test_what_runs_when_its_job_is_cancelled_is_charged_when_it_reports(world: World) -> None:
    offer = await given(world, await world.hand(), 100, 40)
    await world.append(offer.job_id, CancelRequested("ann"))
    claim = await world.claim_of(offer.job_id)
    await world.commit(world.step(claim, Status.RUNNING, end_tasks=True))
    assert not await affords(world, offer.job_id, 61)
    assert await ends(world, offer, 5) is Superseded.JOB_CANCELLED
    assert await ends(world, offer, 5) is Superseded.JOB_CANCELLED
    assert await cost(world, offer) == 5
    assert await affords(world, offer.job_id, 95)


async def charged_late(world: World, offer: Offer) -> list[tuple[str, Any]]:
    """Of what came too late for a task: its status, and what it cost."""
    lines = [one.details for one in await world.told(offer.job_id) if one.type == "result_superseded"]
    return [(details["status"], details.get("cost")) for details in lines]


async def cancelled(world: World, offer: Offer) -> None:
    """The offer's job is over while its task is out."""
    await world.append(offer.job_id, CancelRequested("ann"))
    await world.commit(world.step(await world.claim_of(offer.job_id), Status.CANCELLED, end_tasks=True))


@pytest.mark.parametrize(("said", "charged"), [(0, 0), (12, 12), (41, 40), (None, 40)])
async def test_a_late_result_is_told_with_what_its_job_was_charged(
    world: World, said: int | None, charged: int
) -> None:
    offer = await given(world, await world.hand())
    await cancelled(world, offer)
    for _ in range(2):
        assert await ends(world, offer, said) is Superseded.JOB_CANCELLED
    assert await charged_late(world, offer) == [("success", charged)]


async def test_what_is_charged_once_a_job_is_over_is_told_however_much_was_told_before(world: World) -> None:
    offer = await given(world, await world.hand())
    await cancelled(world, offer)
    made_up = replace(offer, lease_id="made-up")
    assert await ends(world, made_up, 3) is Superseded.JOB_CANCELLED
    for _ in range(2):
        assert await ends(world, offer, 12) is Superseded.JOB_CANCELLED
    assert await charged_late(world, offer) == [("success", 3), ("success", 12)]
    assert await cost(world, offer) == 12


async def test_what_is_given_back_once_its_job_is_over_is_moved_with_what_it_cost(store: Factory) -> None:
    world = await store(history_backlog=2**30)
    hand = await world.hand()
    dear, free = await given(world, hand), await given(world, hand)
    for offer in (dear, free):
        await cancelled(world, offer)
    while notices := await world.storage.take(100):
        await world.storage.settle([notice.id for notice in notices])
    for _ in range(2):
        await world.hand_back(hand, dear, cost=12)
        await world.hand_back(hand, free, cost=0)
    [notice] = await world.storage.take(100)
    assert (notice.record.job.id, notice.record.cost) == (dear.job_id, 12)
    [line] = notice.events
    assert (line.type, line.task_id, line.worker_id) == ("result_superseded", dear.task_id, "w1")
    assert line.details == {"reason": "job_cancelled", "status": "rejected", "cost": 12}
