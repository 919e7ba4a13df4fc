"""Sessions: a worker has one, its newest; leases move to it, or go back to the queue."""

from __future__ import annotations

import pytest

from holon.domain.job import Status
from holon.domain.task import RetryPolicy
from holon.ports import Opening, Superseded
from tests.contract.world import OK, Hand, World


async def test_only_the_current_session_is_given_work(world: World) -> None:
    old, new = await world.hand(), await world.hand()
    await world.dispatch()
    assert await world.lease(old.seat()) == []
    assert await world.lease(Hand("w9", "no-session").seat()) == []
    assert len(await world.lease(new.seat())) == 1


async def test_a_new_session_names_the_one_that_it_replaces(world: World) -> None:
    first, opened = await world.resume("w1")
    assert opened.replaced is None
    _, opened = await world.resume("w1")
    assert opened.replaced == first.session_id
    _, opened = await world.resume("w2")
    assert opened.replaced is None


async def test_a_session_never_replaces_a_live_one_of_a_higher_proof(world: World) -> None:
    strong, _ = await world.resume("w1", proof=3)
    offer = await world.accepted(strong)
    weak, opened = await world.resume("w1", offer, proof=2)
    assert (opened.outranked, opened.replaced, opened.kept, opened.dropped) == (True, None, (), ())
    assert (await world.touch(extends=(strong.ref(offer),))).lost == ()
    await world.dispatch()
    assert await world.lease(weak.seat()) == []
    # The same proof replaces it, and so does any once it has ended.
    again, opened = await world.resume("w1", offer, proof=3)
    assert (opened.outranked, opened.replaced) == (False, strong.session_id)
    await world.storage.close_session("w1", again.session_id)
    weak, opened = await world.resume("w1", offer, proof=1)
    assert (opened.outranked, [kept.lease_id for kept in opened.kept]) == (False, [offer.lease_id])
    _, opened = await world.resume("w1", offer, proof=2)
    assert opened.replaced == weak.session_id


async def test_a_closed_session_is_given_no_work(world: World) -> None:
    hand = await world.hand()
    await world.storage.close_session(hand.worker_id, hand.session_id)
    await world.dispatch()
    assert await world.lease(hand.seat()) == []


async def test_closing_an_old_session_leaves_the_new_one_alone(world: World) -> None:
    old, new = await world.hand(), await world.hand()
    offer = await world.offered(new)
    await world.storage.close_session(old.worker_id, old.session_id)
    assert (await world.touch(accepts=(new.ref(offer),))).lost == ()
    await world.offered(new)


async def test_leases_outlive_their_session_until_their_own_deadline(world: World) -> None:
    hand = await world.hand()
    await world.accepted(hand)
    await world.storage.close_session(hand.worker_id, hand.session_id)
    await world.after(world.settings.lease - 1)
    assert await world.waiting() == 0
    await world.after(1)
    assert await world.waiting() == 1


async def test_a_session_that_resumes_nothing_returns_every_lease_at_once(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offered, accepted = await world.offered(hand), await world.accepted(hand)
    await world.hand()
    assert await world.waiting() == 2
    again = await world.lease(other.seat(2))
    assert [one.task_id for one in again] == [offered.task_id, accepted.task_id]


async def test_a_resumed_lease_goes_on_in_the_new_session(world: World) -> None:
    old = await world.hand()
    offer = await world.accepted(old, execution_timeout=60_000)
    world.clock.advance(10_000)
    new, opened = await world.resume("w1", offer)
    [kept] = opened.kept
    assert opened.dropped == ()
    assert (kept.task_id, kept.lease_id, kept.attempt) == (offer.task_id, offer.lease_id, offer.attempt)
    assert (kept.session_id, kept.params, kept.retry) == (new.session_id, offer.params, offer.retry)
    assert (kept.time_left, kept.deadline) == (50_000, offer.deadline)
    assert (await world.touch(extends=(old.ref(offer),))).lost == (old.ref(offer),)
    await world.after(world.settings.lease - 1)
    assert await world.waiting() == 0
    assert (await world.touch(extends=(new.ref(offer),))).lost == ()
    assert await world.complete(offer) is None


async def test_resuming_an_offer_accepts_it(world: World) -> None:
    offer = await world.offered(await world.hand())
    await world.resume("w1", offer)
    await world.after(world.settings.lease - 1)
    assert await world.waiting() == 0


async def test_what_is_not_resumed_goes_back_and_what_is_stays(world: World) -> None:
    hand = await world.hand()
    kept, left = await world.accepted(hand), await world.accepted(hand)
    _, opened = await world.resume("w1", kept)
    assert [offer.task_id for offer in opened.kept] == [kept.task_id]
    [again] = await world.lease((await world.hand("w2")).seat(2))
    assert again.task_id == left.task_id


async def test_a_lease_that_ran_out_but_went_to_nobody_is_taken_back(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await world.after(world.settings.lease)
    assert await world.waiting() == 1
    new, opened = await world.resume("w1", offer)
    assert [(kept.task_id, kept.lease_id) for kept in opened.kept] == [(offer.task_id, offer.lease_id)]
    assert await world.waiting() == 0
    assert await world.lease((await world.hand("w2")).seat()) == []
    assert (await world.touch(extends=(new.ref(offer),))).lost == ()
    await world.after(world.settings.lease - 1)
    assert await world.waiting() == 0
    assert await world.complete(offer) is None


async def test_a_lease_that_went_to_another_is_dropped_and_stays_with_it(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await world.after(world.settings.lease)
    other = await world.hand("w2")
    [again] = await world.lease(other.seat())
    _, opened = await world.resume("w1", offer)
    assert opened.kept == ()
    [(task, lease, reason)] = opened.dropped
    assert (task, lease) == (offer.task_id, offer.lease_id)
    assert reason in (Superseded.STALE_TASK, Superseded.WORKER_MISMATCH)
    assert await world.complete(again) is None


async def test_a_worker_cannot_resume_the_lease_of_another(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    _, opened = await world.resume("w2", offer)
    assert opened.kept == ()
    assert opened.dropped == ((offer.task_id, offer.lease_id, Superseded.WORKER_MISMATCH),)
    assert (await world.touch(extends=(hand.ref(offer),))).lost == ()
    assert await world.complete(offer) is None


async def test_resumed_leases_of_unknown_and_ended_tasks_are_dropped_with_the_reason(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.complete(offer)
    await world.finish(await world.claim_of(offer.job_id))
    opening = Opening("w1", "session", 1, ((offer.task_id, "another"), ("0-unknown-1-0", "lease")))
    opened = await world.storage.open_session(opening)
    assert opened.kept == ()
    (*ended, reason), unknown = opened.dropped
    assert ended == [offer.task_id, "another"]
    assert reason in (Superseded.STALE_TASK, Superseded.JOB_ALREADY_TERMINATED)
    assert unknown == ("0-unknown-1-0", "lease", Superseded.JOB_NOT_FOUND)


async def test_a_result_sent_again_after_a_resume_is_still_committed(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await world.complete(offer)
    _, opened = await world.resume("w1", offer)
    assert opened.kept == ()
    assert [task for task, _, _ in opened.dropped] == [offer.task_id]
    assert await world.complete(offer, OK) is None
    assert len((await world.claim_of(offer.job_id)).events) == 1


async def test_an_opening_whose_reply_was_lost_can_be_repeated(world: World) -> None:
    hand = await world.hand()
    kept, left = await world.accepted(hand), await world.accepted(hand)
    opening = Opening("w1", "session", 10, ((kept.task_id, kept.lease_id),))
    first = await world.storage.open_session(opening)
    again = await world.storage.open_session(opening)
    assert again.kept == first.kept
    assert again.dropped == first.dropped
    assert (first.replaced, again.replaced) == (hand.session_id, None)
    assert await world.waiting() == 1
    assert (await world.task_record(left.task_id)).attempt == 1
    await world.dispatch()
    assert len(await world.lease(Hand("w1", "session").seat(2))) == 2


async def test_a_session_that_is_opened_again_keeps_what_it_was_offered_meanwhile(world: World) -> None:
    opening = Opening("w1", "session", 10)
    await world.storage.open_session(opening)
    hand = Hand("w1", "session")
    offer = await world.offered(hand)
    await world.storage.open_session(opening)
    assert await world.waiting() == 0
    assert (await world.touch(accepts=(hand.ref(offer),))).lost == ()
    assert (await world.task_record(offer.task_id)).attempt == 1
    assert await world.complete(offer, OK) is None


async def test_the_store_keeps_running_jobs_apart_from_their_workers_sessions(world: World) -> None:
    offer = await world.accepted(await world.hand())
    for _ in range(3):
        await world.hand("w2")
    assert (await world.record(offer.job_id)).job.status is Status.WAITING_FOR_WORKER
    assert await world.complete(offer) is None


async def test_a_session_may_keep_its_leases_for_longer_than_others(world: World) -> None:
    hand = await world.hand(lease=100_000)
    offer = await world.accepted(hand)
    await world.storage.close_session(hand.worker_id, hand.session_id)
    await world.after(world.settings.lease + 1)
    assert await world.waiting() == 0
    hand, opened = await world.resume("w1", offer, lease=100_000)
    assert [one.lease_id for one in opened.kept] == [offer.lease_id]
    await world.touch(extends=(hand.ref(offer),))
    await world.storage.close_session(hand.worker_id, hand.session_id)
    await world.after(99_999)
    assert await world.waiting() == 0
    await world.after(1)
    assert await world.waiting() == 1


@pytest.mark.parametrize("beyond", [None, 5_000, 900_000])
async def test_a_task_may_be_its_workers_for_longer_or_shorter_than_others_but_not_below_the_least(
    world: World, beyond: int | None
) -> None:
    hand, lasts = await world.hand(lease=100_000), world.settings.lease + (beyond or 0)
    offer = await world.accepted(
        hand, lost_after=1 if beyond is None else lasts, execution_timeout=10_000_000, result_timeout=None
    )
    assert offer.lasts == lasts
    await world.after(lasts - 1)
    assert await world.waiting() == 0
    await world.after(1)
    [again] = await world.lease((await world.hand("w2")).seat())
    assert (again.task_id, again.attempt) == (offer.task_id, 2)
    assert (await world.task_record(offer.task_id)).retry == offer.retry


async def test_a_task_that_names_no_time_may_be_executed_as_long_as_its_worker_may(world: World) -> None:
    usual, slow = await world.hand("w1"), await world.hand("w2", execution=1_000_000)
    left = [
        (await world.offered(hand, execution_timeout=named)).time_left
        for hand in (usual, slow)
        for named in (0, 60_000)
    ]
    assert left == [world.settings.execution, 60_000, 1_000_000, 60_000]


async def test_a_task_that_names_no_time_times_out_all_the_same(world: World) -> None:
    hand = await world.hand(execution=20_000)
    offer = await world.accepted(hand, execution_timeout=0, retry=RetryPolicy(0))
    await world.after(20_000)
    record = await world.record(offer.job_id)
    (told,) = [event for event in await world.told(offer.job_id) if event.type == "task_finished"]
    assert "no result within 20 s" in str(told.details)
    assert record.job.status is Status.WAITING_FOR_WORKER
