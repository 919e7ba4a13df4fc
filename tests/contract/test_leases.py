"""Leases: fenced by lease id and worker, and by nothing else; they change only at the next lease."""

from __future__ import annotations

import pytest

from holon.domain.events import TaskEnded
from holon.domain.task import SUCCESS, Outcome, TaskError
from holon.ports import LeaseRef, Result, StopReason, Superseded
from tests.contract.world import BROKEN, OK, ONE_SECOND, Hand, T, World


async def test_an_offer_carries_the_task_and_what_deciding_about_it_needs(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand, params=b'{"n":3.0}', priority=2.5, execution_timeout=60_000)
    assert (offer.worker_id, offer.session_id) == (hand.worker_id, hand.session_id)
    assert offer.task_id.startswith(offer.job_id)
    assert len(offer.lease_id) >= 16
    assert (offer.skill, offer.version, offer.type) == ("t", "", "")
    assert (offer.params, offer.priority, offer.retry) == (b'{"n":3.0}', 2.5, ONE_SECOND)
    assert (offer.generation, offer.attempt) == (1, 1)
    assert (offer.time_left, offer.deadline) == (60_000, world.now + 60_000)


async def test_the_time_left_of_an_offer_is_never_more_than_the_tasks_result_timeout_leaves(world: World) -> None:
    hand = await world.hand()
    await world.dispatch(execution_timeout=60_000, result_timeout=50_000)
    world.clock.advance(20_000)
    [offer] = await world.lease(hand.seat())
    assert (offer.time_left, offer.deadline) == (30_000, world.now + 30_000)


async def test_a_task_record_shows_who_holds_the_task(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, params=b'{"n":1}')
    record = await world.task_record(offer.task_id)
    assert (record.id, record.job_id, record.need) == (offer.task_id, offer.job_id, T)
    assert (record.lease_id, record.worker_id) == (offer.lease_id, "w1")
    assert (record.generation, record.attempt, record.retry, record.params) == (1, 1, ONE_SECOND, b'{"n":1}')


async def test_an_unknown_task_reads_as_none(world: World) -> None:
    assert await world.storage.task("0-unknown-1-0") is None
    claim = await world.start()
    assert await world.storage.task(f"{claim.job.id}-9-9") is None


async def test_a_leased_task_is_not_leased_again(world: World) -> None:
    hand = await world.hand()
    await world.offered(hand)
    assert await world.lease(hand.seat(10)) == []


async def test_a_result_wakes_its_job_with_the_outcome(world: World) -> None:
    offer = await world.accepted(await world.hand())
    outcome = Outcome(SUCCESS, b'{"big":1152921504606846977}', worker_id="w1")
    done = await world.storage.complete([Result(offer.task_id, offer.lease_id, outcome, took=5)], "w1", 1, ())
    assert done.verdicts == (None,)
    [claim] = done.claims
    assert [event for _, event in claim.events] == [TaskEnded(0, offer.task_id, outcome, 1)]


async def test_an_error_comes_through_with_its_details(world: World) -> None:
    offer = await world.accepted(await world.hand())
    outcome = Outcome("failure", error=TaskError("CODE", "what happened", b'{"x":1}'), worker_id="w1")
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


async def test_a_repeated_result_is_committed_again_and_applied_once(world: World) -> None:
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
    done = await world.storage.complete(results, "w1", 0, ())
    assert done.verdicts == (None, Superseded.JOB_NOT_FOUND, None, Superseded.STALE_TASK, None)
    assert await world.ready() == [good.job_id, twice.job_id]


async def test_results_hand_over_the_jobs_that_they_woke_up_to_what_is_wanted(world: World) -> None:
    hand = await world.hand()
    offers = [await world.accepted(hand) for _ in range(3)]
    results = [Result(offer.task_id, offer.lease_id, OK) for offer in offers]
    done = await world.storage.complete(results, "w1", 2, ())
    assert [claim.job.id for claim in done.claims] == [offer.job_id for offer in offers[:2]]


async def test_an_accepted_lease_lasts_its_time_and_the_task_runs_again(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease - 1)
    assert await world.lease(other.seat()) == []
    await world.after(1)
    [again] = await world.lease(other.seat())
    assert again.task_id == offer.task_id
    assert again.lease_id != offer.lease_id
    assert (again.generation, again.attempt) == (1, 2)


async def test_an_offer_not_accepted_lapses(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.offered(hand)
    await world.after(world.settings.offer - 1)
    assert await world.lease(other.seat()) == []
    await world.after(1)
    [again] = await world.lease(other.seat())
    assert again.task_id == offer.task_id
    assert (again.generation, again.attempt) == (1, 2)


async def test_a_worker_whose_lease_or_offer_ran_out_is_told_to_stop(world: World) -> None:
    hand = await world.hand()
    lapsed = await world.offered(hand)
    expired = await world.accepted(hand)
    await world.after(world.settings.offer)
    assert [(stop.lease, stop.reason) for stop in await world.stops()] == [(hand.ref(lapsed), StopReason.LEASE_LOST)]
    await world.after(world.settings.lease)
    assert (hand.ref(expired), StopReason.LEASE_LOST) in [(stop.lease, stop.reason) for stop in await world.stops()]


async def test_a_late_result_is_applied_as_long_as_nobody_else_got_the_lease(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    assert await world.waiting() == 1
    assert await world.complete(offer) is None
    assert await world.waiting() == 0
    assert await world.lease(other.seat()) == []
    assert await world.ready() == [offer.job_id]


async def test_the_lease_id_changes_only_at_the_next_lease(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    assert (await world.task_record(offer.task_id)).lease_id == offer.lease_id
    [again] = await world.lease(other.seat())
    assert (await world.task_record(offer.task_id)).lease_id == again.lease_id


async def test_a_result_under_an_earlier_lease_is_superseded_and_not_applied(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    [again] = await world.lease(other.seat())
    assert await world.complete(offer) in (Superseded.STALE_TASK, Superseded.WORKER_MISMATCH)
    assert await world.ready() == []
    assert await world.complete(again) is None
    assert await world.ready() == [offer.job_id]
    assert await world.complete(offer) in (Superseded.STALE_TASK, Superseded.WORKER_MISMATCH)


async def test_extending_renews_a_lease(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    for _ in range(3):
        await world.after(world.settings.lease - 1)
        assert (await world.touch(extends=(hand.ref(offer),))).lost == ()
    assert await world.waiting() == 0
    await world.after(world.settings.lease)
    assert await world.waiting() == 1


async def test_extending_an_offer_accepts_it(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand)
    assert (await world.touch(extends=(hand.ref(offer),))).lost == ()
    await world.after(world.settings.lease - 1)
    assert await world.waiting() == 0


async def test_accepting_and_extending_can_be_repeated(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand)
    for _ in range(2):
        assert (await world.touch(accepts=(hand.ref(offer),), extends=(hand.ref(offer),))).lost == ()
    assert await world.complete(offer) is None


@pytest.mark.parametrize("kind", ["accepts", "extends"])
async def test_accept_and_extend_compare_worker_session_and_lease(world: World, kind: str) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.offered(hand)
    wrong = (
        other.ref(offer),
        Hand("w1", "another-session").ref(offer),
        Hand("w2", hand.session_id).ref(offer),
        LeaseRef("w1", hand.session_id, offer.task_id, "another-lease"),
        LeaseRef("w1", hand.session_id, "0-unknown-1-0", offer.lease_id),
    )
    assert set((await world.touch(**{kind: wrong})).lost) == set(wrong)
    await world.after(world.settings.offer)
    assert await world.waiting() == 1


@pytest.mark.parametrize("kind", ["accepts", "extends"])
async def test_a_lease_that_went_to_another_worker_cannot_be_renewed(world: World, kind: str) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    [again] = await world.lease(other.seat())
    assert (await world.touch(**{kind: (hand.ref(offer),)})).lost == (hand.ref(offer),)
    assert (await world.touch(accepts=(other.ref(again),))).lost == ()


async def test_a_lease_whose_task_is_over_cannot_be_renewed(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.complete(offer)
    assert (await world.touch(extends=(hand.ref(offer),))).lost == (hand.ref(offer),)
    await world.after(world.settings.lease)
    assert await world.waiting() == 0


async def test_a_handed_back_task_waits_again(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    assert (await world.hand_back(hand, offer)).lost == ()
    assert await world.waiting() == 1
    [again] = await world.lease(hand.seat())
    assert (again.task_id, again.attempt) == (offer.task_id, 2)
    assert await world.stops() == []


async def test_handing_back_touches_only_a_lease_that_is_held(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.hand_back(other, offer)
    assert await world.waiting() == 0
    await world.hand_back(hand, offer)
    [again] = await world.lease(other.seat())
    await world.hand_back(hand, offer)
    assert await world.waiting() == 0
    assert await world.complete(again) is None


async def test_a_retried_failure_does_not_wake_the_job_and_waits_for_its_back_off(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    result = Result(offer.task_id, offer.lease_id, BROKEN, retry_after=5_000)
    done = await world.storage.complete([result], "w1", 10, [hand.seat()])
    assert (done.verdicts, done.claims, done.leased.offers) == ((None,), (), ())
    assert await world.waiting() == 0
    assert (await world.fire()).next_due == world.now + 5_000
    await world.after(4_999)
    assert await world.waiting() == 0
    other = await world.hand("w2")
    [again] = (await world.after(1, other.seat())).leased.offers
    assert (again.task_id, again.generation, again.attempt) == (offer.task_id, 2, 2)


async def test_a_lone_worker_gets_its_failed_task_again(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.complete(offer, BROKEN, 1_000)
    [again] = (await world.after(1_000, hand.seat(only=[T]))).leased.offers
    assert (again.worker_id, again.generation) == ("w1", 2)


async def test_a_retry_does_not_go_straight_back_to_the_worker_that_failed_while_another_could_do_it(
    world: World,
) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.complete(offer, BROKEN, 1_000)
    assert (await world.after(1_000, hand.seat())).leased.offers == ()
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
    [again] = (await world.after(1_000, (await world.hand("w2")).seat())).leased.offers
    assert again.generation == 2
    assert await world.complete(offer, BROKEN, 1_000) is None
    assert (await world.task_record(offer.task_id)).lease_id == again.lease_id
    assert await world.complete(again) is None


async def test_the_end_of_a_task_counts_its_applied_outcomes(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.hand_back(hand, offer)
    for number in range(1, 4):
        [offer] = (await world.after(1, (await world.hand(f"w{number}")).seat())).leased.offers
        assert (offer.generation, offer.attempt) == (number, number + 1)
        await world.complete(offer, BROKEN, 1 if number < 3 else None)
    [(_, event)] = (await world.claim_of(offer.job_id)).events
    assert isinstance(event, TaskEnded)
    assert event.tries == 3
