"""Timers: each fires once, at its time, with its effect; what ends early leaves none behind."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.events import BranchesDone, CancelRequested, TaskEnded, Woken
from holon.domain.job import Status
from holon.domain.task import DISPATCH_TIMEOUT, FAILURE, RESULT_TIMEOUT, TIMEOUT_ERROR, RetryPolicy
from holon.ports import StopReason, Superseded
from tests.contract.world import BROKEN, ONE_SECOND, World

ONCE = RetryPolicy(max_retries=0)


async def ended(world: World, job: str) -> tuple[str, str, int]:
    """The outcome with which a job's only task ended: status, code, tries."""
    [(_, event)] = (await world.claim_of(job)).events
    assert isinstance(event, TaskEnded)
    assert event.step == 0
    return event.outcome.status, event.outcome.error.code if event.outcome.error else "", event.tries


async def test_without_timers_nothing_is_due(world: World) -> None:
    await world.create()
    fired = await world.fire()
    assert (fired.next_due, fired.claims, fired.spawns) == (None, (), ())


async def test_a_jobs_timer_wakes_it_at_its_time(world: World) -> None:
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=5_000))
    assert (await world.fire()).next_due == world.now + 5_000
    assert (await world.after(4_999, want=10)).claims == ()
    [again] = (await world.after(1, want=10)).claims
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
    fired = await world.fire(limit=1, want=10)
    assert len(fired.claims) == 1
    assert fired.next_due is not None
    assert fired.next_due <= world.now
    fired = await world.fire(limit=10, want=10)
    assert len(fired.claims) == 2


async def test_fire_hands_over_no_more_than_wanted(world: World) -> None:
    for _ in range(3):
        claim = await world.start()
        await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=1_000))
    assert len((await world.after(1_000, want=2)).claims) == 2
    assert len(await world.ready()) == 1


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
    await world.start()
    assert (await world.fire()).next_due == begun + world.settings.claim
    [offer] = await world.lease(hand.seat(1))
    assert (await world.fire()).next_due == begun + world.settings.offer
    await world.touch(accepts=(hand.ref(offer),))
    assert (await world.fire()).next_due == begun + world.settings.claim


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


# Dispatch ---------------------------------------------------------------------------------------------------------


async def test_a_task_that_no_worker_takes_in_time_ends_and_wakes_its_job(world: World) -> None:
    task = await world.dispatch(dispatch_timeout=5_000)
    job = task.rsplit("-", 2)[0]
    await world.after(4_999)
    assert await world.ready() == []
    await world.after(1)
    assert await world.waiting() == 0
    assert await world.lease((await world.hand()).seat()) == []
    assert await ended(world, job) == (FAILURE, DISPATCH_TIMEOUT, 1)


async def test_a_task_at_a_worker_is_not_ended_by_its_dispatch_timeout(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, dispatch_timeout=5_000)
    await world.after(6_000)
    assert await world.ready() == []
    assert await world.complete(offer) is None


async def test_a_task_that_a_worker_is_being_offered_is_not_ended_by_its_dispatch_timeout(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand, dispatch_timeout=3_000)
    await world.after(3_000)
    assert await world.ready() == []
    await world.touch(accepts=(hand.ref(offer),))
    assert await world.complete(offer) is None


async def test_a_task_whose_offer_nobody_answered_ends_when_its_dispatch_timeout_is_over(world: World) -> None:
    offer = await world.offered(await world.hand(), dispatch_timeout=3_000)
    await world.after(world.settings.offer)
    assert await ended(world, offer.job_id) == (FAILURE, DISPATCH_TIMEOUT, 1)


async def test_a_task_accepted_in_time_runs_again_after_its_worker_was_lost(world: World) -> None:
    offer = await world.accepted(await world.hand(), dispatch_timeout=5_000)
    await world.after(world.settings.lease)
    assert await world.ready() == []
    assert await world.waiting() == 1
    [again] = await world.lease((await world.hand("w2")).seat())
    assert (again.task_id, again.attempt) == (offer.task_id, 2)


async def test_a_task_that_failed_before_it_was_accepted_is_tried_again_whatever_its_dispatch_timeout(
    world: World,
) -> None:
    offer = await world.offered(await world.hand(), dispatch_timeout=5_000)
    await world.complete(offer, BROKEN, retry_after=6_000)
    await world.after(6_000)
    assert await world.ready() == []
    [again] = await world.lease((await world.hand("w2")).seat())
    assert (again.task_id, again.attempt) == (offer.task_id, 2)


async def test_the_dispatch_timeout_of_what_is_given_back_unbegun_goes_on(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, dispatch_timeout=5_000)
    await world.hand_back(hand, offer, unbegun=True)
    assert (await world.fire()).next_due == world.now + 5_000
    await world.after(4_999)
    assert await world.ready() == []
    await world.after(1)
    assert await ended(world, offer.job_id) == (FAILURE, DISPATCH_TIMEOUT, 1)


async def test_what_is_given_back_unbegun_after_its_dispatch_timeout_is_over_at_once(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, dispatch_timeout=5_000)
    await world.after(6_000)
    await world.hand_back(hand, offer, unbegun=True)
    await world.fire()
    assert await ended(world, offer.job_id) == (FAILURE, DISPATCH_TIMEOUT, 1)


@pytest.mark.parametrize("how", ["lost", "given back", "failed"])
async def test_what_somebody_has_begun_waits_on_after_its_dispatch_timeout(world: World, how: str) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.offered(hand, dispatch_timeout=5_000)
    if how != "failed":
        await world.touch(accepts=(hand.ref(offer),))
    if how == "lost":
        await world.after(world.settings.lease)
    elif how == "given back":
        await world.hand_back(hand, offer)
    else:
        await world.complete(offer, BROKEN, retry_after=0)
        await world.fire()
    # Nor does it change that another cannot begin it.
    [again] = await world.lease(other.seat())
    await world.touch(accepts=(other.ref(again),))
    await world.hand_back(other, again, unbegun=True)
    await world.after(60_000)
    assert (await world.ready(), await world.waiting()) == ([], 1)


async def test_what_one_after_another_gives_back_unbegun_has_one_dispatch_timeout(world: World) -> None:
    first = await world.hand("w1")
    offer = await world.offered(first, dispatch_timeout=5_000)
    begun = [(await world.task_record(offer.task_id)).begun]
    await world.touch(accepts=(first.ref(offer),))
    begun.append((await world.task_record(offer.task_id)).begun)
    await world.hand_back(first, offer, unbegun=True)
    begun.append((await world.task_record(offer.task_id)).begun)
    assert begun == [False, True, False]
    for name in ("w2", "w3"):
        hand = await world.hand(name)
        [offer] = await world.lease(hand.seat())
        await world.touch(accepts=(hand.ref(offer),))
        await world.after(1_000)
        await world.hand_back(hand, offer, unbegun=True)
    await world.after(2_999)
    assert await world.ready() == []
    await world.after(1)
    assert await ended(world, offer.job_id) == (FAILURE, DISPATCH_TIMEOUT, 1)


async def test_a_branch_that_no_worker_takes_in_time_counts_as_failed(world: World) -> None:
    tasks = await world.fan_out(2, dispatch_timeout=5_000)
    job = tasks[0].rsplit("-", 2)[0]
    [offer] = await world.lease((await world.hand()).seat())
    await world.complete(offer)
    await world.after(5_000)
    assert [event for _, event in (await world.claim_of(job)).events] == [BranchesDone(0, failed=1)]
    [_, (_, outcome)] = await world.storage.branches(job, 0)
    assert outcome.error is not None
    assert outcome.error.code == DISPATCH_TIMEOUT


async def test_a_dispatch_timeout_can_be_seen_by_a_worker_that_held_the_task_before(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand, dispatch_timeout=60_000)
    await world.after(world.settings.offer)
    await world.after(60_000)
    assert await world.ready() == [offer.job_id]
    assert await world.complete(offer) is Superseded.DEADLINE_EXCEEDED


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
    assert (await world.fire()).next_due == world.now + world.settings.claim
    await world.after(10_000)
    assert await world.waiting() == 0


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


@pytest.mark.parametrize("timeout", ["dispatch_timeout", "result_timeout"])
async def test_what_is_due_is_done_for_all_by_one_fire(world: World, timeout: str) -> None:
    fields: dict[str, Any] = {timeout: 1_000}
    tasks = [await world.dispatch(**fields) for _ in range(3)]
    fired = await world.after(60_000, want=10)
    assert {claim.job.id for claim in fired.claims} == {task.rsplit("-", 2)[0] for task in tasks}
