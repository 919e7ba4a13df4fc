"""The store in memory: for tests, and for jobs that may die with their process. The same rules as every other."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from holon.clock import Clock, SystemClock
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.matching import Need
from holon.domain.task import Outcome, task_id
from holon.ports import (
    Appended,
    Claim,
    Committed,
    Completed,
    Counts,
    Created,
    Fired,
    Hint,
    JobFilter,
    JobRecord,
    Leased,
    NewJob,
    Opened,
    Opening,
    Result,
    Seat,
    Step,
    StoreSettings,
    TaskRecord,
    Touch,
    Touched,
)
from holon.storage.hints import Hints
from holon.storage.ledger import creations, jobs, leases, outcomes, reads, rekeying, steps, timers, touches
from holon.storage.ledger.rows import JobRow
from holon.storage.ledger.tables import Tables
from holon.storage.records import encode_state, with_states, with_step_states

T = TypeVar("T")


class MemoryStorage:
    """A store that lives and dies with its process.

    Arguments:
        settings: who this node is, and its durations; the node sets them when it is given a store without.
        clock: what says the time.
    """

    def __init__(self, settings: StoreSettings | None = None, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._tables = Tables(settings or StoreSettings(node_id="memory"))
        self._history: dict[str, list[HistoryEvent]] = {}
        self._hints = Hints()
        self._tables.watched = self._hints.watched

    def __repr__(self) -> str:
        return f"MemoryStorage(jobs={len(self._tables.jobs)}, tasks={len(self._tables.tasks)})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held that would have to be given back."""

    def configure(self, settings: StoreSettings) -> None:
        """Take the node's settings; before the first operation."""
        self._tables.settings = settings

    async def failure(self) -> None:
        await asyncio.Event().wait()

    def now(self) -> int:
        return self._clock.now_ms()

    def hints(self) -> AsyncIterator[Hint]:
        return self._hints.listen()

    async def watch(self, job_id: str) -> None:
        self._hints.watched.add(job_id)

    def unwatch(self, job_id: str) -> None:
        self._hints.watched.discard(job_id)

    def _do(self, operation: Callable[[Tables], T]) -> T:
        tables = self._tables
        try:
            reply = operation(tables)
        except BaseException:
            tables.take_back()
            raise
        for row, _, events in tables.notices:
            self._history.setdefault(row.id, []).extend(events)
        hint = tables.done()
        if hint is not None:
            self._hints.give(hint)
        return reply

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        encoded = with_states(items, self._tables.settings.max_state_bytes)
        return self._do(lambda tables: creations.create_jobs(tables, encoded, want, seats, self.now()))

    async def append(
        self, job_id: str, event: InboxEvent, dedup_key: str, want: int
    ) -> tuple[Appended, Sequence[Claim]]:
        return self._do(lambda tables: jobs.append(tables, job_id, event, dedup_key, want, self.now()))

    async def claim(self, want: int) -> Sequence[Claim]:
        return self._do(lambda tables: jobs.claim(tables, want, self.now()))

    async def keep(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return self._do(lambda tables: jobs.keep(tables, claims, self.now()))

    async def release(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return self._do(lambda tables: jobs.release(tables, claims))

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        state = encode_state(step.job, self._tables.settings.max_state_bytes)
        return self._do(lambda tables: steps.commit(tables, step, state, want, seats, self.now()))

    async def spawn(self, job_id: str, step: int, seats: Sequence[Seat]) -> Leased:
        return self._do(lambda tables: steps.spawn(tables, job_id, step, seats, self.now()))

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        row = self._tables.jobs.get(job_id)
        total = row.fan.total if row and row.fan and row.fan.step == step else 0
        tasks = (self._tables.tasks.get(task_id(job_id, step, index)) for index in range(total))
        return [(task.id, task.outcome) for task in tasks if task is not None and task.outcome is not None]

    async def open_session(self, opening: Opening) -> Opened:
        return self._do(lambda tables: leases.open_session(tables, opening, self.now()))

    async def close_session(self, worker_id: str, session_id: str) -> None:
        return self._do(lambda tables: leases.close_session(tables, worker_id, session_id))

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        return self._do(lambda tables: leases.lease(tables, seats, self.now()))

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        return self._do(lambda tables: touches.touch(tables, touch, seats, self.now()))

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        encoded = with_step_states(results, self._tables.settings.max_state_bytes)
        return self._do(lambda tables: outcomes.complete(tables, encoded, worker_id, want, seats, self.now()))

    async def fire(self, limit: int, want: int, seats: Sequence[Seat]) -> Fired:
        return self._do(lambda tables: timers.fire(tables, limit, want, seats, random.random, self.now()))

    async def task(self, task_id: str) -> TaskRecord | None:
        row = self._tables.tasks.get(task_id)
        return reads.task_record(row) if row is not None else None

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        return rekeying.queued(self._tables, skill)

    async def needs(self) -> Mapping[str, Need]:
        return rekeying.needs(self._tables)

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        return reads.queued_tasks(self._tables, key, after, limit)

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        return self._do(lambda tables: rekeying.rekey(tables, moves))

    async def job(self, job_id: str) -> JobRecord | None:
        row = self._tables.jobs.get(job_id)
        return reads.job_record(self._tables, row) if row is not None else None

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        page: list[JobRow] = []
        for row in reversed(self._tables.jobs.values()):
            if (which.before is None or row.n < which.before) and reads.passes(row, which):
                page.append(row)
            if len(page) > limit:
                break
        more = page[limit - 1].n if len(page) > limit else None
        return [reads.job_record(self._tables, row) for row in page[:limit]], more

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        events = self._history.get(job_id, [])
        return list(enumerate(events, start=1))[after : after + limit]

    async def counts(self) -> Counts:
        records = (reads.job_record(self._tables, row) for row in self._tables.jobs.values() if not row.over)
        return Counts(Counter(record.job.status for record in records), *reads.task_counts(self._tables))

    async def purge(self, finished_before: int, limit: int) -> int:
        tables = self._tables
        old = [row for row in tables.jobs.values() if row.finished_at is not None and row.finished_at < finished_before]
        gone = {row.id for row in old[:limit]}
        for row in old[:limit]:
            del tables.jobs[row.id]
            self._history.pop(row.id, None)
            if row.request_id is not None:
                tables.requests.pop((row.owner, row.request_id), None)
        for task in [task for task in tables.tasks.values() if task.job_id in gone]:
            del tables.tasks[task.id]
        return len(gone)
