"""The core: what is done to a task's row by all who change where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from holon.core.rows import HARD, LEASED, OFFERED, QUEUED, SOFT, UNSERVED, FanOut, JobRow, TaskRow, WorkerRow
from holon.core.tables import Tables
from holon.ports import Attempt, LeaseRef, Stop, StopReason

# A chunk of a large fan-out becomes tasks when fewer than this many of its branches wait for a lease; a hint says so
# at once, and a timer sees to it when the hint is lost.
SPAWN_BELOW = 100
SPAWN_CHECK_MS = 5_000


def want_spawn(tables: Tables, row: JobRow, now: int) -> None:
    """Ask for the next chunk of a job's fan-out, if it is time."""
    fan = row.fan
    if fan is not None and fan.chunks and not fan.over and fan.queued < SPAWN_BELOW:
        tables.hint_spawn(row.id, fan.step)
        row.spawn_at = now + SPAWN_CHECK_MS
        tables.arm(row)


def queued_changed(tables: Tables, task: TaskRow, by: int, now: int) -> None:
    """A branch began or ceased to wait for a lease: its fan-out counts them."""
    if not task.branch:
        return
    row = tables.job(task.job_id)
    if row is not None and row.fan is not None and row.fan.step == task.step:
        row.fan.queued += by
        if by < 0 and row.fan.chunks and row.fan.queued < SPAWN_BELOW:
            want_spawn(tables, row, now)


def progressed(row: JobRow, fan: FanOut, by: float) -> None:
    """A branch of an edited job's fan-out is so much further than it was, in percent; or less far."""
    fan.progress += by
    # Taking away what was added leaves a little less than nothing, at times.
    row.progress = max(0.0, round(fan.progress / fan.total, 1))


def unsay(tables: Tables, task: TaskRow) -> None:
    """An edited task's attempt is over, and it is not: what that said of its progress is not that of the next one.

    Of a fan-out the newest message stays: it may be that of any branch.
    """
    row = tables.job(task.job_id)
    if row is None:
        return
    if row.fan is None:
        if row.progress is not None or row.message:
            tables.edit(row).progress, row.message = None, ""
    elif row.fan.step == task.step and task.progress:
        progressed(tables.edit(row), row.fan, -task.progress)
    task.progress = 0.0


def queued_fewer(tables: Tables, tasks: Sequence[TaskRow], now: int) -> None:
    """Branches ceased to wait for a lease, many at a time."""
    for _, some in groupby(tasks, attrgetter("job_id", "step")):
        first, *others = some
        queued_changed(tables, first, -1 - len(others), now)


def stop_holder(tables: Tables, task: TaskRow, reason: StopReason) -> None:
    """Tell the worker that holds a task to stop; the lease counts against its credits until its final word.

    One whose session has ended is told nothing, and has nothing more to say.
    """
    if task.state not in (OFFERED, LEASED):
        return
    worker = tables.workers.get(task.worker_id)
    if worker is not None and worker.live and worker.session_id == task.session_id:
        worker.stops = (*worker.stops, Stop(lease_ref(task), reason))
        tables.hint_stop()
    elif worker is not None and not worker.live:
        give_up(tables, task.worker_id, task.lease_id)


def lease_ref(task: TaskRow) -> LeaseRef:
    """The lease that a task is under, or was last."""
    return LeaseRef(task.worker_id, task.session_id, task.id, task.lease_id)


def held_by(tables: Tables, task: TaskRow, session_id: str) -> WorkerRow | None:
    """The worker of a task's lease, if this is its session and that is its current one."""
    worker = tables.workers.get(task.worker_id)
    if worker is None or worker.session_id != session_id or task.session_id != session_id:
        return None
    return worker


def give_up(tables: Tables, worker_id: str, lease_id: str) -> None:
    """A worker has spoken its final word about a lease: it no longer counts against its credits."""
    worker = tables.workers.get(worker_id)
    if worker is not None and lease_id in worker.held:
        tables.lose_hold(worker, lease_id)
        if not worker.live and not worker.held:
            tables.drop_worker(worker)


def close_attempt(task: TaskRow, now: int) -> None:
    """Note when the last attempt of an edited task ended."""
    attempts = task.attempts
    if attempts and (last := attempts[-1]).ended is None:
        task.attempts = (*attempts[:-1], Attempt(last.worker_id, last.offered, last.leased, now))


def requeue(tables: Tables, task: TaskRow, now: int, *, avoid_until: int | None = None, how: int = HARD) -> None:
    """Put an edited task back into its queue under its first arrival; until that time it avoids its last worker."""
    close_attempt(task, now)
    unsay(tables, task)
    task.state = QUEUED
    if avoid_until is not None:
        avoid(task, avoid_until, now, how)
    tables.backlog.enqueue(task)
    queued_changed(tables, task, 1, now)
    tables.arm(task)


def avoid(task: TaskRow, until: int, now: int, how: int) -> None:
    """Keep an edited task from its last worker until then.

    Of those who failed it that is the last alone: else it would wait once each of a few workers has failed it. Those
    below whom nobody can do it are asked again together: else it would go round among a few of them for ever.
    """
    together = until if how == UNSERVED else 0
    entries = ((who, max(ends, together) if why == UNSERVED else ends, why) for who, ends, why in task.avoid)
    others = tuple(
        entry for entry in entries if entry[0] != task.worker_id and entry[1] > now and not how == entry[2] == SOFT
    )
    task.avoid = (*others, (task.worker_id, until, how))


def clear_fan_out(row: JobRow) -> None:
    """An edited job's fan-out makes no more tasks."""
    if row.fan is not None:
        row.fan.over = True
        row.fan.chunks = ()
        row.spawn_at = None
