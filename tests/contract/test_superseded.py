"""Superseded: an outcome that is not applied is told why, for as long as its job is remembered."""

from __future__ import annotations

import pytest

from holon.domain.events import CancelRequested, TaskEvent
from holon.domain.job import Status
from holon.domain.task import CANCELLED, Outcome
from holon.domain.value import replace
from holon.ports import Offer, Superseded
from tests.contract.world import BROKEN, Factory, World
from tests.contract.world import ONE_SECOND as RETRY


async def over(world: World, offer: Offer, status: Status) -> None:
    """The offer's job ends while its task is out."""
    await world.append(offer.job_id, CancelRequested("ann"))
    await world.commit(world.step(await world.claim_of(offer.job_id), status, end_tasks=True))


async def test_job_not_found(world: World) -> None:
    offer = Offer("w1", "s", "0-unknown-1-0", "lease", "0-unknown", "t", "", "", b"", 0, 1, 1, None, None, RETRY)
    assert await world.complete(offer) is Superseded.JOB_NOT_FOUND


async def test_job_not_found_after_the_job_was_deleted(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await over(world, offer, Status.CANCELLED)
    world.clock.advance(1)
    await world.storage.purge(world.now, 1)
    assert await world.complete(offer) is Superseded.JOB_NOT_FOUND


async def test_stale_task(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.hand_back(hand, offer)
    [again] = await world.lease(hand.seat())
    assert await world.complete(offer) is Superseded.STALE_TASK
    assert await world.complete(again) is None
    assert await world.complete(offer) is Superseded.STALE_TASK


async def test_stale_task_once_it_was_given_back_also_while_nobody_else_has_it(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.hand_back(hand, offer)
    assert await world.complete(offer) is Superseded.STALE_TASK
    assert await world.waiting() == 1
    [again] = await world.lease(hand.seat())
    assert await world.complete(again) is None


async def test_stale_task_when_its_worker_has_stopped_since_the_lease_ran_out(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await world.after(world.settings.lease)
    stopped = Outcome(CANCELLED, worker_id="w1")
    for _ in range(2):
        assert await world.complete(offer, stopped) is Superseded.STALE_TASK
    # That was its final word: it is not gone on with, and nobody cancelled the task.
    _, opened = await world.resume("w1", offer)
    assert opened.kept == ()
    [again] = await world.lease((await world.hand("w2")).seat())
    assert again.task_id == offer.task_id
    assert await world.complete(again) is None


@pytest.mark.parametrize("how", ["accepted", "extended", "resumed"])
async def test_stale_task_when_its_worker_has_stopped_and_took_the_lease_up_again_before_it_said_so(
    world: World, how: str
) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    if how == "resumed":
        assert (await world.resume("w1", offer))[1].dropped == ()
    else:
        word = "accepts" if how == "accepted" else "extends"
        assert (await world.touch(**{word: (hand.ref(offer),)})).lost == ()
    stopped = Outcome(CANCELLED, worker_id="w1")
    for _ in range(2):
        assert await world.complete(offer, stopped) is Superseded.STALE_TASK
    assert await world.waiting() == 1
    # That was its final word, and the task avoids it as any that was given back.
    again, opened = await world.resume("w1", offer)
    assert opened.kept == ()
    assert await world.lease(again.seat()) == []
    [other] = await world.lease((await world.hand("w2")).seat())
    assert other.task_id == offer.task_id
    # Under the next lease it cancels again.
    assert await world.complete(other, stopped) is None


async def test_stale_task_when_the_job_never_had_it(world: World) -> None:
    offer = await world.accepted(await world.hand())
    unknown = replace(offer, task_id=f"{offer.job_id}-7-7")
    assert await world.complete(unknown) is Superseded.STALE_TASK


async def test_deadline_exceeded(world: World) -> None:
    offer = await world.accepted(await world.hand(), result_timeout=1_000)
    await world.after(1_000)
    assert await world.complete(offer) is Superseded.DEADLINE_EXCEEDED


async def test_job_cancelled(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await over(world, offer, Status.CANCELLED)
    assert await world.complete(offer) is Superseded.JOB_CANCELLED
    assert await world.complete(offer, BROKEN, 1_000) is Superseded.JOB_CANCELLED


async def test_job_went_on_when_an_event_had_its_job_go_on_without_it(world: World) -> None:
    offer = await world.accepted(await world.hand())
    said = TaskEvent(0, offer.task_id, "e1", "seen", b"", "w1", world.now)
    await world.append(offer.job_id, said)
    await world.commit(world.step(await world.claim_of(offer.job_id), end_tasks=True))
    for _ in range(2):
        assert await world.complete(offer) is Superseded.JOB_WENT_ON
    assert (await world.told(offer.job_id))[-1].details["reason"] == "job_went_on"


async def test_job_already_terminated(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await over(world, offer, Status.FAILED)
    assert await world.complete(offer) is Superseded.JOB_ALREADY_TERMINATED


async def test_i5_worker_mismatch(world: World) -> None:
    await world.hand("w2")
    offer = await world.accepted(await world.hand())
    assert await world.complete(offer, worker_id="w2") is Superseded.WORKER_MISMATCH
    assert await world.ready() == []
    assert await world.complete(offer) is None
    assert await world.complete(offer, worker_id="w2") is not None


async def test_a_result_without_a_lease_is_not_applied(world: World) -> None:
    task = await world.dispatch()
    offer = Offer("w1", "s", task, "", task.rsplit("-", 2)[0], "t", "", "", b"", 0, 1, 1, None, None, RETRY)
    assert await world.complete(offer) is not None
    assert await world.waiting() == 1
    assert await world.ready() == []


async def test_a_superseded_result_changes_nothing(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await over(world, offer, Status.CANCELLED)
    before = (await world.record(offer.job_id), await world.told(offer.job_id))
    world.clock.advance(1_000)
    await world.complete(offer)
    assert (await world.record(offer.job_id)).job == before[0].job
    assert [event for event in await world.told(offer.job_id) if event.type == "job_completed"] == before[1][-1:]
    assert await world.ready() == []


async def lines_of_late_results(world: World, offer: Offer) -> list[str | None]:
    return [event.worker_id for event in await world.told(offer.job_id) if event.type == "result_superseded"]


async def test_a_worker_tells_of_a_late_result_once_for_each_time_that_it_had_the_task(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.hand_back(hand, offer)
    [again] = await world.lease(hand.seat())
    for number in range(5):
        await world.complete(offer)
        await world.complete(replace(offer, lease_id=f"made-up-{number}"))
    assert await lines_of_late_results(world, offer) == ["w1", "w1"]
    assert await world.complete(again) is None


async def test_who_never_had_a_task_tells_nothing_in_its_history(world: World) -> None:
    await world.hand("w2")
    offer = await world.accepted(await world.hand())
    assert await world.complete(offer, worker_id="w2") is Superseded.WORKER_MISMATCH
    assert await world.complete(replace(offer, lease_id="made-up"), worker_id="w2") is Superseded.STALE_TASK
    assert await lines_of_late_results(world, offer) == []


async def test_a_late_result_that_was_told_is_not_told_again_after_a_restart(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    alive, ended = await world.accepted(hand), await world.accepted(hand)
    await world.hand_back(hand, alive)
    await over(world, ended, Status.CANCELLED)
    for _ in range(2):
        assert await world.complete(alive) is Superseded.STALE_TASK
        assert await world.complete(ended) is Superseded.JOB_CANCELLED
        await world.restart()
    assert await lines_of_late_results(world, alive) == ["w1"]
    assert await lines_of_late_results(world, ended) == ["w1"]


async def test_late_results_of_branches_that_ended_together_are_told_once_each_also_after_a_restart(
    durable: Factory,
) -> None:
    world = await durable()
    hand = await world.hand()
    claim = await world.start()
    await world.fan_out(5, claim=claim)
    offers = await world.lease(hand.seat(5))
    await over(world, offers[0], Status.CANCELLED)
    for _ in range(2):
        for offer in offers:
            assert await world.complete(offer) is Superseded.JOB_CANCELLED
        await world.restart()
    assert await lines_of_late_results(world, offers[0]) == ["w1"] * 5
    # What was noted of them goes with the job.
    world.clock.advance(1)
    await world.storage.purge(world.now, 1)
    assert await world.complete(offers[0]) is Superseded.JOB_NOT_FOUND
