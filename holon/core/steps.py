"""The core: commits. A commit writes a step's state and all its effects under the job's claim, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from holon.core.costs import affords
from holon.core.endings import end_open_tasks, out_of_time
from holon.core.jobs import unclaim
from holon.core.leases import lease
from holon.core.rows import OVER, FanOut, JobRow, TaskRow
from holon.core.tables import Tables
from holon.core.tasks import SPAWN_BELOW, want_spawn
from holon.domain.events import CancelRequested, HistoryEvent, last_event
from holon.ports import Committed, Leased, NewTask, Seat, Step


def commit(tables: Tables, step: Step, state: bytes, seats: Sequence[Seat], now: int) -> Committed:
    """Commit a step. A repeat of the last commit gets the same reply again.

    Arguments:
        state: the job's new state, encoded.
        seats: where to lease tasks.
    """
    row = tables.job(step.job.id)
    if row is not None and row.commit_id == step.commit_id:
        return row.reply or Committed(cancel_pending=row.cancel_pending)
    if row is None or not row.claim_id or row.claim_id != step.claim_id or step.job.step != row.step + 1:
        return Committed(conflict=True)
    if row.budget is not None and not affords(row, step.reserves):
        return Committed(over_budget=True)
    land(tables, row, step, state, (), now)
    if step.keep and not row.over:
        events = row.inbox
    else:
        unclaim(tables, row)
        events = ()
    leased = Leased() if row.cancel_pending else lease(tables, seats, now)
    row.reply = Committed(False, row.cancel_pending, events, leased)
    return row.reply


def land(tables: Tables, row: JobRow, step: Step, state: bytes, before: tuple[HistoryEvent, ...], now: int) -> None:
    """Write a step and its effects. The caller has checked that the step is allowed, and handles the claim.

    Arguments:
        state: the job's new state, encoded.
        before: lines of history to write before the step's own.
    """
    _write(tables, row, step, state, before, now)
    if (why := step.ends_open) is not None:
        end_open_tasks(tables, row, why)
    if step.tasks and not row.over:
        _create_tasks(tables, row, step, now)
    if step.wake_after is not None and not row.over:
        row.wake_at, row.wake_step = now + step.wake_after, step.job.step - 1
        tables.arm(row)


def _write(tables: Tables, row: JobRow, step: Step, state: bytes, before: tuple[HistoryEvent, ...], now: int) -> None:
    job = step.job
    tables.edit(row)
    row.state = state
    row.status = job.status
    row.step = job.step
    row.due = job.status.due
    row.updated_at = now
    row.commit_id, row.reply = step.commit_id, None
    row.deliveries = 0
    row.wake_at = None
    if row.inbox:
        row.inbox = tuple(entry for entry in row.inbox if entry[0] not in step.consumed)
        row.cancel_pending = any(isinstance(event, CancelRequested) for _, event in row.inbox)
    told, lines = row.history_seq, (*before, *step.history)
    tables.tell(row, lines)
    if job.webhook and (place := last_event(lines)):
        tables.happened.append((row, told, told + place))
    if job.status.terminal:
        row.over, row.finished_at, row.due = True, now, False
        row.inbox, row.cancel_pending = (), False
        if job.webhook:
            tables.ends.append(row)


def _create_tasks(tables: Tables, row: JobRow, step: Step, now: int) -> None:
    row.open_step = step.job.step - 1
    row.open_count = len(step.tasks)
    row.progress, row.message = None, ""
    if row.budget is not None:
        row.reserved += step.reserves
    if step.fan_out is not None:
        fan = step.fan_out
        row.fan = FanOut(row.id, row.open_step, fan.total, fan.fail_fast, fan.rest, now, fan.total)
        row.fan.spawned = row.fan.queued = len(step.tasks)
    else:
        row.fan = None
    _create(tables, row, step.tasks, now)
    want_spawn(tables, row, now)


def _create(tables: Tables, row: JobRow, tasks: Sequence[NewTask], dispatched: int) -> list[TaskRow]:
    branch = row.fan is not None
    made = [TaskRow.made(tables.number(row.id), row.id, row.open_step, new, branch, dispatched) for new in tasks]
    for task in made:
        tables.add_task(task)
        tables.arm(task)
    tables.backlog.enqueue(*made)
    return made


def spawn(tables: Tables, job_id: str, step: int, now: int) -> None:
    """Turn the next chunk of a fan-out into tasks, if fewer than `SPAWN_BELOW` of its branches wait for a lease.

    A branch whose timeout is already over ends at once. Its end may end the fan-out, and so the other branches.
    """
    row = tables.job(job_id)
    fan = row.fan if row else None
    if row is None or fan is None or row.over or fan.over or fan.step != step or not fan.chunks:
        return
    if fan.queued < SPAWN_BELOW:
        tables.edit(row)
        row.spawn_at = None
        chunk, fan.chunks = fan.chunks[0], fan.chunks[1:]
        fan.spawned += len(chunk)
        fan.queued += len(chunk)
        row.open_count += len(chunk)
        for task in _create(tables, row, chunk, fan.dispatched):
            if task.state is not OVER:
                out_of_time(tables, task, now)
    want_spawn(tables, row, now)
