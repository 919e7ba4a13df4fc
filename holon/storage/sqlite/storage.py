"""The store in one SQLite file, as the engine sees it."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from holon.clock import Clock, SystemClock
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.matching import Need
from holon.domain.task import Outcome
from holon.errors import StoreUnavailable
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
from holon.storage.ledger import creations, jobs, leases, outcomes, rekeying, steps, timers, touches
from holon.storage.ledger.reads import task_counts
from holon.storage.ledger.tables import Tables
from holon.storage.records import encode_state, with_states, with_step_states
from holon.storage.sqlite.lane import MAX_WAITING, Lane
from holon.storage.sqlite.reading import Reader
from holon.storage.sqlite.writer import Ledger, Writer
from holon.telemetry.metrics import StoreMetrics

T = TypeVar("T")

# New jobs are refused while there is still room for results and cancels.
MAX_WAITING_TO_CREATE = MAX_WAITING // 2
PURGE_AT_A_TIME = 50
FIRST_OF_ALL = 2**63 - 1


class SqliteStorage:
    """A store in one file, for one node: durable when an operation returns, with no server.

    One thread writes; what came in while a transaction ran shares the next. Another reads what is committed. A call
    that is cancelled is executed all the same, and the cancel comes after its reply.

    Arguments:
        path: the file; it and its directory are made when there is none, for this user alone.
        settings: who this node is, and its durations; the node sets them when it is given a store without.
        clock: what says the time.
        synchronous: "FULL" (a commit survives a power cut) or "NORMAL" (it survives a crash of the process).
    """

    connection_class: ClassVar[type[sqlite3.Connection]] = sqlite3.Connection

    def __init__(
        self,
        path: Path | str,
        settings: StoreSettings | None = None,
        clock: Clock | None = None,
        *,
        synchronous: str = "FULL",
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
        self._path = Path(path)
        self._settings = settings or StoreSettings(node_id="sqlite")
        self._clock = clock or SystemClock()
        self._synchronous = synchronous
        self._hints = Hints()
        self.metrics = StoreMetrics()
        self._writer: Lane[Ledger] | None = None
        self._reader = Reader(self._path, self.metrics)

    def __repr__(self) -> str:
        return f"SqliteStorage({self._path}, {self._writer})"

    async def __aenter__(self) -> Self:
        """Open the file.

        Raises:
            ConfigError: it cannot be opened, is not ours or of a later release, or belongs to another node.
        """
        writer = Writer(
            self._path, self._settings, self._clock, self._synchronous, self.connection_class, self._hints, self.metrics
        )
        lane: Lane[Ledger] = Lane("holon-sqlite-writer", writer.run, self.metrics)
        await lane.start()
        self._writer = lane
        try:
            await self._reader.__aenter__()
        except BaseException:
            lane.finish()
            await lane.ended()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for, close the file, and let another node have it. A cancel ends only the waiting."""
        try:
            await self._reader.__aexit__(kind, error, trace)
        finally:
            if self._writer is not None:
                self._writer.finish()
                await self._writer.ended()

    @property
    def waiting(self) -> int:
        """How many calls wait for the writer."""
        return self._writer.waiting if self._writer is not None else 0

    async def failure(self) -> None:
        """Wait until the store is closed, or broken for good.

        Raises:
            StoreUnavailable: it is broken: the disk failed, and only a restart tells what is really in the file. Every
                operation is refused from then on, so the node is to end.
        """
        if self._writer is not None:
            await self._writer.failure()

    def configure(self, settings: StoreSettings) -> None:
        """Take the node's settings; before the store is opened."""
        self._settings = settings

    def now(self) -> int:
        return self._clock.now_ms()

    def hints(self) -> AsyncIterator[Hint]:
        return self._hints.listen()

    async def watch(self, job_id: str) -> None:
        # The writer looks after its commit: what it finished before this is committed, and a read shows it.
        self._hints.watched.add(job_id)

    def unwatch(self, job_id: str) -> None:
        self._hints.watched.discard(job_id)

    async def _do(self, operation: Callable[[Tables, int], T], *, room: int = MAX_WAITING) -> T:
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        clock = self._clock
        return await self._writer.submit(lambda ledger: operation(ledger.tables, clock.now_ms()), room=room)

    # Steps -----------------------------------------------------------------------------------------------------

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        encoded = with_states(items, self._settings.max_state_bytes)
        return await self._do(
            lambda tables, now: creations.create_jobs(tables, encoded, want, seats, now), room=MAX_WAITING_TO_CREATE
        )

    async def append(
        self, job_id: str, event: InboxEvent, dedup_key: str, want: int
    ) -> tuple[Appended, Sequence[Claim]]:
        return await self._do(lambda tables, now: jobs.append(tables, job_id, event, dedup_key, want, now))

    async def claim(self, want: int) -> Sequence[Claim]:
        return await self._do(lambda tables, now: jobs.claim(tables, want, now))

    async def keep(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._do(lambda tables, now: jobs.keep(tables, claims, now))

    async def release(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._do(lambda tables, _: jobs.release(tables, claims))

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        state = encode_state(step.job, self._settings.max_state_bytes)
        return await self._do(lambda tables, now: steps.commit(tables, step, state, want, seats, now))

    async def spawn(self, job_id: str, step: int, seats: Sequence[Seat]) -> Leased:
        return await self._do(lambda tables, now: steps.spawn(tables, job_id, step, seats, now))

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        return await self._reader.branches(job_id, step)

    # Leases ----------------------------------------------------------------------------------------------------

    async def open_session(self, opening: Opening) -> Opened:
        return await self._do(lambda tables, now: leases.open_session(tables, opening, now))

    async def close_session(self, worker_id: str, session_id: str) -> None:
        await self._do(lambda tables, _: leases.close_session(tables, worker_id, session_id))

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        return await self._do(lambda tables, now: leases.lease(tables, seats, now))

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        return await self._do(lambda tables, now: touches.touch(tables, touch, seats, now))

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        encoded = with_step_states(results, self._settings.max_state_bytes)
        return await self._do(lambda tables, now: outcomes.complete(tables, encoded, worker_id, want, seats, now))

    async def fire(self, limit: int, want: int, seats: Sequence[Seat]) -> Fired:
        return await self._do(lambda tables, now: timers.fire(tables, limit, want, seats, random.random, now))

    async def task(self, task_id: str) -> TaskRecord | None:
        return await self._reader.task(task_id)

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        return await self._do(lambda tables, _: rekeying.queued(tables, skill))

    async def needs(self) -> Mapping[str, Need]:
        return await self._do(lambda tables, _: rekeying.needs(tables))

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        return await self._reader.queued_tasks(key, after, limit)

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        await self._do(lambda tables, _: rekeying.rekey(tables, moves))

    # Reads -----------------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> JobRecord | None:
        return await self._reader.job(job_id)

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        found: list[int] = []
        before: int | None = which.before if which.before is not None else FIRST_OF_ALL
        # One more than asked for says whether there is another page.
        while before is not None and len(found) <= limit:
            page, before = await self._reader.numbers(which, before, limit + 1 - len(found))
            found += page
        more = found[limit - 1] if len(found) > limit else None
        return await self._reader.job_records(found[:limit]), more

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        return await self._reader.history(job_id, after, limit)

    async def counts(self) -> Counts:
        tasks = await self._do(lambda tables, _: task_counts(tables))
        return Counts(await self._reader.live_jobs(), *tasks)

    async def purge(self, finished_before: int, limit: int) -> int:
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        purged = 0
        while purged < limit:
            at_once = min(PURGE_AT_A_TIME, limit - purged)
            done = await self._writer.submit(lambda ledger, n=at_once: ledger.purge(finished_before, n))  # type: ignore[misc]
            purged += done
            if done < at_once:
                break
        return purged
