"""A lease that ended by its worker's time does not come back, and one that ran out and comes back has what was left."""

from __future__ import annotations

from holon.domain.task import RetryPolicy
from holon.ports import Superseded
from tests.contract.world import BROKEN, Factory, World

TIME = 60_000
LAPSE = 31_000


async def test_i3_a_lease_that_timed_out_is_not_taken_back_by_a_heartbeat(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand, execution_timeout=10_000, retry=RetryPolicy(3, 1_000, 1_000))
    await world.after(10_000)
    await world.after(1_000)
    touched = await world.touch(extends=(hand.ref(offer),))
    assert touched.lost == (hand.ref(offer),)
    [again] = await world.lease(other.seat())
    assert (again.task_id, again.generation, again.attempt) == (offer.task_id, 2, 2)


async def test_i3_a_lease_that_timed_out_is_not_resumed_by_a_later_session(world: World) -> None:
    offer = await world.accepted(await world.hand(), execution_timeout=10_000, retry=RetryPolicy(3, 1_000, 1_000))
    await world.after(10_000)
    await world.after(1_000)
    _, opened = await world.resume("w1", offer)
    assert opened.kept == ()
    assert opened.dropped == ((offer.task_id, offer.lease_id, Superseded.DEADLINE_EXCEEDED),)


async def test_i3_a_result_after_its_time_is_answered_alike_however_often_it_comes(world: World) -> None:
    offer = await world.accepted(await world.hand(), execution_timeout=10_000, retry=RetryPolicy(3, 1_000, 1_000))
    await world.after(10_000)
    answers = [await world.complete(offer)]
    await world.after(1_000)
    answers.append(await world.complete(offer))
    assert answers == [Superseded.DEADLINE_EXCEEDED] * 2
    # Once somebody else has it, it is his.
    assert await world.lease((await world.hand("w2")).seat())
    assert await world.complete(offer) == Superseded.STALE_TASK


async def test_i3_a_late_failure_does_not_count_for_the_generation_after_it(world: World) -> None:
    offer = await world.accepted(await world.hand(), execution_timeout=10_000, retry=RetryPolicy(1, 1_000, 1_000))
    await world.after(10_000)
    await world.after(1_000)
    assert await world.complete(offer, BROKEN) == Superseded.DEADLINE_EXCEEDED
    record = await world.task_record(offer.task_id)
    assert (record.state, record.generation) == ("queued", 2)


async def test_a_lease_that_ran_out_and_is_resumed_has_what_was_left_of_its_time(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, execution_timeout=TIME, retry=RetryPolicy(0))
    await world.storage.close_session(hand.worker_id, hand.session_id)
    await world.after(LAPSE)
    _, opened = await world.resume("w1", offer)
    assert [one.time_left for one in opened.kept] == [TIME - LAPSE]
    await world.after(TIME - LAPSE)
    assert (await world.task_record(offer.task_id)).state == "over"


async def test_a_lease_that_ran_out_and_is_taken_back_by_a_heartbeat_has_what_was_left_of_its_time(
    world: World,
) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, execution_timeout=TIME, retry=RetryPolicy(0))
    await world.after(LAPSE)
    assert (await world.touch(extends=(hand.ref(offer),))).lost == ()
    await world.after(TIME - LAPSE)
    assert (await world.task_record(offer.task_id)).state == "over"


async def test_a_task_that_waits_again_does_not_run_out_of_its_last_workers_time(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, execution_timeout=TIME, retry=RetryPolicy(0))
    await world.storage.close_session(hand.worker_id, hand.session_id)
    await world.after(LAPSE)
    await world.after(TIME)
    [again] = await world.lease((await world.hand("w2")).seat())
    assert (again.task_id, again.attempt, again.time_left) == (offer.task_id, 2, TIME)


async def test_the_leases_of_a_worker_last_as_long_after_a_restart(durable: Factory) -> None:
    world = await durable()
    offer = await world.accepted(await world.hand("child", lease=300_000, execution=86_400_000), execution_timeout=0)
    await world.restart()
    await world.after(299_000)
    assert (await world.task_record(offer.task_id)).state == "leased"
    await world.after(1_000)
    assert (await world.task_record(offer.task_id)).state == "queued"
