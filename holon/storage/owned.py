"""A store whose shards this process owns: today's calls of a store, over the core and a row store."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeVar
from zlib import crc32

from holon.clock import Clock
from holon.core import codec as names
from holon.core import creations, reads
from holon.core import jobs as core_jobs
from holon.core import shard as shards
from holon.core.codec import Codec
from holon.core.finished import Finished
from holon.core.load import READ_ROWS, branches, entries_of, load
from holon.core.lookup import Lookup
from holon.core.owner import Owner
from holon.core.reads import copied, job_record, passes
from holon.core.row import shard_of
from holon.core.rows import LEASED, JobRow
from holon.core.shard import ENDED, EVENTS, HISTORY, Shard, all_of, live_of, over_of
from holon.core.tables import Tables
from holon.core.writer import Ownership, Rows, Writer
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.task import Outcome
from holon.domain.value import Value, replace
from holon.errors import ConfigError, HolonError, StoreBroken, StoreUnavailable
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
from holon.randomness import ordered_id, times_of
from holon.storage.calls import CoreCalls
from holon.storage.ends import EndsToTell, EventsToTell
from holon.storage.outbox import TAKE_BYTES, too_much_waits
from holon.storage.promises import Promise, Promises
from holon.storage.waiting import MAX_WAITING, MAX_WAITING_TO_CREATE, RETRY_AFTER_S, too_many_wait
from holon.stores.port import MAX_SCORE, Found, Head, RowKey, RowStore
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
# New jobs without a request id come into the same shard for so long (milliseconds).
SHARD_FOR = 1_000
# Ids of jobs are looked through so many at a time. A job is created at most so long after the time in its id
# (milliseconds).
IDS_AT_A_TIME = 1_000
CREATED_WITHIN = 60_000
# Handlers of a shard that is handed over may run on for this time (seconds).
SETTLE_S = 5.0


class OwnedStorage(CoreCalls):
    """The calls of a store, as operations of the core's rules: each is durable before it is answered.

    Everything that changes runs on the event loop, in the order of the calls. What changed while a batch was written
    forms the next one.

    Attributes:
        metrics: its calls, reads and batches.
        waiting: how many calls wait for their batch.
    """

    def __init__(self, settings: StoreSettings, clock: Clock, seal: Seal | None = None) -> None:
        super().__init__(settings, clock, seal)
        self._shards: dict[int, Shard] = {}
        # Their numbers in order.
        self._homes: list[int] = []
        self._loaded: dict[int, _Loaded] = {}
        self._lost_because = ""
        self._open = self._ending = False
        # How many jobs may be claimed, and what begins one.
        self._most_claims = 0
        self._begin_job: Callable[[Claim], object] = lambda _: None
        self.metrics = StoreMetrics()
        self.waiting = 0

    @abstractmethod
    def _open_rows(self) -> RowStore:
        """The row store, which is not entered yet."""

    @property
    def exclusive(self) -> bool:
        """Whether no other process can take the store while this one has it open."""
        return self._rows.exclusive

    async def __aenter__(self) -> Self:
        """Open the row store, and read what lives in the shards that this node may take at once.

        Raises:
            ConfigError: it cannot be opened, belongs to another process, or is sealed with a key that is not here.
        """
        self._rows = self._open_rows()
        self._promises = Promises()
        # The history of jobs that are watched from their creation on, by id.
        self._lines: dict[str, list[HistoryEvent]] = {}
        # One call of `take` or `settle` runs at a time.
        self._moving = asyncio.Lock()
        self._broken: asyncio.Future[StoreBroken] = asyncio.get_running_loop().create_future()
        self._claims_end = asyncio.Event()
        await self._rows.__aenter__()
        self.at_one_place = self._rows.shards == 1
        self._tables = Tables(self._settings, self._rows.shards)
        self._codec = Codec(self._seal)
        self._finished = Finished(self._tables, self._shards, self._rows)
        self._lookup = Lookup(self._rows, self._codec, self._settings)
        self._ends, self._events = EndsToTell(), EventsToTell()
        self._outbox.count = lambda: sum(shard.unmoved for shard in self._shards.values())
        self._writer = Writer(self._rows, flown=self._flown)
        self._gate = self._writer.gate
        self._owner = self._new_owner()
        self._open = True
        self._loops = [asyncio.create_task(self._keep(run)) for run in (self._writer.run, *self._more_loops())]
        try:
            await self._owner.start()
            self._join()
            self._loops.append(asyncio.create_task(self._keep(self._owner.run)))
            if self._broken.done():
                raise self._broken.result()
        except StoreUnavailable as error:
            await self.__aexit__(None, None, None)
            if isinstance(error, StoreBroken):
                raise
            raise ConfigError(error.message) from error
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    def _new_owner(self) -> Owner:
        return Owner(
            self._rows,
            self._settings.node_id,
            self._writer,
            self._load,
            self._begin,
            settle=self._settle_shard,
        )

    def _more_loops(self) -> Sequence[Callable[[], Any]]:
        """What else runs while the store is open."""
        return ()

    async def _close(self) -> None:
        """Nothing runs any more."""

    def _join(self) -> None:
        """This node has what it may own at once."""

    async def _leave(self) -> None:
        """All shards are handed over."""

    async def _index_history(self, shard: Shard) -> None:
        """Have history moved that was written while it was not, and note whether it is."""
        [moved] = await self._rows.read(shard.number, [("", names.MOVED)])
        if self._outbox.moving and moved is None:
            # Delete old entries. Some may be of purged jobs, and all pages that exist get new ones below.
            async for page in entries_of(self._rows, HISTORY, [shard.number]):
                for one in page:
                    shard.drop_entry(one.member, one.score)
                await self._written(shard)
            for index in (shards.LIVE, ENDED):
                async for page in entries_of(self._rows, index, [shard.number]):
                    for one in page:
                        await shard.index_history(self._rows, one.member)
                    await self._written(shard)
        if self._outbox.moving is (moved is None):
            shard.note_moved(moved=self._outbox.moving)
            await self._written(shard)

    async def _written(self, *changed: Shard) -> None:
        """Have the changes of shards written, and wait until they are."""
        on = [shard.owned for shard in changed]
        self._gate.changed(*on)
        await self._gate.passed(*on)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what was asked for, and close the row store. A cancel ends only the waiting."""
        self._ending = True
        try:
            # Without its loops nothing is written any more.
            if self._loops and not any(loop.done() for loop in self._loops):
                await self._owner.drain()
                await self._leave()
        finally:
            for loop in self._loops:
                loop.cancel()
            await asyncio.gather(*self._loops, return_exceptions=True)
            await self._close()
            self._open = False
            for shard in list(self._shards.values()):
                self._writer.drop(shard.owned, "the store is closed")
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
        for shard in list(self._shards.values()):
            self._writer.drop(shard.owned, error.message)

    async def _load(self, head: Head) -> Rows:
        shard = Shard(head.shard, self._tables, self._codec, self._finished, self._lost)
        tables = Tables(self._settings, self._rows.shards)
        ends, events = list[Found](), list[tuple[Found, JobRow]]()
        self._go_on_from(head.time)
        if head.shard == 0:
            marks.check(await self.documents(marks.KIND), self._seal)
        await load(self._rows, shard, tables, self.now())
        async for page in entries_of(self._rows, shards.ENDS, [head.shard]):
            ends += page
        async for page in entries_of(self._rows, EVENTS, [head.shard]):
            for one in page:
                row = tables.job(one.member) or await self._finished.read_job(shard, one.member)
                if row is not None:
                    events.append((one, row))
        if self._outbox.moving:
            async for page in entries_of(self._rows, HISTORY, [head.shard]):
                for one in page:
                    shard.count_entry(one.member)
        self._loaded[head.shard] = _Loaded(tables, ends, events)
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

    async def _begin(self, rows: Rows, owned: Ownership) -> None:
        assert isinstance(rows, Shard)  # noqa: S101  as `_load` made it
        shard, loaded = rows, self._loaded.pop(rows.number)
        shard.owned = owned
        self._shards[shard.number] = shard
        self._homes = sorted(self._shards)
        self._tables.absorb(loaded.tables)
        for one in loaded.ends:
            self._ends.put(one.member, one.score)
        for one, row in loaded.events:
            self._events.happened(row.id, row.events_after, row.events_last, one.score)
        self._claim_soon()
        await self._index_history(shard)

    async def _settle_shard(self, shard: int) -> None:
        """Claim no more jobs of a shard that is to be handed over, and wait for those that run, for a while."""
        tables = self._tables
        tables.closing.add(shard)
        # Whoever had claims has ended before the store does.
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while not self._ending and any(shard_of(one) == shard for one in tables.claimed):
                    self._claims_end.clear()
                    await self._claims_end.wait()
        cut = [one for one in tables.claimed if shard_of(one) == shard]

        def release(tables: Tables, _: int) -> None:
            for one in cut:
                core_jobs.release(tables, one, tables.jobs[one].claim_id, counted=False)

        if cut:
            # A handler that a hand-over cuts short is no suspect.
            await self._do(release, cut)

    @property
    def _hosts(self) -> Collection[str]:
        """Workers whose sessions are here and hold leases of other nodes' tasks."""
        return ()

    def _lost(self, shard: Shard) -> None:
        """Forget all rows of a shard that is lost."""
        self._lost_because = shard.lost_because
        if self._shards.get(shard.number) is shard:
            del self._shards[shard.number]
            self._homes = sorted(self._shards)
        self._tables.expel(shard.number, self._hosts)
        self._finished.expel(shard.number)
        for told in (self._ends, self._events):
            told.expel(shard.number)
        self._outbox.expel(shard.number)
        if self._open:
            # There may be room for other jobs.
            asyncio.get_running_loop().call_soon(self._claim_soon)

    @property
    def _all(self) -> range:
        """All shards of the store."""
        return range(self._rows.shards)

    def _shard_for(self, owner: str, request_id: str) -> int:
        """The shard of the job that a request creates."""
        return crc32(f"{len(owner)}.{owner}.{request_id}".encode()) % self._rows.shards

    def new_job_id(self, owner: str, request_id: str | None = None) -> str:
        now = self.now()
        if request_id is not None:
            shard = self._shard_for(owner, request_id)
        else:
            # One of this node's, the same for a while, so that calls between nodes and batches are few.
            homes = self._homes or self._all
            shard = homes[now // SHARD_FOR % len(homes)]
        return f"{shard}-{ordered_id(now)}"

    async def failure(self) -> None:
        raise await asyncio.shield(self._broken)

    # Operations ------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailable("the store is not open")
        if self._broken.done():
            raise self._broken.result()
        # A store that is away does not answer reads either.
        self._writer.check()

    def _on(self, ids: Iterable[str]) -> list[Ownership]:
        """The ownerships of the shards of jobs and tasks. Ids that are in no shard are ignored.

        Raises:
            StoreUnavailable: this node does not own one of them at the moment.
        """
        self._check_open()
        on: dict[Ownership, None] = {}
        for one in ids:
            number = shard_of(one)
            shard = self._shards.get(number)
            if shard is not None:
                on[shard.owned] = None
            elif number < self._rows.shards:
                why = f"the store cannot be used at the moment: {self._lost_because}; try again"
                raise StoreUnavailable(why, retry_after=RETRY_AFTER_S)
        return list(on)

    def _is_elsewhere(self, item_id: str) -> bool:
        """Whether a job or a task, if there is one of this id, is in a shard that this node does not own now."""
        return (number := shard_of(item_id)) not in self._shards and number < self._rows.shards

    def _checked(self, *, new_work: bool = False) -> Tables:
        self._check_open()
        self._refuse_one_too_many(new_work=new_work)
        return self._tables

    def _no_new_jobs(self) -> HolonError | None:
        if self._outbox.full:
            return too_much_waits(self._outbox.bytes)
        if self._rows.objection:
            return StoreUnavailable(self._rows.objection, retry_after=RETRY_AFTER_S)
        return None

    def _refuse_one_too_many(self, *, new_work: bool) -> None:
        if self.waiting >= (MAX_WAITING_TO_CREATE if new_work else MAX_WAITING):
            self.metrics.failures.add()
            raise too_many_wait(self.waiting)

    async def _ask(self, call: Callable[[RowStore], Awaitable[T]], /) -> T:
        self._check_open()
        began = perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await call(self._rows)
        except TimeoutError:
            self.metrics.failures.add()
            raise StoreUnavailable(
                "the store does not answer: this one may yet be carried out; repeat it", retry_after=RETRY_AFTER_S
            ) from None
        except StoreUnavailable as error:
            self.metrics.failures.add()
            if isinstance(error, StoreBroken):
                self._break(error)
            raise
        finally:
            self.metrics.calls.observe(perf_counter() - began)

    def _changed(self, kinds: frozenset[str]) -> None:
        self._give_soon(Hint(documents=kinds))

    async def _do(
        self, operation: Callable[[Tables, int], T], ids: Collection[str] = (), *, new_work: bool = False
    ) -> T:
        self._check_open()
        if self._promises.cancelled:
            await self._promises.cancel_first()
        on = self._on(ids)
        if self.waiting >= MAX_WAITING_TO_CREATE:
            self._refuse_one_too_many(new_work=new_work)
        now, tables, gate = self.now(), self._tables, self._gate
        tables.now = now
        try:
            reply = operation(tables, now)
        except BaseException as error:
            self._failed(error)
            raise
        on += [owned for owned in self._finish(now) if owned not in on]
        hint = tables.done()
        if not self._rows.exclusive:
            # Another process may have taken a shard: the reply is right only if its next batch is applied.
            gate.changed(*on)
        if not gate.busy:
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
                gate.then(self._jobs_changed, hint.jobs, on)
            gate.then(self._give_soon, replace(hint, jobs=frozenset()), on)
        promise: Promise[T] = Promise()
        self.waiting += 1
        gate.answer(promise, reply, on)
        began = perf_counter()
        try:
            return await self._promises.kept(promise)
        except StoreUnavailable:
            self.metrics.failures.add()
            raise
        finally:
            self.waiting -= 1
            self.metrics.calls.observe(perf_counter() - began)

    def run_jobs(self, limit: int, begin: Callable[[Claim], object]) -> None:
        self._most_claims, self._begin_job = limit, begin
        self._claim_soon()

    def _claim_soon(self) -> None:
        """Claim what is ready, beside any call."""
        if not self._open:
            return
        now = self._tables.now = self.now()
        self._finish(now)
        hint = self._tables.done()
        if hint is not None:
            self._gate.then(self._give_soon, hint, ())

    def _finish(self, now: int) -> list[Ownership]:
        """Claim what is ready after an operation, and have all that changed written.

        Returns:
            the ownerships of the shards that changed.
        """
        tables = self._tables
        if tables.closing:
            self._claims_end.set()
        if not (tables.ready or tables.suspects):
            return self._collect(now)
        claims = core_jobs.claim(tables, self._most_claims)
        changed = self._collect(now)
        for claim in claims:
            self._gate.then(self._begin_job, claim, (self._shards[shard_of(claim.job.id)].owned,))
        return changed

    def _failed(self, error: BaseException) -> None:
        """An operation has raised: the shards that it had changed already are thrown away, and read again."""
        tables = self._tables
        changed = {shard_of(row.job_id) for row in (*tables.changed, *(row for row, _, _ in tables.notices))}
        if changed:
            log.error("an operation of the store failed half-way; its rows are read again", exc_info=error)
        tables.done()
        for number in changed:
            self._owner.drop(number, f"an operation failed: {error}")

    def _collect(self, now: int) -> list[Ownership]:
        """Have what an operation changed written; returns the ownerships of the shards that it changed."""
        tables, gate, found = self._tables, self._gate, self._shards
        changed: dict[Ownership, None] = {}
        for changed_row in tables.changed:
            shard = found[shard_of(changed_row.job_id)]
            shard.change(changed_row, now)
            gate.changed(shard.owned)
            changed[shard.owned] = None
        for job, first, lines in tables.notices:
            shard = found[shard_of(job.id)]
            shard.tell(job, first, lines)
            gate.changed(shard.owned)
            changed[shard.owned] = None
            self.metrics.history.add(by=len(lines))
            if (known := self._lines.get(job.id)) is not None and first == len(known) + 1:
                # As they are stored, whatever they were made of.
                gate.then(known.extend, decode_history(encode_history(lines)), (shard.owned,))
        for job in tables.ends:
            job.end_due = now
            gate.then(lambda job_id: self._ends.put(job_id, now), job.id, (found[shard_of(job.id)].owned,))
        for job, before, last in tables.happened:
            if job.events_due is None:
                job.events_due, job.events_after = now, before
            job.events_last = last
            told = (job.id, before, last)
            gate.then(lambda told: self._events.happened(*told, now), told, (found[shard_of(job.id)].owned,))
        return list(changed)

    def _flown(self, waited: int, seconds: float) -> None:
        self.metrics.groups.observe(waited)
        self.metrics.writes.observe(seconds)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Count a read of what clients ask for."""
        began = perf_counter()
        try:
            yield
        finally:
            self.metrics.reads.observe(perf_counter() - began)

    def _jobs_changed(self, jobs: frozenset[str]) -> None:
        """Changes of these jobs are durable."""
        self._hints.give(Hint(jobs=jobs))

    def _give_soon(self, hint: Hint) -> None:
        asyncio.get_running_loop().call_soon(self._hints.give, hint)

    async def _fetch(self, jobs: Iterable[str] = (), tasks: Iterable[str] = ()) -> None:
        """Have rows at hand that may be over; those that cannot be opened are not."""
        self._check_open()
        await self._finished.fetch(jobs, tasks)

    async def _fetch_job(self, job_id: str) -> None:
        """Have a job at hand that may be over. Raises SealBroken if it cannot be opened."""
        self._check_open()
        for error in (await self._finished.fetch([job_id])).values():
            raise error

    async def _fetch_requests(self, items: Sequence[NewJob]) -> None:
        self._check_open()
        requests = [
            (shard_of(one.job.id), one.job.owner, one.request_id) for one in items if one.request_id is not None
        ]
        if requests:
            await self._finished.fetch_requests(requests)

    async def made(self, owner: str, request_id: str) -> tuple[str, bytes] | None:
        self._check_open()
        number = self._shard_for(owner, request_id)
        await self._finished.fetch_requests([(number, owner, request_id)])
        if number not in self._shards:
            return await self._lookup.made(number, owner, request_id)
        # What begins with the shard's number is in that shard.
        return await self._do(lambda tables, _: creations.made(tables, owner, request_id), [f"{number}-"])

    async def commit(self, step: Step, seats: Sequence[Seat]) -> Committed:
        await self._fetch_job(step.job.id)
        return await super().commit(step, seats)

    async def append(
        self,
        job_id: str,
        event: InboxEvent,
        dedup_key: str,
        request_key: str = "",
        most: int | None = None,
    ) -> Appended:
        await self._fetch_job(job_id)
        return await super().append(job_id, event, dedup_key, request_key, most)

    async def unread(self, job_id: str) -> Sequence[InboxEvent]:
        await self._fetch_job(job_id)
        if self._is_elsewhere(job_id):
            return await self._lookup.unread(job_id)
        return await super().unread(job_id)

    async def open_session(self, opening: Opening) -> Opened:
        await self._fetch(tasks=[task for task, _ in opening.resumed])
        return await super().open_session(opening)

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        if touch.handbacks:
            await self._fetch(tasks=[one.lease.task_id for one in touch.handbacks])
        return await super().touch(touch, seats)

    async def complete(self, results: Sequence[Result], worker_id: str, seats: Sequence[Seat]) -> Completed:
        self._check_open()
        tables = self._tables
        late = [
            one
            for one in results
            if (task := tables.tasks.get(one.task_id)) is None
            or task.state is not LEASED
            or task.lease_id != one.lease_id
        ]
        if late:
            await self._finished.fetch(tasks=[one.task_id for one in late])
            known = [task for one in late if (task := tables.task(one.task_id)) is not None]
            await self._finished.fetch_lates([(task.job_id, task.n, worker_id) for task in known])
        return await super().complete(results, worker_id, seats)

    async def task(self, task_id: str) -> TaskRecord | None:
        await self._fetch(tasks=[task_id])
        if self._is_elsewhere(task_id):
            return await self._lookup.task(task_id)
        return await super().task(task_id)

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        if after:
            await self._fetch(tasks=[after])
        return await super().queued_tasks(key, after, limit)

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        on = self._on([job_id])
        await self._gate.confirmed(*on)
        row = self._tables.jobs.get(job_id)
        if row is None:
            return []
        return await branches(self._rows, self._shards[shard_of(job_id)], self._tables, row, step)

    # The outbox ------------------------------------------------------------------------------------------------

    async def take(self, limit: int) -> Sequence[Notice]:
        if not self._outbox.moving:
            return []
        async with self._moving:
            return await self._take(limit)

    async def _take(self, limit: int) -> Sequence[Notice]:
        # Wait until settled pages have left the index. Then an entry without a page is stale.
        await self._settled()
        found: list[tuple[Notice, int]] = []
        now, size = self.now(), 0
        async for page in entries_of(self._rows, HISTORY, list(self._shards)):
            free = [one for one in page if self._outbox.free(f"{one.score}:{one.member}", now)]
            while free and len(found) < limit:
                some = _read_together(free, limit - len(found), TAKE_BYTES - size)
                free = free[len(some) :]
                pages = [shards.page_of(one.member) for one in some]
                await self._fetch([job_id for job_id, _, _ in pages])
                values = await self._read([(job_id, names.page_name(first)) for job_id, first, _ in pages])
                for one, (job_id, first, bytes_), stored in zip(some, pages, values, strict=True):
                    shard, row = self._shards.get(one.shard), self._tables.job(job_id)
                    if stored is None and shard is not None:
                        shard.drop_entry(one.member, one.score)
                        self._gate.changed(shard.owned)
                    if stored is None or row is None:
                        continue
                    try:
                        lines = tuple(self._codec.opened_lines(job_id, first, stored))
                    except SealBroken:
                        continue
                    record = job_record(self._tables, row)
                    found.append((Notice(f"{one.score}:{one.member}", record, first, lines), bytes_))
                    size += bytes_ + len(row.state)
                    if len(found) >= limit or size >= TAKE_BYTES:
                        return self._outbox.take(found, now)
        return self._outbox.take(found, now)

    async def settle(self, notices: Sequence[str]) -> None:
        async with self._moving:
            # An earlier call may have been refused although its changes are still to be written.
            await self._settled()
            taken = [(one, shards.page_of(one.partition(":")[2])) for one in self._outbox.sizes(notices)]
            on = self._on(job_id for _, (job_id, _, _) in taken)
            for notice, (job_id, first, size) in taken:
                score = int(notice.partition(":")[0])
                self._shards[shard_of(job_id)].moved(job_id, first, size, score)
            self._gate.changed(*on)
            self._gate.then(self._outbox.settled, notices, on)
            await self._gate.passed(*on)

    async def _settled(self) -> None:
        """Wait until all changes so far are durable."""
        self._check_open()
        if self._gate.busy:
            await self._gate.passed()

    async def _read(self, keys: Sequence[RowKey]) -> list[bytes | None]:
        """Rows of several shards, in the order of their keys."""
        found: dict[RowKey, bytes | None] = {}
        for number in dict.fromkeys(shard_of(job_id) for job_id, _ in keys):
            some = [key for key in keys if shard_of(key[0]) == number]
            found.update(zip(some, await self._rows.read(number, some), strict=True))
        return [found[key] for key in keys]

    async def take_ends(self, limit: int, hold: int) -> Ends:
        return Ends(*await self._due(self._ends, limit, hold))

    async def take_events(self, limit: int, hold: int) -> Happened:
        page, next_due = await self._due(self._events, limit, hold)
        return Happened(tuple((one, self._events.after(one.job.id)) for one in page), next_due)

    async def _due(self, to_tell: EndsToTell, limit: int, hold: int) -> tuple[tuple[JobRecord, ...], int | None]:
        """The jobs of which something is to be told now, the caller's from here on; and when the next is due."""
        now, size = self.now(), 0
        page: list[Callable[[], JobRecord]] = []
        mine: list[str] = []
        on: dict[Ownership, None] = {}
        try:
            full = False
            while not full and len(page) < limit and (due := to_tell.take(now, limit - len(page))):
                mine += due
                for job_id in due:
                    if self._is_elsewhere(job_id):
                        continue
                    try:
                        copy, bytes_, owned = await self._copied(job_id)
                    except SealBroken:
                        continue
                    if copy is None:
                        continue
                    size += bytes_
                    if page and size > MAX_PAGE_BYTES:
                        behind = due[due.index(job_id) :]
                        mine = mine[: -len(behind)]
                        for one in behind:
                            to_tell.put(one, now)
                        full = True
                        break
                    page.append(copy)
                    on.update(dict.fromkeys(owned))
            # All of them wait for the same batches.
            if on:
                await self._gate.confirmed(*on)
            records = await one_by_one(lambda make: make(), page)
            return tuple(records), now if full else to_tell.next_due()
        finally:
            # Those that cannot be read now are looked at again then, too.
            for job_id in mine:
                if not self._is_elsewhere(job_id):
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

        await self._do(settle, [*told, *(job_id for job_id, _ in again)])

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

        await self._do(settle, [job_id for job_id, _, _ in heard])

    # Reads -----------------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> JobRecord | None:
        with self._reading():
            copy, _, on = await self._copied(job_id)
            if on:
                await self._gate.confirmed(*on)
            return None if copy is None else copy()

    async def _copied(self, job_id: str) -> tuple[Callable[[], JobRecord] | None, int, Sequence[Ownership]]:
        """A job as it is now, from memory or else from the store.

        Returns:
            what makes its record (None: there is no such job), how many bytes its state has, and the ownership that
            must be confirmed before it is shown (empty: it may be shown at once).
        """
        self._check_open()
        row = self._tables.job(job_id)
        in_memory = row is not None
        if row is None:
            await self._fetch_job(job_id)
            row = self._tables.job(job_id)
            if row is None:
                return await self._copied_elsewhere(job_id) if self._is_elsewhere(job_id) else (None, 0, ())
        shard = self._shards[shard_of(job_id)]
        # A job that is over needs no batch if the store has this very row, and no other node can have changed it since.
        durable = row.over and shard.is_durable(row)
        as_stored = durable and (self.exclusive or not in_memory)
        return copied(self._tables, row), len(row.state), () if as_stored else (shard.owned,)

    async def _copied_elsewhere(self, job_id: str) -> tuple[Callable[[], JobRecord] | None, int, Sequence[Ownership]]:
        """The same of a job in a shard that this node does not own: nothing is to be confirmed."""
        tables = self._lookup.tables()
        for error in (await self._lookup.read(tables, [job_id])).values():
            raise error
        row = tables.jobs.get(job_id)
        return (None, 0, ()) if row is None else (copied(tables, row), len(row.state), ())

    async def _confirmed(self) -> None:
        """Wait until what memory shows of all shards is durable, and certainly this node's."""
        self._check_open()
        await self._gate.confirmed(*(shard.owned for shard in self._shards.values()))

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        with self._reading():
            await self._confirmed()
            found: list[tuple[int, Callable[[], JobRecord]]] = []
            on: dict[Ownership, None] = {}
            more = await self._look(which, limit, found, on)
            # What was read while others went on is durable by then.
            await self._gate.confirmed(*on)
            records = await one_by_one(lambda one: one[1](), found)
            return records, found[-1][0] if more else None

    async def _look(
        self,
        which: JobFilter,
        limit: int,
        found: list[tuple[int, Callable[[], JobRecord]]],
        on: dict[Ownership, None],
    ) -> bool:
        """Copy the jobs of a page of a list.

        Arguments:
            found: where the jobs go, each with its arrival number.
            on: where the ownerships go that must be confirmed before the jobs are shown.
        Returns:
            whether there are more behind the page.
        """
        size, before = 0, MAX_SCORE if which.before is None else which.before - 1
        indexes = _indexes_of(which)
        while True:
            pages = [
                await self._rows.range(index, self._all, 0, before, LOOK_AT, newest_first=True) for index in indexes
            ]
            full = [page[-1].score for page in pages if len(page) == LOOK_AT]
            # Below this some of the indexes may have more.
            last = max(full, default=0)
            some = sorted(
                {one.score: one.member for page in pages for one in page if one.score >= last}.items(), reverse=True
            )
            for at in range(0, len(some), FETCH_JOBS):
                jobs = [job_id for _, job_id in some[at : at + FETCH_JOBS]]
                elsewhere = await self._fetch_all(jobs)
                for job_id in jobs:
                    tables, row = elsewhere, elsewhere.jobs.get(job_id)
                    if row is None:
                        tables, row = self._tables, self._tables.job(job_id)
                    if row is None or not passes(row, which):
                        continue
                    if which.created_after is not None and row.created_at < which.created_after:
                        return False
                    size += len(row.state)
                    if len(found) == limit or (found and size > MAX_PAGE_BYTES):
                        return True
                    found.append((row.n, copied(tables, row)))
                    if tables is not elsewhere:
                        on[self._shards[shard_of(job_id)].owned] = None
            if not full:
                return False
            before = last - 1

    async def _fetch_all(self, jobs: Sequence[str]) -> Tables:
        """Have jobs of all shards at hand; those that cannot be opened are not.

        Returns:
            tables of those that this node does not own. The others are in the node's own tables.
        """
        elsewhere, asked = self._lookup.tables(), set[str]()
        while True:
            # A shard may be lost while others are read.
            ask = [one for one in jobs if one not in asked and self._is_elsewhere(one)]
            if ask:
                asked.update(ask)
                await self._lookup.read(elsewhere, ask)
            await self._fetch([one for one in jobs if one not in asked])
            if not any(one not in asked and self._is_elsewhere(one) for one in jobs):
                return elsewhere

    async def job_ids(self, owner: str, prefix: str, limit: int) -> Sequence[str]:
        with self._reading():
            await self._confirmed()
            first, last = times_of(prefix.partition("-")[2])
            low = await self._first_created(owner, first)
            found: list[str] = []
            while page := await self._rows.range(all_of(owner), self._all, low, MAX_SCORE, IDS_AT_A_TIME):
                found = sorted([*found, *(one.member for one in page if one.member.startswith(prefix))])[:limit]
                if len(found) == limit:
                    last = min(last, times_of(found[-1].partition("-")[2])[1])
                created_at = await self._created_at(page[-1].member)
                if created_at is not None and created_at > last + CREATED_WITHIN:
                    break
                low = page[-1].score + 1
            return found

    async def _first_created(self, owner: str, time: int) -> int:
        """A number of arrival below which no job of an owner was created at that time or later."""
        newest = await self._rows.range(all_of(owner), self._all, 0, MAX_SCORE, 1, newest_first=True)
        low, high = 0, newest[0].score if newest else 0
        while low < high:
            middle = (low + high) // 2
            found = await self._rows.range(all_of(owner), self._all, middle, MAX_SCORE, 1)
            created_at = await self._created_at(found[0].member) if found else None
            if created_at is not None and created_at < time:
                low = found[0].score + 1
            else:
                high = middle
        return low

    async def _created_at(self, job_id: str) -> int | None:
        row = self._tables.job(job_id)
        if row is not None:
            return row.created_at
        # It never changes, so it does not matter who owns the shard.
        [head] = await self._rows.read(shard_of(job_id), [(job_id, names.HEAD)])
        return None if head is None else self._codec.created_at_of(head)

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        with self._reading():
            self._check_open()
            number = shard_of(job_id)
            if number >= self._rows.shards:
                return []
            if (shard := self._shards.get(number)) is not None:
                await self._gate.confirmed(shard.owned)
            pages = sorted(
                int(name.removeprefix(names.PAGE))
                for name in await self._rows.names(number, job_id)
                if name.startswith(names.PAGE)
            )
            # Of the pages that begin before, the last one may hold what comes after.
            first = max((at for at, one in enumerate(pages) if one <= after + 1), default=0)
            found: list[tuple[int, HistoryEvent]] = []
            pages = pages[first:]
            while pages and len(found) < limit:
                # A page ends before the next one begins. Pages that begin after `last` are not needed yet.
                last = max(after, pages[0] - 1) + limit - len(found)
                some = [begins for begins in pages if begins <= last][:READ_ROWS]
                pages = pages[len(some) :]
                values = await self._rows.read(number, [(job_id, names.page_name(begins)) for begins in some])
                for begins, stored in zip(some, values, strict=True):
                    if stored is not None:
                        lines = self._codec.opened_lines(job_id, begins, stored)
                        found += [line for line in enumerate(lines, begins) if line[0] > after]
            return found[:limit]

    def _row_at_hand(self, job_id: str) -> JobRow | None:
        """A job's row, if it is in memory as it is in the store."""
        # Where another process may have taken the store, nothing is known without a batch.
        if not self.exclusive or not self._open or (shard := self._shards.get(shard_of(job_id))) is None:
            return None
        row = self._tables.job(job_id)
        return row if row is not None and shard.is_durable(row) else None

    def at_hand(self, job_id: str) -> JobRecord | None:
        row = self._row_at_hand(job_id)
        return None if row is None else job_record(self._tables, row)

    def over_at_hand(self, job_id: str) -> bool | None:
        row = self._row_at_hand(job_id)
        if row is not None:
            return row.over
        # What is not durable yet is hinted at once it is, also an end.
        return False if self._open and job_id in self._tables.jobs else None

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
        await self._confirmed()
        return reads.counts(self._tables)

    async def surplus(self, keep: int) -> int | None:
        await self._confirmed()
        # Each node deletes of its own shards, so it keeps its share of them.
        share = -(-keep * len(self._shards) // self._rows.shards)
        more = sum(shard.ended for shard in self._shards.values()) - share
        if more <= 0:
            return None
        found = await self._rows.range(ENDED, list(self._shards), 0, MAX_SCORE, min(more, LOOK_AT))
        return found[-1].score if found else None

    async def purge(self, finished_before: int, limit: int, spared: Collection[str] = ()) -> int:
        await self._shared.expire()
        purged = weight = 0
        async for page in entries_of(self._rows, ENDED, list(self._shards), high=finished_before - 1):
            for at in range(0, len(page), FETCH_JOBS):
                some = [one for one in page[at : at + FETCH_JOBS] if one.member not in spared]
                await self._fetch([one.member for one in some])
                for one in some:
                    shard, row = self._shards.get(one.shard), self._tables.job(one.member)
                    if shard is None or row is None or not _may_go(shard, row):
                        continue
                    shard.purge(row)
                    self._finished.forget(row.id)
                    self._gate.changed(shard.owned)
                    purged, weight = purged + 1, weight + PURGED_ROWS + row.history_seq
                    if purged == limit:
                        break
                    if weight >= PURGE_AT_A_TIME:
                        weight = 0
                        await self._gate.passed(shard.owned)
                if purged == limit:
                    break
            await self._gate.passed(*(shard.owned for shard in self._shards.values()))
            if purged == limit:
                break
        return purged


class _Loaded(Value, gc=True):
    """What was read of a shard."""

    tables: Tables
    ends: list[Found]
    events: list[tuple[Found, JobRow]]


def _read_together(entries: Sequence[Found], most: int, most_bytes: int) -> Sequence[Found]:
    """The first HISTORY entries whose pages fit into one read; at least one.

    Arguments:
        most: the most entries.
        most_bytes: about the most bytes of their pages.
    """
    jobs, size = set[str](), 0
    for at, one in enumerate(entries[: min(most, READ_ROWS)]):
        job_id, _, bytes_ = shards.page_of(one.member)
        jobs.add(job_id)
        size += bytes_
        if at and (len(jobs) > FETCH_JOBS or size > most_bytes):
            return entries[:at]
    return entries[: min(most, READ_ROWS)]


def _may_go(shard: Shard, row: JobRow) -> bool:
    """Whether a job that is over has nothing left to write, to notify of, or to move."""
    if row.end_due is not None or row.events_due is not None or row.id in shard.unmoved_pages:
        return False
    return shard.is_durable(row)


def _indexes_of(which: JobFilter) -> list[str]:
    """The indexes that have the jobs of a list, as few as there are."""
    if not which.statuses:
        return [all_of(which.owner)]
    over = [over_of(which.owner, str(status)) for status in which.statuses if status.terminal]
    # In this order, a job that ends between the reads of two indexes is in one of them.
    return ([live_of(which.owner)] if len(over) < len(which.statuses) else []) + over
