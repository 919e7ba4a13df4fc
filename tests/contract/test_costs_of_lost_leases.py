"""A lost lease stays reserved until its worker reports, or its time for that is over."""

from __future__ import annotations

import pytest

from holon.domain.events import TaskEnded
from holon.domain.job import Status
from holon.domain.task import CANCELLED, Outcome, TaskError
from holon.domain.value import replace
from holon.ports import JobFilter, Offer, Result, Superseded
from tests.contract.costs import affords, cost, ends, given
from tests.contract.world import BROKEN, T, World


async def test_a_lost_lease_stays_reserved_until_its_worker_reports(world: World) -> None:
    offer = await given(world, await world.hand(), 100, 40)
    await world.hand()
    other = await world.hand("w2")
    [again] = await world.lease(other.seat())
    await world.touch(accepts=(other.ref(again),))
    await ends(world, again, 40)
    assert not await affords(world, offer.job_id, 21)
    # Late, it costs what it says, once.
    for _ in range(2):
        assert await ends(world, offer, 15) is Superseded.STALE_TASK
    assert await cost(world, offer) == 55
    assert not await affords(world, offer.job_id, 46)
    assert await affords(world, offer.job_id, 45)


async def test_what_is_not_reported_is_told_and_counts_as_spent_in_full(world: World) -> None:
    claim = await world.start(budget=100)
    await world.fan_out(3, claim=claim, reserves=20)
    hand = await world.hand()
    first, second, _ = await world.lease(hand.seat(3))
    record = await world.record(first.job_id)
    assert (record.cost, record.unreported, record.spent) == (None, 0, None)
    await ends(world, first, 7)
    other = await world.hand()
    record = await world.record(first.job_id)
    assert (record.cost, record.unreported, record.spent) == (7, 40, 47)
    # The one of them that goes on is no longer lost.
    again = {one.task_id: one for one in await world.lease(other.seat(1))}
    assert await ends(world, second, 3) in (None, Superseded.STALE_TASK)
    record = await world.record(first.job_id)
    assert (record.cost, record.unreported, record.spent) == (10, 20, 30)
    assert len(again) == 1
    [page] = (await world.storage.jobs(JobFilter("ann"), 10))[0]
    assert (page.cost, page.unreported, page.spent) == (10, 20, 30)


async def error_of(world: World, offer: Offer) -> TaskError:
    """How a job's only task failed, as the job learns of it."""
    [(_, event)] = (await world.claim_of(offer.job_id)).events
    assert isinstance(event, TaskEnded)
    assert event.outcome.error is not None
    return event.outcome.error


async def test_a_lost_lease_whose_replacement_the_budget_does_not_cover_ends_its_task(world: World) -> None:
    offer = await given(world, await world.hand(), 79, 40)
    await world.hand()
    assert await world.lease((await world.hand("w2")).seat()) == []
    error = await error_of(world, offer)
    assert (error.code, error.retryable) == ("LIMIT_EXCEEDED", True)
    assert error.message.endswith("; 40 of the budget is kept for attempts that were lost")
    assert await ends(world, offer, 40) is not None
    assert await cost(world, offer) == 40


async def test_a_lease_that_ran_out_and_goes_on_is_reserved_once(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 80, 40)
    await world.after(world.settings.lease)
    assert await world.waiting() == 1
    assert (await world.touch(extends=(hand.ref(offer),))).lost == ()
    await ends(world, offer, 40)
    assert await affords(world, offer.job_id, 40)


async def test_the_result_of_a_lease_that_ran_out_is_charged_once(world: World) -> None:
    offer = await given(world, await world.hand(), 80, 40)
    await world.after(world.settings.lease)
    assert await ends(world, offer, 30) is None
    assert await cost(world, offer) == 30
    assert await affords(world, offer.job_id, 50)


@pytest.mark.parametrize("goes_on", [False, True])
async def test_what_a_worker_has_stopped_that_lost_its_lease_is_charged_once(world: World, goes_on: bool) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 100, 40)
    await world.after(world.settings.lease)
    if goes_on:
        await world.touch(extends=(hand.ref(offer),))
    for _ in range(2):
        assert await ends(world, offer, 12, outcome=Outcome(CANCELLED)) is Superseded.STALE_TASK
        assert await cost(world, offer) == 12
    [again] = await world.lease((await world.hand("w2")).seat())
    await ends(world, again, 3)
    assert await cost(world, offer) == 15
    assert not await affords(world, offer.job_id, 86)
    assert await affords(world, offer.job_id, 85)


async def test_a_lease_that_goes_on_leaves_the_others_what_its_replacement_would_have_had(world: World) -> None:
    claim = await world.start(budget=120)
    await world.fan_out(2, claim=claim, reserves=40)
    hand, other = await world.hand(), await world.hand("w2")
    [first] = await world.lease(hand.seat())
    await world.touch(accepts=(hand.ref(first),))
    await world.after(world.settings.lease - 1)
    [second] = await world.lease(other.seat())
    await world.touch(accepts=(other.ref(second),))
    await world.after(1)
    assert await world.waiting() == 1
    assert (await world.touch(extends=(hand.ref(first),))).lost == ()
    await ends(world, second, 40, BROKEN, 1_000)
    await world.after(1_000)
    [again] = await world.lease(other.seat(1, T, only=(T,)))
    assert again.task_id == second.task_id


async def test_what_a_node_does_by_itself_keeps_what_is_reserved_wherever_it_is_next(world: World) -> None:
    offer = await given(world, await world.hand("@node"), 80, 80)
    for _ in range(3):
        # Its process has ended, and begins anew.
        [again] = await world.lease((await world.hand("@node")).seat())
        assert again.task_id == offer.task_id
    # Another node's does not hear of it any more.
    await world.after(world.settings.lease)
    [elsewhere] = await world.lease((await world.hand("@other")).seat())
    assert elsewhere.task_id == offer.task_id
    record = await world.record(offer.job_id)
    assert (record.cost, record.unreported) == (None, 0)
    assert await ends(world, again, 7) is not None
    assert await ends(world, elsewhere, 30) is None
    assert await cost(world, offer) == 30
    assert await affords(world, offer.job_id, 50)


async def test_a_budget_that_a_failure_used_up_is_not_lost(world: World) -> None:
    offer = await given(world, await world.hand(), 79, 40)
    await ends(world, offer, 40, BROKEN, 1_000)
    error = await error_of(world, offer)
    assert (error.code, error.retryable) == ("LIMIT_EXCEEDED", None)
    assert error.message.endswith("; the last one ended with TRANSIENT_ERROR")


async def test_a_budget_that_lost_attempts_used_up_covers_no_dearer_worker(world: World) -> None:
    claim = await world.start(budget=40)
    task = world.task(claim, reserves=None)
    await world.commit(world.step(claim, Status.WAITING_FOR_WORKER, tasks=(task,)))
    [offer] = await world.lease((await world.hand()).seat(price=40))
    await world.hand()
    assert await world.lease((await world.hand("w2")).seat(price=40)) == []
    error = await error_of(world, offer)
    assert (error.code, error.retryable) == ("LIMIT_EXCEEDED", True)
    assert error.message.endswith("; 40 of the budget is kept for attempts that were lost")


async def test_a_retry_after_a_lost_share_is_none_of_those_that_a_task_has(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 100, 40)
    lost = Result(offer.task_id, offer.lease_id, BROKEN, 1_000, cost=40, share_lost=True)
    assert (await world.storage.complete([lost], hand.worker_id, ())).verdicts == (None,)
    task = await world.task_record(offer.task_id)
    assert (task.generation, task.retry) == (2, replace(offer.retry, max_retries=offer.retry.max_retries + 1))
    await world.after(1_000)
    [again] = await world.lease((await world.hand("w2")).seat())
    assert (again.generation, again.retry) == (2, task.retry)
    assert await cost(world, offer) == 40


async def test_a_lost_share_that_the_budget_gives_no_other_for_is_lost_for_the_level_above_too(world: World) -> None:
    hand = await world.hand()
    offer = await given(world, hand, 79, 40)
    lost = Result(offer.task_id, offer.lease_id, BROKEN, 1_000, cost=40, share_lost=True)
    assert (await world.storage.complete([lost], hand.worker_id, ())).verdicts == (None,)
    error = await error_of(world, offer)
    assert (error.code, error.retryable) == ("LIMIT_EXCEEDED", True)
    assert await cost(world, offer) == 40
