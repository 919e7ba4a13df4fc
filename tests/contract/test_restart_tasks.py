"""Durability of tasks: leases, results, counts and the backlog are as they were after the process was killed."""

from __future__ import annotations

import pytest

from holon.domain.events import BranchesDone, TaskEnded
from holon.domain.job import Status
from holon.domain.task import CANCELLED, SUCCESS, Outcome, RetryPolicy
from holon.ports import Progress, Result, Superseded
from tests.contract.world import BROKEN, OK, Factory, T, U


async def test_an_applied_result_is_committed_again_after_a_restart(durable: Factory) -> None:
    world = await durable()
    offer = await world.accepted(await world.hand())
    await world.complete(offer)
    await world.restart()
    assert await world.complete(offer) is None
    claim = await world.claim_of(offer.job_id)
    assert [event for _, event in claim.events] == [TaskEnded(0, offer.task_id, OK, 1)]
    await world.finish(claim)
    await world.restart()
    assert await world.complete(offer) is None
    assert await world.ready() == []


async def test_an_applied_retry_is_committed_again_after_a_restart(durable: Factory) -> None:
    world = await durable()
    offer = await world.accepted(await world.hand())
    await world.complete(offer, BROKEN, 1_000)
    await world.restart()
    assert await world.complete(offer, BROKEN, 1_000) is None
    await world.after(1_000)
    [again] = await world.lease((await world.hand("w2")).seat())
    assert (again.generation, again.attempt) == (2, 2)


async def test_a_retry_that_is_not_counted_is_not_after_a_restart_either(durable: Factory) -> None:
    world = await durable()
    offer = await world.accepted(await world.hand())
    await world.storage.complete([Result(offer.task_id, offer.lease_id, BROKEN, 1, share_lost=True)], "w1", ())
    await world.restart()
    task = await world.task_record(offer.task_id)
    assert (task.generation, task.retry.max_retries) == (2, offer.retry.max_retries + 1)


async def test_a_result_is_applied_after_a_restart_of_the_node(durable: Factory) -> None:
    world = await durable()
    accepted, offered = await world.accepted(await world.hand()), await world.offered(await world.hand("w2"))
    await world.restart()
    assert await world.complete(accepted) is None
    assert await world.complete(offered) is None
    assert sorted(await world.ready()) == sorted([accepted.job_id, offered.job_id])


async def test_a_lease_is_resumed_after_a_restart(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    kept, left = await world.accepted(hand, execution_timeout=60_000), await world.accepted(hand)
    await world.restart()
    world.clock.advance(1_000)
    new, opened = await world.resume("w1", kept)
    assert [(offer.task_id, offer.lease_id, offer.time_left) for offer in opened.kept] == [
        (kept.task_id, kept.lease_id, 59_000)
    ]
    assert (await world.touch(extends=(new.ref(kept),))).lost == ()
    assert await world.waiting() == 1
    [again] = await world.lease((await world.hand("w2")).seat(5))
    assert (again.task_id, again.attempt) == (left.task_id, 2)
    assert await world.complete(kept) is None


async def test_a_lease_that_nobody_resumes_runs_out_after_a_restart(durable: Factory) -> None:
    world = await durable()
    offer = await world.accepted(await world.hand())
    await world.restart()
    await world.after(world.settings.lease)
    [again] = await world.lease((await world.hand("w2")).seat())
    assert (again.task_id, again.attempt) == (offer.task_id, 2)
    assert await world.complete(offer) in (Superseded.STALE_TASK, Superseded.WORKER_MISMATCH)
    assert await world.complete(again) is None


async def test_a_session_of_the_last_process_is_given_nothing(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    await world.dispatch()
    await world.restart()
    assert await world.lease(hand.seat()) == []


async def test_losses_are_counted_across_restarts(durable: Factory) -> None:
    world = await durable(max_losses=3)
    await world.dispatch()
    for number in range(3):
        assert await world.ready() == [], f"after {number} losses"
        [offer] = await world.lease((await world.hand()).seat())
        await world.restart()
        await world.hand()
        await world.after(world.settings.offer)
    assert await world.ready() == [offer.job_id]


async def test_the_order_of_the_backlog_survives_and_new_tasks_come_behind(durable: Factory) -> None:
    world = await durable()
    low, first, second, high = [await world.dispatch(priority=p) for p in (-1.0, 0.0, 0.0, 1.0)]
    await world.restart()
    third = await world.dispatch()
    offers = await world.lease((await world.hand()).seat(10))
    assert [offer.task_id for offer in offers] == [high, first, second, third, low]


async def test_a_fan_out_is_counted_across_restarts(durable: Factory) -> None:
    world = await durable()
    tasks = await world.fan_out(3, rest=(2,))
    job = tasks[0].rsplit("-", 2)[0]
    offers = await world.lease((await world.hand()).seat(3))
    await world.complete(offers[0])
    await world.complete(offers[1], BROKEN)
    await world.restart()
    assert await world.complete(offers[1], BROKEN) is None
    assert await world.complete(offers[2]) is None
    hand = await world.hand()
    await world.storage.spawn(job, 0)
    more = await world.lease(hand.seat(5))
    assert [offer.task_id for offer in more] == tasks[3:]
    await world.complete(more[0])
    await world.restart()
    assert await world.ready() == []
    await world.complete(more[1])
    assert [event for _, event in (await world.claim_of(job)).events] == [BranchesDone(0, failed=1)]
    assert [task for task, _ in await world.storage.branches(job, 0)] == tasks


async def test_a_fan_outs_next_chunk_is_called_for_after_a_restart(durable: Factory) -> None:
    world = await durable()
    tasks = await world.fan_out(1, rest=(1,))
    await world.restart()
    spawns: set[tuple[str, int]] = set()
    for _ in range(3):
        fired = await world.fire()
        spawns |= set(fired.spawns)
        if fired.next_due is not None:
            world.clock.advance(max(0, fired.next_due - world.now))
    assert spawns == {(tasks[0].rsplit("-", 2)[0], 0)}


async def test_branches_that_are_spawned_after_a_restart_have_their_time_from_the_dispatch(durable: Factory) -> None:
    world = await durable()
    tasks = await world.fan_out(1, rest=(2,), result_timeout=5_000)
    begun = world.now
    world.clock.advance(3_000)
    await world.restart()
    await world.storage.spawn(tasks[0].rsplit("-", 2)[0], 0)
    offers = await world.lease((await world.hand()).seat(3))
    assert [offer.deadline for offer in offers] == [begun + 5_000] * 3
    world.clock.advance(begun + 5_000 - world.now)
    await world.fire()
    assert await world.ready() == [tasks[0].rsplit("-", 2)[0]]


async def test_timeouts_and_back_offs_of_tasks_survive(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    slow = await world.accepted(hand, execution_timeout=30_000)
    late = await world.accepted(hand, result_timeout=25_000)
    again = await world.accepted(hand)
    await world.complete(again, BROKEN, 15_000)
    never = await world.dispatch(U, dispatch_timeout=10_000)
    begun = world.now
    await world.restart()
    assert (await world.fire()).next_due == begun + 10_000
    await world.after(10_000)
    assert await world.ready() == [never.rsplit("-", 2)[0]]
    await world.commit(world.step(await world.claim_of(never.rsplit("-", 2)[0]), Status.FAILED))
    assert (await world.fire()).next_due == begun + 15_000
    await world.after(5_000)
    assert await world.waiting() == 1
    await world.after(10_000)
    assert await world.ready() == [late.job_id]
    assert await world.complete(late) is Superseded.DEADLINE_EXCEEDED
    await world.after(5_000)
    assert await world.complete(slow) in (Superseded.DEADLINE_EXCEEDED, Superseded.STALE_TASK)


@pytest.mark.parametrize("ended", [False, True])
async def test_what_was_done_in_time_is_taken_though_the_node_was_away_at_the_end_of_that(
    durable: Factory, *, ended: bool
) -> None:
    world = await durable()
    hand = await world.hand()
    once, late = [await world.accepted(hand, execution_timeout=5_000, retry=RetryPolicy(0)) for _ in range(2)]
    bound = await world.accepted(hand, execution_timeout=5_000, result_timeout=6_000)
    if ended:
        # The node has left of its own accord.
        await world.storage.close_session("w1", hand.session_id)
    world.clock.advance(10_000)
    await world.restart()
    await world.fire()
    assert await world.ready() == [bound.job_id]
    new, opened = await world.resume("w1", once, late)
    assert [offer.lease_id for offer in opened.kept] == [once.lease_id, late.lease_id]
    assert await world.complete(once) is None
    # Who has it still has no more than a lease for that, however long it says that it has it.
    await world.after(world.settings.lease - 1)
    assert (await world.touch(extends=(new.ref(late),))).lost == ()
    await world.after(1)
    assert await world.complete(late) is Superseded.DEADLINE_EXCEEDED


async def test_a_worker_that_stopped_since_its_lease_ran_out_cancels_nothing_after_a_restart(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    taken_up, waiting = await world.accepted(hand), await world.accepted(hand)
    await world.after(world.settings.lease)
    await world.touch(extends=(hand.ref(taken_up),))
    await world.restart()
    await world.resume("w1", taken_up, waiting)
    for offer in (taken_up, waiting):
        assert await world.complete(offer, Outcome(CANCELLED, worker_id="w1")) is Superseded.STALE_TASK
    assert await world.waiting() == 2


async def test_why_a_result_was_superseded_is_known_after_a_restart(durable: Factory) -> None:
    world = await durable()
    offer = await world.accepted(await world.hand(), result_timeout=1_000)
    await world.after(1_000)
    await world.commit(world.step(await world.claim_of(offer.job_id), Status.FAILED))
    await world.restart()
    assert await world.complete(offer) is Superseded.DEADLINE_EXCEEDED


async def test_the_progress_of_a_task_that_was_told_without_words_survives(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.touch(progress=(Progress(hand.ref(offer), 40.0, None),))
    await world.restart()
    assert (await world.record(offer.job_id)).progress == 40.0


async def test_a_new_need_of_a_waiting_task_survives(durable: Factory) -> None:
    world = await durable()
    task = await world.dispatch(T)
    await world.storage.rekey([(task, U)])
    await world.restart()
    assert dict(await world.storage.needs()) == {U.key: U}
    [offer] = await world.lease((await world.hand()).seat(1, U))
    assert offer.task_id == task


async def test_a_fan_out_goes_on_as_it_was_asked_for(durable: Factory) -> None:
    world = await durable(max_fan_in_bytes=1_000)
    hand = await world.hand()
    await world.fan_out(3, fail_fast=True)
    fast = await world.lease(hand.seat(3))
    await world.fan_out(3)
    large = await world.lease(hand.seat(3))
    big = Outcome(SUCCESS, b'{"x":"' + b"x" * 400 + b'"}')
    await world.complete(large[0], big)
    await world.complete(large[1], big)
    await world.restart()
    assert await world.complete(fast[0], BROKEN) is None
    [(_, event)] = (await world.claim_of(fast[0].job_id)).events
    assert isinstance(event, BranchesDone)
    assert event.fail_fast
    assert await world.complete(large[2], big) is None
    [(_, event)] = (await world.claim_of(large[0].job_id)).events
    assert isinstance(event, BranchesDone)
    assert event.too_large


async def test_the_progress_of_a_fan_out_goes_on_from_where_it_was(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    await world.fan_out(2)
    first, second = await world.lease(hand.seat(2))
    for offer in (first, second):
        await world.touch(progress=(Progress(hand.ref(offer), 40.0, ""),))
    await world.restart()
    assert (await world.record(first.job_id)).progress == 40.0
    await world.complete(first)
    assert (await world.record(first.job_id)).progress == 70.0


async def test_the_waiting_branches_of_a_fan_out_are_counted_after_a_restart(durable: Factory) -> None:
    world = await durable()
    tasks = await world.fan_out(101, rest=(10,))
    job = tasks[0].rsplit("-", 2)[0]
    await world.restart()
    await world.storage.spawn(job, 0)
    assert await world.waiting() == 101
    await world.lease((await world.hand()).seat(2))
    await world.storage.spawn(job, 0)
    assert await world.waiting() == 109


async def test_a_rejected_task_avoids_its_worker_after_a_restart_too(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    offer = await world.offered(hand)
    await world.hand_back(hand, offer, again_after=None)
    await world.restart()
    assert await world.lease((await world.hand()).seat()) == []
    assert len(await world.lease((await world.hand("w2")).seat())) == 1


async def test_a_task_accepted_in_time_is_not_ended_by_its_dispatch_timeout_after_a_restart(durable: Factory) -> None:
    world = await durable()
    offer = await world.accepted(await world.hand(), dispatch_timeout=5_000)
    await world.restart()
    await world.after(world.settings.lease)
    assert await world.waiting() == 1
    assert await world.complete(offer) is None
