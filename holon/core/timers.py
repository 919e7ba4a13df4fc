"""The core: handles the timers of jobs and tasks that are due."""

from __future__ import annotations

from collections.abc import Callable

from holon.core.costs import leave, lose
from holon.core.endings import loss_of, lost, out_of_time, run_again
from holon.core.jobs import deliver
from holon.core.leases import execution
from holon.core.outcomes import apply
from holon.core.rows import BACK_OFF, LEASED, OFFERED, OVER, QUEUED, JobRow, TaskRow
from holon.core.tables import Tables
from holon.core.tasks import SPAWN_BELOW, SPAWN_CHECK_MS, stop_holder
from holon.domain.attempts import LEASE_EXPIRED, Loss, Unfinished
from holon.domain.events import Woken
from holon.domain.retries import retry_after
from holon.domain.task import TIMEOUT_ERROR, Outcome
from holon.ports import Fired, StopReason, Superseded


def fire(tables: Tables, limit: int, chance: Callable[[], float], now: int) -> Fired:
    """Handle at most `limit` due timers. `chance` gives random numbers in [0, 1) for the jitter of retries."""
    spawns: list[tuple[str, int]] = []
    losses: list[Loss] = []
    for _ in range(limit):
        row = tables.pop_due(now)
        if row is None:
            break
        if isinstance(row, JobRow):
            _job(tables, row, spawns, now)
        elif (loss := _task(tables, row, chance, now)) is not None:
            losses.append(loss)
    return Fired(tables.next_due(), tuple(spawns), tuple(losses))


def _job(tables: Tables, row: JobRow, spawns: list[tuple[str, int]], now: int) -> None:
    if row.over:
        return
    if row.wake_at is not None and row.wake_at <= now:
        row.wake_at = None
        deliver(tables, row, Woken(row.wake_step))
    if row.spawn_at is not None and row.spawn_at <= now:
        fan, row.spawn_at = row.fan, None
        if fan is not None and fan.chunks and not fan.over and fan.queued < SPAWN_BELOW:
            spawns.append((row.id, fan.step))
            row.spawn_at = now + SPAWN_CHECK_MS
    tables.arm(row)


def _task(tables: Tables, task: TaskRow, chance: Callable[[], float], now: int) -> Loss | None:
    loss = None
    if task.state is OVER:
        return None
    if out_of_time(tables, task, now):
        return None
    if task.state is BACK_OFF and task.until <= now:
        tables.edit(task).state = QUEUED
        tables.backlog.enqueue(task)
    elif task.state in (OFFERED, LEASED) and task.execution_due is not None and task.execution_due <= now:
        loss = loss_of(task, TIMEOUT_ERROR)
        _timed_out(tables, tables.edit(task), chance, now)
    elif task.state in (OFFERED, LEASED) and task.lease_until <= now:
        loss = _lease_over(tables, tables.edit(task), now)
    elif task.state is QUEUED:
        task.avoid = tuple(entry for entry in task.avoid if entry[1] > now)
        tables.hint_key(task.key)
    tables.arm(task)
    return loss


def _timed_out(tables: Tables, task: TaskRow, chance: Callable[[], float], now: int) -> None:
    stop_holder(tables, task, StopReason.DEADLINE)
    leave(tables, task)
    # The lease has ended as if its worker had ended it: it leaves its session, and no later session can resume it.
    task.session_id = ""
    message = f"Worker task timed out: no result within {execution(tables, task) / 1000:g} s of its start"
    outcome = Outcome.failed(TIMEOUT_ERROR, message, task.worker_id)
    task.over_reason = Superseded.DEADLINE_EXCEEDED
    apply(tables, task, outcome, retry_after(outcome, task.generation - 1, task.retry, chance()), now)


def _lease_over(tables: Tables, task: TaskRow, now: int) -> Loss | None:
    worker, taken = tables.workers.get(task.worker_id), task.state is LEASED
    if worker is None or not worker.live or worker.session_id != task.session_id:
        # A worker reports its acceptance a moment after it begins, and may have crashed before the report.
        return lost(tables, task, Unfinished.WORKER_LOST, now, begun=worker is not None and bool(worker.instance_id))
    loss = loss_of(task, LEASE_EXPIRED) if taken else None
    stop_holder(tables, task, StopReason.LEASE_LOST)
    lose(tables, task)
    reason = Unfinished.LEASE_EXPIRED if taken else Unfinished.OFFER_EXPIRED
    run_again(tables, task, now, reason, avoid_until=now + tables.settings.lease)
    return loss
