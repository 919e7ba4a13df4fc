"""Results: applied at most once, only under the current lease, and tried again when the caller says so."""

from __future__ import annotations

from holon.domain.events import TaskEnded
from holon.domain.task import SUCCESS, Outcome, TaskError
from holon.ports import Result, Superseded
from tests.contract.world import BROKEN, OK, T, World


async def test_the_time_left_of_an_offer_is_never_more_than_the_tasks_result_timeout_leaves(world: World) -> None:
    hand = await world.hand()
    await world.dispatch(execution_timeout=60_000, result_timeout=50_000)
    world.clock.advance(20_000)
    [offer] = await world.lease(hand.seat())
    assert (offer.time_left, offer.deadline) == (30_000, world.now + 30_000)


async def test_a_result_wakes_its_job_with_the_outcome(world: World) -> None:
    offer = await world.accepted(await world.hand())
    outcome = Outcome(SUCCESS, b'{"big":1152921504606846977}', worker_id="w1")
    done = await world.storage.complete([Result(offer.task_id, offer.lease_id, outcome, took=5)], "w1", ())
    assert done.verdicts == (None,)
    claim = await world.claim_of(offer.job_id)
    assert [event for _, event in claim.events] == [TaskEnded(0, offer.task_id, outcome, 1)]


async def test_an_error_comes_through_with_its_details(world: World) -> None:
    offer = await world.accepted(await world.hand())
    outcome = Outcome("failure", error=TaskError("CODE", "what happened", b'{"x":1}', retryable=True), worker_id="w1")
    await world.complete(offer, outcome)
    [(_, event)] = (await world.claim_of(offer.job_id)).events
    assert isinstance(event, TaskEnded)
    assert event.outcome == outcome


async def test_a_result_implies_acceptance(world: World) -> None:
    offer = await world.offered(await world.hand())
    assert await world.complete(offer) is None
    assert await world.ready() == [offer.job_id]


async def test_a_result_may_come_after_its_session_ended(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.storage.close_session(hand.worker_id, hand.session_id)
    assert await world.complete(offer) is None
    assert await world.ready() == [offer.job_id]


async def test_a_result_may_come_through_another_session_of_its_worker(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await world.resume("w1", offer)
    assert await world.complete(offer) is None


async def test_i3_a_repeated_result_is_committed_again_and_applied_once(world: World) -> None:
    offer = await world.accepted(await world.hand())
    assert await world.complete(offer) is None
    assert await world.complete(offer) is None
    claim = await world.claim_of(offer.job_id)
    assert len(claim.events) == 1
    told = len(await world.told(offer.job_id))
    assert await world.complete(offer, BROKEN) is None
    await world.finish(claim)
    assert await world.complete(offer) is None
    assert len(await world.told(offer.job_id)) == told + 2
    assert await world.ready() == []


async def test_results_of_a_batch_are_judged_one_by_one(world: World) -> None:
    hand = await world.hand()
    good, twice, stale = await world.accepted(hand), await world.accepted(hand), await world.accepted(hand)
    results = [
        Result(good.task_id, good.lease_id, OK),
        Result("0-unknown-1-0", "lease", OK),
        Result(twice.task_id, twice.lease_id, OK),
        Result(stale.task_id, "another", OK),
        Result(twice.task_id, twice.lease_id, OK),
    ]
    done = await world.storage.complete(results, "w1", ())
    assert done.verdicts == (None, Superseded.JOB_NOT_FOUND, None, Superseded.STALE_TASK, None)
    assert await world.ready() == [good.job_id, twice.job_id]


async def test_results_wake_their_jobs_in_their_order(world: World) -> None:
    hand = await world.hand()
    offers = [await world.accepted(hand) for _ in range(3)]
    results = [Result(offer.task_id, offer.lease_id, OK) for offer in offers]
    await world.storage.complete(results, "w1", ())
    assert await world.ready() == [offer.job_id for offer in offers]


async def test_a_late_result_is_applied_as_long_as_nobody_else_got_the_lease(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    assert await world.waiting() == 1
    assert await world.complete(offer) is None
    assert await world.waiting() == 0
    assert await world.lease(other.seat()) == []
    assert await world.ready() == [offer.job_id]


async def test_i3_a_result_under_an_earlier_lease_is_superseded_and_not_applied(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    [again] = await world.lease(other.seat())
    assert await world.complete(offer) in (Superseded.STALE_TASK, Superseded.WORKER_MISMATCH)
    assert await world.ready() == []
    assert await world.complete(again) is None
    assert await world.ready() == [offer.job_id]
    assert await world.complete(offer) in (Superseded.STALE_TASK, Superseded.WORKER_MISMATCH)


async def test_a_retried_failure_does_not_wake_the_job_and_waits_for_its_back_off(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    result = Result(offer.task_id, offer.lease_id, BROKEN, retry_after=5_000)
    done = await world.storage.complete([result], "w1", [hand.seat()])
    assert (done.verdicts, done.leased.offers) == ((None,), ())
    assert await world.ready() == []
    assert await world.waiting() == 0
    assert (await world.fire()).next_due == world.now + 5_000
    await world.after(4_999)
    assert await world.waiting() == 0
    other = await world.hand("w2")
    await world.after(1)
    [again] = await world.lease(other.seat())
    assert (again.task_id, again.generation, again.attempt) == (offer.task_id, 2, 2)


async def test_a_lone_worker_gets_its_failed_task_again(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.complete(offer, BROKEN, 1_000)
    await world.after(1_000)
    [again] = await world.lease(hand.seat(only=[T]))
    assert (again.worker_id, again.generation) == ("w1", 2)


async def test_a_retry_does_not_go_straight_back_to_the_worker_that_failed_while_another_could_do_it(
    world: World,
) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.complete(offer, BROKEN, 1_000)
    await world.after(1_000)
    assert await world.lease(hand.seat()) == []
    assert len(await world.lease(other.seat())) == 1


async def test_a_failed_task_comes_back_to_its_worker_when_no_other_takes_it(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.complete(offer, BROKEN, 1_000)
    await world.after(1_000)
    world.clock.advance(world.settings.lease)
    assert len(await world.lease(hand.seat())) == 1


async def test_a_failure_may_be_retried_at_once(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    assert await world.complete(offer, BROKEN, 0) is None
    await world.fire()
    assert await world.waiting() == 1
    [again] = await world.lease((await world.hand("w2")).seat())
    assert (again.generation, again.attempt) == (2, 2)


async def test_a_repeated_retry_is_applied_once(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    for _ in range(3):
        assert await world.complete(offer, BROKEN, 1_000) is None
    await world.after(1_000)
    [again] = await world.lease((await world.hand("w2")).seat())
    assert again.generation == 2
    assert await world.complete(offer, BROKEN, 1_000) is None
    assert (await world.task_record(offer.task_id)).lease_id == again.lease_id
    assert await world.complete(again) is None


async def test_the_end_of_a_task_counts_its_applied_outcomes(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.hand_back(hand, offer)
    for number in range(1, 4):
        await world.after(1)
        [offer] = await world.lease((await world.hand(f"w{number}")).seat())
        assert (offer.generation, offer.attempt) == (number, number + 1)
        await world.complete(offer, BROKEN, 1 if number < 3 else None)
    [(_, event)] = (await world.claim_of(offer.job_id)).events
    assert isinstance(event, TaskEnded)
    assert event.tries == 3
