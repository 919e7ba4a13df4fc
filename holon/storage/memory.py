"""The store in memory: for tests, and for jobs that may die with their process. The same rules as every other."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from holon.clock import Clock, SystemClock
from holon.domain.events import HistoryEvent
from holon.domain.task import Outcome, task_id
from holon.ports import (
    MAX_PAGE_BYTES,
    Counts,
    Ends,
    Happened,
    JobFilter,
    JobRecord,
    Notice,
    StoreSettings,
)
from holon.randomness import times_of
from holon.storage.ends import EndsToTell, EventsToTell
from holon.storage.ledger import reads, shared
from holon.storage.ledger.calls import LedgerCalls
from holon.storage.ledger.rows import JobRow, LateRow, TaskRow
from holon.storage.ledger.tables import Tables
from holon.storage.outbox import TAKE_BYTES
from holon.storage.records import encode_history

T = TypeVar("T")

# The lines of one commit: the number of the first, the lines, and what they would take in a file.
_Told: TypeAlias = tuple[int, tuple[HistoryEvent, ...], int]


class MemoryStorage(LedgerCalls):
    """A store that lives and dies with its process.

    Arguments:
        settings: who this node is, and its durations; the node sets them when it is given a store without.
        clock: what says the time.
    """

    def __init__(self, settings: StoreSettings | None = None, clock: Clock | None = None) -> None:
        super().__init__(settings or StoreSettings(node_id="memory"), clock or SystemClock())
        self._tables = Tables(self._settings)
        self._history: dict[str, list[_Told]] = {}
        self._ends = EndsToTell()
        self._events = EventsToTell()
        # By job, what goes with it beside that.
        self._made: dict[str, list[TaskRow | LateRow]] = {}

    def __repr__(self) -> str:
        return f"MemoryStorage(jobs={len(self._tables.jobs)}, tasks={len(self._tables.tasks)})"

    async def __aenter__(self) -> Self:
        self._tables.settings = self._settings
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held that would have to be given back."""

    def hurry(self) -> None:
        """Nothing waits for it."""

    async def failure(self) -> None:
        await asyncio.Event().wait()

    async def _do(self, operation: Callable[[Tables, int], T], *, new_work: bool = False) -> T:  # noqa: ARG002
        tables = self._tables
        try:
            reply = operation(tables, self.now())
            told = [(row.id, self._told(first, events)) for row, first, events in tables.notices]
        except BaseException:
            tables.take_back()
            raise
        for job_id, lines in told:
            self._history.setdefault(job_id, []).append(lines)
            self._outbox.bytes += lines[2]
        for job in tables.ends:
            self._ends.put(job.id, self.now())
        for job, after, last in tables.happened:
            self._events.happened(job.id, after, last, self.now())
        for row, before in tables.changed.items():
            if before is None and isinstance(row, TaskRow | LateRow):
                self._made.setdefault(row.job_id, []).append(row)
        hint = tables.done()
        if hint is not None:
            self._hints.give(hint)
        return reply

    def _told(self, first: int, events: tuple[HistoryEvent, ...]) -> _Told:
        return first, events, len(encode_history(events)) if self._outbox.moving else 0

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        row = self._tables.jobs.get(job_id)
        total = row.fan.total if row and row.fan and row.fan.step == step else 0
        tasks = (self._tables.tasks.get(task_id(job_id, step, index)) for index in range(total))
        return [(task.id, task.outcome) for task in tasks if task is not None and task.outcome is not None]

    async def job(self, job_id: str) -> JobRecord | None:
        return self.at_hand(job_id)

    def at_hand(self, job_id: str) -> JobRecord | None:
        row = self._tables.jobs.get(job_id)
        return reads.job_record(self._tables, row) if row is not None else None

    def over_at_hand(self, job_id: str) -> bool | None:
        row = self._tables.jobs.get(job_id)
        return row.over if row is not None else None

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        page: list[JobRow] = []
        size = 0
        more: int | None = None
        for row in reversed(self._tables.jobs.values()):
            if (which.before is None or row.n < which.before) and reads.passes(row, which):
                size += len(row.state)
                if len(page) == limit or (page and size > MAX_PAGE_BYTES):
                    more = page[-1].n
                    break
                page.append(row)
        return [reads.job_record(self._tables, row) for row in page], more

    async def job_ids(self, owner: str, prefix: str, limit: int) -> Sequence[str]:
        first, _ = times_of(prefix.partition("-")[2])
        found: list[str] = []
        for row in reversed(self._tables.jobs.values()):
            # No job is older than its id.
            if row.created_at < first:
                break
            if row.owner == owner and row.id.startswith(prefix):
                found.append(row.id)
        return sorted(found)[:limit]

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        told = self._history.get(job_id, [])
        lines = (line for first, events, _ in told for line in enumerate(events, start=first))
        return [line for line in lines if line[0] > after][:limit]

    def history_at_hand(self, job_id: str) -> Sequence[tuple[int, HistoryEvent]] | None:
        told = self._history.get(job_id, [])
        # What was moved is not here any more.
        if not told or told[0][0] != 1:
            return None
        return [line for first, events, _ in told for line in enumerate(events, start=first)]

    async def take(self, limit: int) -> Sequence[Notice]:
        found: list[tuple[Notice, int]] = []
        if not self._outbox.moving:
            return []
        now, size = self.now(), 0
        for row, first, events, bytes_ in self._untaken(now):
            found.append(
                (Notice(_notice_id(row.id, first), reads.job_record(self._tables, row), first, events), bytes_)
            )
            size += bytes_ + len(row.state)
            if len(found) >= limit or size >= TAKE_BYTES:
                break
        return self._outbox.take(found, now)

    def _untaken(self, now: int) -> Iterator[tuple[JobRow, int, tuple[HistoryEvent, ...], int]]:
        for job_id, told in self._history.items():
            for first, events, size in told:
                if self._outbox.free(_notice_id(job_id, first), now):
                    yield self._tables.jobs[job_id], first, events, size

    async def settle(self, notices: Sequence[str]) -> None:
        sizes = self._outbox.sizes(notices)
        for job_id in {one.rpartition(":")[0] for one in sizes}:
            left = [told for told in self._history[job_id] if _notice_id(job_id, told[0]) not in sizes]
            if left:
                self._history[job_id] = left
            else:
                del self._history[job_id]
        self._outbox.bytes -= sum(sizes.values())
        self._outbox.settled(notices)

    async def take_ends(self, limit: int, hold: int) -> Ends:
        return Ends(*self._due(self._ends, limit, hold))

    async def take_events(self, limit: int, hold: int) -> Happened:
        page, next_due = self._due(self._events, limit, hold)
        return Happened(tuple((one, self._events.after(one.job.id)) for one in page), next_due)

    def _due(self, to_tell: EndsToTell, limit: int, hold: int) -> tuple[tuple[JobRecord, ...], int | None]:
        """The jobs of which something is to be told now, from here on the caller's; and when the next is due."""
        page: list[JobRecord] = []
        now, size = self.now(), 0
        for job_id in to_tell.due(now):
            row = self._tables.jobs[job_id]
            size += len(row.state)
            if len(page) == limit or (page and size > MAX_PAGE_BYTES):
                break
            page.append(reads.job_record(self._tables, row))
            to_tell.forget(job_id)
        next_due = to_tell.next_due()
        for one in page:
            to_tell.put(one.job.id, now + hold)
        return tuple(page), next_due

    async def settle_ends(self, told: Sequence[str], again: Sequence[tuple[str, int]] = ()) -> None:
        now = self.now()
        for job_id in told:
            self._ends.forget(job_id)
        for job_id, after in again:
            if job_id in self._ends:
                self._ends.put(job_id, now + after)

    async def settle_events(self, heard: Sequence[tuple[str, int, int]]) -> None:
        now = self.now()
        for job_id, through, after in heard:
            self._events.heard(job_id, through, now + after)

    async def counts(self) -> Counts:
        jobs = Counter([reads.status_seen(row) for row in self._tables.jobs.values() if not row.over])
        return Counts(jobs, *reads.task_counts(self._tables))

    async def surplus(self, keep: int) -> int | None:
        ends = sorted(
            (row.finished_at for row in self._tables.jobs.values() if row.finished_at is not None), reverse=True
        )
        return ends[keep] if len(ends) > keep else None

    async def purge(self, finished_before: int, limit: int, spared: Collection[str] = ()) -> int:
        while await self._do(shared.forget_expired):
            pass
        tables = self._tables
        unmoved = self._history if self._outbox.moving else {}
        # What has waited longest is looked at first: all of it is not gone through for a few.
        old = (
            row
            for row in tables.jobs.values()
            if row.finished_at is not None and row.finished_at < finished_before
            if row.id not in unmoved and row.id not in spared
            if row.id not in self._ends and row.id not in self._events
        )
        gone = list(islice(old, limit))
        for row in gone:
            tables.forget(row)
            self._history.pop(row.id, None)
            for other in self._made.pop(row.id, ()):
                tables.forget(other)
        return len(gone)


def _notice_id(job_id: str, first: int) -> str:
    return f"{job_id}:{first}"
