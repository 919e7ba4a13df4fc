"""The store in one SQLite file, as the engine sees it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from holon.clock import Clock, SystemClock
from holon.domain.events import HistoryEvent
from holon.domain.job import TERMINAL, Status
from holon.domain.task import Outcome
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import (
    Counts,
    Ends,
    Happened,
    JobFilter,
    JobRecord,
    Notice,
    StoreSettings,
)
from holon.storage.ledger.calls import LedgerCalls
from holon.storage.ledger.reads import copied, task_counts
from holon.storage.ledger.shared import forget_expired
from holon.storage.ledger.tables import Tables
from holon.storage.outbox import TAKE_BYTES
from holon.storage.sealing import Seal
from holon.storage.sqlite.known import Known, Reading
from holon.storage.sqlite.lane import Lane
from holon.storage.sqlite.reading import Reader, notice_key
from holon.storage.sqlite.work import Ledger
from holon.storage.sqlite.writer import Writer
from holon.storage.waiting import MAX_WAITING, MAX_WAITING_TO_CREATE
from holon.telemetry.metrics import StoreMetrics

T = TypeVar("T")

PURGE_AT_A_TIME = 50
FIRST_OF_ALL = 2**63 - 1


class SqliteStorage(LedgerCalls):
    """A store in one file, for one node: durable when an operation returns, with no server.

    One thread writes; what came in while a transaction ran shares the next. Another reads what is committed. A call
    that is cancelled is executed all the same, and the cancel comes after its reply.

    Arguments:
        path: the file; it and its directory are made when there is none, for this user alone.
        settings: who this node is, and its durations; the node sets them when it is given a store without.
        clock: what says the time.
        synchronous: "FULL" (a commit survives a power cut) or "NORMAL" (it survives a crash of the process).
        seal: what is secret of the rows is sealed with it; the node sets it when it is given a store without.
    """

    connection_class: ClassVar[type[sqlite3.Connection]] = sqlite3.Connection

    def __init__(
        self,
        path: Path | str,
        settings: StoreSettings | None = None,
        clock: Clock | None = None,
        *,
        synchronous: str = "FULL",
        seal: Seal | None = None,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
        super().__init__(settings or StoreSettings(node_id="sqlite"), clock or SystemClock(), seal)
        self._path = Path(path)
        self._synchronous = synchronous
        self.metrics = StoreMetrics()
        self._writer: Lane[Ledger] | None = None
        self._reader = Reader(self._path, self._seal, self.metrics)
        self._known = Known()
        # Jobs of which something could not be opened, by their numbers, and until when their history is left alone.
        self._broken: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"SqliteStorage({self._path}, {self._writer})"

    def configure(self, settings: StoreSettings, seal: Seal | None = None) -> None:
        super().configure(settings, seal)
        self._reader = Reader(self._path, self._seal, self.metrics)

    async def __aenter__(self) -> Self:
        """Open the file.

        Raises:
            ConfigError: it cannot be opened, is not ours or of a later release, belongs to another node, or was sealed
                with a key that is not here.
        """
        writer = Writer(
            self._path,
            self._settings,
            self._clock,
            self._synchronous,
            self.connection_class,
            self._hints,
            self._outbox,
            self._known,
            self._seal,
            self.metrics,
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

    def hurry(self) -> None:
        """A file is never away, so nothing waits for its return."""

    async def failure(self) -> None:
        """Wait until the store is closed, or broken for good.

        Raises:
            StoreUnavailable: it is broken: the disk failed, and only a restart tells what is really in the file. Every
                operation is refused from then on, so the node is to end.
        """
        if self._writer is not None:
            await self._writer.failure()

    def _do(self, operation: Callable[[Tables, int], T], *, new_work: bool = False) -> Coroutine[Any, Any, T]:
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        clock, room = self._clock, MAX_WAITING_TO_CREATE if new_work else MAX_WAITING
        return self._writer.submit(lambda ledger: operation(ledger.tables, ledger.at(clock.now_ms())), room=room)

    # Steps -----------------------------------------------------------------------------------------------------

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        return await self._reader.branches(job_id, step)

    # The outbox ------------------------------------------------------------------------------------------------

    async def take(self, limit: int) -> Sequence[Notice]:
        if not self._outbox.moving:
            return []
        now = self.now()
        while True:
            self._broken = {job: until for job, until in self._broken.items() if until > now}
            # Those that somebody has are found as well.
            found, broken = await self._reader.notices(
                limit + self._outbox.taken, TAKE_BYTES, lambda one: self._outbox.free(one, now), self._broken
            )
            # Left out for as long as what is taken, or they would be the first, and all that is looked at, each time.
            self._broken.update(dict.fromkeys(broken, now + self._settings.claim))
            if found or not broken:
                return self._outbox.take(found[:limit], now)

    async def settle(self, notices: Sequence[str]) -> None:
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        sizes = {notice_key(one): size for one, size in self._outbox.sizes(notices).items()}
        await self._writer.submit(lambda ledger: ledger.settled.update(sizes))
        self._outbox.settled(notices)

    async def take_ends(self, limit: int, hold: int) -> Ends:
        taken, next_due = await self._take_untold(lambda ledger, now: ledger.ends.take(limit, hold, now))
        return Ends(tuple(record for record, _ in taken), next_due)

    async def take_events(self, limit: int, hold: int) -> Happened:
        taken, next_due = await self._take_untold(lambda ledger, now: ledger.events.take(limit, hold, now))
        return Happened(tuple(taken), next_due)

    async def _take_untold(
        self, take: Callable[[Ledger, int], tuple[list[tuple[int, int]], int | None]]
    ) -> tuple[list[tuple[JobRecord, int]], int | None]:
        """The jobs of which something was taken, each with the number of a line, and when the next is due."""
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        while True:
            now = self.now()
            taken, next_due = await self._writer.submit(lambda ledger, now=now: take(ledger, now))  # type: ignore[misc]
            found, _ = await self._reader.job_records([n for n, _ in taken])
            # One that cannot be opened is left out for as long as what is taken, and keeps no other back.
            if found or not taken:
                records = {record.number: record for record in found}
                return [(records[n], after) for n, after in taken if n in records], next_due

    async def settle_ends(self, told: Sequence[str], again: Sequence[tuple[str, int]] = ()) -> None:
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        now = self.now()
        await self._writer.submit(lambda ledger: ledger.ends.settle(told, again, now))

    async def settle_events(self, heard: Sequence[tuple[str, int, int]]) -> None:
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        now = self.now()
        await self._writer.submit(lambda ledger: ledger.events.settle(heard, now))

    # Reads -----------------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> JobRecord | None:
        known = self._known.job(job_id)
        if not isinstance(known, Reading):
            return known
        record, size = await self._reader.job(job_id)
        if record is not None:
            try:
                [record] = await self._with_branches([record])
            except StoreUnavailable:
                # It can be read while nothing can be written; why it waits is not known then, and it is not kept so.
                self._known.read(job_id, known, None, 0)
                return record
        self._known.read(job_id, known, record, size)
        return record

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        found: list[int] = []
        before: int | None = which.before if which.before is not None else FIRST_OF_ALL
        # Who has many jobs that are over has their file gone through no further for those that are not.
        live, of_live = bool(which.statuses) and TERMINAL.isdisjoint(which.statuses), False
        # One more than asked for says whether there is another page.
        while before is not None and len(found) <= limit:
            page, before = await self._reader.numbers(which, before, limit + 1 - len(found), of_live=of_live)
            found += page
            of_live = live
        more = found[limit - 1] if len(found) > limit else None
        records, last = await self._reader.job_records(found[:limit])
        # They can be read while nothing can be written.
        with suppress(StoreUnavailable):
            records = await self._with_branches(records)
        return records, more if last is None else last

    async def job_ids(self, owner: str, prefix: str, limit: int) -> Sequence[str]:
        return await self._reader.job_ids(owner, prefix, limit)

    async def _with_branches(self, records: Sequence[JobRecord]) -> list[JobRecord]:
        """Jobs as they were read, with why they wait for fan-outs, from memory: a read does not see branches.

        Raises:
            StoreUnavailable: the writer does not answer.
        """
        fans = [record.job.id for record in records if record.job.status is Status.WAITING_FOR_PARALLEL]
        if not fans:
            return [*records]
        live = await self._do(
            lambda tables, _: [copied(tables, tables.jobs[one]) for one in fans if one in tables.jobs]
        )
        told = {(record.job.id, record.sequence): record for record in (copy() for copy in live)}
        # Of one that has gone on since it was read nothing is taken: it may be none that was asked for any more.
        return [
            replace(one, queued_need=now.queued_need, branch_need=now.branch_need)
            if (now := told.get((one.job.id, one.sequence))) is not None
            else one
            for one in records
        ]

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        known = self._known.history(job_id, after, limit)
        return await self._reader.history(job_id, after, limit) if known is None else known

    def expect(self, job_id: str, *, history: bool) -> bool:
        self._known.expect(job_id, history=history)
        return super().expect(job_id, history=history)

    def at_hand(self, job_id: str) -> JobRecord | None:
        return self._known.at_hand(job_id)

    def over_at_hand(self, job_id: str) -> bool | None:
        return self._known.over(job_id)

    def is_as_created(self, job_id: str) -> bool:
        return self._known.is_as_created(job_id)

    def history_at_hand(self, job_id: str) -> Sequence[tuple[int, HistoryEvent]] | None:
        return self._known.whole_history(job_id)

    def unwatch(self, job_id: str) -> None:
        self._known.leave(job_id)
        super().unwatch(job_id)

    async def counts(self) -> Counts:
        tasks = await self._do(lambda tables, _: task_counts(tables))
        return Counts(await self._reader.live_jobs(), *tasks)

    async def surplus(self, keep: int) -> int | None:
        return await self._reader.surplus(keep)

    async def purge(self, finished_before: int, limit: int, spared: Collection[str] = ()) -> int:
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        while await self._do(forget_expired):
            pass
        purged = 0
        while purged < limit:
            at_once = min(PURGE_AT_A_TIME, limit - purged)
            done, more = await self._writer.submit(
                lambda ledger, n=at_once: ledger.purging.purge(finished_before, n, spared)  # type: ignore[misc]
            )
            purged += done
            if not more:
                break
        return purged
