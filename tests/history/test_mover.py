"""The mover: every line arrives, once, in batches; while the database is away all of it waits, and nothing stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holon.domain.events import HistoryEvent
from holon.domain.job import Job
from holon.engine import mover as mover_module
from holon.engine.mover import Mover
from holon.errors import StoreUnavailable
from holon.ports import NewJob, Notice, StoreSettings
from holon.storage.history import SqliteHistory
from holon.storage.memory import MemoryStorage
from tests.history.waiting import until

GUARD_S = 30.0


class Fickle(SqliteHistory):
    """A history that fails as often as it is told to: before the write, or after it, when its reply is lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.failures: list[str] = []
        self.batches: list[int] = []

    async def add(self, notices: Sequence[Notice]) -> None:
        fails = self.failures.pop(0) if self.failures else ""
        if fails == "no answer":
            await asyncio.Event().wait()
        if fails == "before":
            raise StoreUnavailable("it is away", code="HISTORY_UNAVAILABLE")
        if fails == "as never before":
            raise RuntimeError("nobody knows this one")
        await super().add(notices)
        if fails == "after":
            raise StoreUnavailable("its reply was lost", code="HISTORY_UNAVAILABLE")
        self.batches.append(len(notices))


class Site:
    """A store whose history is moved."""

    def __init__(self, store: MemoryStorage, history: Fickle) -> None:
        self.store = store
        self.history = history
        self.mover = Mover(store, history)
        self.jobs = 0

    async def tell(self, jobs: int = 1) -> None:
        """Tell two lines of each of some new jobs, and wake the mover."""
        for _ in range(jobs):
            job = Job(f"0-{self.jobs}", "bp", "ann", {}, "start")
            self.jobs += 1
            await self.store.create_jobs([NewJob(job, (HistoryEvent("a", 1), HistoryEvent("b", 2)))])
        self.mover.wake()

    async def all_moved(self) -> None:
        """Wait until the history has every line, and the store none."""
        await until(lambda: not self.store.history_backlog)
        for number in range(self.jobs):
            lines = await self.history.history(f"0-{number}", 0, 10)
            assert [(at, event.type) for at, event in lines] == [(1, "a"), (2, "b")]


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(mover_module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(mover_module, "LINGER_S", 0.02)
    async with MemoryStorage(StoreSettings("n1", history_backlog=2**30)) as store, Fickle(tmp_path / "h.db") as history:
        yield Site(store, history)


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[None]:
    task = asyncio.create_task(site.mover.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("ending", ["", "-wal"])
async def test_what_comes_after_the_file_was_removed_is_moved_into_the_one_that_is_there_then(
    site: Site, tmp_path: Path, ending: str
) -> None:
    await site.tell()
    async with running(site):
        await site.all_moved()
        for name in {"h.db" + ending, "h.db-wal"}:
            (tmp_path / name).unlink()
        await site.tell()
        await until(lambda: not site.store.history_backlog)
        # Who opens the file beside the node finds what the node does not have any more.
        async with SqliteHistory(tmp_path / "h.db") as other:
            assert [at for at, _ in await other.history("0-1", 0, 10)] == [1, 2]
        assert [at for at, _ in await site.history.history("0-1", 0, 10)] == [1, 2]


async def test_what_was_there_and_what_comes_is_moved(site: Site) -> None:
    await site.tell(3)
    async with running(site):
        await site.all_moved()
        await site.tell(2)
        await site.all_moved()
    assert sum(site.history.batches) == 5
    assert site.mover.metrics.moved.values[()] == 10


async def test_much_is_moved_in_few_batches(site: Site) -> None:
    await site.tell(1_200)
    async with running(site):
        await site.all_moved()
    assert site.history.batches[:2] == [mover_module.BATCH] * 2
    assert sum(site.history.batches) == 1_200


async def test_nothing_is_asked_for_while_nothing_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    take = site.store.take

    async def counted(limit: int) -> Sequence[Notice]:
        nonlocal asked
        asked += 1
        return await take(limit)

    monkeypatch.setattr(site.store, "take", counted)
    async with running(site):
        await site.tell()
        await site.all_moved()
        for _ in range(50):
            await asyncio.sleep(0.002)
    assert asked <= 3


async def test_who_ends_waits_no_longer_for_a_database_that_does_not_answer(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.history.failures = ["no answer"]
    await site.tell()
    with monkeypatch.context() as impatient:
        impatient.setattr(mover_module, "LAST_BATCH_S", 0.05)
        await asyncio.wait_for(site.mover.flush(), GUARD_S)
    assert "stays in the store until a node moves it: the database did not accept it within 0.05 s" in caplog.text
    await site.mover.flush()
    await site.all_moved()


async def test_who_has_no_time_left_to_move_history_says_that_it_stays(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.history.failures = ["no answer"]
    await site.tell()
    flushing = asyncio.create_task(site.mover.flush())
    await until(lambda: not site.history.failures)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    assert "stays in the store until a node moves it: there was no time left" in caplog.text


@pytest.mark.parametrize("how", ["before", "after", "as never before"])
async def test_a_batch_that_failed_is_moved_when_the_database_is_back(
    site: Site, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.history.failures = [how] * 4
    await site.tell(3)
    async with running(site):
        with caplog.at_level("INFO", "holon.engine.mover"):
            await site.all_moved()
            await until(lambda: any("moved again" in line for line in caplog.messages))
    assert site.mover.metrics.failures.values[()] == 4
    told = [line for line in caplog.records if "cannot be moved" in line.message]
    assert len(told) == 4
    # What nobody expects is told with where it came from.
    assert [line.exc_info is not None for line in told] == [how == "as never before"] * 4


async def test_a_batch_whose_settling_was_lost_is_moved_again_and_kept_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, failures = site.store.settle, 2

    async def lost(notices: Sequence[str]) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise StoreUnavailable("the store is away")
        await settle(notices)

    monkeypatch.setattr(site.store, "settle", lost)
    await site.tell(3)
    async with running(site):
        await until(lambda: not site.store.history_backlog)
        await site.all_moved()
    assert sum(site.history.batches) == 9


async def test_a_mover_that_was_stopped_in_the_middle_leaves_it_to_the_next(site: Site) -> None:
    await site.tell(3)
    site.history.failures = ["before"]
    async with running(site):
        await until(lambda: not site.history.failures)
    await site.mover.flush()
    await site.all_moved()


@pytest.mark.parametrize("how", ["before", "as never before"])
async def test_the_end_of_a_node_moves_what_it_can_and_waits_for_nobody(site: Site, how: str) -> None:
    await site.tell(3)
    site.history.failures = [how]
    await site.mover.flush()
    assert site.store.history_backlog > 0
    await site.mover.flush()
    await site.all_moved()
