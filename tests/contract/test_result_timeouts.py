"""How long a task may take in all, and an attempt of it."""

from __future__ import annotations

import pytest

from holon.domain.events import BranchesDone, TaskEnded
from holon.domain.job import Status
from holon.domain.task import FAILURE, RESULT_TIMEOUT, TIMEOUT_ERROR, RetryPolicy
from holon.ports import StopReason, Superseded
from tests.contract.ended import ONCE, ended, ends_told
from tests.contract.world import BROKEN, ONE_SECOND, World

# Result -----------------------------------------------------------------------------------------------------------


async def test_a_running_task_without_a_result_in_time_ends_and_wakes_its_job(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, result_timeout=20_000)
    await world.after(19_999)
    assert await world.ready() == []
    await world.after(1)
    assert [(stop.lease, stop.reason) for stop in await world.stops()] == [(hand.ref(offer), StopReason.DEADLINE)]
    assert await ended(world, offer.job_id) == (FAILURE, RESULT_TIMEOUT, 1)
    assert await world.complete(offer) is Superseded.DEADLINE_EXCEEDED
    assert await world.stops() == []


async def test_a_task_says_when_its_result_timeout_is_over(world: World) -> None:
    begun = world.now
    offer = await world.accepted(await world.hand(), result_timeout=20_000)
    await world.after(5_000)
    assert (await world.task_record(offer.task_id)).result_due == begun + 20_000
    assert (await world.task_record(await world.dispatch())).result_due is None


async def test_a_result_after_its_deadline_is_told_so_when_the_job_is_over_too(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, result_timeout=20_000)
    await world.after(20_000)
    await world.commit(world.step(await world.claim_of(offer.job_id), Status.FAILED))
    assert await world.complete(offer) is Superseded.DEADLINE_EXCEEDED


async def test_extending_does_not_move_the_result_deadline(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, result_timeout=40_000)
    for _ in range(4):
        await world.after(10_000)
        await world.touch(extends=(hand.ref(offer),))
    assert await ended(world, offer.job_id) == (FAILURE, RESULT_TIMEOUT, 1)


async def test_a_waiting_task_ends_at_its_result_deadline(world: World) -> None:
    task = await world.dispatch(result_timeout=20_000)
    await world.after(20_000)
    assert await world.waiting() == 0
    assert (await ended(world, task.rsplit("-", 2)[0]))[1] == RESULT_TIMEOUT


async def test_a_task_in_back_off_ends_at_its_result_deadline(world: World) -> None:
    offer = await world.accepted(await world.hand(), result_timeout=20_000)
    await world.complete(offer, BROKEN, 30_000)
    await world.after(20_000)
    assert (await ended(world, offer.job_id))[1] == RESULT_TIMEOUT
    assert (await world.fire()).next_due is None
    await world.after(10_000)
    assert await world.waiting() == 0


@pytest.mark.parametrize("retry_after", [30_000, 0], ids=["in back-off", "in its queue"])
async def test_a_task_that_was_tried_and_waits_ends_without_another_attempt(world: World, retry_after: int) -> None:
    offer = await world.accepted(await world.hand(), result_timeout=20_000)
    await world.complete(offer, BROKEN, retry_after)
    await world.after(20_000)
    first, last = await ends_told(world, offer.job_id)
    assert (first.worker_id, first.attempt_number) == ("w1", 1)
    assert (last.worker_id, last.attempt_number, last.duration_ms) == (None, 0, None)
    # It is all told of the one that there was.
    assert last.details["attempts"] == first.details["attempts"] == [["w1", *3 * [world.now - 20_000]]]
    [(_, event)] = (await world.claim_of(offer.job_id)).events
    assert isinstance(event, TaskEnded)
    assert event.outcome.worker_id == ""


async def test_an_attempt_that_is_under_way_at_the_result_deadline_is_the_one_that_ended(world: World) -> None:
    offer = await world.accepted(await world.hand(), result_timeout=20_000)
    await world.complete(offer, BROKEN, 0)
    await world.after(0)
    again = await world.hand("w2")
    [offer] = await world.lease(again.seat())
    await world.touch(accepts=(again.ref(offer),))
    await world.after(20_000)
    told = await ends_told(world, offer.job_id)
    assert [(one.worker_id, one.attempt_number, one.duration_ms) for one in told] == [("w1", 1, 0), ("w2", 2, 20_000)]


async def test_a_retry_does_not_move_the_result_deadline(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, result_timeout=20_000)
    await world.complete(offer, BROKEN, 5_000)
    await world.after(5_000)
    [again] = await world.lease((await world.hand("w2")).seat())
    assert again.time_left == 15_000


# Execution --------------------------------------------------------------------------------------------------------


async def test_an_attempt_that_takes_too_long_is_tried_again_by_the_tasks_own_policy(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand, execution_timeout=10_000)
    await world.after(9_999)
    assert await world.stops() == []
    await world.after(1)
    assert [(stop.lease, stop.reason) for stop in await world.stops()] == [(hand.ref(offer), StopReason.DEADLINE)]
    assert await world.ready() == []
    await world.after(ONE_SECOND.longest_ms)
    [again] = await world.lease(other.seat())
    assert (again.task_id, again.generation, again.attempt) == (offer.task_id, 2, 2)
    assert again.lease_id != offer.lease_id


async def test_an_attempt_that_took_too_long_is_not_applied_any_more(world: World) -> None:
    offer = await world.accepted(await world.hand(), execution_timeout=10_000)
    await world.after(10_000)
    assert await world.complete(offer) in (Superseded.DEADLINE_EXCEEDED, Superseded.STALE_TASK)
    assert await world.ready() == []
    await world.after(ONE_SECOND.longest_ms)
    assert await world.waiting() == 1


async def test_a_task_whose_last_try_takes_too_long_wakes_its_job(world: World) -> None:
    offer = await world.accepted(await world.hand(), execution_timeout=10_000, retry=ONCE)
    await world.after(10_000)
    assert await ended(world, offer.job_id) == (FAILURE, TIMEOUT_ERROR, 1)
    assert await world.complete(offer) in (Superseded.DEADLINE_EXCEEDED, Superseded.STALE_TASK)


async def test_execution_timeouts_use_up_the_tries_of_a_task(world: World) -> None:
    await world.dispatch(execution_timeout=10_000, retry=RetryPolicy(2, 1_000, 1_000))
    for number in range(1, 4):
        hand = await world.hand(f"w{number}")
        [offer] = await world.lease(hand.seat())
        assert offer.generation == number
        await world.touch(accepts=(hand.ref(offer),))
        await world.after(10_000)
        await world.after(1_000)
    assert await ended(world, offer.job_id) == (FAILURE, TIMEOUT_ERROR, 3)


async def test_the_time_of_an_attempt_begins_when_it_is_accepted(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand, execution_timeout=10_000, retry=ONCE)
    await world.after(4_000)
    await world.touch(accepts=(hand.ref(offer),))
    await world.after(9_999)
    assert await world.ready() == []
    await world.after(1)
    assert await world.ready() == [offer.job_id]


async def test_every_attempt_has_its_own_time(world: World) -> None:
    first = await world.accepted(await world.hand(), execution_timeout=40_000)
    await world.after(world.settings.lease)
    other = await world.hand("w2")
    [second] = await world.lease(other.seat())
    await world.touch(accepts=(other.ref(second),))
    assert (first.time_left, second.time_left) == (40_000, 40_000)
    await world.after(1_000)
    await world.complete(second, BROKEN, 0)
    await world.fire()
    [third] = await world.lease((await world.hand("w3")).seat())
    assert (third.attempt, third.time_left) == (3, 40_000)


async def test_extending_does_not_move_the_end_of_an_attempt(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, execution_timeout=10_000, retry=ONCE)
    for _ in range(2):
        await world.after(5_000)
        await world.touch(extends=(hand.ref(offer),))
    assert await world.ready() == [offer.job_id]


async def test_a_resume_does_not_begin_the_time_of_an_attempt_anew(world: World) -> None:
    offer = await world.accepted(await world.hand(), execution_timeout=10_000, retry=ONCE)
    await world.after(5_000)
    await world.resume("w1", offer)
    await world.after(5_000)
    assert await world.ready() == [offer.job_id]


async def test_an_execution_timeout_of_a_branch_counts_it_as_failed_in_the_end(world: World) -> None:
    await world.fan_out(1, execution_timeout=10_000, retry=ONCE)
    hand = await world.hand()
    [offer] = await world.lease(hand.seat())
    await world.touch(accepts=(hand.ref(offer),))
    await world.after(10_000)
    assert [event for _, event in (await world.claim_of(offer.job_id)).events] == [BranchesDone(0, failed=1)]
