"""How long a task may wait for a worker."""

from __future__ import annotations

import pytest

from holon.domain.events import BranchesDone
from holon.domain.task import DISPATCH_TIMEOUT, FAILURE
from holon.ports import SAID_WITHIN, StopReason, Superseded
from tests.contract.ended import ended, ends_told
from tests.contract.world import BROKEN, World


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


async def test_an_offer_that_was_accepted_in_time_is_kept_though_the_store_hears_of_it_a_batch_later(
    world: World,
) -> None:
    hand = await world.hand()
    offer = await world.offered(hand, dispatch_timeout=3_000)
    await world.after(3_000 + SAID_WITHIN - 1)
    assert await world.ready() == []
    await world.touch(accepts=(hand.ref(offer),))
    assert await world.complete(offer) is None


async def test_an_open_offer_does_not_keep_its_task_beyond_the_dispatch_timeout(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand, dispatch_timeout=1_000)
    assert (await world.fire()).next_due == world.now + 1_000 + SAID_WITHIN
    await world.after(1_000 + SAID_WITHIN)
    [line] = await ends_told(world, offer.job_id)
    assert (line.worker_id, line.attempt_number, len(line.details["attempts"])) == ("w1", 0, 1)
    assert line.details["error"].endswith("(dispatch timeout): worker 'w1' did not answer its offer in time")
    # Who has it open is told to stop, and what he says of it comes too late.
    touched = await world.touch(accepts=(hand.ref(offer),))
    assert [(stop.lease.lease_id, stop.reason) for stop in touched.stops] == [(offer.lease_id, StopReason.DEADLINE)]
    assert await world.complete(offer) is Superseded.DEADLINE_EXCEEDED
    assert await ended(world, offer.job_id) == (FAILURE, DISPATCH_TIMEOUT, 1)


async def test_a_task_whose_offer_lapsed_ends_when_its_dispatch_timeout_is_over(world: World) -> None:
    offer = await world.offered(await world.hand(), dispatch_timeout=world.settings.offer + 1)
    await world.after(world.settings.offer)
    assert await ends_told(world, offer.job_id) == []
    await world.after(1)
    [line] = await ends_told(world, offer.job_id)
    assert (line.worker_id, line.attempt_number, len(line.details["attempts"])) == (None, 0, 1)
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
