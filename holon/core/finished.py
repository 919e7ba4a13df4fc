"""Rows of jobs and tasks that are over: those last written or asked for stay in memory."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from holon.core import codec as names
from holon.core.row import shard_of
from holon.core.rows import JobRow, LateRow, TaskRow
from holon.core.shard import Shard, as_stored, is_task_id, task_place
from holon.core.tables import Tables
from holon.domain.task import job_of
from holon.stores.port import RowKey, RowStore
from holon.stores.sealing import SealBroken

AnyRow = TypeVar("AnyRow", JobRow, TaskRow, LateRow)

# At most this many rows that are over stay in memory, with this many bytes: the last that were written or fetched.
KEPT_OVER = 2_000
KEPT_OVER_BYTES = 64 * 2**20


class Finished:
    """Rows that are over, of all shards of a node. They are read from the store when an operation needs them.

    Arguments:
        tables: those of the node; they find these rows here.
        shards: the shards that the node owns, by their numbers.
        store: where rows are read.
    """

    def __init__(self, tables: Tables, shards: Mapping[int, Shard], store: RowStore) -> None:
        self._tables = tables
        self._shards = shards
        self._store = store
        # Each row with its size. `_bytes` is the sum of the sizes.
        self._over: OrderedDict[object, tuple[JobRow | TaskRow | LateRow, int]] = OrderedDict()
        self._bytes = 0
        self._over_of: defaultdict[str, set[object]] = defaultdict(set)
        self._requests: dict[tuple[str, str], str] = {}
        tables.load_job = lambda job_id: self._kept(job_id, JobRow)
        tables.load_task = lambda wanted: self._kept(wanted, TaskRow)
        tables.load_late = lambda task, worker: self._kept((task, worker), LateRow)
        tables.load_request = lambda owner, request: self._requests.get((owner, request))

    def __repr__(self) -> str:
        return f"Finished({len(self._over)})"

    def keep(self, row: JobRow | TaskRow | LateRow) -> None:
        """Keep a row that is over."""
        key, size = _key(row), _size(row)
        self._remove(key)
        self._over[key] = row, size
        self._bytes += size
        self._over_of[row.job_id].add(key)
        if isinstance(row, JobRow) and row.request_id is not None:
            self._requests[row.owner, row.request_id] = row.id

    def evict(self, spared: int = 0) -> None:
        """Forget the oldest rows until the limits hold, but not the newest `spared`, nor those still to be written."""
        while len(self._over) > spared and (len(self._over) > KEPT_OVER or self._bytes > KEPT_OVER_BYTES):
            key, (oldest, _) = next(iter(self._over.items()))
            if self._shards[shard_of(oldest.job_id)].is_changing(oldest):
                self._over.move_to_end(key)
                spared += 1
                continue
            self._remove(key)
            of_job = self._over_of[oldest.job_id]
            of_job.discard(key)
            if not of_job:
                del self._over_of[oldest.job_id]

    def forget(self, job_id: str) -> None:
        """Forget all rows of a job."""
        for key in self._over_of.pop(job_id, ()):
            self._remove(key)

    def expel(self, shard: int) -> None:
        """Forget all rows of a shard that is lost."""
        for job_id in [one for one in self._over_of if shard_of(one) == shard]:
            self.forget(job_id)

    def _remove(self, key: object) -> None:
        row, size = self._over.pop(key, (None, 0))
        self._bytes -= size
        if isinstance(row, JobRow) and row.request_id is not None:
            self._requests.pop((row.owner, row.request_id), None)

    def _kept(self, key: object, kind: type[AnyRow]) -> AnyRow | None:
        row, _ = self._over.get(key, (None, 0))
        return row if isinstance(row, kind) else None

    async def fetch(self, jobs: Iterable[str] = (), tasks: Iterable[str] = ()) -> Mapping[str, SealBroken]:
        """Read jobs and tasks into memory that may be over, with the jobs of the tasks. Unknown ids are ignored.

        When this returns, all of them are in memory whose shards the node owns then. They may be evicted, or their
        shards lost, as soon as the caller waits.

        Returns:
            the errors, by job id, of rows that cannot be opened. Those rows are not in memory.
        """
        tables, broken = self._tables, dict[str, SealBroken]()
        wanted_tasks = dict.fromkeys(one for one in tasks if is_task_id(one))
        wanted_jobs = dict.fromkeys(one for one in (*jobs, *map(job_of, wanted_tasks)) if one)
        no_jobs, no_tasks = set[str](), set[str]()
        # Rows in memory may be evicted while others are read, and a shard may be lost and owned again. Then they are
        # read again.
        while True:
            some_jobs = [one for one in wanted_jobs if one not in no_jobs and tables.job(one) is None]
            some_tasks = [one for one in wanted_tasks if one not in no_tasks and tables.task(one) is None]
            owned = [one for one in dict.fromkeys(map(shard_of, (*some_jobs, *some_tasks))) if one in self._shards]
            if not owned:
                break
            for number in owned:
                shard = self._shards.get(number)
                jobs_here = [one for one in some_jobs if shard_of(one) == number]
                tasks_here = [one for one in some_tasks if shard_of(one) == number]
                if shard is None or not await self._fetch(shard, jobs_here, tasks_here, broken):
                    continue
                no_jobs.update(one for one in jobs_here if tables.job(one) is None)
                # Without its job, a task is not kept.
                no_tasks.update(
                    one
                    for one in tasks_here
                    if tables.task(one) is None and (job_of(one) in no_jobs or tables.job(job_of(one)) is not None)
                )
        over = [one for one in (*wanted_jobs, *wanted_tasks) if one in self._over]
        for one in over:
            self._over.move_to_end(one)
        self.evict(len(over))
        return broken

    async def read_job(self, shard: Shard, job_id: str) -> JobRow | None:
        """Read a job of a shard that is not loaded yet; None if there is none, or it cannot be opened."""
        head, state = await self._store.read(shard.number, [(job_id, names.HEAD), (job_id, names.STATE)])
        if head is None or state is None:
            return None
        try:
            return as_stored(shard.codec.job(head, state, None))
        except SealBroken:
            return None

    async def _fetch(self, shard: Shard, jobs: list[str], tasks: list[str], broken: dict[str, SealBroken]) -> bool:
        """Read jobs and tasks of a shard that are not in memory. Errors of rows that cannot be opened go into `broken`.

        Returns:
            whether the shard was this node's all the time; if not, nothing is known of them.
        """
        tables, codec = self._tables, shard.codec
        jobs, tasks, values = await self._read(shard, jobs, tasks)
        if self._shards.get(shard.number) is not shard:
            return False
        for at, job_id in enumerate(jobs):
            head, state = values[2 * at], values[2 * at + 1]
            if head is not None and state is not None and tables.job(job_id) is None:
                try:
                    self.keep(as_stored(codec.job(head, state, None)))
                except SealBroken as error:
                    broken[job_id] = error
        for one, value in zip(tasks, values[2 * len(jobs) :], strict=True):
            if value is not None and tables.task(one) is None and tables.job(job_of(one)) is not None:
                try:
                    self.keep(codec.opened_task(job_of(one), *task_place(one), value))
                except SealBroken as error:
                    broken[job_of(one)] = error
        return True

    async def _read(
        self, shard: Shard, jobs: list[str], tasks: list[str]
    ) -> tuple[list[str], list[str], Sequence[bytes | None]]:
        """Read jobs and tasks, except those of jobs that are being purged.

        Returns:
            the ids of the jobs, the ids of the tasks, and their stored rows: head and state of each job, then the
            tasks.
        """
        while True:
            jobs = [one for one in jobs if not shard.is_going(one)]
            tasks = [one for one in tasks if not shard.is_going(job_of(one))]
            keys: list[RowKey] = [(one, name) for one in jobs for name in (names.HEAD, names.STATE)]
            keys += [(job_of(one), names.task_name(*task_place(one))) for one in tasks]
            purges = shard.purges
            values = await self._store.read(shard.number, keys) if keys else ()
            # A job purged during the read may be among the values: then read again without it.
            if purges == shard.purges:
                return jobs, tasks, values

    async def fetch_requests(self, requests: Iterable[tuple[int, str, str]]) -> None:
        """Read jobs into memory by the requests that created them. Those of shards that are not owned are ignored.

        Arguments:
            requests: the shard, the owner and the request id of each.
        Raises:
            SealBroken: a job cannot be opened.
        """
        tables, wanted = self._tables, dict.fromkeys(requests)
        unknown: set[tuple[int, str, str]] = set()
        # Jobs in memory may be evicted while others are read. Then they are read, too.
        while some := [
            one for one in wanted if one[0] in self._shards and one not in unknown and tables.request(*one[1:]) is None
        ]:
            found: list[str] = []
            for number in dict.fromkeys(one[0] for one in some):
                keys = [("", names.request_name(*one[1:])) for one in some if one[0] == number]
                found += [value.decode() for value in await self._store.read(number, keys) if value is not None]
            # One fetch for all: the next one could evict them.
            known = [job_id for one in wanted if (job_id := tables.request(*one[1:])) is not None]
            for error in (await self.fetch([*known, *found])).values():
                raise error
            unknown.update(one for one in some if tables.request(*one[1:]) is None)

    async def fetch_lates(self, wanted: Iterable[tuple[str, int, str]]) -> None:
        """Read counts of late results into memory, by (job id, arrival number of the task, worker id)."""
        some = [one for one in dict.fromkeys(wanted) if one[1:] not in self._tables.lates]
        some = [one for one in some if one[1:] not in self._over]
        for number in dict.fromkeys(shard_of(one[0]) for one in some):
            keys = [(job, names.late_name(task, worker)) for job, task, worker in some if shard_of(job) == number]
            values = await self._store.read(number, keys)
            shard = self._shards.get(number)
            for value in values:
                if value is not None and shard is not None:
                    row = shard.codec.opened_late(value)
                    if (row.task, row.worker_id) not in self._tables.lates:
                        self.keep(row)


def _key(row: JobRow | TaskRow | LateRow) -> object:
    return (row.task, row.worker_id) if isinstance(row, LateRow) else row.id


def _size(row: JobRow | TaskRow | LateRow) -> int:
    """The size in bytes of the large parts of a row that is over. Such a task has no params."""
    if isinstance(row, JobRow):
        return len(row.state)
    return row.outcome.size if isinstance(row, TaskRow) and row.outcome is not None else 0
