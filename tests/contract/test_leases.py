"""Leases: fenced by lease id and worker, and by nothing else; they change only at the next lease."""

from __future__ import annotations

import pytest

from holon.domain.matching import Need
from holon.ports import LeaseRef, Opening, StopReason, Superseded
from tests.contract.world import BROKEN, ONE_SECOND, Hand, T, World


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


async def test_who_is_heard_of_before_it_was_told_that_its_lease_ran_out_goes_on(world: World) -> None:
    hand = await world.hand()
    offer, lost = await world.accepted(hand), await world.accepted(hand)
    await world.after(world.settings.lease)
    touched = await world.touch(extends=(hand.ref(offer),))
    assert touched.lost == ()
    assert [(stop.lease, stop.reason) for stop in touched.stops] == [(hand.ref(lost), StopReason.LEASE_LOST)]
    assert await world.stops() == []
    await world.after(world.settings.lease)
    assert [stop.lease for stop in await world.stops()] == [hand.ref(offer)]


async def test_the_lease_id_changes_only_at_the_next_lease(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    assert (await world.task_record(offer.task_id)).lease_id == offer.lease_id
    [again] = await world.lease(other.seat())
    assert (await world.task_record(offer.task_id)).lease_id == again.lease_id


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


async def test_an_offer_says_which_contracts_its_params_fit_also_once_it_is_resumed(world: World) -> None:
    hand = await world.hand()
    need = Need("t", contracts=("a", "b"), refused=("c",))
    offer = await world.accepted(hand, need)
    assert offer.contracts == need.contracts
    _, opened = await world.resume("w1", offer)
    assert [one.contracts for one in opened.kept] == [need.contracts]


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


@pytest.mark.parametrize("kind", ["accepts", "extends"])
async def test_a_lease_that_had_its_final_word_cannot_be_renewed_while_its_task_waits_again(
    world: World, kind: str
) -> None:
    hand, other = await world.hand(credits=1), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.complete(offer, BROKEN, retry_after=0)
    await world.after(1)
    assert (await world.touch(**{kind: (hand.ref(offer),)})).lost == (hand.ref(offer),)
    [again] = await world.lease(other.seat())
    assert again.task_id == offer.task_id
    assert (await world.offered(hand)).worker_id == "w1"


async def test_a_lease_that_had_its_final_word_cannot_be_resumed_while_its_task_waits_again(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await world.complete(offer, BROKEN, retry_after=0)
    await world.after(1)
    opened = await world.storage.open_session(Opening("w1", "s2", 1, ((offer.task_id, offer.lease_id),)))
    assert opened.dropped == ((offer.task_id, offer.lease_id, Superseded.STALE_TASK),)
    assert await world.waiting() == 1


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


async def test_a_lease_that_was_handed_back_is_over_though_nobody_else_has_the_task(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.hand_back(hand, offer)
    assert (await world.touch(extends=(hand.ref(offer),))).lost == (hand.ref(offer),)
    _, opened = await world.resume("w1", offer)
    assert opened.kept == ()
    assert opened.dropped == ((offer.task_id, offer.lease_id, Superseded.STALE_TASK),)
    assert await world.waiting() == 1


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
