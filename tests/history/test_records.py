"""Reads of store and history as one: nothing is missing, nothing is there twice, whatever moved or is gone."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.domain.events import HistoryEvent
from holon.domain.job import Job, JobError, Status
from holon.domain.value import replace
from holon.engine.page_tokens import PageTokens
from holon.engine.records import Records
from holon.errors import FailedPrecondition, InvalidArgument, StoreUnavailable
from holon.ports import MAX_PAGE_BYTES, JobFilter, JobRecord, NewJob, Step, StoreSettings
from holon.storage.history import SqliteHistory
from holon.storage.memory import MemoryStorage
from tests.claims import claimed

SETTINGS = StoreSettings("n1", history_backlog=2**30)


class Place:
    """A store and its history, and what has happened there."""

    def __init__(self, store: MemoryStorage, history: SqliteHistory, clock: ManualClock) -> None:
        self.store = store
        self.history = history
        self.clock = clock
        self.records = Records(store, history, PageTokens())
        self.created: list[tuple[int, str]] = []

    async def create(self, blueprint: str = "bp", lines: int = 1, owner: str = "ann", error: str = "") -> str:
        job = Job(f"0-{len(self.created):04}", blueprint, owner, {}, "start")
        now, details = self.clock.now_ms(), {"error": error} if error else {}
        told = tuple(HistoryEvent(f"line-{n}", now, worker_id="w1", details=details) for n in range(1, lines + 1))
        await self.store.create_jobs([NewJob(job, told)])
        self.created.append((self.clock.now_ms(), job.id))
        return job.id

    async def end(self, job_id: str, result: object = 1, error: JobError | None = None) -> None:
        """End a job, of which is told then once more."""
        [claim] = [one for one in await claimed(self.store) if one.job.id == job_id]
        gathered = {"n": result}
        job = replace(claim.job, step=1, status=Status.FINISHED, state_history=gathered, result=gathered)
        if error is not None:
            job = replace(job, status=Status.FAILED, state_history={}, result=None, error=error)
        told = (HistoryEvent("job_completed", self.clock.now_ms()),)
        await self.store.commit(Step(claim.claim_id, f"commit-{job_id}", job, history=told), ())

    async def move(self, limit: int = 1_000) -> None:
        notices = await self.store.take(limit)
        await self.history.add(notices)
        await self.store.settle([notice.id for notice in notices])

    async def listed(self, size: int, **which: Any) -> list[JobRecord]:
        """All that a list shows, page by page; none of the pages but the last is short."""
        shown: list[JobRecord] = []
        token = ""
        while True:
            page, token = await self.records.jobs(JobFilter(**{"owner": "ann"} | which), token, size)
            shown += page
            assert len(page) == size or not token
            if not token:
                return shown


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        clock = ManualClock()
        store = await stack.enter_async_context(MemoryStorage(SETTINGS, clock))
        history = await stack.enter_async_context(SqliteHistory(path / "history.db"))
        yield Place(store, history, clock)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path) as place:
        yield place


async def test_a_page_of_history_may_come_from_both(place: Place) -> None:
    job = await place.create(lines=4)
    await place.move()
    await place.end(job)
    assert len(await place.store.history(job, 0, 10)) == 1
    numbers = [number for number, _ in await place.records.history(job, 0, 10, 5)]
    assert numbers == [1, 2, 3, 4, 5]
    assert [number for number, _ in await place.records.history(job, 2, 2, 5)] == [3, 4]
    assert [number for number, _ in await place.records.history(job, 4, 10, 5)] == [5]
    assert list(await place.records.history(job, 5, 10, 5)) == []


async def test_what_is_there_twice_is_told_once(place: Place) -> None:
    job = await place.create(lines=3)
    await place.history.add(await place.store.take(10))
    assert [number for number, _ in await place.records.history(job, 0, 10, 3)] == [1, 2, 3]


async def test_what_lives_is_read_while_history_is_away(place: Place) -> None:
    moved, live = await place.create(lines=3), await place.create(lines=3)
    [first, *_] = await place.store.take(1)
    await place.history.add([first])
    await place.store.settle([first.id])
    await place.history.__aexit__(None, None, None)
    assert len(await place.records.history(live, 0, 10, 3)) == 3
    assert list(await place.records.history(moved, 3, 10, 3)) == []
    found = await place.records.job(live)
    assert found is not None
    assert [one.job.id for one in await place.listed(10, statuses=(Status.PENDING,))] == [live, moved]
    for asked in (
        place.records.history(moved, 0, 10, 3),
        place.records.job("0-gone"),
        place.records.jobs(JobFilter("ann"), "", 10),
    ):
        with pytest.raises(StoreUnavailable) as away:
            await asked
        assert away.value.code == "HISTORY_UNAVAILABLE"


async def test_a_job_that_the_store_forgot_is_read_from_history(place: Place) -> None:
    job = await place.create(lines=2)
    await place.end(job)
    await place.move()
    before = await place.store.job(job)
    assert await place.store.purge(place.clock.now_ms() + 1, 10) == 1
    found = await place.records.job(job)
    assert found is not None
    assert before is not None
    assert (found.job.status, found.job.result, found.sequence) == (Status.FINISHED, {"n": 1}, 3)
    assert (found.created_at, found.finished_at) == (before.created_at, before.finished_at)
    assert len(await place.records.history(job, 0, 10, 3)) == 3


@pytest.mark.parametrize("seed", range(12))
async def test_lists_are_those_of_one_place(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with opened(tmp_path) as place:
        ended: set[str] = set()
        for _ in range(60):
            place.clock.advance(chance.choice((0, 0, 1, 50)))
            job = await place.create(chance.choice(("a", "b")))
            if chance.random() < 0.6:
                await place.end(job)
                ended.add(job)
            if chance.random() < 0.3:
                await place.move(chance.randrange(1, 40))
            if chance.random() < 0.1:
                await place.move()
                await place.store.purge(place.clock.now_ms() - chance.choice((0, 100)), chance.randrange(1, 20))
        all_jobs = sorted(place.created, reverse=True)
        for size in (1, 2, 7, 100):
            shown = await place.listed(size)
            assert sorted(one.job.id for one in shown) == sorted(job for _, job in all_jobs)
            assert [one.created_at for one in shown] == [at for at, _ in all_jobs]
        for size in (3, 100):
            shown = await place.listed(size, statuses=(Status.FINISHED,), blueprint="a")
            assert len({one.job.id for one in shown}) == len(shown)
            assert {one.job.id for one in shown} <= ended
            alive = await place.listed(size, statuses=(Status.PENDING,))
            assert {one.job.id for one in alive} == {job for _, job in all_jobs} - ended
            middle = all_jobs[30][0]
            late = await place.listed(size, created_after=middle)
            early = await place.listed(size, created_before=middle)
            assert [one.created_at for one in (*late, *early)] == [at for at, _ in all_jobs]


@pytest.mark.parametrize("large", ["result", "message", "details", "state_history"])
async def test_pages_of_large_jobs_fit_into_a_message(place: Place, large: str) -> None:
    text = "x" * 900_000
    errors = {"message": JobError("CODE", text), "details": JobError("CODE", "why", {"why": text})}
    for number in range(12):
        place.clock.advance(1)
        await place.end(await place.create(), text, errors.get(large))
        if number % 3 == 2:
            await place.move()
            await place.store.purge(place.clock.now_ms(), 1)
    shown: list[str] = []
    token = ""
    while not shown or token:
        page, token = await place.records.jobs(JobFilter("ann"), token, 100, (large,))
        carried = sum(large == "state_history" and one.state_history is not None for one in page)
        assert len(page) + carried <= MAX_PAGE_BYTES // len(text)
        shown += ids(page)
    assert shown == [job for _, job in sorted(place.created, reverse=True)]


async def test_jobs_that_come_meanwhile_are_on_no_later_page(place: Place) -> None:
    for _ in range(4):
        await place.end(await place.create())
        place.clock.advance(1)
    live = await place.create()
    await place.move()
    await place.store.purge(place.clock.now_ms() + 1, 10)
    which = JobFilter("ann")
    first, token = await place.records.jobs(which, "", 2)
    place.clock.advance(1)
    await place.create()
    second, token = await place.records.jobs(which, token, 2)
    third, token = await place.records.jobs(which, token, 2)
    assert [one.job.id for one in (*first, *second, *third)] == [live, "0-0003", "0-0002", "0-0001", "0-0000"]
    assert token == ""


@pytest.mark.parametrize("token", ["x", "1.2", "1.2.3.4", "-1", "1..a", "9" * 19, "1.2.\udcff", " 1"])
async def test_a_token_that_no_page_ended_with_is_refused(place: Place, token: str) -> None:
    with pytest.raises(InvalidArgument):
        await place.records.jobs(JobFilter("ann"), token, 2)
    with pytest.raises(InvalidArgument):
        await place.records.of_worker("ann", "w1", token, 2)


async def test_what_a_worker_did_is_read_in_pages(place: Place) -> None:
    for _ in range(3):
        await place.create(lines=2)
        place.clock.advance(1)
    await place.create(lines=2, owner="bob")
    await place.move()
    found: list[tuple[str, int]] = []
    token = ""
    pages = 0
    while pages == 0 or token:
        page, token = await place.records.of_worker("ann", "w1", token, 4)
        found += [(one.job_id, one.sequence) for one in page]
        pages += 1
    assert found == [("0-0002", 2), ("0-0002", 1), ("0-0001", 2), ("0-0001", 1), ("0-0000", 2), ("0-0000", 1)]
    assert pages == 2


async def test_without_a_database_nobody_knows_what_a_worker_did(place: Place) -> None:
    records = Records(place.store, None, PageTokens())
    with pytest.raises(FailedPrecondition) as refused:
        await records.of_worker("ann", "w1", "", 10)
    assert (refused.value.code, "HISTORY_DATABASE_URI" in refused.value.message) == ("HISTORY_NOT_KEPT", True)


def ids(records: Sequence[JobRecord]) -> list[str]:
    return [one.job.id for one in records]


async def test_without_a_database_lists_are_the_stores(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        records = Records(place.store, None, PageTokens())
        for _ in range(5):
            await place.create()
        first, token = await records.jobs(JobFilter("ann"), "", 3)
        second, end = await records.jobs(JobFilter("ann"), token, 3)
        assert (ids(first) + ids(second), end) == ([f"0-{n:04}" for n in (4, 3, 2, 1, 0)], "")


async def test_a_page_of_what_a_worker_did_is_bounded_in_bytes(place: Place) -> None:
    lines, error = 250, "x" * 20_000
    await place.create(lines=lines, error=error)
    await place.move()
    found, token, pages = list[int](), "", 0
    while token or not pages:
        page, token = await place.records.of_worker("ann", "w1", token, 1_000)
        assert sum(len(one.event.details["error"]) for one in page) <= MAX_PAGE_BYTES
        found += [one.sequence for one in page]
        pages += 1
    assert sorted(found) == list(range(1, lines + 1))
    assert pages > 1
