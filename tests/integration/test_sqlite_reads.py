"""Jobs read from the SQLite store: who asks again is answered from memory, with what is committed and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from threading import Semaphore
from typing import Any

import pytest

from holon.domain.events import CancelRequested
from holon.domain.job import Status
from holon.domain.value import replace
from holon.ports import Hint, JobFilter, JobRecord
from holon.storage.ledger.tables import Tables
from holon.storage.sqlite import SqliteStorage, known, reading
from holon.storage.sqlite.lane import Lane
from tests.contract.backends import Sqlite
from tests.contract.world import T, World
from tests.hints import hints_of


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(Sqlite(sealed=False), tmp_path, {})
    await world.open()
    yield world
    await world.close()


def reads(world: World) -> int:
    """How often the file was read for somebody."""
    assert isinstance(world.storage, SqliteStorage)
    return sum(sum(one.counts) for one in world.storage.metrics.reads.series.values())


async def test_a_job_that_is_asked_for_again_is_not_read_from_the_file_again(world: World) -> None:
    claim = await world.start()
    seen = [(await world.record(claim.job.id)).job.status]
    before = reads(world)
    await world.dispatch(T, claim)
    waiting = await world.record(claim.job.id)
    hand = await world.hand()
    assert await world.lease(hand.seat())
    leased = await world.record(claim.job.id)
    assert [*seen, waiting.job.status, leased.job.status] == [Status.RUNNING, *[Status.WAITING_FOR_WORKER] * 2]
    # What it waits for is told only while it waits: also when nothing of the job itself has changed.
    assert (waiting.queued_need, leased.queued_need) == (T, None)
    assert reads(world) == before


async def test_large_states_and_more_jobs_than_there_is_room_for_are_read_from_the_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "MAX_JOBS", 2)
    monkeypatch.setattr(known, "MAX_STATE", 1_000)
    large = await world.start(data={"x": "y" * 2_000})
    ids = [await world.create() for _ in range(3)]
    for _ in range(2):
        for job_id in (large.job.id, *ids):
            assert (await world.record(job_id)).job.status.terminal is False
    before = reads(world)
    await world.finish(large)
    assert (await world.record(large.job.id)).job.status is Status.FINISHED
    assert reads(world) == before + 1
    assert isinstance(world.storage, SqliteStorage)
    assert repr(world.storage._known) in ("Known(1)", "Known(2)")


async def test_a_job_that_was_deleted_is_not_there_any_more(world: World) -> None:
    claim = await world.start()
    await world.finish(claim)
    assert (await world.record(claim.job.id)).job.status.terminal
    assert await world.storage.purge(world.now + 1, 10) == 1
    assert await world.storage.job(claim.job.id) is None


async def test_what_was_answered_is_seen_by_every_read_after_it_however_many_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small that jobs come and go all the time.
    monkeypatch.setattr(known, "MAX_JOBS", 3)
    chance = random.Random(1)
    steps: dict[str, int] = {}
    writing = True

    async def write() -> None:
        claim = await world.start()
        job_id = claim.job.id
        for number in range(40):
            step = world.step(claim, keep=True)
            assert not (await world.commit(step)).conflict
            steps[job_id] = number + 1
            claim = replace(claim, job=step.job, events=())
        await world.finish(claim)

    async def read() -> None:
        while writing:
            for job_id in chance.sample(sorted(steps), min(3, len(steps))):
                at_least = steps[job_id]
                assert (await world.record(job_id)).job.step >= at_least
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(5)]
    await asyncio.gather(*(write() for _ in range(6)))
    writing = False
    await asyncio.gather(*readers)
    for job_id in steps:
        assert (await world.record(job_id)).job.status is Status.FINISHED


async def test_what_was_told_before_a_job_was_given_up_and_read_anew_is_not_newer_than_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "MAX_JOBS", 1)
    storage = world.storage
    assert isinstance(storage, SqliteStorage)
    committed, answer = Semaphore(0), Lane.answer

    def answered(*arguments: Any) -> None:
        answer(*arguments)
        committed.release()

    async def give_up() -> None:
        committed.acquire(timeout=60)
        storage.expect("0-another", history=False)

    async def read() -> int:
        committed.acquire(timeout=60)
        return (await world.record(job_id)).job.step

    claim = await world.start()
    job_id = claim.job.id
    await world.record(job_id)
    monkeypatch.setattr(Lane, "answer", answered)
    first = world.step(claim, keep=True)
    second = world.step(replace(claim, job=first.job, events=()), Status.FINISHED)
    # In one turn of the loop: so it hears of either commit only after the job is read anew.
    done = await asyncio.gather(world.commit(first), give_up(), world.commit(second), read())
    assert done[3] == 2
    assert (await world.record(job_id)).job.step == 2


async def test_what_is_watched_and_read_between_a_commit_and_its_word_is_hinted_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = await world.start()
    job_id = claim.job.id
    await world.record(job_id)
    hints = hints_of(world.storage)
    seen: list[Status] = []
    done, loop = Tables.done, asyncio.get_running_loop()

    async def look() -> None:
        await world.storage.watch(job_id)
        seen.append((await world.record(job_id)).job.status)

    def committed(tables: Tables) -> Hint | None:
        hint = done(tables)
        if not seen:
            asyncio.run_coroutine_threadsafe(look(), loop).result()
        return hint

    with monkeypatch.context() as patching:
        patching.setattr(Tables, "done", committed)
        await world.finish(claim)
    assert seen == [Status.RUNNING]
    async with asyncio.timeout(60):
        while job_id not in (await anext(hints)).jobs:
            pass


async def test_a_page_holds_what_was_asked_for_though_a_job_goes_on_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = world.storage
    assert isinstance(storage, SqliteStorage)
    [branch] = await world.fan_out(1)
    job_id = branch.rsplit("-", 2)[0]
    look = storage._with_branches

    async def late(records: Sequence[JobRecord]) -> Sequence[JobRecord]:
        [offer] = await world.lease((await world.hand()).seat())
        await world.complete(offer)
        await world.commit(world.step(await world.claim_of(job_id), Status.WAITING_FOR_RETRY))
        return await look(records)

    monkeypatch.setattr(storage, "_with_branches", late)
    records, _ = await storage.jobs(JobFilter("ann", (Status.WAITING_FOR_PARALLEL,)), 10)
    assert [record.job.status for record in records] == [Status.WAITING_FOR_PARALLEL]


@pytest.mark.parametrize("room", [1, 10])
async def test_that_a_job_is_as_it_was_created_is_known_until_it_goes_on_or_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    # Where there is no room to tell of a job, nothing is said of it.
    monkeypatch.setattr(known, "MAX_JOBS", room)
    jobs = [replace(new, job=replace(new.job, id=world.job_id("ann"))) for new in (world.new_job(), world.new_job())]
    for new in jobs:
        assert world.storage.expect(new.job.id, history=True)
        assert not world.storage.is_as_created(new.job.id)
        await world.storage.create_jobs([new], 0)
    first, second = (new.job.id for new in jobs)
    assert [world.storage.is_as_created(one) for one in (first, second)] == [True, room > 1]
    world.storage.unwatch(first)
    assert [world.storage.is_as_created(one) for one in (first, second)] == [False, room > 1]
    await world.claim_of(second)
    assert not world.storage.is_as_created(second)


async def test_who_waits_for_a_job_is_woken_before_who_changed_it_and_all_others_after(world: World) -> None:
    job_id = await world.create()
    await world.storage.watch(job_id)
    loop, woken = asyncio.get_running_loop(), list[str]()

    def told(hint: Hint) -> None:
        loop.call_soon(woken.append, "who watches" if hint.jobs else "others")

    world.storage.hear(told)

    async def change() -> None:
        await world.append(job_id, CancelRequested("ann"))
        woken.append("who changed it")

    await change()
    await asyncio.sleep(0)
    assert woken == ["who watches", "who changed it", "others"]


async def test_those_that_are_not_over_are_found_without_going_through_all_that_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK_AT", 5)
    live = [(await world.start(owner=owner)).job.id for owner in ("ann", "bob", "ann")]
    for _ in range(60):
        await world.finish(await world.start())
    newest = (await world.start()).job.id
    before = reads(world)
    shown, more = await world.storage.jobs(JobFilter("ann", (Status.PENDING, Status.RUNNING)), 10)
    assert ([one.job.id for one in shown], more) == ([newest, live[2], live[0]], None)
    assert reads(world) - before <= 4
    ended, _ = await world.storage.jobs(JobFilter("ann", (Status.RUNNING, Status.FINISHED)), 100)
    assert len(ended) == 60
