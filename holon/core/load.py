"""Reads the rows of a shard into memory, when a node becomes its owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TypeAlias

from holon.core import codec as names
from holon.core.leases import keeps_for, offer_of
from holon.core.rows import BACK_OFF, LEASED, OFFERED, OVER, QUEUED, FanOut, JobRow, TaskRow
from holon.core.shard import ENDED, LIVE, Shard, as_stored
from holon.core.tables import Tables
from holon.core.tasks import want_spawn
from holon.domain.task import Outcome, task_id
from holon.ports import Committed, Leased
from holon.stores.port import MAX_SCORE, Found, RowStore
from holon.stores.records import unpack
from holon.stores.sealing import SealBroken
from holon.turns import in_chunks

log = logging.getLogger(__name__)

# While a shard is loaded, one read has the rows of at most this many jobs.
LOAD_JOBS = 200
# One read has at most this many rows of a kind of which there may be many: tasks, pages of history, documents.
READ_ROWS = 1_000


async def entries_of(
    store: RowStore, index: str, shards: Collection[int], *, low: int = 0, high: int = MAX_SCORE, page: int = 1_000
) -> AsyncIterator[Sequence[Found]]:
    """Yield all entries of an index in some shards, in pages of about `page`, lowest score first, each entry once."""
    seen: set[str] = set()
    size = page
    while True:
        found = await store.range(index, shards, low, high, size)
        fresh = [one for one in found if one.member not in seen]
        if fresh:
            yield fresh
        if len(found) < size:
            return
        # More entries may have the last score, so the next page starts at that score and skips those seen.
        last = found[-1].score
        seen = {one.member for one in found if one.score == last}
        low, size = last, page + len(seen)


async def load(store: RowStore, shard: Shard, tables: Tables, now: int) -> set[str]:
    """Read all jobs and tasks of a shard that are not over into empty tables. Claims and sessions end.

    Jobs with something to do are ready, in order of arrival. Leases and offers start anew from `now`. No execution
    timeout ends before its lease.

    Returns:
        the ids of jobs that are left out because a row cannot be opened; their rows stay in the store.
    """
    left_out, number = set[str](), shard.number
    [numbers] = await store.read(number, [("", names.NUMBERS)])
    if numbers is not None:
        last = unpack("numbers", numbers)[0]
        tables.number_from(last)
        shard.numbered(last)
    shard.ended = await store.count(ENDED, [number])
    jobs: list[JobRow] = []
    tasks: list[TaskRow] = []
    # The next page of jobs is read while the last one is opened.
    reading: asyncio.Task[_Stored] | None = None
    try:
        async for page in entries_of(store, LIVE, [number], page=LOAD_JOBS):
            ids = [one.member for one in page]
            before, reading = reading, asyncio.create_task(_read_jobs(store, number, ids))
            if before is not None:
                await _open_jobs(store, shard, await before, left_out, jobs, tasks)
        if reading is not None:
            await _open_jobs(store, shard, await reading, left_out, jobs, tasks)
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
    return left_out


_OF_A_JOB = (names.HEAD, names.STATE, names.INBOX, names.FAN)
# Job ids, and the rows of these four names for each job, one job after the other.
_Stored: TypeAlias = tuple[Sequence[str], Sequence[bytes | None]]


async def _read_jobs(store: RowStore, shard: int, ids: Sequence[str]) -> _Stored:
    return ids, await store.read(shard, [(job_id, name) for job_id in ids for name in _OF_A_JOB])


async def _open_jobs(
    store: RowStore, shard: Shard, stored: _Stored, left_out: set[str], jobs: list[JobRow], tasks: list[TaskRow]
) -> None:
    """Open jobs into `jobs`, and their open tasks into `tasks`. A job that cannot be opened goes into `left_out`."""
    ids, values = stored
    for at, job_id in enumerate(ids):
        head, state, inbox, fan = values[4 * at : 4 * at + 4]
        if head is None or state is None:
            continue
        try:
            row = shard.codec.job(head, state, inbox)
            if fan is not None:
                row.fan = await _load_fan(store, shard, job_id, fan)
            of_job = await _load_tasks(store, shard, row)
        except SealBroken:
            left_out.add(job_id)
            continue
        jobs.append(as_stored(row))
        tasks += of_job


async def _load_fan(store: RowStore, shard: Shard, job_id: str, stored: bytes) -> FanOut:
    places = range(shard.codec.chunks_of(stored), 0, -1)
    chunks = await store.read(shard.number, [(job_id, names.chunk_name(place)) for place in places])
    return shard.codec.fan_out(
        job_id, stored, [(place, chunk) for place, chunk in zip(places, chunks, strict=True) if chunk is not None]
    )


async def _load_tasks(store: RowStore, shard: Shard, row: JobRow) -> list[TaskRow]:
    tasks: list[TaskRow] = []
    for first in range(0, row.open_count, READ_ROWS):
        places = range(first, min(first + READ_ROWS, row.open_count))
        keys = [(row.id, names.task_name(row.open_step, index)) for index in places]
        for index, value in zip(places, await store.read(shard.number, keys), strict=True):
            if value is not None:
                task = shard.codec.opened_task(row.id, row.open_step, index, value)
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


async def branches(store: RowStore, shard: Shard, tables: Tables, row: JobRow, step: int) -> list[tuple[str, Outcome]]:
    """The (task id, outcome) pairs of a fan-out's ended branches, by index; empty if `step` is not the fan-out's.

    Raises:
        SealBroken: a task cannot be opened.
    """
    total = row.fan.total if row.fan is not None and row.fan.step == step else 0
    found: list[tuple[str, Outcome]] = []
    for first in range(0, total, READ_ROWS):
        places = range(first, min(first + READ_ROWS, total))
        known = {index: task for index in places if (task := tables.task(task_id(row.id, step, index))) is not None}
        # Those that are known may leave memory while the others are read.
        missing = [index for index in places if index not in known]
        values = await store.read(shard.number, [(row.id, names.task_name(step, index)) for index in missing])
        stored = dict(zip(missing, values, strict=True))
        for index in places:
            if index in known:
                outcome = known[index].outcome
            elif (value := stored.get(index)) is not None:
                outcome = shard.codec.outcome(row.id, step, index, value)
            else:
                outcome = None
            if outcome is not None:
                found.append((task_id(row.id, step, index), outcome))
    return found
