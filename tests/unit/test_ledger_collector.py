"""The ledger: the garbage collector, for which everybody waits, does not walk the rows that live."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from msgspec import Struct

from holon.core import late, rows  # noqa: F401  all rows are defined then
from holon.core.row import Row
from holon.domain.events import HistoryEvent
from holon.domain.job import Job, Status
from holon.domain.matching import Need
from holon.domain.task import RetryPolicy
from holon.domain.value import replace
from holon.ports import NewJob, NewTask, Step
from holon.storage.sqlite import SqliteStorage

JOBS = 200


def structs_in(hint: Any) -> set[type]:
    """The structs that a type is put together from, and those that they have."""
    found: set[type] = set()
    left = [hint]
    while left:
        one = left.pop()
        left += get_args(one)
        if isinstance(one, type) and issubclass(one, Struct) and one not in found:
            found.add(one)
            left += get_type_hints(one).values()
    return found


@pytest.mark.parametrize("cls", Row.__subclasses__(), ids=lambda cls: cls.__qualname__)
def test_nothing_that_a_row_has_leads_back_to_it(cls: type[Row]) -> None:
    assert not cls.__struct_config__.gc
    for name, hint in get_type_hints(cls).items():
        assert cls not in structs_in(hint), f"{cls.__name__}.{name} may lead back to it"


def waiting_job(number: int) -> NewJob:
    """A new job that waits for a task."""
    job = Job(f"0-{number}", "bp", "ann", {"n": number}, "start")
    waits = replace(job, status=Status.WAITING_FOR_WORKER, step=1)
    told = (HistoryEvent("job_created", 0),)
    task = NewTask(f"{job.id}-0-0", 0, Need("s"), b"{}", 0.0, 0, None, None, RetryPolicy())
    return NewJob(job, (), step=Step("", f"c{number}", waits, history=told, tasks=(task,)))


async def test_jobs_and_tasks_that_wait_give_the_collector_nothing_to_walk(tmp_path: Path) -> None:
    async with SqliteStorage(tmp_path / "holon.db", synchronous="NORMAL") as storage:
        await storage.create_jobs([waiting_job(0)])
        gc.collect()
        before = len(gc.get_objects())
        await storage.create_jobs([waiting_job(number) for number in range(1, 1 + JOBS)])
        # The last batch is at hand until the next one.
        await storage.create_jobs([waiting_job(1 + JOBS)])
        assert (await storage.counts()).queued == 2 + JOBS
        gc.collect()
        assert len(gc.get_objects()) - before < JOBS
