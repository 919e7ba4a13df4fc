"""Events that are to be told: of each job a place in its history, handed out until it is settled, and never lost."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from holon.domain.events import BLUEPRINT_EVENT, WORKER_EVENT, HistoryEvent
from holon.domain.job import Status
from holon.domain.value import replace
from holon.ports import Claim, Ends, Happened, NewJob, Result, Step
from tests.contract.test_ends import HOLD, HOOK
from tests.contract.test_ends import take as take_ends
from tests.contract.world import OK, Factory, World
from tests.hints import heard, hints_of


def lines(world: World, *kinds: str) -> tuple[HistoryEvent, ...]:
    return tuple(HistoryEvent(kind, world.now, "start") for kind in kinds)


async def tells(world: World, claim: Claim, *kinds: str, status: Status = Status.RUNNING, **fields: Any) -> Claim:
    """A step whose history has these lines; the claim after it."""
    step = world.step(claim, status, history=lines(world, *kinds), **fields)
    await world.commit(step)
    return claim if status.terminal else replace(claim, job=step.job, events=())


async def happened(world: World, *kinds: str, webhook: str = HOOK) -> tuple[str, Claim]:
    """A job in whose history something happened; it has three lines then, and more: the last two tell of events."""
    claim = await world.start(webhook=webhook)
    told = kinds or ("state_started", f"{WORKER_EVENT}a", f"{BLUEPRINT_EVENT}b")
    return claim.job.id, await tells(world, claim, *told, keep=True)


async def take(world: World, limit: int = 100) -> list[tuple[str, int]]:
    """The jobs whose events this call is handed, and after which line they begin."""
    return [(record.job.id, after) for record, after in (await world.storage.take_events(limit, HOLD)).jobs]


async def test_events_are_to_be_told_from_after_the_line_before_their_step(world: World) -> None:
    job, claim = await happened(world)
    taken = await world.storage.take_events(10, HOLD)
    [(record, after)] = taken.jobs
    assert (record.job.id, record.job.webhook, after, taken.next_due) == (job, HOOK, 1, None)
    assert record.sequence == 4
    assert await world.storage.take_ends(10, HOLD) == Ends()
    # Those of later steps join them: where they begin, and who has them, is as before.
    await tells(world, claim, f"{WORKER_EVENT}c", keep=True)
    assert await world.storage.take_events(10, HOLD) == Happened((), world.now + HOLD)
    world.clock.advance(HOLD)
    assert await take(world) == [(job, 1)]


async def test_of_a_job_without_a_webhook_and_of_steps_without_events_nothing_is_to_be_told(world: World) -> None:
    await happened(world, webhook="")
    await happened(world, "state_started", "state_finished", "task_dispatched", "event_refused")
    assert await world.storage.take_events(10, HOLD) == Happened()


async def test_what_was_heard_is_settled_line_by_line_and_forgotten_after_the_last_event(world: World) -> None:
    job, claim = await happened(world)
    await take(world)
    await world.storage.settle_events([(job, 3, 0)])
    assert await take(world) == [(job, 3)]
    # Late word of what was before changes nothing but when the rest is due.
    await world.storage.settle_events([(job, 2, 0)])
    assert await take(world) == [(job, 3)]
    for _ in range(2):
        await world.storage.settle_events([(job, 4, 0), ("0-unknown", 9, 0)])
    assert await world.storage.take_events(10, HOLD) == Happened()
    # Those that come then begin where they are.
    claim = await tells(world, claim, "state_finished", keep=True)
    await tells(world, claim, "state_started", f"{WORKER_EVENT}c", keep=True)
    assert await take(world) == [(job, 5)]
    world.clock.advance(HOLD)
    await world.storage.settle_events([(job, 99, HOLD)])
    assert await world.storage.take_events(10, HOLD) == Happened()


async def test_events_that_come_while_others_are_told_are_not_settled_with_them(world: World) -> None:
    job, claim = await happened(world)
    assert await take(world) == [(job, 1)]
    await tells(world, claim, "state_started", f"{WORKER_EVENT}c", keep=True)
    await world.storage.settle_events([(job, 4, 0)])
    assert await take(world) == [(job, 4)]


async def test_what_is_put_off_is_due_no_sooner_though_more_happens(world: World) -> None:
    job, claim = await happened(world)
    await take(world)
    await world.storage.settle_events([(job, 1, 2 * HOLD)])
    await tells(world, claim, f"{WORKER_EVENT}c", keep=True)
    assert await world.storage.take_events(10, HOLD) == Happened((), world.now + 2 * HOLD)
    world.clock.advance(2 * HOLD)
    assert await take(world) == [(job, 1)]


async def test_the_end_of_a_job_is_to_be_told_whatever_becomes_of_its_events(world: World) -> None:
    job, claim = await happened(world)
    await take(world)
    await world.storage.settle_events([(job, 1, 9 * HOLD)])
    await tells(world, claim, f"{BLUEPRINT_EVENT}last", "job_completed", status=Status.FINISHED)
    assert await take_ends(world) == [job]
    await world.storage.settle_ends([job])
    assert await world.storage.take_events(10, HOLD) == Happened((), world.now + 9 * HOLD)
    world.clock.advance(9 * HOLD)
    assert await take(world) == [(job, 1)]


async def test_an_end_that_tells_of_an_event_is_both(world: World) -> None:
    claim = await world.start(webhook=HOOK)
    await tells(world, claim, f"{BLUEPRINT_EVENT}last", "job_completed", status=Status.FINISHED)
    assert (await take(world), await take_ends(world)) == ([(claim.job.id, 1)], [claim.job.id])


async def test_a_job_whose_first_step_tells_of_an_event_is_told_of_and_a_repeat_tells_nothing_more(
    world: World,
) -> None:
    new = world.new_job(webhook=HOOK, request_id="r1")
    step = Step("", world.unique("commit-"), replace(new.job, step=1), history=lines(world, f"{BLUEPRINT_EVENT}a"))
    items = [NewJob(new.job, new.history, "r1", b"", step)]
    await world.storage.create_jobs(items)
    assert await take(world) == [(new.job.id, 0)]
    await world.storage.settle_events([(new.job.id, 2, 0)])
    await world.storage.create_jobs(items)
    assert await world.storage.take_events(10, HOLD) == Happened()


async def test_a_step_that_goes_with_a_tasks_result_tells_of_its_events(world: World) -> None:
    hand, claim = await world.hand(), await world.start(webhook=HOOK)
    task = world.task(claim)
    waits = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(task,))
    [offer] = (await world.commit(waits, [hand.seat()])).leased.offers
    over = replace(waits.job, step=waits.job.step + 1, status=Status.FINISHED, waiting=None)
    step = Step("", world.unique("commit-"), over, history=lines(world, f"{BLUEPRINT_EVENT}a"))
    done = await world.storage.complete([Result(task.id, offer.lease_id, OK, step=step)], "w1", ())
    assert done.landed == {offer.lease_id}
    [(job, after)] = await take(world)
    told = await world.storage.history(job, after, 10)
    assert told[-1][1].type == f"{BLUEPRINT_EVENT}a"
    await world.storage.settle_events([(job, told[-1][0], 0)])
    assert await world.storage.take_events(10, HOLD) == Happened()


async def test_a_step_that_is_refused_tells_nothing_and_the_repeat_of_one_that_was_not_neither(world: World) -> None:
    claim = await world.start(webhook=HOOK)
    step = world.step(claim, history=lines(world, f"{WORKER_EVENT}a"))
    assert (await world.commit(replace(step, claim_id="another"))).conflict
    assert await take(world) == []
    await world.commit(step)
    assert await take(world) == [(claim.job.id, 1)]
    await world.storage.settle_events([(claim.job.id, 2, 0)])
    assert not (await world.commit(step)).conflict
    assert await world.storage.take_events(10, HOLD) == Happened()


async def test_two_who_take_at_once_share_and_what_is_left_is_said_to_be_due(world: World) -> None:
    jobs = [(await happened(world))[0] for _ in range(10)]
    both = await asyncio.gather(take(world, 4), take(world, 4))
    rest = await world.storage.take_events(1, HOLD)
    assert rest.next_due is not None
    assert rest.next_due <= world.now
    taken = [job for job, _ in (*both[0], *both[1], *await take(world))]
    assert sorted([*taken, *(record.job.id for record, _ in rest.jobs)]) == sorted(jobs)


async def test_a_job_is_not_deleted_before_its_events_are_told(world: World) -> None:
    job, claim = await happened(world)
    await tells(world, claim, "job_completed", status=Status.FINISHED)
    await world.storage.settle_ends(await take_ends(world))
    world.clock.advance(1)
    assert await world.storage.purge(world.now, 10) == 0
    await take(world)
    await world.storage.settle_events([(job, 4, 0)])
    assert await world.storage.purge(world.now, 10) == 1
    assert await world.storage.job(job) is None


async def test_who_waits_is_woken_by_events_that_are_to_be_told_and_by_no_others(world: World) -> None:
    silent, told = [await world.start(webhook=webhook) for webhook in ("", HOOK)]
    hints = hints_of(world.storage)
    async with aclosing(hints):
        await tells(world, silent, f"{WORKER_EVENT}a")
        await tells(world, told, "state_started", status=Status.FINISHED)
        await world.dispatch()
        assert not (await heard(hints, lambda hint: bool(hint.keys) or hint.events)).events
        await happened(world)
        await heard(hints, lambda hint: hint.events)


async def test_what_is_not_settled_outlives_the_process(durable: Factory) -> None:
    world = await durable()
    (told, _), (partly, _), (off, _) = [await happened(world) for _ in range(3)]
    await take(world)
    await world.storage.settle_events([(told, 4, 0), (partly, 3, 0), (off, 1, HOLD)])
    await world.restart()
    assert await take(world) == [(partly, 3)]
    world.clock.advance(HOLD)
    assert sorted(await take(world)) == sorted([(partly, 3), (off, 1)])
    await world.storage.settle_events([(partly, 4, 0), (off, 4, 0)])
    await world.restart()
    world.clock.advance(9 * HOLD)
    assert await world.storage.take_events(10, HOLD) == Happened()


async def test_those_that_are_due_first_come_first(world: World) -> None:
    jobs = []
    for _ in range(3):
        jobs.append((await happened(world))[0])
        world.clock.advance(10)
    assert [job for job, _ in await take(world, 2)] == jobs[:2]
    await world.storage.settle_events([(jobs[0], 1, 50), (jobs[1], 1, 20)])
    assert [job for job, _ in await take(world)] == jobs[2:]
    world.clock.advance(50)
    assert [job for job, _ in await take(world)] == [jobs[1], jobs[0]]
