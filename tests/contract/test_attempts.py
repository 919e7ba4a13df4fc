"""Attempts that end without a result: each has a line of history, and the caller is told of those that were lost."""

from __future__ import annotations

import pytest

from holon.domain import attempts
from holon.domain.attempts import Loss
from holon.domain.events import HistoryEvent
from holon.domain.task import TIMEOUT_ERROR
from holon.ports import Offer
from tests.contract.world import World

LOST = ("attempt_lost", "attempt_returned")


async def lines(world: World, offer: Offer) -> list[HistoryEvent]:
    return [line for line in await world.told(offer.job_id) if line.type in LOST]


def told(line: HistoryEvent) -> tuple[int | None, str | None, str, str]:
    return line.attempt_number, line.worker_id, line.details["reason"], line.details["code"]


async def fired(world: World, milliseconds: int) -> list[Loss]:
    """What is told of attempts once so much time has passed."""
    world.clock.advance(milliseconds)
    losses: list[Loss] = []
    while True:
        done = await world.storage.fire(1_000)
        losses += done.losses
        if done.next_due is None or done.next_due > world.now:
            return losses


async def test_a_lease_that_ran_out_is_told_with_all_that_is_known_of_the_attempt(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    lease = world.settings.lease
    assert await fired(world, lease) == [Loss("w1", hand.session_id, "t", "LEASE_EXPIRED")]
    [line] = await lines(world, offer)
    assert told(line) == (1, "w1", "lease_expired", "LEASE_EXPIRED")
    assert (line.type, line.task_id, line.time, line.duration_ms) == ("attempt_lost", offer.task_id, world.now, lease)
    assert (line.details["skill"], line.details["generation"]) == ("t", 1)
    assert (await world.record(offer.job_id)).updated_at == world.now


async def test_a_lease_whose_session_ended_is_told_when_it_is_over(world: World) -> None:
    hand = await world.hand()
    offers = [await world.accepted(hand) for _ in range(2)]
    await world.storage.close_session(hand.worker_id, hand.session_id)
    assert [await lines(world, offer) for offer in offers] == [[], []]
    assert await fired(world, world.settings.lease) == [Loss("w1", hand.session_id, "t", "WORKER_LOST")] * 2
    for offer in offers:
        assert [told(line) for line in await lines(world, offer)] == [(1, "w1", "worker_lost", "WORKER_LOST")]


@pytest.mark.parametrize(
    ("accepted", "before", "after", "counts"),
    [
        (True, "one", "two", True),
        (True, "one", "one", True),
        # The same process may not have got the offer; another one has lost what the earlier one had.
        (False, "one", "one", False),
        (False, "one", "two", True),
        (False, "", "two", False),
    ],
)
async def test_what_a_newer_session_does_not_resume_is_told(
    world: World, *, accepted: bool, before: str, after: str, counts: bool
) -> None:
    hand = await world.hand(instance_id=before)
    offer = await (world.accepted(hand) if accepted else world.offered(hand))
    _, opened = await world.resume("w1", instance_id=after)
    assert opened.losses == ((Loss("w1", hand.session_id, "t", "WORKER_LOST"),) if counts else ())
    assert [told(line) for line in await lines(world, offer)] == [(1, "w1", "worker_replaced", "WORKER_LOST")]


@pytest.mark.parametrize("live", [True, False])
async def test_an_offer_that_lapsed_is_told_and_is_a_loss_only_of_a_worker_that_has_gone(
    world: World, *, live: bool
) -> None:
    hand = await world.hand(instance_id="one")
    offer = await world.offered(hand)
    if not live:
        await world.storage.close_session(hand.worker_id, hand.session_id)
    losses = await fired(world, world.settings.offer)
    assert losses == ([] if live else [Loss("w1", hand.session_id, "t", "WORKER_LOST")])
    reason = ("offer_expired", "OFFER_EXPIRED") if live else ("worker_lost", "WORKER_LOST")
    assert [told(line) for line in await lines(world, offer)] == [(1, "w1", *reason)]


async def test_a_timeout_is_a_loss_and_its_line_that_of_its_end(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, execution_timeout=10_000)
    assert await fired(world, 10_000) == [Loss("w1", hand.session_id, "t", TIMEOUT_ERROR)]
    assert await lines(world, offer) == []
    [line] = [line for line in await world.told(offer.job_id) if line.type == "task_finished"]
    assert (line.attempt_number, line.details["code"]) == (1, TIMEOUT_ERROR)


async def test_what_is_given_back_is_told_once_with_its_code(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    for _ in range(2):
        # A repeat is told once.
        await world.hand_back(hand, offer, code="DRAINING")
    [line] = await lines(world, offer)
    assert (line.type, *told(line)) == ("attempt_returned", 1, "w1", "returned", "DRAINING")


async def test_every_attempt_has_its_number(world: World) -> None:
    hand, other = await world.hand("w1"), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.hand_back(hand, offer, again_after=None)
    [again] = await world.lease(other.seat())
    await world.touch(accepts=(other.ref(again),))
    await world.after(world.settings.lease)
    [last] = await world.lease((await world.hand("w3")).seat())
    await world.complete(last)
    ended = [line for line in await world.told(offer.job_id) if line.type in (*LOST, "task_finished")]
    assert [(line.attempt_number, line.worker_id) for line in ended] == [(1, "w1"), (2, "w2"), (3, "w3")]


async def test_of_a_nodes_own_sessions_nothing_is_told(world: World) -> None:
    hand = await world.hand("@node", instance_id="one")
    offer = await world.accepted(hand)
    _, opened = await world.resume("@node", instance_id="two")
    assert opened.losses == ()
    assert await lines(world, offer) == []


async def test_of_one_task_so_many_attempts_are_told(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand)
    for _ in range(attempts.MOST_TOLD + 2):
        await world.hand_back(hand, offer, unbegun=True)
        if (await world.task_record(offer.task_id)).attempt > attempts.MOST_TOLD + 1:
            break
        leased = await world.lease(hand.seat())
        if not leased:
            world.clock.advance(world.settings.lease)
            leased = await world.lease(hand.seat())
        [offer] = leased
    assert len(await lines(world, offer)) == attempts.MOST_TOLD
