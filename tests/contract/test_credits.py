"""Credits: how many tasks a worker may hold in all, offered and accepted. The store counts, so nothing overfills."""

from __future__ import annotations

from holon.domain.events import CancelRequested
from holon.domain.job import Status
from holon.ports import Offer, Result
from tests.contract.world import OK, Hand, World


async def fill(world: World, n: int) -> None:
    for _ in range(n):
        await world.dispatch()


async def test_i4_a_worker_is_offered_no_more_than_its_credits(world: World) -> None:
    hand = await world.hand(credits=2)
    await fill(world, 4)
    assert len(await world.lease(hand.seat(10))) == 2
    assert await world.lease(hand.seat(10)) == []


async def test_a_seat_is_given_no_more_than_it_asks_for(world: World) -> None:
    hand = await world.hand(credits=10)
    await fill(world, 4)
    assert len(await world.lease(hand.seat(1))) == 1
    assert await world.lease(hand.seat(0)) == []
    assert len(await world.lease(hand.seat(2))) == 2


async def test_two_seats_of_one_worker_share_its_credits(world: World) -> None:
    hand = await world.hand(credits=3)
    await fill(world, 6)
    assert len(await world.lease(hand.seat(2), hand.seat(2))) == 3


async def test_offered_and_accepted_both_count(world: World) -> None:
    hand = await world.hand(credits=2)
    await world.offered(hand)
    await world.accepted(hand)
    await fill(world, 1)
    assert await world.lease(hand.seat()) == []


async def test_no_credits_no_work(world: World) -> None:
    hand = await world.hand(credits=0)
    await fill(world, 1)
    assert await world.lease(hand.seat()) == []


async def test_a_result_frees_a_credit_and_its_own_call_fills_it(world: World) -> None:
    hand = await world.hand(credits=1)
    offer = await world.accepted(hand)
    await fill(world, 2)
    result = Result(offer.task_id, offer.lease_id, OK)
    done = await world.storage.complete([result], "w1", [hand.seat(10)])
    assert len(done.leased.offers) == 1
    again = await world.storage.complete([result], "w1", [hand.seat(10)])
    assert again.verdicts == (None,)
    assert again.leased.offers == ()


async def test_a_handed_back_lease_frees_a_credit_and_its_own_call_fills_it(world: World) -> None:
    hand = await world.hand(credits=1)
    offer = await world.offered(hand)
    await fill(world, 1)
    touched = await world.touch(hand.seat(10), handbacks=())
    assert touched.leased.offers == ()
    await world.hand_back(hand, offer, again_after=None)
    assert len(await world.lease(hand.seat(10))) == 1


async def test_commits_respect_credits_too(world: World) -> None:
    hand = await world.hand(credits=1)
    claim = await world.start()
    tasks = tuple(world.task(claim, index) for index in range(3))
    done = await world.commit(world.step(claim, Status.WAITING_FOR_WORKER, tasks=tasks), [hand.seat(10)])
    assert len(done.leased.offers) == 1
    assert await world.lease(hand.seat(10)) == []


async def test_raised_credits_make_room_in_the_call_that_says_so(world: World) -> None:
    hand = await world.hand(credits=0)
    await fill(world, 2)
    touched = await world.touch(hand.seat(10), credits=(("w1", hand.session_id, 1),))
    assert len(touched.leased.offers) == 1


async def test_lowered_credits_revoke_nothing_and_the_newest_wins(world: World) -> None:
    hand = await world.hand(credits=3)
    held = [await world.accepted(hand) for _ in range(3)]
    await world.touch(credits=(("w1", hand.session_id, 1),))
    await fill(world, 1)
    assert await world.stops() == []
    for offer in held[:2]:
        assert await world.lease(hand.seat()) == []
        assert await world.complete(offer) is None
    assert await world.lease(hand.seat()) == []
    assert await world.complete(held[2]) is None
    assert len(await world.lease(hand.seat())) == 1


async def test_credits_granted_in_an_old_session_are_void(world: World) -> None:
    old = await world.hand(credits=5)
    new = await world.hand(credits=1)
    await world.touch(credits=(("w1", old.session_id, 5),))
    await fill(world, 3)
    assert len(await world.lease(new.seat(10))) == 1


async def test_resumed_leases_count_in_the_new_session(world: World) -> None:
    hand = await world.hand(credits=2)
    offers = [await world.accepted(hand) for _ in range(2)]
    new, _ = await world.resume("w1", *offers, credits=2)
    await fill(world, 1)
    assert await world.lease(new.seat()) == []
    await world.complete(offers[0])
    assert len(await world.lease(new.seat())) == 1


async def test_a_new_session_that_resumes_nothing_has_all_its_credits(world: World) -> None:
    hand = await world.hand(credits=2)
    await fill(world, 4)
    await world.lease(hand.seat(2))
    new = await world.hand(credits=2)
    assert len(await world.lease(new.seat(10))) == 2


async def stopped(world: World, hand: Hand) -> Offer:
    """A lease whose job was cancelled under it."""
    offer = await world.accepted(hand)
    await world.append(offer.job_id, CancelRequested("ann"))
    claim = await world.claim_of(offer.job_id)
    await world.commit(world.step(claim, Status.CANCELLED, end_tasks=True))
    return offer


async def test_a_stopped_lease_counts_until_its_workers_result(world: World) -> None:
    hand = await world.hand(credits=1)
    offer = await stopped(world, hand)
    await fill(world, 1)
    assert len(await world.stops()) == 1
    assert await world.lease(hand.seat()) == []
    assert await world.complete(offer) is not None
    assert len(await world.lease(hand.seat())) == 1
    assert await world.stops() == []


async def test_a_stopped_lease_counts_until_it_is_handed_back(world: World) -> None:
    hand = await world.hand(credits=1)
    offer = await stopped(world, hand)
    await fill(world, 1)
    assert await world.lease(hand.seat()) == []
    await world.hand_back(hand, offer)
    assert len(await world.lease(hand.seat())) == 1
    assert await world.stops() == []


async def test_a_stopped_lease_does_not_count_in_the_next_session(world: World) -> None:
    await stopped(world, await world.hand(credits=1))
    new = await world.hand(credits=1)
    await fill(world, 1)
    assert len(await world.lease(new.seat())) == 1
    assert await world.stops() == []


async def test_a_lease_that_ran_out_counts_until_its_workers_word_though_the_task_runs_elsewhere(world: World) -> None:
    hand, other = await world.hand(credits=1), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    assert len(await world.lease(other.seat())) == 1
    await fill(world, 1)
    assert await world.lease(hand.seat()) == []
    assert await world.complete(offer) is not None
    assert len(await world.lease(hand.seat())) == 1


async def test_an_execution_timeout_counts_until_its_workers_word(world: World) -> None:
    hand = await world.hand(credits=1)
    offer = await world.accepted(hand, execution_timeout=1_000)
    await world.after(1_000)
    await fill(world, 1)
    assert await world.lease(hand.seat()) == []
    assert await world.complete(offer) is not None
    assert len(await world.lease(hand.seat())) == 1


async def test_what_an_earlier_session_hands_back_frees_nothing_that_a_later_one_goes_on_with(world: World) -> None:
    before = await world.hand(credits=1)
    offer = await world.accepted(before)
    hand, opened = await world.resume("w1", offer, credits=1)
    assert [one.lease_id for one in opened.kept] == [offer.lease_id]
    await world.hand_back(before, offer)
    await world.dispatch()
    assert await world.lease(hand.seat(5)) == []
    assert not (await world.touch(extends=(hand.ref(offer),))).lost
    await world.hand_back(hand, offer)
    assert len(await world.lease(hand.seat(5))) == 1
