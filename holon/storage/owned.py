"""A store whose only shard this process owns: today's calls of a store, over the core and a row store."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeVar

from holon.clock import Clock
from holon.core import codec as names
from holon.core import shard as shards
from holon.core.owner import TAKE_OVER_S, Owner
from holon.core.reads import copied, job_record, passes, status_seen, task_counts
from holon.core.rows import LEASED, JobRow
from holon.core.shard import ENDED, EVENTS, HISTORY, Shard, all_of, entries_of, live_of, over_of
from holon.core.tables import Tables
from holon.core.writer import Gate, Rows, Writer
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.task import Outcome
from holon.domain.value import replace
from holon.errors import ConfigError, StoreBroken, StoreUnavailable
from holon.ports import (
    MAX_PAGE_BYTES,
    Appended,
    Claim,
    Committed,
    Completed,
    Counts,
    Ends,
    Happened,
    Hint,
    JobFilter,
    JobRecord,
    NewJob,
    Notice,
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
from holon.randomness import times_of
from holon.storage.calls import CoreCalls
from holon.storage.ends import EndsToTell, EventsToTell
from holon.storage.outbox import TAKE_BYTES
from holon.storage.promises import Promise, Promises
from holon.storage.waiting import MAX_WAITING, MAX_WAITING_TO_CREATE, RETRY_AFTER_S, too_many_wait
from holon.stores.port import MAX_SCORE, Head, RowStore
from holon.stores.records import decode_history, encode_history
from holon.stores.sealing import Seal, SealBroken, marks
from holon.telemetry.metrics import StoreMetrics
from holon.turns import one_by_one

log = logging.getLogger(__name__)

T = TypeVar("T")

# Lists look at so many jobs at a time for those that they show.
LOOK_AT = 1_000
# Their rows are read so many at a time; states may be large.
FETCH_JOBS = 50
# Jobs are deleted together that have so many rows, about: beside its lines each has a few.
PURGE_AT_A_TIME = 2_000
PURGED_ROWS = 10
# A clock that is further behind the last write than this many seconds is told of.
AHEAD_S = 60.0
# A call that concerns no shard is answered in this time (seconds); else nothing is known of it.
PATIENCE_S = 5.0
# So many expected jobs have their history at hand.
MOST_EXPECTED = 1_000
# Ids of jobs are looked through so many at a time. A job is created at most so long after the time in its id
# (milliseconds).
IDS_AT_A_TIME = 1_000
CREATED_WITHIN = 60_000


class OwnedStorage(CoreCalls):
    """The calls of a store, as operations of the core's rules: each is durable before it is answered.

    Everything that changes runs on the event loop, in the order of the calls. What changed while a batch was written
    forms the next one.

    Attributes:
        exclusive: whether no other process can take the store while this one has it.
    """

    exclusive = True

    def __init__(self, settings: StoreSettings, clock: Clock, seal: Seal | None = None) -> None:
        super().__init__(settings, clock, seal)
        self._gate: Gate | None = None
        self._shard: Shard | None = None
        self._counted = StoreMetrics()
        self._open = False
        # Calls that wait for their batch.
        self.waiting = 0

    @abstractmethod
    def _open_rows(self) -> RowStore:
        """The row store, which is not entered yet."""

    async def __aenter__(self) -> Self:
        """Open the row store, and read what lives. While another node has the store, this waits.

        Raises:
            ConfigError: it cannot be opened, belongs to another process, or is sealed with a key that is not here.
        """
        self._rows = self._open_rows()
        self._promises = Promises()
        # The history of jobs that are watched from their creation on, by id.
        self._lines: dict[str, list[HistoryEvent]] = {}
        self._broken: asyncio.Future[StoreBroken] = asyncio.get_running_loop().create_future()
        self._owned = asyncio.Event()
        await self._rows.__aenter__()
        self._open = True
        try:
            self._writer = Writer(self._rows, keeps=not self.exclusive, flown=self._flown)
            self._owner = Owner(self._rows, self._settings.node_id, self._writer, self._load, self._begin, self._taken)
            await self._owner.start()
        except StoreUnavailable as error:
            await self._rows.__aexit__()
            raise ConfigError(error.message) from error
        except BaseException:
            await self._rows.__aexit__()
            raise
        self._loops = [
            asyncio.create_task(self._keep(self._writer.run), name="store-writer"),
            asyncio.create_task(self._keep(self._owner.run), name="store-owner"),
        ]
        try:
            if self._shard is None:
                log.warning(
                    "another node has the store: this one waits until that one ends, or is silent for %.0f s",
                    TAKE_OVER_S,
                )
                await self._owned.wait()
                if self._broken.done():
                    raise self._broken.result()
            await self._index_history()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _index_history(self) -> None:
        """Have history moved that was written while it was not, and note whether it is."""
        shard, gate = self._owned_shard()
        [moved] = await self._rows.read(0, [("", names.MOVED)])
        if self._outbox.moving and moved is None:
            for index in (shards.LIVE, ENDED):
                async for page in entries_of(self._rows, index):
                    for one in page:
                        await shard.index_history(self._rows, one.member)
                    gate.changed()
                    await gate.passed()
        if self._outbox.moving is (moved is None):
            shard.note_moved(moved=self._outbox.moving)
            gate.changed()
            await gate.passed()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what was asked for, and close the row store. A cancel ends only the waiting."""
        try:
            # Without its loops nothing is written any more.
            if self._gate is not None and not any(loop.done() for loop in self._loops):
                await self._owner.drain()
        finally:
            for loop in self._loops:
                loop.cancel()
            await asyncio.gather(*self._loops, return_exceptions=True)
            if self._gate is not None:
                self._gate.drop("the store is closed")
            self._gate = self._shard = None
            self._open = False
            await self._rows.__aexit__()

    async def _keep(self, run: Callable[[], Any]) -> None:
        """Run a loop of the store; its end by an error is that of the store."""
        try:
            await run()
        except StoreBroken as error:
            self._break(error)
        except Exception as error:
            log.exception("a loop of the store failed")
            self._break(StoreBroken(f"a loop of the store failed: {error!r}; restart the node"))

    def _break(self, error: StoreBroken) -> None:
        if not self._broken.done():
            self._broken.set_result(error)
        self._owner.resign()
        if self._gate is not None:
            self._gate.drop(error.message)
        self._owned.set()

    def _taken(self, node: str) -> None:
        """Another node has the store. Workers and clients are to go there, so this one ends."""
        same = "; give every node a name of its own in INSTANCE_ID" if node == self._settings.node_id else ""
        self._break(
            StoreBroken(
                f"node {node!r} has taken the store: this one was silent for too long, or was started twice{same}. "
                "Start this node again; it then waits until that one ends"
            )
        )

    async def _load(self, head: Head, again: bool) -> Rows:
        shard = Shard(self._settings, self._seal)
        self._go_on_from(head.time)
        await shards.load(self._rows, shard, self.now())
        if again and self._shard is not None:
            shard.tables.keep_sessions(self._shard.tables)
        marks.check(await self.documents(marks.KIND), self._seal)
        self._ends, self._events = EndsToTell(), EventsToTell()
        async for page in entries_of(self._rows, shards.ENDS):
            for one in page:
                self._ends.put(one.member, one.score)
        async for page in entries_of(self._rows, EVENTS):
            await shard.fetch(self._rows, [one.member for one in page])
            for one in page:
                row = shard.tables.job(one.member)
                if row is not None:
                    self._events.happened(row.id, row.events_after, row.events_last, one.score)
        if self._outbox.moving:
            async for page in entries_of(self._rows, HISTORY):
                for one in page:
                    shard.count_entry(one.member)
        return shard

    def _go_on_from(self, written: int) -> None:
        """Have the clock begin no earlier than the last write, and say where it was set back by more than it drifts."""
        ahead_s = (written - self._clock.now_ms()) / 1000
        self._clock.not_before(written)
        if ahead_s > AHEAD_S:
            log.warning(
                "%s was last written at %s, %.0f s ahead of this machine's clock: time goes on from there, and "
                "certificates are judged by it; set the clock right, or put back an older copy",
                self,
                datetime.fromtimestamp(written / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
                ahead_s,
            )

    def _begin(self, rows: Rows, gate: Gate) -> None:
        assert isinstance(rows, Shard)  # noqa: S101  as `_load` made it
        self._shard, self._gate = rows, gate
        self._outbox.count = lambda: rows.unmoved
        self._owned.set()

    def hurry(self) -> None:
        """Nothing is to be done: who waits for a store that is away is refused after a second in any case."""

    async def failure(self) -> None:
        raise await asyncio.shield(self._broken)

    # Operations ------------------------------------------------------------------------------------------------

    def _owned_shard(self) -> tuple[Shard, Gate]:
        shard, gate = self._shard, self._gate
        if shard is None or gate is None:
            raise StoreUnavailable("the store is not open")
        if self._broken.done():
            raise self._broken.result()
        if gate.lost:
            why = f"the store cannot be used at the moment: {shard.lost_because}; try again"
            raise StoreUnavailable(why, retry_after=RETRY_AFTER_S)
        return shard, gate

    def _tables(self, *, new_work: bool = False) -> Tables:
        shard, _ = self._owned_shard()
        self._refuse_one_too_many(new_work=new_work)
        self._writer.check()
        return shard.tables

    def _refuse_one_too_many(self, *, new_work: bool) -> None:
        if self.waiting >= (MAX_WAITING_TO_CREATE if new_work else MAX_WAITING):
            self._counted.failures.add()
            raise too_many_wait(self.waiting)

    async def _ask(self, call: Callable[[RowStore], Awaitable[T]], /) -> T:
        if not self._open:
            raise StoreUnavailable("the store is not open")
        if self._broken.done():
            raise self._broken.result()
        self._writer.check()
        began = perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await call(self._rows)
        except TimeoutError:
            self._counted.failures.add()
            raise StoreUnavailable(
                "the store does not answer: this one may yet be carried out; repeat it", retry_after=RETRY_AFTER_S
            ) from None
        except StoreUnavailable as error:
            self._counted.failures.add()
            if isinstance(error, StoreBroken):
                self._break(error)
            raise
        finally:
            self._counted.calls.observe(perf_counter() - began)

    def _changed(self, kinds: frozenset[str]) -> None:
        self._give_soon(Hint(documents=kinds))

    async def _do(self, operation: Callable[[Tables, int], T], *, new_work: bool = False) -> T:
        self._owned_shard()
        if self._promises.cancelled:
            await self._promises.cancel_first()
        shard, gate = self._owned_shard()
        if self.waiting >= MAX_WAITING_TO_CREATE:
            self._refuse_one_too_many(new_work=new_work)
        self._writer.check()
        now, tables = self.now(), shard.tables
        try:
            reply = operation(tables, now)
        except BaseException as error:
            if tables.touched:
                log.exception("an operation of the store failed half-way; its rows are read again")
                self._drop(f"an operation failed: {error}")
            else:
                tables.done()
            raise
        changed = self._collect(shard, gate, now)
        hint = tables.done()
        if not (changed or gate.dirty or gate.in_flight):
            if hint is not None:
                self._give_soon(hint)
            if gate.answering:
                # Callers get their answers in the order of their calls: a stop never before the offer that it stops.
                soon: Promise[T] = Promise()
                asyncio.get_running_loop().call_soon(soon.set_result, reply)
                return await self._promises.kept(soon)
            return reply
        if hint is not None:
            if hint.jobs:
                # Those who wait for a job hear of it before the caller, all others after.
                gate.then(self._hints.give, Hint(jobs=hint.jobs))
            gate.then(self._give_soon, replace(hint, jobs=frozenset()))
        promise: Promise[T] = Promise()
        self.waiting += 1
        gate.answer(promise, reply)
        began = perf_counter()
        try:
            return await self._promises.kept(promise)
        except StoreUnavailable:
            self._counted.failures.add()
            raise
        finally:
            self.waiting -= 1
            self._counted.calls.observe(perf_counter() - began)

    def _collect(self, shard: Shard, gate: Gate, now: int) -> bool:
        """Have what an operation changed written."""
        tables = shard.tables
        changed = tables.touched
        if changed:
            gate.changed()
        for job in tables.ends:
            gate.then(lambda job_id: self._ends.put(job_id, now), job.id)
        for job, after, last in tables.happened:
            gate.then(lambda told: self._events.happened(*told, now), (job.id, after, last))
        for job, first, lines in tables.notices:
            self._counted.history.add(by=len(lines))
            if (known := self._lines.get(job.id)) is not None and first == len(known) + 1:
                # As they are stored, whatever they were made of.
                gate.then(known.extend, decode_history(encode_history(lines)))
        shard.collect(now)
        return changed

    def _flown(self, waited: int, seconds: float) -> None:
        self._counted.groups.observe(waited)
        self._counted.writes.observe(seconds)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Count a read of what clients ask for."""
        began = perf_counter()
        try:
            yield
        finally:
            self._counted.reads.observe(perf_counter() - began)

    def _give_soon(self, hint: Hint) -> None:
        asyncio.get_running_loop().call_soon(self._hints.give, hint)

    def _drop(self, why: str) -> None:
        """Throw the rows in memory away, and read them again."""
        gate = self._gate
        if gate is not None:
            self._owner.drop(gate.head.shard, why)

    async def _fetch(self, jobs: Iterable[str] = (), tasks: Iterable[str] = ()) -> None:
        """Have rows at hand that may be over; those that cannot be opened are not."""
        shard, _ = self._owned_shard()
        await shard.fetch(self._rows, jobs, tasks)

    async def _fetch_job(self, job_id: str) -> None:
        """Have a job at hand that may be over. Raises SealBroken if it cannot be opened."""
        shard, _ = self._owned_shard()
        for error in (await shard.fetch(self._rows, [job_id])).values():
            raise error

    async def _fetch_requests(self, items: Sequence[NewJob]) -> None:
        shard, _ = self._owned_shard()
        requests = [(one.job.owner, one.request_id) for one in items if one.request_id is not None]
        if requests:
            await shard.fetch_requests(self._rows, requests)

    async def made(self, owner: str, request_id: str) -> tuple[str, bytes] | None:
        shard, _ = self._owned_shard()
        await shard.fetch_requests(self._rows, [(owner, request_id)])
        return await super().made(owner, request_id)

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        await self._fetch_job(step.job.id)
        return await super().commit(step, want, seats)

    async def append(
        self,
        job_id: str,
        event: InboxEvent,
        dedup_key: str,
        want: int,
        request_key: str = "",
        most: int | None = None,
    ) -> tuple[Appended, Sequence[Claim]]:
        await self._fetch_job(job_id)
        return await super().append(job_id, event, dedup_key, want, request_key, most)

    async def unread(self, job_id: str) -> Sequence[InboxEvent]:
        await self._fetch_job(job_id)
        return await super().unread(job_id)

    async def open_session(self, opening: Opening) -> Opened:
        await self._fetch(tasks=[task for task, _ in opening.resumed])
        return await super().open_session(opening)

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        if touch.handbacks:
            await self._fetch(tasks=[one.lease.task_id for one in touch.handbacks])
        return await super().touch(touch, seats)

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        shard, _ = self._owned_shard()
        tables = shard.tables
        late = [
            one
            for one in results
            if (task := tables.tasks.get(one.task_id)) is None
            or task.state is not LEASED
            or task.lease_id != one.lease_id
        ]
        if late:
            await shard.fetch(self._rows, tasks=[one.task_id for one in late])
            known = [task for one in late if (task := tables.task(one.task_id)) is not None]
            await shard.fetch_lates(self._rows, [(task.job_id, task.n, worker_id) for task in known])
        return await super().complete(results, worker_id, want, seats)

    async def task(self, task_id: str) -> TaskRecord | None:
        await self._fetch(tasks=[task_id])
        return await super().task(task_id)

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        if after:
            await self._fetch(tasks=[after])
        return await super().queued_tasks(key, after, limit)

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        shard, gate = self._owned_shard()
        await gate.confirmed(exclusive=self.exclusive)
        row = shard.tables.jobs.get(job_id)
        if row is None:
            return []
        return await shards.branches(self._rows, shard, row, step)

    # The outbox ------------------------------------------------------------------------------------------------

    async def take(self, limit: int) -> Sequence[Notice]:
        if not self._outbox.moving:
            return []
        shard, _ = self._owned_shard()
        found: list[tuple[Notice, int]] = []
        now, size = self.now(), 0
        async for page in entries_of(self._rows, HISTORY):
            free = [one for one in page if self._outbox.free(f"{one.score}:{one.member}", now)]
            await shard.fetch(self._rows, [shards.page_of(one.member)[0] for one in free])
            for one in free:
                job_id, first, bytes_ = shards.page_of(one.member)
                row = shard.tables.job(job_id)
                [stored] = await self._rows.read(0, [(job_id, names.page_name(first))])
                if row is None or stored is None:
                    continue
                try:
                    lines = tuple(shard.codec.opened_lines(job_id, first, stored))
                except SealBroken:
                    continue
                record = job_record(shard.tables, row)
                found.append((Notice(f"{one.score}:{one.member}", record, first, lines), bytes_))
                size += bytes_ + len(row.state)
                if len(found) >= limit or size >= TAKE_BYTES:
                    return self._outbox.take(found, now)
        return self._outbox.take(found, now)

    async def settle(self, notices: Sequence[str]) -> None:
        sizes = self._outbox.sizes(notices)
        shard, gate = self._owned_shard()
        for notice in sizes:
            score, _, member = notice.partition(":")
            shard.moved(*shards.page_of(member), int(score))
        gate.changed()
        await gate.passed()
        self._outbox.settled(notices)

    async def take_ends(self, limit: int, hold: int) -> Ends:
        return Ends(*await self._due(self._ends, limit, hold))

    async def take_events(self, limit: int, hold: int) -> Happened:
        page, next_due = await self._due(self._events, limit, hold)
        return Happened(tuple((one, self._events.after(one.job.id)) for one in page), next_due)

    async def _due(self, to_tell: EndsToTell, limit: int, hold: int) -> tuple[tuple[JobRecord, ...], int | None]:
        """The jobs of which something is to be told now, the caller's from here on; and when the next is due."""
        now, size = self.now(), 0
        page: list[JobRecord] = []
        mine: list[str] = []
        try:
            while len(page) < limit and (due := to_tell.take(now, limit - len(page))):
                mine += due
                for job_id in due:
                    try:
                        record, bytes_ = await self._record(job_id)
                    except SealBroken:
                        continue
                    size += bytes_
                    if record is not None and page and size > MAX_PAGE_BYTES:
                        behind = due[due.index(job_id) :]
                        mine = mine[: -len(behind)]
                        for one in behind:
                            to_tell.put(one, now)
                        return tuple(page), now
                    if record is not None:
                        page.append(record)
            return tuple(page), to_tell.next_due()
        finally:
            # Those that cannot be read now are looked at again then, too.
            for job_id in mine:
                to_tell.put(job_id, now + hold)

    async def settle_ends(self, told: Sequence[str], again: Sequence[tuple[str, int]] = ()) -> None:
        await self._fetch([*told, *(job_id for job_id, _ in again)])

        def settle(tables: Tables, now: int) -> None:
            for job_id, due in (*((one, None) for one in told), *((one, now + after) for one, after in again)):
                row = tables.job(job_id)
                if row is not None and row.end_due is not None:
                    tables.edit(row).end_due = due
                    self._ends.forget(job_id)
                    if due is not None:
                        self._ends.put(job_id, due)

        await self._do(settle)

    async def settle_events(self, heard: Sequence[tuple[str, int, int]]) -> None:
        await self._fetch([job_id for job_id, _, _ in heard])

        def settle(tables: Tables, now: int) -> None:
            for job_id, through, after in heard:
                row = tables.job(job_id)
                if row is None or row.events_due is None:
                    continue
                tables.edit(row).events_after = max(row.events_after, through)
                row.events_due = None if row.events_last <= through else now + after
                self._events.heard(job_id, through, now + after)

        await self._do(settle)

    # Reads -----------------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> JobRecord | None:
        with self._reading():
            return (await self._record(job_id))[0]

    async def _record(self, job_id: str) -> tuple[JobRecord | None, int]:
        """A job as it is durable, and how many bytes its state has."""
        shard, gate = self._owned_shard()
        row = shard.tables.jobs.get(job_id)
        if row is not None:
            copy, size = copied(shard.tables, row), len(row.state)
            await gate.confirmed(exclusive=self.exclusive)
            return copy(), size
        await self._fetch_job(job_id)
        row = shard.tables.job(job_id)
        return (None, 0) if row is None else (job_record(shard.tables, row), len(row.state))

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        with self._reading():
            shard, gate = self._owned_shard()
            await gate.confirmed(exclusive=self.exclusive)
            found: list[tuple[int, Callable[[], JobRecord]]] = []
            more = await self._look(shard, which, limit, found)
            # What was read while others went on is durable by then.
            await gate.confirmed(exclusive=self.exclusive)
            records = await one_by_one(lambda one: one[1](), found)
            return records, found[-1][0] if more else None

    async def _look(
        self, shard: Shard, which: JobFilter, limit: int, found: list[tuple[int, Callable[[], JobRecord]]]
    ) -> bool:
        """Copy the jobs of a page of a list; answers whether there are more behind it."""
        size, before = 0, MAX_SCORE if which.before is None else which.before - 1
        indexes = _indexes_of(which)
        while True:
            pages = [await self._rows.range(index, [0], 0, before, LOOK_AT, newest_first=True) for index in indexes]
            full = [page[-1].score for page in pages if len(page) == LOOK_AT]
            # Below this some of the indexes may have more.
            last = max(full, default=0)
            some = sorted(
                {one.score: one.member for page in pages for one in page if one.score >= last}.items(), reverse=True
            )
            for at in range(0, len(some), FETCH_JOBS):
                jobs = [job_id for _, job_id in some[at : at + FETCH_JOBS]]
                await shard.fetch(self._rows, jobs)
                for job_id in jobs:
                    row = shard.tables.job(job_id)
                    if row is None or not passes(row, which):
                        continue
                    if which.created_after is not None and row.created_at < which.created_after:
                        return False
                    size += len(row.state)
                    if len(found) == limit or (found and size > MAX_PAGE_BYTES):
                        return True
                    found.append((row.n, copied(shard.tables, row)))
            if not full:
                return False
            before = last - 1

    async def job_ids(self, owner: str, prefix: str, limit: int) -> Sequence[str]:
        with self._reading():
            shard, gate = self._owned_shard()
            await gate.confirmed(exclusive=self.exclusive)
            first, last = times_of(prefix.partition("-")[2])
            low = await self._first_created(shard, owner, first)
            found: list[str] = []
            while page := await self._rows.range(all_of(owner), [0], low, MAX_SCORE, IDS_AT_A_TIME):
                found = sorted([*found, *(one.member for one in page if one.member.startswith(prefix))])[:limit]
                if len(found) == limit:
                    last = min(last, times_of(found[-1].partition("-")[2])[1])
                created_at = await self._created_at(shard, page[-1].member)
                if created_at is not None and created_at > last + CREATED_WITHIN:
                    break
                low = page[-1].score + 1
            return found

    async def _first_created(self, shard: Shard, owner: str, time: int) -> int:
        """A number of arrival below which no job of an owner was created at that time or later."""
        newest = await self._rows.range(all_of(owner), [0], 0, MAX_SCORE, 1, newest_first=True)
        low, high = 0, newest[0].score if newest else 0
        while low < high:
            middle = (low + high) // 2
            found = await self._rows.range(all_of(owner), [0], middle, MAX_SCORE, 1)
            created_at = await self._created_at(shard, found[0].member) if found else None
            if created_at is not None and created_at < time:
                low = found[0].score + 1
            else:
                high = middle
        return low

    async def _created_at(self, shard: Shard, job_id: str) -> int | None:
        await shard.fetch(self._rows, [job_id])
        row = shard.tables.job(job_id)
        return None if row is None else row.created_at

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        with self._reading():
            shard, gate = self._owned_shard()
            await gate.confirmed(exclusive=self.exclusive)
            pages = sorted(
                int(name.removeprefix(names.PAGE))
                for name in await self._rows.names(0, job_id)
                if name.startswith(names.PAGE)
            )
            # Of the pages that begin before, the last one may hold what comes after.
            first = max((at for at, one in enumerate(pages) if one <= after + 1), default=0)
            found: list[tuple[int, HistoryEvent]] = []
            for begins in pages[first:]:
                [stored] = await self._rows.read(0, [(job_id, names.page_name(begins))])
                if stored is not None:
                    lines = shard.codec.opened_lines(job_id, begins, stored)
                    found += [line for line in enumerate(lines, begins) if line[0] > after]
                if len(found) >= limit:
                    break
            return found[:limit]

    def _row_at_hand(self, job_id: str) -> JobRow | None:
        """A job's row, if it is in memory as it is in the store."""
        shard, gate = self._shard, self._gate
        # Where another process may have taken the store, nothing is known without a batch.
        if shard is None or gate is None or gate.lost or not self.exclusive:
            return None
        row = shard.tables.job(job_id)
        return row if row is not None and shard.is_durable(row) else None

    def at_hand(self, job_id: str) -> JobRecord | None:
        row, shard = self._row_at_hand(job_id), self._shard
        return job_record(shard.tables, row) if row is not None and shard is not None else None

    def over_at_hand(self, job_id: str) -> bool | None:
        row = self._row_at_hand(job_id)
        if row is not None:
            return row.over
        # What is not durable yet is hinted at once it is, also an end.
        known = self._shard is not None and job_id in self._shard.tables.jobs
        return False if known else None

    def history_at_hand(self, job_id: str) -> Sequence[tuple[int, HistoryEvent]] | None:
        lines = self._lines.get(job_id)
        return list(enumerate(lines, 1)) if lines else None

    def expect(self, job_id: str, *, history: bool) -> bool:
        if not self.exclusive:
            return False
        if history and len(self._lines) < MOST_EXPECTED:
            self._lines[job_id] = []
        return super().expect(job_id, history=history)

    def unwatch(self, job_id: str) -> None:
        self._lines.pop(job_id, None)
        super().unwatch(job_id)

    async def counts(self) -> Counts:
        shard, gate = self._owned_shard()
        await gate.confirmed(exclusive=self.exclusive)
        jobs = Counter([status_seen(row) for row in shard.tables.jobs.values() if not row.over])
        return Counts(jobs, *task_counts(shard.tables))

    async def surplus(self, keep: int) -> int | None:
        shard, gate = self._owned_shard()
        await gate.confirmed(exclusive=self.exclusive)
        more = shard.ended - keep
        if more <= 0:
            return None
        found = await self._rows.range(ENDED, [0], 0, MAX_SCORE, min(more, LOOK_AT))
        return found[-1].score if found else None

    async def purge(self, finished_before: int, limit: int, spared: Collection[str] = ()) -> int:
        await self._shared.expire()
        purged = weight = 0
        async for page in entries_of(self._rows, ENDED, high=finished_before - 1):
            shard, gate = self._owned_shard()
            for at in range(0, len(page), FETCH_JOBS):
                jobs = [one.member for one in page[at : at + FETCH_JOBS]]
                await shard.fetch(self._rows, jobs)
                for job_id in jobs:
                    row = shard.tables.job(job_id)
                    if row is None or job_id in spared or not _may_go(shard, row):
                        continue
                    shard.purge(row)
                    purged, weight = purged + 1, weight + PURGED_ROWS + row.history_seq
                    if purged == limit:
                        break
                    if weight >= PURGE_AT_A_TIME:
                        weight = 0
                        gate.changed()
                        await gate.passed()
                if purged == limit:
                    break
            gate.changed()
            await gate.passed()
            if purged == limit:
                break
        return purged


def _may_go(shard: Shard, row: JobRow) -> bool:
    """Whether nothing of a job that is over is still to be told, or moved."""
    return row.end_due is None and row.events_due is None and row.id not in shard.unmoved_pages


def _indexes_of(which: JobFilter) -> list[str]:
    """The indexes that have the jobs of a list, as few as there are."""
    if not which.statuses:
        return [all_of(which.owner)]
    over = [over_of(which.owner, str(status)) for status in which.statuses if status.terminal]
    return over + ([live_of(which.owner)] if len(over) < len(which.statuses) else [])
