"""Reads jobs of shards that other nodes own, from the store."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from holon.core import codec as names
from holon.core import creations, reads
from holon.core.codec import Codec
from holon.core.row import shard_of
from holon.core.rows import BACK_OFF, LEASED, OFFERED, QUEUED, FanOut, JobRow, TaskRow
from holon.core.shard import is_task_id, task_place
from holon.core.tables import Tables
from holon.domain.events import InboxEvent
from holon.domain.task import job_of, task_id
from holon.ports import StoreSettings, TaskRecord
from holon.stores.port import RowKey, RowStore
from holon.stores.sealing import SealBroken

# One read has at most this many tasks. Only what a record shows of them is kept.
READ_TASKS = 200
# Of a fan-out, at most this many tasks are read. Nearly always fewer of them wait for a lease.
MOST_BRANCHES = 400
_OF_A_JOB = (names.HEAD, names.STATE, names.FAN)


class Lookup:
    """Reads jobs of shards that this node does not own, as their owners last wrote them.

    It may be asked about any shard: what it reads is durable, whoever owns the shard meanwhile.

    Arguments:
        store: where rows are read.
        codec: opens the rows.
        settings: those of the node.
    """

    def __init__(self, store: RowStore, codec: Codec, settings: StoreSettings) -> None:
        self._store = store
        self._codec = codec
        self._settings = settings

    def __repr__(self) -> str:
        return f"Lookup({self._store})"

    def tables(self) -> Tables:
        """Empty tables, to read jobs into."""
        return Tables(self._settings)

    async def read(self, tables: Tables, jobs: Iterable[str]) -> Mapping[str, SealBroken]:
        """Read jobs, with those of their open tasks that their records show. Unknown ids are ignored.

        Tasks are read after their jobs, so they may be further. Shards are read at the same time.

        Arguments:
            tables: those to read into, which are no node's.
        Returns:
            the errors, by job id, of jobs that cannot be opened. A task that cannot be opened is left out.
        """
        of_shard: defaultdict[int, list[str]] = defaultdict(list)
        for job_id in dict.fromkeys(jobs):
            of_shard[shard_of(job_id)].append(job_id)
        broken: dict[str, SealBroken] = {}
        await asyncio.gather(*(self._read(tables, number, some, broken) for number, some in of_shard.items()))
        return broken

    async def _read(self, tables: Tables, shard: int, jobs: Sequence[str], broken: dict[str, SealBroken]) -> None:
        values = await self._store.read(shard, [(job_id, name) for job_id in jobs for name in _OF_A_JOB])
        waiting: list[JobRow] = []
        for at, job_id in enumerate(jobs):
            head, state, fan_out = values[3 * at : 3 * at + 3]
            if head is None or state is None:
                continue
            try:
                row = self._codec.job(head, state, None)
            except SealBroken as error:
                broken[job_id] = error
                continue
            tables.jobs[job_id] = row
            if row.open_count and not row.over:
                row.fan = self._codec.fan_out(job_id, fan_out, ()) if fan_out is not None else None
                waiting.append(row)
        await self._read_tasks(
            tables, shard, [(row, index) for row in waiting for index in reads.searched(row.open_count)]
        )
        fans = [(row, row.fan) for row in waiting if row.fan is not None]
        more = [(row, index) for row, fan in fans for index in _unseen(tables, row, fan)]
        await self._read_tasks(tables, shard, more)
        for row, fan in fans:
            fan.queued = _queued(tables, row, fan)

    async def _read_tasks(self, tables: Tables, shard: int, wanted: Sequence[tuple[JobRow, int]]) -> None:
        """Read open tasks of jobs, by their indexes."""
        for first in range(0, len(wanted), READ_TASKS):
            some = wanted[first : first + READ_TASKS]
            keys: list[RowKey] = [(row.id, names.task_name(row.open_step, index)) for row, index in some]
            for (row, index), value in zip(some, await self._store.read(shard, keys), strict=True):
                if value is None:
                    continue
                try:
                    task = self._codec.opened_task(row.id, row.open_step, index, value)
                except SealBroken:
                    continue
                task.params = b""
                tables.tasks[task.id] = task

    async def task(self, wanted: str) -> TaskRecord | None:
        """A task's record; None if the task is unknown. Raises SealBroken if it cannot be opened."""
        if not is_task_id(wanted):
            return None
        job_id, place = job_of(wanted), task_place(wanted)
        [stored] = await self._store.read(shard_of(wanted), [(job_id, names.task_name(*place))])
        if stored is None:
            return None
        tables = self.tables()
        tables.tasks[wanted] = self._codec.opened_task(job_id, *place, stored)
        return reads.task(tables, wanted)

    async def unread(self, job_id: str) -> Sequence[InboxEvent]:
        """The events in a job's inbox, in order of arrival; empty if the job is unknown.

        Raises:
            SealBroken: they cannot be opened.
        """
        [stored] = await self._store.read(shard_of(job_id), [(job_id, names.INBOX)])
        return [event for _, event in self._codec.opened_inbox(job_id, stored)] if stored else ()

    async def made(self, shard: int, owner: str, request_id: str) -> tuple[str, bytes] | None:
        """The id of the job that a request created, and the digest of the request; None if there is no such job.

        Arguments:
            shard: the shard of the jobs of this request.
        Raises:
            SealBroken: the job cannot be opened.
        """
        [stored] = await self._store.read(shard, [("", names.request_name(owner, request_id))])
        if stored is None:
            return None
        tables, job_id = self.tables(), stored.decode()
        for error in (await self.read(tables, [job_id])).values():
            raise error
        tables.requests[owner, request_id] = job_id
        return creations.made(tables, owner, request_id)


def _seen(tables: Tables, row: JobRow, indexes: Iterable[int]) -> list[TaskRow]:
    found = (tables.tasks.get(task_id(row.id, row.open_step, index)) for index in indexes)
    return [task for task in found if task is not None]


def _live(fan: FanOut) -> int:
    """How many tasks of a fan-out are not over."""
    return fan.spawned - (fan.total - fan.pending)


def _unseen(tables: Tables, row: JobRow, fan: FanOut) -> Sequence[int]:
    """The indexes of the tasks that must be read to know whether workers have branches while others wait."""
    states = [task.state for task in _seen(tables, row, reads.searched(row.open_count))]
    held = OFFERED in states or LEASED in states
    if held or QUEUED not in states or states.count(QUEUED) + states.count(BACK_OFF) >= _live(fan):
        return ()
    known = set(reads.searched(row.open_count))
    # The newest wait, so those that workers have are right below them.
    newest = range(row.open_count - 1, max(-1, row.open_count - 1 - MOST_BRANCHES), -1)
    return [index for index in newest if index not in known]


def _queued(tables: Tables, row: JobRow, fan: FanOut) -> int:
    """How many tasks of a fan-out wait: all that are not over, unless one was read that a worker has."""
    newest = range(max(0, row.open_count - MOST_BRANCHES), row.open_count)
    states = [task.state for task in _seen(tables, row, {*newest, *reads.searched(row.open_count)})]
    waiting, live = states.count(QUEUED) + states.count(BACK_OFF), _live(fan)
    if not waiting:
        return 0
    return min(waiting, live - 1) if OFFERED in states or LEASED in states else live
