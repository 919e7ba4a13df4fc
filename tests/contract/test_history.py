"""History: written by the same commit as what it tells of, numbered from 1 without gaps, complete at the end."""

from __future__ import annotations

from holon.core.leases import MOST_ATTEMPTS
from holon.domain.events import HistoryEvent
from holon.domain.task import RetryPolicy
from holon.ports import Accept, NewJob, Result, Touch
from tests.contract.world import BROKEN, OK, World


def types(told: list[HistoryEvent]) -> list[str]:
    return [event.type for event in told]


async def test_a_jobs_history_is_told_in_order_and_complete_at_its_end(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    world.clock.advance(100)
    await world.storage.complete([Result(offer.task_id, offer.lease_id, OK, took=42)], "w1", ())
    await world.finish(await world.claim_of(offer.job_id))
    told = await world.told(offer.job_id)
    assert types(told) == ["job_created", "state_finished", "task_finished", "state_finished", "job_completed"]
    ended = told[2]
    assert (ended.task_id, ended.worker_id, ended.duration_ms, ended.time) == (offer.task_id, "w1", 42, world.now)


async def test_an_attempt_is_measured_from_its_acceptance_also_where_that_is_told_later(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand)
    offered = world.now
    world.clock.advance(900)
    await world.storage.touch(Touch(accepts=(Accept(hand.ref(offer), 700),)), ())
    await world.touch(accepts=(hand.ref(offer),), extends=(hand.ref(offer),))
    world.clock.advance(100)
    assert await world.complete(offer) is None
    [ended] = [event for event in await world.told(offer.job_id) if event.type == "task_finished"]
    assert ended.details["attempts"] == [["w1", offered, offered + 200, offered + 1_000]]
    assert ended.duration_ms == 800


async def test_no_attempt_is_accepted_before_it_was_offered(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand)
    offered = world.now
    await world.storage.touch(Touch(accepts=(Accept(hand.ref(offer), 5),)), ())
    assert await world.complete(offer) is None
    [ended] = [event for event in await world.told(offer.job_id) if event.type == "task_finished"]
    assert ended.details["attempts"] == [["w1", offered, offered, offered]]


async def test_history_is_read_in_pages(world: World) -> None:
    new = world.new_job()
    lines = tuple(HistoryEvent(f"line-{number}", world.now) for number in range(10))
    await world.storage.create_jobs([NewJob(new.job, lines)])
    first = list(await world.storage.history(new.job.id, 0, 4))
    assert first == list(zip(range(1, 5), lines[:4], strict=True))
    second = list(await world.storage.history(new.job.id, first[-1][0], 4))
    assert second == list(zip(range(5, 9), lines[4:8], strict=True))
    assert list(await world.storage.history(new.job.id, 8, 4)) == list(zip((9, 10), lines[8:], strict=True))
    assert list(await world.storage.history(new.job.id, 10, 4)) == []


async def test_an_unknown_job_has_no_history(world: World) -> None:
    assert list(await world.storage.history("0-unknown", 0, 10)) == []


async def test_a_step_may_tell_many_lines_or_none(world: World) -> None:
    claim = await world.start()
    lines = tuple(HistoryEvent(f"line-{number}", world.now) for number in range(50))
    await world.commit(world.step(claim, history=lines))
    await world.commit(world.step(await world.claim_of(claim.job.id), history=()))
    assert await world.told(claim.job.id) == [HistoryEvent("job_created", world.now, "start"), *lines]


async def test_the_end_of_a_task_lists_its_every_attempt(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    [again] = await world.lease(other.seat())
    await world.complete(again)
    [ended] = [event for event in await world.told(offer.job_id) if event.type == "task_finished"]
    assert [worker for worker, *_ in ended.details["attempts"]] == ["w1", "w2"]
    assert ended.worker_id == "w2"
    begun = world.now - world.settings.lease
    assert [list(attempt[1:]) for attempt in ended.details["attempts"]] == [
        [begun, begun, world.now],
        [world.now, None, world.now],
    ]


async def test_a_task_ended_by_the_node_is_told_of_too(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, execution_timeout=10_000, retry=RetryPolicy(0))
    await world.after(10_000)
    assert types(await world.told(offer.job_id)).count("task_finished") == 1
    task = await world.dispatch(dispatch_timeout=1_000)
    await world.after(1_000)
    assert types(await world.told(task.rsplit("-", 2)[0])).count("task_finished") == 1


async def test_a_repeated_or_superseded_result_tells_of_no_second_end(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.after(world.settings.lease)
    [again] = await world.lease(other.seat())
    for _ in range(2):
        await world.complete(offer)
        await world.complete(again)
    assert types(await world.told(offer.job_id)).count("task_finished") == 1


async def test_every_branch_is_told_of(world: World) -> None:
    await world.fan_out(3)
    offers = await world.lease((await world.hand()).seat(3))
    for offer in offers:
        await world.complete(offer, BROKEN)
    told = [event for event in await world.told(offers[0].job_id) if event.type == "task_finished"]
    assert [event.task_id for event in told] == [offer.task_id for offer in offers]


async def test_of_a_task_that_is_leased_again_and_again_the_newest_thousand_attempts_are_known(world: World) -> None:
    task = await world.dispatch()
    first, hand = await world.hand("first"), await world.hand()
    [offer] = await world.lease(first.seat())
    await world.hand_back(first, offer, again_after=None)
    for _ in range(MOST_ATTEMPTS):
        [offer] = await world.lease(hand.seat())
        await world.hand_back(hand, offer, again_after=None)
        world.clock.advance(world.settings.lease)
    [offer] = await world.lease(hand.seat())
    began = world.now
    await world.touch(accepts=(hand.ref(offer),))
    world.clock.advance(7)
    assert await world.complete(offer) is None
    [ended] = [event for event in await world.told(offer.job_id) if event.type == "task_finished"]
    assert (ended.task_id, ended.attempt_number) == (task, MOST_ATTEMPTS + 2)
    attempts = ended.details["attempts"]
    assert [worker for worker, *_ in attempts] == ["w1"] * MOST_ATTEMPTS
    lease = world.settings.lease
    assert [offered for _, offered, _, _ in attempts] == [began - lease * n for n in reversed(range(MOST_ATTEMPTS))]
    assert attempts[-1] == ["w1", began, began, began + 7]
    # Nor is it told what somebody says late whose attempts are not known any more.
    assert await world.complete(offer, worker_id="first") is not None
    assert "result_superseded" not in types(await world.told(offer.job_id))
