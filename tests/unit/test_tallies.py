"""Trees are turned page by page without reading what was read for the page before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.domain.client import Client
from holon.domain.events import HistoryEvent
from holon.domain.job import Job
from holon.domain.tally import Tally
from holon.domain.tree import Asked
from holon.engine import tallies
from holon.engine.core import Engine, EngineSettings
from holon.engine.requests import Creating
from holon.engine.tallies import MOST_JOBS, Tallies
from holon.ports import Committed, JobRecord, Seat, Step, StoreSettings
from holon.storage import MemoryStorage
from holon.wire.trees import read_summary

BRANCHES = 60


class Counting(MemoryStorage):
    """Counts the lines of history that are read of it, and says when a step is there."""

    lines = 0

    def __init__(self, settings: StoreSettings) -> None:
        super().__init__(settings)
        self.committed = asyncio.Event()

    async def commit(self, step: Step, seats: Sequence[Seat]) -> Committed:
        """As it is."""
        reply = await super().commit(step, seats)
        self.committed.set()
        return reply

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        """As it is."""
        found = await super().history(job_id, after, limit)
        self.lines += len(found)
        return found


wide = Blueprint("wide", api_endpoint="/jobs/wide")


@wide.handler(is_start=True)
async def split(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    """As many tasks as there are."""
    actions.dispatch_parallel([{"task_type": "work"}] * BRANCHES, "end")


@wide.aggregator("end")
async def gather(actions: ActionFactory) -> None:
    """All of them."""
    actions.go_to("over")


@wide.handler("over", is_end=True)
async def over() -> None:
    """The end."""


async def test_all_pages_of_a_tree_read_the_jobs_history_once() -> None:
    settings = StoreSettings("node")
    async with Counting(settings) as store:
        engine = Engine(store, settings, EngineSettings(), read_told=read_summary)
        engine.blueprints.register(wide)
        running = asyncio.create_task(engine.run())
        job = (await engine.jobs.create(Client("me"), Creating("wide", {}))).job_id
        await store.committed.wait()
        record = await engine.jobs.get(Client("me"), job)
        assert record.job.status == "waiting_for_parallel"
        names, token, store.lines = [], "", 0
        while True:
            page = await engine.trees.page(Client("me"), job, Asked(size=1, token=token))
            names += [node.id for node in page.nodes]
            if not (token := page.token):
                break
        assert len(set(names)) == len(names) == BRANCHES + 1
        assert store.lines == record.sequence
        running.cancel()
        await asyncio.wait((running,))


def record(job_id: str, sequence: int = 0) -> JobRecord:
    return JobRecord(Job(job_id, "b", "me", {}, "s"), 0, 0, None, None, "", sequence=sequence)


async def read_slowly(tally: Tally, of: JobRecord) -> None:
    """Each line is a branch that was sent."""
    while (last := tally.fingerprint.last) < of.sequence:
        await asyncio.sleep(0)
        tally.take_all([(last + 1, HistoryEvent("task_dispatched", 0, task_id=f"{of.job.id}-{last}-0"))])


async def test_who_asks_at_the_same_time_reads_each_line_once() -> None:
    kept = Tallies(read_slowly)
    read = await asyncio.gather(*(kept.of(record("j", upto)) for upto in (3, 9, 5, 9)))
    assert len({id(one) for one in read}) == 1
    assert len(read[0].tally) == 9


async def test_so_many_jobs_and_tasks_are_kept_and_the_oldest_are_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Tallies(read_slowly)
    first = await kept.of(record("0", 2))
    for number in range(1, MOST_JOBS):
        await kept.of(record(str(number), 2))
    assert await kept.of(record("0", 2)) is first
    second = await kept.of(record("another", 2))
    assert await kept.of(record("0", 2)) is first
    assert repr(kept) == f"Tallies({MOST_JOBS})"
    monkeypatch.setattr(tallies, "MOST_TASKS", 5)
    large = await kept.of(record("large", 10))
    assert repr(kept) == "Tallies(1)"
    assert await kept.of(record("large", 11)) is large
    assert await kept.of(record("another", 2)) is not second


async def test_what_nobody_asks_for_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "KEPT_S", 0.01)
    kept = Tallies(read_slowly)
    await kept.of(record("a"))
    await kept.of(record("b"))
    # Timers go off in their order.
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, later.set)
    await later.wait()
    assert repr(kept) == "Tallies(0)"


async def test_what_was_read_before_an_error_stays_read() -> None:
    fails = [True]

    async def read(tally: Tally, of: JobRecord) -> None:
        await read_slowly(tally, record(of.job.id, 2 if fails else of.sequence))
        if fails:
            fails.clear()
            raise OSError("away")

    kept = Tallies(read)
    with pytest.raises(OSError, match="away"):
        await kept.of(record("j", 4))
    assert len((await kept.of(record("j", 4))).tally) == 4
