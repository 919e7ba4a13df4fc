"""Commits: a step and all its effects land together, once, whatever happens to the replies."""

from __future__ import annotations

import pytest

from holon.domain.events import HistoryEvent, Woken
from holon.domain.job import Job, JobError, Status, Waiting
from holon.domain.value import replace
from holon.errors import InvalidArgument, TooLarge
from tests.contract.world import Factory, World


async def test_i2_a_step_lands_with_all_its_effects(world: World) -> None:
    claim = await world.start()
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),), wake_after=5_000)
    done = await world.commit(step)
    assert not done.conflict
    assert not done.cancel_pending
    assert (await world.record(claim.job.id)).job == step.job
    assert await world.waiting() == 1
    assert [event.type for event in await world.told(claim.job.id)] == ["job_created", "state_finished"]
    assert (await world.fire()).next_due == world.now + 5_000


async def test_every_field_of_a_job_and_of_its_history_is_kept_as_it_was(world: World) -> None:
    claim = await world.start()
    job = Job(
        id=claim.job.id,
        blueprint="bp",
        owner="ann",
        initial_data={"text": "ä\x00", "big": 2**60 + 1, "float": 3.0, "list": [1, [None, {}]], "none": None},
        current_state="there",
        status=Status.WAITING_FOR_WORKER,
        step=1,
        transitions=3,
        failures=2,
        cancelling=True,
        state_history={"a": {"b": [1.5, True]}},
        waiting=Waiting(1, {"success": "x"}, "gather"),
        result=[1, "two"],
        error=JobError("CODE", "a message", {"more": [1]}, retryable=False),
        dispatch_timeout=1,
        result_timeout=2,
    )
    told = HistoryEvent("kind", 1, "a", "b", "c", 5, "w", 2, "task", {"n": 2**60 + 1, "x": 1.0})
    await world.commit(replace(world.step(claim), job=job, history=(told,)))
    assert (await world.record(job.id)).job == job
    assert (await world.told(job.id))[-1] == told


async def test_a_repeated_commit_answers_as_the_first_time_with_its_offers(world: World) -> None:
    hand, claim = await world.hand(), await world.start()
    tasks = tuple(world.task(claim, index) for index in range(3))
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=tasks)
    first = await world.commit(step, [hand.seat(2)])
    assert [offer.task_id for offer in first.leased.offers] == [task.id for task in tasks[:2]]
    again = await world.commit(step, [hand.seat(2)])
    assert not again.conflict
    assert again.leased == first.leased
    assert again.leased.left


async def test_a_repeated_commit_is_applied_once(world: World) -> None:
    claim = await world.start()
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),))
    for _ in range(3):
        assert not (await world.commit(step)).conflict
    assert await world.waiting() == 1
    assert (await world.record(claim.job.id)).job.step == 1
    assert len(await world.told(claim.job.id)) == 2


async def test_a_repeated_last_commit_is_no_conflict(world: World) -> None:
    claim = await world.start()
    step = world.step(claim, Status.FINISHED)
    await world.commit(step)
    assert not (await world.commit(step)).conflict
    assert [event.type for event in await world.told(claim.job.id)].count("job_completed") == 1


async def test_a_repeated_commit_is_known_while_the_job_is_claimed_again(world: World) -> None:
    claim = await world.start()
    step = world.step(claim, Status.RUNNING)
    await world.commit(step)
    holder = await world.claim_of(claim.job.id)
    assert not (await world.commit(step)).conflict
    assert (await world.record(claim.job.id)).job.step == 1
    assert not (await world.finish(holder)).conflict


async def test_a_commit_uses_up_the_events_that_it_names_and_leaves_the_others(world: World) -> None:
    job = await world.create()
    for number in range(3):
        await world.append(job, Woken(number))
    claim = await world.claim_of(job)
    used = (claim.events[0][0], claim.events[2][0])
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, consumed=used))
    again = await world.claim_of(job)
    assert again.events == (claim.events[1],)


async def test_a_kept_claim_goes_on_under_the_same_id(world: World) -> None:
    claim = await world.start()
    for number in range(1, 4):
        step = world.step(claim, Status.RUNNING, keep=True)
        assert not (await world.commit(step)).conflict
        assert await world.ready() == []
        claim = replace(claim, job=step.job, events=())
        assert (await world.record(claim.job.id)).job.step == number
    assert not (await world.finish(claim)).conflict
    assert (await world.record(claim.job.id)).job.status is Status.FINISHED


async def test_a_kept_claim_is_told_of_the_events_that_came_in_meanwhile(world: World) -> None:
    claim = await world.start()
    await world.append(claim.job.id, Woken(9))
    step = world.step(claim, Status.RUNNING, keep=True)
    done = await world.commit(step)
    assert [event for _, event in done.events] == [Woken(9)]
    assert await world.ready() == []
    again = await world.commit(step)
    assert again.events == done.events


async def test_a_finished_job_is_never_ready_again(world: World) -> None:
    claim = await world.start()
    await world.append(claim.job.id, Woken(1))
    await world.finish(claim)
    assert await world.ready() == []
    assert (await world.fire()).next_due is None


async def test_the_times_of_a_job_follow_its_life(world: World) -> None:
    claim = await world.start()
    begun = world.now
    world.clock.advance(100)
    await world.commit(world.step(claim, Status.RUNNING))
    record = await world.record(claim.job.id)
    assert (record.created_at, record.updated_at, record.finished_at) == (begun, begun + 100, None)
    world.clock.advance(100)
    await world.finish(await world.claim_of(claim.job.id))
    record = await world.record(claim.job.id)
    assert (record.created_at, record.updated_at, record.finished_at) == (begun, begun + 200, begun + 200)


async def test_a_state_over_the_limit_is_refused_and_nothing_of_its_step_happens(store: Factory) -> None:
    world = await store(max_state_bytes=10_000)
    claim = await world.start()
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),))
    fat = replace(step, job=replace(step.job, state_history={"x": "x" * 20_000}))
    with pytest.raises(TooLarge):
        await world.commit(fat)
    assert (await world.record(claim.job.id)).job == claim.job.seen(claim.deliveries)
    assert await world.waiting() == 0
    assert not (await world.commit(step)).conflict


async def test_a_job_over_the_limit_is_refused_with_all_that_were_to_be_created_with_it(store: Factory) -> None:
    world = await store(max_state_bytes=10_000)
    items = [world.new_job(), world.new_job(data={"x": "x" * 20_000})]
    with pytest.raises(TooLarge):
        await world.storage.create_jobs(items)
    assert await world.storage.job(items[0].job.id) is None
    assert await world.ready() == []


async def test_a_state_that_json_cannot_hold_is_refused_and_the_claim_stays(world: World) -> None:
    claim = await world.start()
    step = world.step(claim)
    with pytest.raises(InvalidArgument):
        await world.commit(replace(step, job=replace(step.job, state_history={"x": {1, 2}})))
    assert not (await world.commit(step)).conflict
