"""What a task costs that does not say so: what whoever takes it declares, reserved with the lease."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from holon.core.leases import MOST_TOO_DEAR
from holon.domain.events import BranchesDone
from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.task import LIMIT_EXCEEDED, job_of
from holon.ports import NewFanOut, Offer
from tests.contract.costs import affords, cost, ends
from tests.contract.hinted import Hints
from tests.contract.world import BROKEN, Factory, Hand, World

N = Need("t", max_cost=100)


async def asked(world: World, budget: int = 100) -> str:
    """The only task of a new job with this budget; nothing is said of what it may cost."""
    claim = await world.start(budget=budget)
    task = world.task(claim, need=N, reserves=None)
    assert not (await world.commit(world.step(claim, Status.WAITING_FOR_WORKER, tasks=(task,)))).over_budget
    return task.id


async def branches(world: World, count: int, budget: int, *, fail_fast: bool = False) -> str:
    """A job with this budget and so many branches, of which nothing is said either."""
    claim = await world.start(budget=budget)
    await world.fan_out(count, claim=claim, need=N, reserves=None, fail_fast=fail_fast)
    return claim.job.id


async def taken(world: World, hand: Hand, price: int, n: int = 1) -> Sequence[Offer]:
    """What a worker is offered that declares this price; it takes all of it."""
    offers = await world.lease(hand.seat(n, N, price=price))
    await world.touch(accepts=[hand.ref(offer) for offer in offers])
    return offers


async def ended(world: World, task_id: str) -> tuple[str, str]:
    """The code and the message with which a task ended, as its job's history tells."""
    lines = await world.told(job_of(task_id))
    [line] = [one for one in lines if one.type == "task_finished" and one.task_id == task_id]
    return line.details["code"], line.details["error"]


async def test_an_offer_says_that_a_task_may_cost_what_its_worker_declares_and_no_more_is_charged(world: World) -> None:
    await asked(world)
    [offer] = await taken(world, await world.hand(), 9)
    assert offer.max_cost == 9
    await ends(world, offer, 50)
    assert await cost(world, offer) == 9
    assert not await affords(world, offer.job_id, 92)
    assert await affords(world, offer.job_id, 91)


async def test_a_task_that_is_tried_again_costs_what_its_next_worker_declares(world: World) -> None:
    await asked(world)
    [first] = await taken(world, await world.hand(), 60)
    await ends(world, first, None, BROKEN, 1_000)
    await world.after(1_000)
    [second] = await taken(world, await world.hand("w2"), 40)
    assert (second.task_id, second.max_cost) == (first.task_id, 40)
    await ends(world, second, None)
    assert await cost(world, second) == 100


async def test_a_task_that_was_tried_and_is_then_too_dear_ends_without_another_attempt(world: World) -> None:
    task_id = await asked(world)
    [offer] = await taken(world, await world.hand(), 60)
    await ends(world, offer, None, BROKEN, 1_000)
    await world.after(1_000)
    assert await taken(world, await world.hand("w2"), 41) == []
    lines = [one for one in await world.told(job_of(task_id)) if one.type == "task_finished"]
    told = [(one.worker_id, one.attempt_number, one.details["code"]) for one in lines]
    assert told == [("w1", 1, BROKEN.error.code if BROKEN.error else ""), (None, 0, LIMIT_EXCEEDED)]
    assert lines[1].duration_ms is None
    # It is all told of the one that there was.
    assert [who for who, *_ in lines[1].details["attempts"]] == ["w1"]


async def test_a_lost_lease_keeps_what_its_worker_declared_and_another_attempt_costs_what_that_worker_does(
    world: World,
) -> None:
    await asked(world)
    [lost] = await taken(world, await world.hand(), 9)
    await world.after(world.settings.lease)
    assert (await world.record(lost.job_id)).unreported == 9
    [offer] = await taken(world, await world.hand("w2"), 91)
    await ends(world, offer, None)
    assert await cost(world, offer) == 91
    await ends(world, lost, 50)
    assert await cost(world, offer) == 100


async def test_a_lease_that_ran_out_and_goes_on_is_reserved_again(world: World) -> None:
    await branches(world, 2, 100)
    hand = await world.hand()
    [offer] = await taken(world, hand, 60)
    await world.after(world.settings.lease)
    hand, opened = await world.resume("w1", offer)
    assert [one.max_cost for one in opened.kept] == [60]
    assert (await world.record(offer.job_id)).unreported == 0
    # The other branch finds no more than is left.
    assert await taken(world, hand, 41) == []
    await ends(world, offer, 70)
    assert await cost(world, offer) == 60


async def test_a_task_whose_worker_declares_more_than_is_left_ends_and_is_not_offered(world: World) -> None:
    job_id = await branches(world, 3, 100)
    hand = await world.hand(credits=5)
    offers = await taken(world, hand, 40, 5)
    assert [offer.max_cost for offer in offers] == [40, 40]
    [refused] = {f"{job_id}-0-{n}" for n in range(3)} - {offer.task_id for offer in offers}
    code, message = await ended(world, refused)
    assert code == LIMIT_EXCEEDED
    assert message == (
        "cost: what is left of the job's budget does not cover the 40 that the worker with room for it declares; give "
        "the job, or the task above it, more"
    )
    for offer in offers:
        await ends(world, offer, None)
    # The last of them wakes the job.
    assert (await world.claim_of(job_id)).events
    assert (await world.record(job_id)).cost == 80


async def test_the_first_that_its_worker_is_too_dear_for_ends_the_others_that_are_to_fail_with_it(world: World) -> None:
    job_id = await branches(world, 4, 100, fail_fast=True)
    hand = await world.hand(credits=5)
    for offer in await taken(world, hand, 60, 5):
        await ends(world, offer, None)
    [(_, event)] = (await world.claim_of(job_id)).events
    assert isinstance(event, BranchesDone)
    assert event.fail_fast
    assert await world.lease(hand.seat(5, N, price=1)) == []


async def test_what_a_branch_did_not_cost_is_there_for_the_next(world: World) -> None:
    job_id = await branches(world, 3, 50)
    hand = await world.hand()
    for _ in range(3):
        [offer] = await taken(world, hand, 20)
        await ends(world, offer, 15)
    assert (await world.record(job_id)).cost == 45


async def test_a_free_worker_does_what_nothing_is_left_for(world: World) -> None:
    await asked(world, 0)
    [offer] = await taken(world, await world.hand(), 0)
    assert offer.max_cost == 0
    await ends(world, offer, 3)
    assert await cost(world, offer) == 0


async def test_a_seat_that_names_no_price_gets_a_task_for_all_that_is_left(world: World) -> None:
    await asked(world)
    [offer] = await world.lease((await world.hand()).seat(1, N))
    assert offer.max_cost == 100
    await ends(world, offer, 150)
    assert await cost(world, offer) == 100


@pytest.mark.parametrize("how", ["with its step", "offered", "taken"])
async def test_what_a_worker_declared_is_known_after_a_restart(durable: Factory, how: str) -> None:
    world = await durable()
    hand, claim = await world.hand(), await world.start(budget=100)
    tasks = tuple(world.task(claim, index, need=N, reserves=None) for index in range(6))
    step = world.step(claim, Status.WAITING_FOR_PARALLEL, tasks=tasks, fan_out=NewFanOut(6, fail_fast=False))
    seat = hand.seat(3, N, price=30)
    offers = (await world.commit(step, (seat,) if how == "with its step" else ())).leased.offers
    if how != "with its step":
        offers = tuple(await (taken(world, hand, 30, 3) if how == "taken" else world.lease(seat)))
    await world.restart()
    hand, opened = await world.resume("w1", *offers)
    assert [one.max_cost for one in opened.kept] == [30] * 3
    # The others find no more than is left.
    assert await taken(world, hand, 11, 3) == []
    for offer in offers:
        await ends(world, offer, 50)
    assert await cost(world, offers[0]) == 90


async def test_branches_that_their_worker_is_too_dear_for_make_room_for_later_ones(world: World) -> None:
    claim = await world.start(budget=5)
    await world.fan_out(100, rest=(1,), claim=claim, need=N, reserves=None)
    hand = await world.hand()
    for _ in range(2):
        assert await taken(world, hand, 6, 200) == []
        await world.storage.spawn(claim.job.id, 0)
    [(_, event)] = (await world.claim_of(claim.job.id)).events
    assert isinstance(event, BranchesDone)
    assert event.failed == 101


async def test_those_beyond_as_many_as_one_call_ends_are_hinted_at(world: World) -> None:
    job_id = await branches(world, MOST_TOO_DEAR + 1, 5)
    hand, hints = await world.hand(), Hints(world)
    assert await taken(world, hand, 6) == []
    await hints.until(lambda hint: N.key in hint.keys)
    assert await taken(world, hand, 6) == []
    [(_, event)] = (await world.claim_of(job_id)).events
    assert isinstance(event, BranchesDone)
    assert event.failed == MOST_TOO_DEAR + 1


async def test_later_branches_of_a_fan_out_are_by_price_too(world: World) -> None:
    claim = await world.start(budget=30)
    first, *_ = await world.fan_out(1, rest=(2,), claim=claim, need=N, reserves=None)
    hand = await world.hand(credits=5)
    offers = [*await taken(world, hand, 10, 5)]
    await world.storage.spawn(job_of(first), 0)
    offers += await taken(world, hand, 10, 5)
    assert [one.max_cost for one in offers] == [10] * 3
