"""The outbox: history that is kept elsewhere is taken under a lease, settled, and lost at no point between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from holon.domain.events import CancelRequested, HistoryEvent
from holon.domain.job import Status
from holon.domain.value import replace
from holon.errors import ResourceExhausted
from holon.ports import Appended, Creation, JobFilter, NewJob, Notice
from holon.storage.outbox import TAKEN_FOR_MS
from tests.contract.world import Factory, World
from tests.hints import heard, hints_of

ROOM = 10 * 2**20


def told(notices: Sequence[Notice], job_id: str) -> list[tuple[int, str]]:
    """The numbered lines that notices tell of a job."""
    return [
        (number, event.type)
        for notice in notices
        if notice.record.job.id == job_id
        for number, event in enumerate(notice.events, start=notice.first)
    ]


async def settle(world: World, notices: Sequence[Notice]) -> None:
    await world.storage.settle([notice.id for notice in notices])


async def ended(world: World) -> str:
    """The id of a job that has ended."""
    claim = await world.start()
    await world.finish(claim)
    return claim.job.id


async def tell(world: World, lines: int) -> str:
    """The id of a new job of which much is told."""
    new = world.new_job()
    history = tuple(HistoryEvent(f"line-{number}", world.now) for number in range(lines))
    await world.storage.create_jobs([NewJob(new.job, history)])
    return new.job.id


async def test_where_history_stays_there_is_nothing_to_take(world: World) -> None:
    job = await ended(world)
    assert list(await world.storage.take(10)) == []
    assert len(await world.told(job)) == 3


async def test_notices_tell_all_lines_and_the_job_as_it_is(store: Factory) -> None:
    world = await store(history_backlog=ROOM)
    job = await ended(world)
    notices = await world.storage.take(10)
    assert told(notices, job) == list(enumerate(["job_created", "state_finished", "job_completed"], start=1))
    record = notices[-1].record
    assert (record.job.owner, record.job.blueprint, record.job.status) == ("ann", "bp", Status.FINISHED)
    assert (record.sequence, record.finished_at) == (3, world.now)


async def test_what_is_taken_is_nobody_elses_for_a_while(store: Factory) -> None:
    world = await store(history_backlog=ROOM)
    job = await ended(world)
    first = await world.storage.take(10)
    assert list(await world.storage.take(10)) == []
    another = await world.create()
    assert [notice.record.job.id for notice in await world.storage.take(10)] == [another]
    world.clock.advance(TAKEN_FOR_MS)
    assert told(await world.storage.take(10), job) == told(first, job)


async def test_two_who_take_at_once_share(store: Factory) -> None:
    world = await store(history_backlog=ROOM)
    jobs = {await world.create() for _ in range(10)}
    both = await asyncio.gather(world.storage.take(6), world.storage.take(6))
    got = [notice.record.job.id for notices in both for notice in notices]
    rest = [notice.record.job.id for notice in await world.storage.take(10)]
    assert sorted(got + rest) == sorted(jobs)


async def test_a_take_is_bounded_and_goes_on_where_it_was(store: Factory) -> None:
    world = await store(history_backlog=ROOM)
    jobs = [await ended(world) for _ in range(5)]
    seen: list[Notice] = []
    while notices := await world.storage.take(3):
        assert len(notices) <= 3
        seen += notices
        await settle(world, notices)
    assert [told(seen, job) for job in jobs] == [told(seen, jobs[0])] * 5
    assert [number for number, _ in told(seen, jobs[0])] == [1, 2, 3]


async def test_large_jobs_come_a_few_at_a_time(store: Factory) -> None:
    world = await store(history_backlog=ROOM)
    jobs = {await world.create(data={"much": "x" * 900_000}) for _ in range(8)}
    seen: set[str] = set()
    while notices := await world.storage.take(100):
        assert len(notices) < 8
        seen |= {notice.record.job.id for notice in notices}
        await settle(world, notices)
    assert seen == jobs


async def test_what_is_settled_is_not_read_here_any_more_and_the_rest_is(store: Factory) -> None:
    world = await store(history_backlog=ROOM)
    claim = await world.start()
    moved = await world.storage.take(10)
    await settle(world, moved)
    await settle(world, moved)
    await world.finish(claim)
    lines = list(await world.storage.history(claim.job.id, 0, 10))
    assert [(number, event.type) for number, event in lines] == [(2, "state_finished"), (3, "job_completed")]
    assert told(await world.storage.take(10), claim.job.id) == [(number, event.type) for number, event in lines]


async def test_a_notice_that_was_never_taken_cannot_be_settled(store: Factory) -> None:
    world = await store(history_backlog=ROOM)
    job = await ended(world)
    await world.storage.settle(["0:1", "0-unknown:1"])
    assert len(told(await world.storage.take(10), job)) == 3


async def test_news_of_history_wakes_the_mover(store: Factory) -> None:
    world = await store(history_backlog=ROOM)
    hand, _ = await world.hand(), await world.dispatch()
    hints = hints_of(world.storage)
    async with aclosing(hints):
        await world.create()
        assert (await heard(hints, lambda hint: not hint.keys)).notices
        # What changes without a word of history is no news.
        await world.lease(hand.seat())
        assert not (await anext(hints)).notices


async def test_too_much_history_that_waits_refuses_new_jobs_and_nothing_else(store: Factory) -> None:
    world = await store(history_backlog=2_000)
    hand = await world.hand()
    running, other = await world.accepted(hand), await world.create()
    await tell(world, 200)
    with pytest.raises(ResourceExhausted) as refused:
        await world.create()
    assert (refused.value.code, refused.value.retry_after) == ("HISTORY_BACKLOG", 5.0)
    assert await world.complete(running) is None
    await world.finish(await world.claim_of(running.job_id))
    assert await world.append(other, CancelRequested("ann")) is Appended.APPENDED
    assert len(await world.told(running.job_id)) == 5
    while notices := await world.storage.take(100):
        await settle(world, notices)
    await world.create()


async def test_while_too_much_history_waits_a_repeat_is_answered_as_the_first_time(store: Factory) -> None:
    world = await store(history_backlog=2_000)
    hand, claim = await world.hand(), await world.start()
    first = world.new_job(request_id="r1")
    await world.storage.create_jobs([first])
    tasks = (world.task(claim), world.task(claim, 1))
    await world.commit(world.step(claim, Status.WAITING_FOR_WORKER, tasks=tasks))
    await tell(world, 200)
    again, other = world.new_job(request_id="r1"), world.new_job(request_id="r1", digest=b"another")
    created = await world.storage.create_jobs([again, other], [hand.seat()])
    assert created.jobs == ((first.job.id, Creation.EXISTING), (first.job.id, Creation.CONFLICT))
    # Its seats are used, or it would be taken for a word that nothing waits.
    assert len(created.leased.offers) == len(created.leased.left) == 1
    # All or none: what is new among repeats is refused with them.
    with pytest.raises(ResourceExhausted):
        await world.storage.create_jobs([again, world.new_job()])
    with pytest.raises(ResourceExhausted):
        await world.create(request_id="r2")
    while notices := await world.storage.take(100):
        await settle(world, notices)
    await world.create(request_id="r2")


async def test_a_job_is_not_deleted_before_its_history_is_moved(store: Factory) -> None:
    world = await store(history_backlog=ROOM)
    job = await ended(world)
    assert await world.storage.purge(world.now + 1, 10) == 0
    notices = await world.storage.take(10)
    assert await world.storage.purge(world.now + 1, 10) == 0
    await settle(world, notices)
    assert await world.storage.purge(world.now + 1, 10) == 1
    assert await world.storage.job(job) is None


async def test_what_was_not_settled_outlives_the_process(durable: Factory) -> None:
    world = await durable(history_backlog=2_000)
    moved, job = await ended(world), await ended(world)
    notices = await world.storage.take(100)
    await settle(world, [notice for notice in notices if notice.record.job.id == moved])
    late = await tell(world, 200)
    await world.restart()
    with pytest.raises(ResourceExhausted):
        await world.create()
    notices = await world.storage.take(100)
    assert told(notices, moved) == []
    assert len(told(notices, job)) == 3
    assert len(told(notices, late)) == 200
    await settle(world, notices)
    await world.create()


async def test_lines_of_before_move_too_when_history_is_first_moved(durable: Factory) -> None:
    world = await durable()
    over, lines, alive = await ended(world), await tell(world, 20), await world.create()
    world.settings = replace(world.settings, history_backlog=ROOM)
    await world.restart()
    assert await world.storage.purge(world.now + 1, 10) == 0
    await world.finish(await world.claim_of(alive))
    seen: list[Notice] = []
    while notices := await world.storage.take(5):
        seen += notices
        await settle(world, notices)
    assert [kind for _, kind in sorted(told(seen, over))] == ["job_created", "state_finished", "job_completed"]
    assert [number for number, _ in sorted(told(seen, lines))] == list(range(1, 21))
    assert [number for number, _ in sorted(told(seen, alive))] == [1, 2, 3]
    assert await world.storage.purge(world.now + 1, 10) == 2
    await world.restart()
    assert list(await world.storage.take(5)) == []


async def test_lines_of_before_move_in_order_when_history_is_first_moved(durable: Factory) -> None:
    world = await durable()
    claims = [await world.start() for _ in range(3)]
    for number in range(12):
        for at, claim in enumerate(claims):
            step = world.step(claim, keep=True, history=(HistoryEvent(f"line-{number}", world.now),))
            assert not (await world.commit(step)).conflict
            claims[at] = replace(claim, job=step.job, events=())
    world.settings = replace(world.settings, history_backlog=ROOM)
    await world.restart()
    seen: list[Notice] = []
    while notices := await world.storage.take(5):
        seen += notices
        await settle(world, notices)
    for claim in claims:
        assert [number for number, _ in told(seen, claim.job.id)] == list(range(1, 14))


async def test_jobs_are_listed_by_the_time_of_their_creation(world: World) -> None:
    jobs = []
    for _ in range(6):
        jobs.append((await world.create(), world.now))
        world.clock.advance(10)
    begun = jobs[0][1]
    for after, before in ((None, begun + 20), (begun + 30, None), (begun + 10, begun + 40), (begun + 60, None)):
        which = JobFilter("ann", created_after=after, created_before=before)
        want = [
            job
            for job, created in reversed(jobs)
            if (after is None or created >= after) and (before is None or created < before)
        ]
        found: list[str] = []
        while True:
            page, more = await world.storage.jobs(which, 2)
            found += [record.job.id for record in page]
            if more is None:
                break
            which = JobFilter("ann", created_after=after, created_before=before, before=more)
        assert found == want
