"""Steps that are written together with what woke them: with a new job, or with the outcome of its task."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.events import CancelRequested
from holon.domain.job import Job, Status
from holon.domain.value import replace
from holon.ports import Claim, Completed, Created, Creation, LeaseRef, Offer, Progress, Result, Step, Superseded
from tests.contract.steps import unclaimed, with_step
from tests.contract.world import OK, T, World


async def dispatched(world: World) -> tuple[Offer, Job]:
    """The offer of a task of a job that was created with its first step, and the job as it then is."""
    hand = await world.hand()
    new = with_step(world)
    assert new.step is not None
    made = await world.storage.create_jobs([new], [hand.seat()])
    [offer] = made.leased.offers
    return offer, new.step.job


async def complete(world: World, offer: Offer, step: Step | None) -> Completed:
    result = Result(offer.task_id, offer.lease_id, replace(OK, worker_id=offer.worker_id), step=step)
    return await world.storage.complete([result], offer.worker_id, ())


async def test_a_job_is_created_with_its_first_step_and_offered_at_once(world: World) -> None:
    offer, job = await dispatched(world)
    assert offer.task_id.startswith(job.id)
    assert (await world.record(job.id)).job == job
    assert [event.type for event in await world.told(job.id)] == ["job_created", "state_finished"]
    assert await world.ready() == []


async def test_a_job_whose_first_step_goes_on_is_ready_at_once(world: World) -> None:
    new = with_step(world, Status.RUNNING)
    await world.storage.create_jobs([new])
    claim = await world.claim_of(new.job.id)
    assert (claim.job.id, claim.job.step) == (new.job.id, 1)


async def test_a_job_may_end_with_its_first_step(world: World) -> None:
    new = with_step(world, Status.FINISHED)
    await world.storage.create_jobs([new])
    record = await world.record(new.job.id)
    assert (record.job.status, record.finished_at) == (Status.FINISHED, world.now)


async def test_a_repeated_creation_drops_the_step_that_it_brings(world: World) -> None:
    first = with_step(world, request_id="r", digest=b"d")
    again = with_step(world, request_id="r", digest=b"d")
    await world.storage.create_jobs([first])
    made: Created = await world.storage.create_jobs([again])
    assert made.jobs == ((first.job.id, Creation.EXISTING),)
    assert await world.storage.job(again.job.id) is None
    assert await world.waiting(T) == 1


async def test_a_first_step_over_the_limit_of_a_state_creates_nothing(store: Any) -> None:
    world = await store(max_state_bytes=10_000)
    new = with_step(world)
    assert new.step is not None
    fat = replace(new.step, job=replace(new.step.job, state_history={"x": "x" * 20_000}))
    with pytest.raises(Exception, match="over the limit"):
        await world.storage.create_jobs([replace(new, step=fat)])
    assert await world.storage.job(new.job.id) is None


async def test_i2_an_outcome_is_applied_together_with_the_step_decided_upon_it(world: World) -> None:
    offer, job = await dispatched(world)
    done = await complete(world, offer, unclaimed(world, job, Status.FINISHED))
    assert (done.verdicts, done.landed) == ((None,), frozenset({offer.lease_id}))
    assert (await world.record(job.id)).job.status is Status.FINISHED
    types = [event.type for event in await world.told(job.id)]
    assert types == ["job_created", "state_finished", "task_finished", "state_finished", "job_completed"]
    assert await world.ready() == []


async def test_i9_its_history_does_not_go_back_in_time_though_the_step_was_decided_before(world: World) -> None:
    offer, job = await dispatched(world)
    step = unclaimed(world, job, Status.FINISHED)
    world.clock.advance(5)
    await complete(world, offer, step)
    times = [event.time for event in await world.told(job.id)]
    assert times == sorted(times)


async def test_a_repeat_of_such_a_result_is_committed_and_changes_nothing(world: World) -> None:
    offer, job = await dispatched(world)
    await complete(world, offer, unclaimed(world, job, Status.RUNNING))
    before = await world.record(job.id)
    again = await complete(world, offer, unclaimed(world, job, Status.FINISHED))
    assert (again.verdicts, again.landed) == ((None,), frozenset())
    assert await world.record(job.id) == before


async def test_a_step_that_goes_on_leaves_its_job_ready(world: World) -> None:
    offer, job = await dispatched(world)
    await complete(world, offer, unclaimed(world, job, Status.RUNNING))
    claim = await world.claim_of(job.id)
    assert (claim.job.id, claim.events) == (job.id, ())


async def test_a_step_for_an_older_state_is_dropped_and_the_job_is_told_of_the_outcome(world: World) -> None:
    offer, job = await dispatched(world)
    older = unclaimed(world, replace(job, step=job.step - 1), Status.FINISHED)
    done = await complete(world, offer, older)
    assert (done.verdicts, done.landed) == ((None,), frozenset())
    claim = await world.claim_of(job.id)
    assert [event.outcome.status for _, event in claim.events if hasattr(event, "outcome")] == ["success"]


async def test_a_step_is_dropped_while_a_cancel_waits(world: World) -> None:
    offer, job = await dispatched(world)
    await world.append(job.id, CancelRequested("ann"))
    done = await complete(world, offer, unclaimed(world, job, Status.FINISHED))
    assert done.landed == frozenset()
    claim = await world.claim_of(job.id)
    assert [type(event).__name__ for _, event in claim.events] == ["CancelRequested", "TaskEnded"]


async def test_a_step_is_dropped_while_somebody_has_claimed_the_job(world: World) -> None:
    offer, job = await dispatched(world)
    await world.append(job.id, CancelRequested("ann"))
    claim = await world.claim_of(job.id)
    done = await complete(world, offer, unclaimed(world, job, Status.FINISHED))
    assert done.landed == frozenset()
    assert (await world.commit(world.step(claim, Status.CANCELLED, end_tasks=True))).conflict is False


async def test_a_step_of_a_superseded_result_is_not_written(world: World) -> None:
    offer, job = await dispatched(world)
    await world.append(job.id, CancelRequested("ann"))
    await world.commit(world.step(await world.claim_of(job.id), Status.CANCELLED, end_tasks=True))
    done = await complete(world, offer, unclaimed(world, job, Status.FINISHED))
    assert (done.verdicts, done.landed) == ((Superseded.JOB_CANCELLED,), frozenset())
    assert (await world.record(job.id)).job.status is Status.CANCELLED


async def test_a_step_of_an_outcome_that_is_retried_is_not_written(world: World) -> None:
    offer, job = await dispatched(world)
    step = unclaimed(world, job, Status.FINISHED)
    result = Result(offer.task_id, offer.lease_id, replace(OK, worker_id=offer.worker_id), 1_000, step=step)
    done = await world.storage.complete([result], offer.worker_id, ())
    assert done.landed == frozenset()
    assert (await world.record(job.id)).job == job


async def test_the_next_task_of_such_a_step_is_offered_by_the_same_call(world: World) -> None:
    offer, job = await dispatched(world)
    claim = Claim(job, "", (), 0)
    step = unclaimed(world, job, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),))
    hand = await world.hand()
    [offer] = await world.lease(hand.seat())
    result = Result(offer.task_id, offer.lease_id, replace(OK, worker_id=offer.worker_id), step=step)
    done = await world.storage.complete([result], offer.worker_id, [hand.seat()])
    [following] = done.leased.offers
    assert following.task_id == step.tasks[0].id


async def test_a_job_that_ended_well_with_its_task_is_done_however_late_its_progress_was_told(world: World) -> None:
    offer, job = await dispatched(world)
    told = Progress(LeaseRef(offer.worker_id, offer.session_id, offer.task_id, offer.lease_id), 90.0, "nearly")
    await world.touch(progress=(told,))
    await complete(world, offer, unclaimed(world, job, Status.FINISHED))
    assert (await world.record(job.id)).progress == 100.0
