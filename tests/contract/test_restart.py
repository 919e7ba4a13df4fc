"""Durability: whatever was answered is still so after the process was killed, and nothing of the rest is."""

from __future__ import annotations

from holon.clock import ManualClock
from holon.core.row import shard_of
from holon.domain.events import CancelRequested, HistoryEvent, Woken
from holon.domain.job import Status
from holon.ports import Appended, Creation, JobFilter, Progress, Superseded
from tests.claims import claimed
from tests.contract.world import Factory, T, U


async def test_i1_an_acknowledged_job_survives(durable: Factory) -> None:
    world = await durable()
    new = world.new_job(data={"n": 2**60 + 1, "x": 3.0})
    await world.storage.create_jobs([new])
    await world.restart()
    assert (await world.record(new.job.id)).job == new.job
    assert await world.ready() == [new.job.id]


async def test_claims_end_with_their_process_and_the_deliveries_are_remembered(durable: Factory) -> None:
    world = await durable()
    job = await world.create()
    for number in range(1, 4):
        assert (await world.claim_of(job)).deliveries == number
        await world.restart()
    assert (await world.claim_of(job)).deliveries == 4


async def test_what_a_lost_process_held_is_void(durable: Factory) -> None:
    world = await durable()
    claim = await world.start()
    await world.restart()
    holder = await world.claim_of(claim.job.id)
    assert (await world.finish(claim)).conflict
    await world.release(claim)
    assert await world.ready() == []
    assert not (await world.finish(holder)).conflict


async def test_jobs_claimed_beside_a_crashing_one_run_alone_after_the_restart(durable: Factory) -> None:
    world = await durable()
    jobs = [await world.create() for _ in range(3)]
    assert await world.ready() == jobs
    await world.restart()
    for _ in jobs:
        [claim] = await claimed(world.storage)
        assert claim.deliveries == 2
        await world.finish(claim)
    assert await world.ready() == []


async def test_a_step_survives_with_all_its_effects(durable: Factory) -> None:
    world = await durable()
    claim = await world.start()
    await world.append(claim.job.id, Woken(9))
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim, params=b'{"n":1}'),), wake_after=5_000)
    await world.commit(step)
    await world.restart()
    assert (await world.record(claim.job.id)).job == step.job
    assert await world.waiting() == 1
    again = await world.claim_of(claim.job.id)
    assert [event for _, event in again.events] == [Woken(9)]
    assert (await world.task_record(step.tasks[0].id)).params == b'{"n":1}'
    assert [event.type for event in await world.told(claim.job.id)] == ["job_created", "state_finished"]
    await world.commit(world.step(again, Status.WAITING_FOR_RETRY))


async def test_a_jobs_timer_survives(durable: Factory) -> None:
    world = await durable()
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=5_000))
    await world.restart()
    assert (await world.fire()).next_due == world.now + 5_000
    await world.after(5_000)
    again = await world.claim_of(claim.job.id)
    assert [event for _, event in again.events] == [Woken(0)]


async def test_repeats_are_known_after_a_restart(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    claim = await world.start(request_id="r", digest=b"d")
    assert await world.append(claim.job.id, Woken(9), "key") is Appended.APPENDED
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim), world.task(claim, 1, U)))
    done = await world.commit(step, [hand.seat(1, T)])
    await world.restart()
    created = await world.storage.create_jobs([world.new_job(request_id="r", digest=b"d")])
    assert created.jobs == ((claim.job.id, Creation.EXISTING),)
    created = await world.storage.create_jobs([world.new_job(request_id="r", digest=b"other")])
    assert created.jobs[0][1] is Creation.CONFLICT
    assert await world.append(claim.job.id, Woken(9), "key") is Appended.DUPLICATE
    again = await world.commit(step)
    assert not again.conflict
    assert again.leased.offers == done.leased.offers
    assert await world.waiting(U) == 1
    assert len(await world.told(claim.job.id)) == 2


async def test_a_repeated_last_commit_is_known_after_a_restart(durable: Factory) -> None:
    world = await durable()
    step = world.step(await world.start(), Status.FINISHED)
    await world.commit(step)
    await world.restart()
    assert not (await world.commit(step)).conflict
    assert [event.type for event in await world.told(step.job.id)].count("job_completed") == 1


async def test_the_order_of_ready_jobs_of_a_shard_survives(durable: Factory) -> None:
    world = await durable()
    jobs = [await world.create() for _ in range(10)]
    await world.restart()
    late = await world.create()
    *ready, last = await world.ready()
    assert last == late
    for shard in {shard_of(job) for job in jobs}:
        assert [job for job in ready if shard_of(job) == shard] == [job for job in jobs if shard_of(job) == shard]
    assert len(ready) == len(jobs)


async def test_lists_go_on_where_they_were(durable: Factory) -> None:
    world = await durable()
    jobs = [await world.create() for _ in range(3)]
    await world.restart()
    jobs.append(await world.create())
    records, _ = await world.storage.jobs(JobFilter("ann"), 10)
    assert [record.job.id for record in records] == jobs[::-1]


async def test_history_goes_on_with_its_numbers(durable: Factory) -> None:
    world = await durable()
    claim = await world.start()
    await world.commit(world.step(claim))
    before = await world.told(claim.job.id)
    await world.restart()
    await world.finish(await world.claim_of(claim.job.id))
    told = await world.told(claim.job.id)
    assert told[: len(before)] == before
    assert [event.type for event in told[len(before) :]] == ["state_finished", "job_completed"]


async def test_a_cancel_survives_and_so_does_what_it_ended(durable: Factory) -> None:
    world = await durable()
    offer = await world.accepted(await world.hand())
    await world.append(offer.job_id, CancelRequested("ann"))
    await world.restart()
    claim = await world.claim_of(offer.job_id)
    assert [event for _, event in claim.events] == [CancelRequested("ann")]
    await world.commit(world.step(claim, Status.CANCELLED, end_tasks=True))
    await world.restart()
    assert await world.complete(offer) is Superseded.JOB_CANCELLED
    _, opened = await world.resume("w1", offer)
    assert opened.dropped == ((offer.task_id, offer.lease_id, Superseded.JOB_CANCELLED),)


async def test_what_was_purged_stays_gone(durable: Factory) -> None:
    world = await durable()
    claim = await world.start(request_id="r")
    await world.finish(claim)
    world.clock.advance(1)
    assert await world.storage.purge(world.now, 10) == 1
    await world.restart()
    assert await world.storage.job(claim.job.id) is None
    assert await world.told(claim.job.id) == []


async def test_i9_the_time_never_goes_backwards_within_a_file(durable: Factory) -> None:
    world = await durable()
    world.clock.advance(60_000)
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=5_000))
    before = world.now
    await world.restart(ManualClock(before - 3_600_000))
    assert world.now >= before
    assert (await world.fire()).next_due == before + 5_000


async def test_what_needs_a_call_after_a_restart_is_found_without_a_hint(durable: Factory) -> None:
    world = await durable()
    ready, task = await world.create(), await world.dispatch(U)
    await world.restart()
    assert ready in await world.ready()
    assert dict(await world.storage.needs()) == {U.key: U}
    assert (await world.task_record(task)).need == U


async def test_every_line_of_history_comes_back_as_it_was(durable: Factory) -> None:
    world = await durable()
    claim = await world.start()
    told = HistoryEvent("kind", 1, "a", "b", "c", 5, "w", 2, "task", {"n": 2**60 + 1, "x": 1.0, "none": None})
    await world.commit(world.step(claim, history=(told,)))
    await world.restart()
    assert (await world.told(claim.job.id))[-1] == told


async def test_the_times_and_the_progress_of_a_job_survive(durable: Factory) -> None:
    world = await durable()
    hand = await world.hand()
    world.clock.advance(1_000)
    offer = await world.accepted(hand)
    world.clock.advance(1_000)
    await world.touch(progress=(Progress(hand.ref(offer), 50.0, "half"),))
    before = await world.record(offer.job_id)
    await world.restart()
    assert await world.record(offer.job_id) == before
    await world.append(offer.job_id, Woken(9))
    record = await world.record(offer.job_id)
    assert (record.progress, record.progress_message) == (50.0, "half")
    await world.complete(offer)
    await world.finish(await world.claim_of(offer.job_id))
    before = await world.record(offer.job_id)
    assert before.finished_at is not None
    world.clock.advance(1_000)
    await world.restart()
    assert await world.record(offer.job_id) == before


async def test_a_job_that_is_over_takes_no_event_after_a_restart(durable: Factory) -> None:
    world = await durable()
    claim = await world.start()
    await world.finish(claim)
    await world.restart()
    assert await world.append(claim.job.id, Woken(0)) is Appended.OVER
    assert (await world.finish(claim)).conflict
    assert await world.ready() == []


async def test_the_numbers_of_an_inbox_go_on(durable: Factory) -> None:
    world = await durable()
    job = await world.create()
    await world.append(job, Woken(1))
    await world.restart()
    await world.append(job, Woken(2))
    claim = await world.claim_of(job)
    assert [event for _, event in claim.events] == [Woken(1), Woken(2)]
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, consumed=(claim.events[0][0],)))
    assert (await world.claim_of(job)).events == claim.events[1:]


async def test_a_timer_of_a_later_step_wakes_that_step(durable: Factory) -> None:
    world = await durable()
    claim = await world.start()
    await world.commit(world.step(claim))
    claim = await world.claim_of(claim.job.id)
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=5_000))
    await world.restart()
    await world.after(5_000)
    again = await world.claim_of(claim.job.id)
    assert [event for _, event in again.events] == [Woken(1)]


async def test_a_cancel_that_came_before_the_restart_is_pending_after_it(durable: Factory) -> None:
    world = await durable()
    hand, job = await world.hand(), await world.create()
    await world.append(job, CancelRequested("ann"))
    await world.restart()
    claim = await world.claim_of(job)
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),), consumed=())
    done = await world.commit(step, [hand.seat()])
    assert done.cancel_pending
    assert done.leased.offers == ()
