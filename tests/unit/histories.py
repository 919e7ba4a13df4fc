"""Histories of jobs in memory, of which parts have moved, cannot be opened, or cannot be had."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import cast

from holon.domain.events import HistoryEvent
from holon.domain.job import Job
from holon.engine.history_reader import HistoryReader
from holon.errors import SealBroken, StoreUnavailable
from holon.ports import HistoryStorage, JobRecord, Reads

Lines = dict[int, HistoryEvent]


def line(kind: str = "state_started", number: int = 0, task_id: str = "t-1-0") -> HistoryEvent:
    """One of a job's, or of an event that a part of it told of in the line of that number."""
    details = {"event_id": f"part-{number}"} if kind.startswith("worker_event:") else {}
    return HistoryEvent(kind, 1, worker_id="@node", task_id=task_id, details=details)


def lines(*kinds: str) -> Lines:
    """A whole history."""
    return {number: line(kind, number) for number, kind in enumerate(kinds, start=1)}


class Histories:
    """A store, or a database of history.

    Attributes:
        broken: the lines that cannot be opened.
        failures: how many calls fail before one does not; -1: all do.
        gate: what a call waits for.
        called: set with each call.
        asked: of which jobs, and after which number, lines were asked for.
    """

    def __init__(self, jobs: dict[str, Lines], broken: Collection[int] = ()) -> None:
        self.jobs = jobs
        self.broken = broken
        self.failures = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()
        self.asked: list[tuple[str, int]] = []

    async def job(self, job_id: str) -> JobRecord | None:
        there = self.jobs.get(job_id)
        if there is None:
            return None
        job = Job(job_id, "bp", "client", {}, "start")
        return JobRecord(job, 1, 1, None, None, "", sequence=max(there, default=0))

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        self.asked.append((job_id, after))
        self.called.set()
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("it is away", retry_after=0.001)
        await self.gate.wait()
        found = [one for one in sorted(self.jobs.get(job_id, {}).items()) if one[0] > after][:limit]
        if any(number in self.broken for number, _ in found):
            raise SealBroken("it was changed")
        return found


def reader(store: Histories, database: Histories | None = None) -> HistoryReader:
    return HistoryReader(cast(Reads, store), cast(HistoryStorage, database) if database is not None else None)
