"""The core: changes of task rows that several rules share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from holon.core.rows import HARD, LEASED, OFFERED, QUEUED, SOFT, UNSERVED, FanOut, JobRow, TaskRow, WorkerRow
from holon.core.tables import Tables
from holon.ports import Attempt, LeaseRef, Stop, StopReason

# If fewer than this many branches of a fan-out wait for a lease, its next chunk becomes tasks. A hint asks for the
# chunk at once; a timer asks again in case the hint is lost.
SPAWN_BELOW = 100
SPAWN_CHECK_MS = 5_000


def want_spawn(tables: Tables, row: JobRow, now: int) -> None:
    """Ask for the next chunk of a job's fan-out, if fewer than `SPAWN_BELOW` branches wait for a lease."""
    fan = row.fan
    if fan is not None and fan.chunks and not fan.over and fan.queued < SPAWN_BELOW:
        tables.hint_spawn(row.id, fan.step)
        row.spawn_at = now + SPAWN_CHECK_MS
        tables.arm(row)


def queued_changed(tables: Tables, task: TaskRow, by: int, now: int) -> None:
    """Add `by` to the waiting branches of a task's fan-out; nothing if the task is no branch."""
    if not task.branch:
        return
    row = tables.job(task.job_id)
    if row is not None and row.fan is not None and row.fan.step == task.step:
        row.fan.queued += by
        if by < 0 and row.fan.chunks and row.fan.queued < SPAWN_BELOW:
            want_spawn(tables, row, now)


def progressed(row: JobRow, fan: FanOut, by: float) -> None:
    """Add the change of one branch's progress to an edited job's fan-out; `by` is in percent, and may be negative."""
    fan.progress += by
    # Rounding errors can make the sum slightly negative.
    row.progress = max(0.0, round(fan.progress / fan.total, 1))


def unsay(tables: Tables, task: TaskRow) -> None:
    """Reset the progress of an edited task, which runs again after its attempt.

    A fan-out keeps its newest message, which may be that of another branch.
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
    """Count tasks that no longer wait for a lease; consecutive tasks of a fan-out are counted together."""
    for _, some in groupby(tasks, attrgetter("job_id", "step")):
        first, *others = some
        queued_changed(tables, first, -1 - len(others), now)


def stop_holder(tables: Tables, task: TaskRow, reason: StopReason) -> None:
    """Tell the worker that holds a task to stop. Its lease counts against its credits until it reports the end.

    If the session of the worker has ended, the lease stops counting at once.
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
    """The current or last lease of a task."""
    return LeaseRef(task.worker_id, task.session_id, task.id, task.lease_id)


def held_by(tables: Tables, task: TaskRow, session_id: str) -> WorkerRow | None:
    """The worker of a task's lease, if the session is both the lease's and the worker's current one; else None."""
    worker = tables.workers.get(task.worker_id)
    if worker is None or worker.session_id != session_id or task.session_id != session_id:
        return None
    return worker


def give_up(tables: Tables, worker_id: str, lease_id: str) -> None:
    """Stop counting a lease against its worker's credits; remove the worker if it has no session and no leases."""
    worker = tables.workers.get(worker_id)
    if worker is not None and lease_id in worker.held:
        tables.lose_hold(worker, lease_id)
        if not worker.live and not worker.held:
            tables.drop_worker(worker)


def close_attempt(task: TaskRow, now: int) -> None:
    """Record when the last attempt of an edited task ended, unless that is recorded already."""
    attempts = task.attempts
    if attempts and (last := attempts[-1]).ended is None:
        task.attempts = (*attempts[:-1], Attempt(last.worker_id, last.offered, last.leased, now))


def requeue(tables: Tables, task: TaskRow, now: int, *, avoid_until: int | None = None, how: int = HARD) -> None:
    """Put an edited task back into its queue, under its first arrival number.

    Arguments:
        avoid_until: until when the task avoids its last worker, epoch milliseconds; None: it does not.
        how: HARD, SOFT or UNSERVED.
    """
    close_attempt(task, now)
    unsay(tables, task)
    task.state = QUEUED
    if avoid_until is not None:
        avoid(task, avoid_until, now, how)
    tables.backlog.enqueue(task)
    queued_changed(tables, task, 1, now)
    tables.arm(task)


def avoid(task: TaskRow, until: int, now: int, how: int) -> None:
    """Make an edited task avoid its last worker until a time, in epoch milliseconds.

    Only one SOFT entry is kept, for the last worker that failed the task: otherwise the task would have to wait once
    each of a few workers has failed it. All UNSERVED entries end together, at the latest time: otherwise the task would
    circulate among those workers for ever.
    """
    together = until if how == UNSERVED else 0
    entries = ((who, max(ends, together) if why == UNSERVED else ends, why) for who, ends, why in task.avoid)
    others = tuple(
        entry for entry in entries if entry[0] != task.worker_id and entry[1] > now and not how == entry[2] == SOFT
    )
    task.avoid = (*others, (task.worker_id, until, how))


def clear_fan_out(row: JobRow) -> None:
    """End the fan-out of an edited job: its remaining chunks never become tasks."""
    if row.fan is not None:
        row.fan.over = True
        row.fan.chunks = ()
        row.spawn_at = None
