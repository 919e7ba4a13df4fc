"""A shard: its rows in memory, their changes for the next batch, and the load when a node becomes the owner."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from holon.core import codec as names
from holon.core.codec import Codec
from holon.core.leases import keeps_for, offer_of
from holon.core.row import Row
from holon.core.rows import BACK_OFF, LEASED, OFFERED, OVER, QUEUED, FanOut, JobRow, LateRow, Stored, TaskRow
from holon.core.tables import Tables
from holon.core.tasks import want_spawn
from holon.core.writer import Cut
from holon.domain.events import HistoryEvent
from holon.domain.task import Outcome, job_of, task_id
from holon.ports import Committed, Leased, StoreSettings
from holon.stores.port import MAX_SCORE, Entry, Found, Head, RowKey, RowStore
from holon.stores.port import Row as StoredRow
from holon.stores.records import pack, unpack
from holon.stores.sealing import Seal, SealBroken
from holon.turns import in_chunks

log = logging.getLogger(__name__)

AnyRow = TypeVar("AnyRow", JobRow, TaskRow, LateRow)

# Indexes. LIVE: jobs that are not over, by arrival. ENDED: jobs that are over, by their end. ENDS and EVENTS: jobs with
# pending webhook notifications of their end or events, by due time. HISTORY: pages of history to move to the database
# of history. The functions below name the indexes of one owner.
LIVE, ENDED, ENDS, EVENTS, HISTORY = "live", "ended", "ends", "events", "history"
# How many jobs one read loads while a shard is loaded, and how many rows one read has elsewhere.
LOAD_JOBS = 200
READ_ROWS = 1_000
# At most this many rows that are over stay in memory: the last that were written or fetched.
KEPT_OVER = 2_000


def all_of(owner: str) -> str:
    """The index of all jobs of an owner."""
    return f"all:{owner}"


def live_of(owner: str) -> str:
    """The index of an owner's jobs that are not over."""
    return f"live:{owner}"


def over_of(owner: str, status: str) -> str:
    """The index of an owner's jobs that ended with a status."""
    return f"over:{status}:{owner}"


def page_member(job_id: str, first: int, size: int) -> str:
    """The member of a page of history in the HISTORY index; `size` is in bytes."""
    return f"{job_id}:{first}:{size}"


def page_of(member: str) -> tuple[str, int, int]:
    """The job id, the number of the first line and the size in bytes of a page, from its `page_member`."""
    job_id, first, size = member.rsplit(":", 2)
    return job_id, int(first), int(size)


class Shard:
    """The rows of one shard, in the memory of its owner.

    Arguments:
        settings: durations and limits for the rules.
        seal: seals and opens rows.

    Attributes:
        ended: the number of jobs that are over.
        unmoved: the bytes of history that wait to be moved.
        unmoved_pages: the number of pages that wait, by job id.
        lost_because: why the shard was lost; empty while it is owned.
    """

    def __init__(self, settings: StoreSettings, seal: Seal) -> None:
        self.tables = Tables(settings)
        self.codec = Codec(seal)
        self.ended = 0
        self.unmoved = 0
        self.unmoved_pages: Counter[str] = Counter()
        self.lost_because = ""
        self._moving = settings.history_backlog is not None
        self._stamp = 0
        # The last arrival number in a cut.
        self._numbered = 0
        # Changes since the last cut: rows, lines of history (by job, with the number of the first), puts, deletes.
        self._dirty: dict[Row, None] = {}
        self._lines: dict[JobRow, tuple[int, list[HistoryEvent]]] = {}
        self._puts: list[StoredRow] = []
        self._deletes: list[RowKey] = []
        self._new_entries: list[Entry] = []
        # Purged jobs that are in no batch yet, and those in the batch in flight. `_purges` counts all purges.
        self._purged: dict[str, None] = {}
        self._going: dict[str, None] = {}
        self._purges = 0
        self._removed: list[Entry] = []
        # Rows of the batch in flight. `_flying` are those that leave memory once the batch is durable.
        self._in_flight: dict[Row, None] = {}
        self._flying: list[JobRow | TaskRow | LateRow] = []
        self._over: OrderedDict[object, JobRow | TaskRow | LateRow] = OrderedDict()
        self._over_of: defaultdict[str, set[object]] = defaultdict(set)
        self._over_requests: dict[tuple[str, str], str] = {}
        self.tables.load_job = lambda job_id: self._kept(job_id, JobRow)
        self.tables.load_task = lambda wanted: self._kept(wanted, TaskRow)
        self.tables.load_late = lambda task, worker: self._kept((task, worker), LateRow)
        self.tables.load_request = lambda owner, request: self._over_requests.get((owner, request))

    def __repr__(self) -> str:
        return f"Shard(jobs={len(self.tables.jobs)}, tasks={len(self.tables.tasks)}, dirty={len(self._dirty)})"

    # Changes to write ------------------------------------------------------------------------------------------

    def collect(self, now: int) -> bool:
        """Collect the changes of an operation; returns whether there are any. Call it before `tables.done()`."""
        tables = self.tables
        if not tables.touched:
            return False
        self._stamp = max(self._stamp, now)
        self._dirty.update(tables.changed)
        for row, first, lines in tables.notices:
            known = self._lines.get(row)
            if known is None:
                self._lines[row] = first, list(lines)
            else:
                known[1].extend(lines)
        for row in tables.ends:
            row.end_due = now
        for row, before, last in tables.happened:
            if row.events_due is None:
                row.events_due, row.events_after = now, before
            row.events_last = last
        return True

    def purge(self, row: JobRow) -> None:
        """Delete a job that is over, with all its rows and index entries."""
        self._purged[row.id] = None
        self._purges += 1
        self._removed += _entries(row, _place(row))
        if row.request_id is not None:
            self._deletes.append(("", names.request_name(row.owner, row.request_id)))
            self._over_requests.pop((row.owner, row.request_id), None)
        for key in self._over_of.pop(row.id, ()):
            self._over.pop(key, None)
        self._dirty.pop(row, None)
        self._lines.pop(row, None)
        self.ended -= 1

    def moved(self, job_id: str, first: int, size: int, score: int) -> None:
        """Delete a page of history that has been moved; `score` is that of its HISTORY entry."""
        self._deletes.append((job_id, names.page_name(first)))
        self._removed.append((HISTORY, score, page_member(job_id, first, size)))
        self._count_page(job_id, -1, -size)

    def note_moved(self, *, moved: bool) -> None:
        """Write, or delete, the mark that all pages of history have HISTORY entries."""
        if moved:
            self._puts.append(("", names.MOVED, b"1"))
        else:
            self._deletes.append(("", names.MOVED))

    async def index_history(self, store: RowStore, job_id: str) -> None:
        """Add HISTORY entries for the pages of a job, which were written while history was not moved."""
        pages = [name for name in await store.names(0, job_id) if name.startswith(names.PAGE)]
        for name, page in zip(pages, await store.read(0, [(job_id, name) for name in pages]), strict=True):
            if page is not None:
                first = int(name.removeprefix(names.PAGE))
                self._new_entries.append((HISTORY, self._stamp, page_member(job_id, first, len(page))))
                self._count_page(job_id, 1, len(page))

    def count_entry(self, member: str) -> None:
        """Count a page of history that was found in the HISTORY index."""
        job_id, _, size = page_of(member)
        self._count_page(job_id, 1, size)

    def _count_page(self, job_id: str, by: int, size: int) -> None:
        self.unmoved += size
        self.unmoved_pages[job_id] += by
        if not self.unmoved_pages[job_id]:
            del self.unmoved_pages[job_id]

    def is_durable(self, row: JobRow) -> bool:
        """Whether the store has a job's row as it is in memory."""
        return row not in self._dirty and row not in self._in_flight

    def cut(self) -> Cut:
        """All changes since the last cut."""
        puts, self._puts = self._puts, []
        entries, self._new_entries = self._new_entries, []
        removed, self._removed = self._removed, []
        deletes, self._deletes = self._deletes, []
        for row in self._dirty:
            if isinstance(row, TaskRow):
                puts.append((row.job_id, names.task_name(row.step, row.index), self.codec.task(row)))
                if row.state is OVER:
                    self._flying.append(row)
            elif isinstance(row, JobRow):
                self._cut_job(row, puts, deletes, entries, removed)
            elif isinstance(row, LateRow):
                puts.append((row.job_id, names.late_name(row.task, row.worker_id), self.codec.late(row)))
                self._flying.append(row)
        for job, (first, lines) in self._lines.items():
            page = self.codec.lines(job.id, first, lines)
            puts.append((job.id, names.page_name(first), page))
            if self._moving:
                entries.append((HISTORY, self._stamp, page_member(job.id, first, len(page))))
                self._count_page(job.id, 1, len(page))
        if self.tables.last_number != self._numbered:
            self._numbered = self.tables.last_number
            puts.append(("", names.NUMBERS, pack(self._numbered)))
        purged = self._going = self._purged
        self._purged = {}
        self._in_flight, self._dirty, self._lines = self._dirty, {}, {}
        return Cut(self._stamp, puts, deletes, list(purged), entries, removed)

    def _cut_job(
        self,
        row: JobRow,
        puts: list[StoredRow],
        deletes: list[RowKey],
        entries: list[Entry],
        removed: list[Entry],
    ) -> None:
        stored = row.stored
        if stored is None:
            stored = row.stored = Stored()
            entries.append((all_of(row.owner), row.n, row.id))
            if row.request_id is not None:
                puts.append(("", names.request_name(row.owner, row.request_id), row.id.encode()))
        puts.append((row.id, names.HEAD, self.codec.head(row)))
        if row.state is not stored.state:
            stored.state = row.state
            puts.append((row.id, names.STATE, self.codec.sealed(row.id, names.STATE, row.state)))
        if row.inbox is not stored.inbox:
            if row.inbox:
                puts.append((row.id, names.INBOX, self.codec.inbox(row)))
            elif stored.inbox:
                deletes.append((row.id, names.INBOX))
            stored.inbox = row.inbox
        self._cut_fan(row, stored, puts, deletes)
        place = _place(row)
        if place != stored.place:
            before = _entries(row, stored.place) if stored.place is not None else []
            after = _entries(row, place)
            removed += [entry for entry in before if entry not in after]
            entries += [entry for entry in after if entry not in before]
            if row.over and (stored.place is None or not stored.place[0]):
                self.ended += 1
            stored.place = place
        if row.over:
            self._flying.append(row)

    def _cut_fan(self, row: JobRow, stored: Stored, puts: list[StoredRow], deletes: list[RowKey]) -> None:
        fan = None if row.over else row.fan
        if stored.fan is not None and (fan is None or fan.step != stored.fan):
            deletes += [(row.id, names.chunk_name(place)) for place in range(1, stored.chunks + 1)]
            if fan is None:
                deletes.append((row.id, names.FAN))
            stored.fan, stored.chunks = None, 0
        if fan is None:
            return
        puts.append((row.id, names.FAN, self.codec.fan(fan)))
        left = len(fan.chunks)
        if stored.fan is None:
            puts += [
                (row.id, names.chunk_name(place), self.codec.chunk(fan, place, tasks))
                for place, tasks in zip(range(left, 0, -1), fan.chunks, strict=True)
            ]
        else:
            deletes += [(row.id, names.chunk_name(place)) for place in range(left + 1, stored.chunks + 1)]
        stored.fan, stored.chunks = fan.step, left

    def written(self, head: Head) -> None:  # noqa: ARG002  the time is the clock's
        """A batch is durable: move its rows that are over out of the tables, unless they changed again."""
        self._in_flight, self._going = {}, {}
        flying, self._flying = self._flying, []
        for row in flying:
            if row in self._dirty:
                self._flying.append(row)
                continue
            self.tables.forget(row)
            self._keep(row)

    def lost(self, why: str) -> None:
        """The shard is no longer this node's, or must be loaded again; `why` is for error messages."""
        self.lost_because = why

    # Rows that are over ----------------------------------------------------------------------------------------

    def _keep(self, row: JobRow | TaskRow | LateRow) -> None:
        self._over[_key(row)] = row
        self._over_of[row.job_id].add(_key(row))
        if isinstance(row, JobRow) and row.request_id is not None:
            self._over_requests[row.owner, row.request_id] = row.id
        while len(self._over) > KEPT_OVER:
            key, oldest = next(iter(self._over.items()))
            if oldest in self._dirty or oldest in self._flying:
                self._over.move_to_end(key)
                return
            del self._over[key]
            of_job = self._over_of[oldest.job_id]
            of_job.discard(key)
            if not of_job:
                del self._over_of[oldest.job_id]
            if isinstance(oldest, JobRow) and oldest.request_id is not None:
                self._over_requests.pop((oldest.owner, oldest.request_id), None)

    def _kept(self, key: object, kind: type[AnyRow]) -> AnyRow | None:
        row = self._over.get(key)
        return row if isinstance(row, kind) else None

    async def fetch(
        self, store: RowStore, jobs: Iterable[str] = (), tasks: Iterable[str] = ()
    ) -> Mapping[str, SealBroken]:
        """Read jobs and tasks into memory that may be over, for the next operation. Unknown ids are ignored.

        Returns:
            the errors, by job id, of rows that cannot be opened. Those rows are not in memory.
        """
        tables, broken = self.tables, dict[str, SealBroken]()
        some_tasks = [one for one in dict.fromkeys(tasks) if tables.task(one) is None and _is_task_id(one)]
        wanted = dict.fromkeys((*jobs, *(job_of(one) for one in some_tasks)))
        some_jobs = [one for one in wanted if one and tables.job(one) is None]
        some_jobs, some_tasks, values = await self._read_kept(store, some_jobs, some_tasks)
        for at, job_id in enumerate(some_jobs):
            head, state = values[2 * at], values[2 * at + 1]
            if head is not None and state is not None and tables.job(job_id) is None:
                try:
                    self._keep(_as_stored(self.codec.job(head, state, None)))
                except SealBroken as error:
                    broken[job_id] = error
        for one, value in zip(some_tasks, values[2 * len(some_jobs) :], strict=True):
            if value is not None and tables.task(one) is None and tables.job(job_of(one)) is not None:
                try:
                    self._keep(self.codec.opened_task(job_of(one), *_place_of(one), value))
                except SealBroken as error:
                    broken[job_of(one)] = error
        return broken

    async def _read_kept(
        self, store: RowStore, jobs: list[str], tasks: list[str]
    ) -> tuple[list[str], list[str], Sequence[bytes | None]]:
        """Read jobs and tasks, except those of jobs that are being purged.

        Returns:
            the ids of the jobs, the ids of the tasks, and their stored rows: head and state of each job, then the
            tasks.
        """
        while True:
            jobs = [one for one in jobs if one not in self._purged and one not in self._going]
            tasks = [one for one in tasks if job_of(one) not in self._purged and job_of(one) not in self._going]
            keys: list[RowKey] = [(one, name) for one in jobs for name in (names.HEAD, names.STATE)]
            keys += [(job_of(one), names.task_name(*_place_of(one))) for one in tasks]
            purges = self._purges
            values = await store.read(0, keys) if keys else ()
            # A job purged during the read may be among the values: then read again without it.
            if purges == self._purges:
                return jobs, tasks, values

    async def fetch_requests(self, store: RowStore, requests: Iterable[tuple[str, str]]) -> None:
        """Read jobs into memory by the (owner, request id) pairs that created them.

        Raises:
            SealBroken: a job cannot be opened.
        """
        tables = self.tables
        some = [one for one in dict.fromkeys(requests) if tables.request(*one) is None]
        if not some:
            return
        found = await store.read(0, [("", names.request_name(*one)) for one in some])
        for error in (await self.fetch(store, [value.decode() for value in found if value is not None])).values():
            raise error

    async def fetch_lates(self, store: RowStore, wanted: Iterable[tuple[str, int, str]]) -> None:
        """Read counts of late results into memory, by (job id, arrival number of the task, worker id)."""
        some = [one for one in dict.fromkeys(wanted) if (one[1], one[2]) not in self.tables.lates]
        some = [one for one in some if (one[1], one[2]) not in self._over]
        if some:
            values = await store.read(0, [(job, names.late_name(task, worker)) for job, task, worker in some])
            for value in values:
                if value is not None:
                    row = self.codec.opened_late(value)
                    if (row.task, row.worker_id) not in self.tables.lates:
                        self._keep(row)


def _key(row: JobRow | TaskRow | LateRow) -> object:
    return (row.task, row.worker_id) if isinstance(row, LateRow) else row.id


def _place(row: JobRow) -> tuple[object, ...]:
    """The values that decide a job's index entries, except that in `all_of`; `_entries` makes the entries.

    Returns:
        (False, end_due, events_due), or (True, status, finished_at, end_due, events_due) for a job that is over.
    """
    over = (row.over, str(row.status), row.finished_at) if row.over else (False,)
    return (*over, row.end_due, row.events_due)


def _entries(row: JobRow, place: Sequence[object]) -> list[Entry]:
    *over, end_due, events_due = place
    entries: list[Entry] = []
    if over[0]:
        _, status, finished_at = over
        assert isinstance(status, str)  # noqa: S101  as `_place` made it
        assert isinstance(finished_at, int)  # noqa: S101  likewise
        entries += [(over_of(row.owner, status), row.n, row.id), (ENDED, finished_at, row.id)]
    else:
        entries += [(LIVE, row.n, row.id), (live_of(row.owner), row.n, row.id)]
    for index, due in ((ENDS, end_due), (EVENTS, events_due)):
        if isinstance(due, int):
            entries.append((index, due, row.id))
    return entries


def _as_stored(row: JobRow) -> JobRow:
    """A job's row that was just read, marked so that nothing of it is written."""
    stored = row.stored = Stored()
    stored.state, stored.inbox, stored.place = row.state, row.inbox, _place(row)
    if row.fan is not None:
        stored.fan, stored.chunks = row.fan.step, len(row.fan.chunks)
    return row


def _is_task_id(text: str) -> bool:
    parts = text.rsplit("-", 2)
    return len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal()


def _place_of(task: str) -> tuple[int, int]:
    _, step, index = task.rsplit("-", 2)
    return int(step), int(index)


async def entries_of(
    store: RowStore, index: str, *, low: int = 0, high: int = MAX_SCORE, page: int = 1_000
) -> AsyncIterator[Sequence[Found]]:
    """Yield all entries of an index of shard 0, in pages of about `page`, lowest score first, each entry once."""
    seen: set[str] = set()
    size = page
    while True:
        found = await store.range(index, [0], low, high, size)
        fresh = [one for one in found if one.member not in seen]
        if fresh:
            yield fresh
        if len(found) < size:
            return
        # More entries may have the last score, so the next page starts at that score and skips those seen.
        last = found[-1].score
        seen = {one.member for one in found if one.score == last}
        low, size = last, page + len(seen)


async def load(store: RowStore, shard: Shard, now: int) -> set[str]:
    """Read all jobs and tasks that are not over into an empty shard. Claims and sessions end.

    Jobs with something to do are ready, in order of arrival. Leases and offers start anew from `now`. No execution
    timeout ends before its lease.

    Returns:
        the ids of jobs that are left out because a row cannot be opened; their rows stay in the store.
    """
    tables, left_out = shard.tables, set[str]()
    [numbers] = await store.read(0, [("", names.NUMBERS)])
    if numbers is not None:
        tables.number_from(unpack("numbers", numbers)[0])
    shard.ended = await store.count(ENDED, [0])
    jobs: list[JobRow] = []
    tasks: list[TaskRow] = []
    # The next page of jobs is read while the last one is opened.
    reading: asyncio.Task[_Stored] | None = None
    try:
        async for page in entries_of(store, LIVE, page=LOAD_JOBS):
            before, reading = reading, asyncio.create_task(_read_jobs(store, [one.member for one in page]))
            if before is not None:
                await _open_jobs(store, shard.codec, await before, left_out, jobs, tasks)
        if reading is not None:
            await _open_jobs(store, shard.codec, await reading, left_out, jobs, tasks)
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    if left_out:
        some_names = ", ".join(sorted(left_out)[:9])
        log.error("%d jobs cannot be opened and are left as they are: %s", len(left_out), some_names)
    async for some in in_chunks(jobs):
        for row in some:
            tables.jobs[row.id] = row
            if row.request_id is not None:
                tables.requests[row.owner, row.request_id] = row.id
    async for some_tasks in in_chunks(sorted(tasks, key=lambda one: one.n)):
        for task in some_tasks:
            _take_in(tables, task, now)
    async for some in in_chunks(jobs):
        for row in some:
            if row.due or row.inbox:
                tables.mark_ready(row)
            tables.arm(row)
            want_spawn(tables, row, now)
    tables.done()
    return left_out


_OF_A_JOB = (names.HEAD, names.STATE, names.INBOX, names.FAN)
# Job ids, and the rows of these four names for each job, one job after the other.
_Stored: TypeAlias = tuple[Sequence[str], Sequence[bytes | None]]


async def _read_jobs(store: RowStore, ids: Sequence[str]) -> _Stored:
    return ids, await store.read(0, [(job_id, name) for job_id in ids for name in _OF_A_JOB])


async def _open_jobs(
    store: RowStore, codec: Codec, stored: _Stored, left_out: set[str], jobs: list[JobRow], tasks: list[TaskRow]
) -> None:
    """Open jobs into `jobs`, and their open tasks into `tasks`. A job that cannot be opened goes into `left_out`."""
    ids, values = stored
    for at, job_id in enumerate(ids):
        head, state, inbox, fan = values[4 * at : 4 * at + 4]
        if head is None or state is None:
            continue
        try:
            row = codec.job(head, state, inbox)
            if fan is not None:
                row.fan = await _load_fan(store, codec, job_id, fan)
            of_job = await _load_tasks(store, codec, row)
        except SealBroken:
            left_out.add(job_id)
            continue
        jobs.append(_as_stored(row))
        tasks += of_job


async def _load_fan(store: RowStore, codec: Codec, job_id: str, stored: bytes) -> FanOut:
    places = range(codec.chunks_of(stored), 0, -1)
    chunks = await store.read(0, [(job_id, names.chunk_name(place)) for place in places])
    return codec.fan_out(
        job_id, stored, [(place, chunk) for place, chunk in zip(places, chunks, strict=True) if chunk is not None]
    )


async def _load_tasks(store: RowStore, codec: Codec, row: JobRow) -> list[TaskRow]:
    tasks: list[TaskRow] = []
    for first in range(0, row.open_count, READ_ROWS):
        places = range(first, min(first + READ_ROWS, row.open_count))
        keys = [(row.id, names.task_name(row.open_step, index)) for index in places]
        for index, value in zip(places, await store.read(0, keys), strict=True):
            if value is not None:
                task = codec.opened_task(row.id, row.open_step, index, value)
                tasks += () if task.state is OVER else (task,)
    return tasks


def _take_in(tables: Tables, task: TaskRow, now: int) -> None:
    tables.tasks[task.id] = task
    fan = tables.jobs[task.job_id].fan
    if fan is not None and fan.step == task.step and task.state in (QUEUED, BACK_OFF):
        fan.queued += 1
    if task.state is QUEUED:
        tables.backlog.enqueue(task)
    elif task.state in (OFFERED, LEASED):
        tables.worker(task.worker_id).held[task.lease_id] = task.id
        if task.state is LEASED:
            task.lease_until = now + keeps_for(tables, task)
            # The worker may have finished in time, but could not report it while no node owned the shard.
            if task.execution_due is not None:
                task.execution_due = max(task.execution_due, task.lease_until)
        else:
            task.lease_until = now + tables.settings.offer
            _repeat_offer(tables, task)
    tables.arm(task)


def _repeat_offer(tables: Tables, task: TaskRow) -> None:
    """Add a task to the reply of its job's last commit, if that commit offered it: a repeat must offer it again."""
    row = tables.jobs[task.job_id]
    offered = task.attempts[-1].offered
    if offered == row.updated_at and task.step == row.open_step:
        before = row.reply.leased.offers if row.reply else ()
        row.reply = Committed(leased=Leased((*before, offer_of(tables, task, offered))))


async def branches(store: RowStore, shard: Shard, row: JobRow, step: int) -> list[tuple[str, Outcome]]:
    """The (task id, outcome) pairs of a fan-out's ended branches, by index; empty if `step` is not the fan-out's.

    Raises:
        SealBroken: a task cannot be opened.
    """
    total = row.fan.total if row.fan is not None and row.fan.step == step else 0
    found: list[tuple[str, Outcome]] = []
    for first in range(0, total, READ_ROWS):
        places = range(first, min(first + READ_ROWS, total))
        missing = [index for index in places if shard.tables.task(task_id(row.id, step, index)) is None]
        values = await store.read(0, [(row.id, names.task_name(step, index)) for index in missing])
        stored = dict(zip(missing, values, strict=True))
        for index in places:
            task = shard.tables.task(task_id(row.id, step, index))
            if task is not None:
                outcome = task.outcome
            elif (value := stored.get(index)) is not None:
                outcome = shard.codec.outcome(row.id, step, index, value)
            else:
                outcome = None
            if outcome is not None:
                found.append((task_id(row.id, step, index), outcome))
    return found
