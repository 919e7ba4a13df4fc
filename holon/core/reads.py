"""The core: reads its rows as records for clients and the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from holon.core.costs import unreported
from holon.core.rows import BACK_OFF, QUEUED, UNSERVED, JobRow, TaskRow
from holon.core.tables import Tables
from holon.domain.events import InboxEvent
from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.task import task_id
from holon.ports import Counts, JobFilter, JobRecord, TaskRecord
from holon.stores.records import decode_job

# The search for a waiting branch of a fan-out looks at this many, from both ends. Nearly always a waiting branch is
# near one of the ends.
LOOK_AT = 50


def job_record(tables: Tables, row: JobRow) -> JobRecord:
    """A job as clients see it."""
    return copied(tables, row)()


def copied(tables: Tables, row: JobRow) -> Callable[[], JobRecord]:
    """A function that returns the record of the job as it is now, even if the row has changed before the call."""
    # A job without open tasks has no waiting task; nearly all jobs that are over have none.
    queued_need, branch_need = _needs(tables, row) if row.open_count else (None, None)
    return partial(
        _job_record,
        row.state,
        row.deliveries,
        created_at=row.created_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        progress=row.progress,
        progress_message=row.message,
        queued_need=queued_need,
        sequence=row.history_seq,
        number=row.n,
        cost=row.cost,
        unreported=unreported(row),
        again_at=_again_at(tables, row),
        branch_need=branch_need,
    )


def _again_at(tables: Tables, row: JobRow) -> int | None:
    if row.wake_at is not None:
        return row.wake_at
    if row.fan is not None or not row.open_count:
        return None
    task = tables.tasks.get(task_id(row.id, row.open_step, 0))
    return task.until if task is not None and task.state is BACK_OFF else None


def _needs(tables: Tables, row: JobRow) -> tuple[Need | None, Need | None]:
    """`queued_need` and `branch_need` of the job's `JobRecord`."""
    fan = row.fan
    if fan is None:
        return _queued_need(tables, row), None
    if not fan.queued:
        return None, None
    need = _queued_need(tables, row)
    return (need, None) if fan.queued == fan.spawned - (fan.total - fan.pending) else (None, need)


def searched(open_count: int) -> Iterator[int]:
    """The indexes of the open tasks of a job among which a waiting one is searched, in their order."""
    last = open_count - 1
    for n in range(min(open_count, LOOK_AT)):
        yield last - n // 2 if n % 2 else n // 2


def _queued_need(tables: Tables, row: JobRow) -> Need | None:
    for index in searched(row.open_count):
        task = tables.tasks.get(task_id(row.id, row.open_step, index))
        if task is not None and task.state is QUEUED:
            return task.need
    return None


def _job_record(state: bytes, deliveries: int, **rest: Any) -> JobRecord:
    return JobRecord(decode_job(state).seen(deliveries), **rest)


def status_seen(row: JobRow) -> Status:
    """A job's status as clients see it, without decoding its state."""
    return Status.RUNNING if row.status == Status.PENDING and row.deliveries else Status(row.status)


def task_counts(tables: Tables) -> tuple[int, int, dict[str, int]]:
    """The number of tasks that wait for a lease, the number that workers hold, and the waiting tasks of each skill."""
    waiting: dict[str, int] = {}
    for key, count in tables.backlog.waiting.items():
        if count:
            skill = tables.backlog.needs[key].skill
            waiting[skill] = waiting.get(skill, 0) + count
    return sum(waiting.values()), sum(len(worker.held) for worker in tables.workers.values()), waiting


def counts(tables: Tables) -> Counts:
    """How much there is, in these tables, of what is not over."""
    jobs = Counter([status_seen(row) for row in tables.jobs.values() if not row.over])
    return Counts(jobs, *task_counts(tables))


def passes(row: JobRow, which: JobFilter) -> bool:
    """Whether a job matches the filter of a list."""
    return (
        row.owner == which.owner
        and which.blueprint in (None, row.blueprint)
        and (not which.statuses or row.status in which.statuses)
        and which.in_time(row.created_at)
    )


def unread(tables: Tables, job_id: str) -> Sequence[InboxEvent]:
    """The events in a job's inbox, in order of arrival; empty if the job is unknown."""
    row = tables.job(job_id)
    return [event for _, event in row.inbox] if row is not None else ()


def task(tables: Tables, wanted: str) -> TaskRecord | None:
    """A task's record, for decisions of the engine; None if the task is unknown."""
    row = tables.task(wanted)
    return _task_record(row) if row is not None else None


def queued_tasks(tables: Tables, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
    """The next `limit` waiting tasks of a match key in queue order, after the task id `after`; empty: the first."""
    return [_task_record(row) for row in tables.backlog.page(key, tables.task(after) if after else None, limit)]


def _task_record(row: TaskRow) -> TaskRecord:
    return TaskRecord(
        id=row.id,
        job_id=row.job_id,
        state=row.state,
        need=row.need,
        lease_id=row.lease_id,
        worker_id=row.worker_id,
        generation=row.generation,
        attempt=row.attempt,
        retry=row.retry,
        params=row.params,
        result_due=row.result_due,
        begun=row.accepted,
        unserved=tuple(who for who, _, how in row.avoid if how == UNSERVED),
    )
