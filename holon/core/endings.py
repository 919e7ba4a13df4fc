"""The core: ends tasks, and delivers their outcomes to their jobs."""

from __future__ import annotations

from collections.abc import Sequence

from holon.core.costs import again, eaten, free, leave, lose, unreported
from holon.core.jobs import deliver
from holon.core.rows import BACK_OFF, HARD, LEASED, OFFERED, OVER, QUEUED, JobRow, TaskRow
from holon.core.tables import Tables
from holon.core.tasks import (
    clear_fan_out,
    close_attempt,
    give_up,
    progressed,
    queued_changed,
    requeue,
    stop_holder,
)
from holon.domain.attempts import MOST_TOLD, Loss, Unfinished, unfinished_line
from holon.domain.branches import succeeded
from holon.domain.children import is_nodes_own
from holon.domain.costs import Cost
from holon.domain.events import BranchesDone, HistoryEvent, TaskEnded
from holon.domain.task import DISPATCH_TIMEOUT, LIMIT_EXCEEDED, RESULT_TIMEOUT, WORKER_LOST, Outcome, task_id
from holon.ports import StopReason, Superseded


def task_over(tables: Tables, task: TaskRow, outcome: Outcome, event: HistoryEvent | None, now: int) -> None:
    """End an edited task with an outcome. Its job gets an event: at once, or for a branch when the fan-out is over."""
    end_task(tables, task, outcome, now)
    row = tables.job(task.job_id)
    if row is None or row.over:
        return
    tables.edit(row)
    row.updated_at = now
    if event is not None:
        tables.tell(row, (event,))
    if not task.branch:
        went(row, outcome)
        deliver(tables, row, TaskEnded(task.step, task.id, outcome, task.generation))
        return
    _count_down(tables, row, task, outcome)


def end_queued(tables: Tables, key: str, ends: Sequence[tuple[str, Outcome]], now: int) -> None:
    """End those of some tasks that still wait for a lease under a match key; `ends` are (task id, outcome) pairs."""
    for name, outcome in ends:
        task = tables.task(name)
        if task is not None and task.state is QUEUED and task.key == key:
            tables.edit(task)
            task_over(tables, task, outcome, finished_line(task, outcome, now, tried=False), now)


def went(row: JobRow, outcome: Outcome) -> None:
    """Set the progress of an edited job when its single task ends: 100 % after a success, as for a branch.

    The task's own last report may be missing, because its end may have arrived first.
    """
    if outcome.error:
        row.progress = None
    elif row.progress is not None and succeeded(outcome):
        row.progress = 100.0


def end_task(tables: Tables, task: TaskRow, outcome: Outcome, now: int) -> None:
    """End an edited task with an outcome. Its job gets no event."""
    if task.state is QUEUED:
        tables.backlog.dequeued(task)
    if task.state in (QUEUED, BACK_OFF):
        queued_changed(tables, task, -1, now)
    task.state = OVER
    task.outcome = outcome
    task.params = b""
    free(tables, task)


def _count_down(tables: Tables, row: JobRow, task: TaskRow, outcome: Outcome) -> None:
    fan = row.fan
    if fan is None or fan.step != task.step or fan.over:
        return
    fan.pending -= 1
    progressed(row, fan, 100 - task.progress)
    fan.bytes += outcome.size
    failed = not succeeded(outcome)
    fan.failed += failed
    too_large = fan.bytes > tables.settings.max_fan_in_bytes
    fail_fast = failed and fan.fail_fast
    if fan.pending and not too_large and not fail_fast:
        return
    fan.over = True
    if fan.pending:
        fan.chunks = ()
        end_open_tasks(tables, row, Superseded.JOB_ALREADY_TERMINATED)
    deliver(tables, row, BranchesDone(fan.step, fan.failed, fail_fast, too_large))


def end_open_tasks(tables: Tables, row: JobRow, reason: Superseded) -> None:
    """End the open tasks of an edited job's last step, and tell the workers that hold them to stop."""
    clear_fan_out(row)
    open_count, row.open_count = row.open_count, 0
    for index in range(open_count):
        task = tables.tasks.get(task_id(row.id, row.open_step, index))
        if task is None or task.state is OVER:
            continue
        tables.edit(task)
        if task.state is QUEUED:
            tables.backlog.dequeued(task)
        stop_holder(tables, task, StopReason.CANCELLED)
        if task.state in (OFFERED, LEASED):
            leave(tables, task)
        task.reserved = 0
        task.state = OVER
        task.over_reason = reason
        task.params = b""
    # Also free the reservations of branches that are not tasks yet.
    row.reserved = 0


def finished_line(
    task: TaskRow, outcome: Outcome, now: int, took: int | None = None, cost: Cost = None, *, tried: bool = True
) -> HistoryEvent:
    """The line of history for the end of a task's attempt, with all leases of the task.

    Arguments:
        took: how long the attempt took by the worker's own measure, in milliseconds. None: the node measures from the
            acceptance of the lease, or from the offer if there was none.
        cost: what the job was charged for the attempt.
        tried: whether an attempt ended. If not, the line names no attempt, worker or duration of an earlier one.
    """
    error = outcome.error
    details = {
        "status": outcome.status,
        "skill": task.need.skill,
        "generation": task.generation,
        "attempts": [[one.worker_id, one.offered, one.leased, one.ended] for one in task.attempts],
    }
    if error is not None:
        details |= {"code": error.code, "error": error.message}
    if cost is not None:
        details["cost"] = cost
    if took is None and tried and task.attempts:
        took = now - (task.attempts[-1].leased or task.attempts[-1].offered)
    # Positional, in field order; the two states (before, after) are None.
    return HistoryEvent(
        "task_finished",
        now,
        None,
        None,
        None,
        took,
        outcome.worker_id or (task.worker_id if tried else "") or None,
        task.attempt if tried else 0,
        task.id,
        details,
    )


def out_of_time(tables: Tables, task: TaskRow, now: int) -> bool:
    """End a task if its result timeout or its dispatch timeout is over; returns whether it ended."""
    undispatched = task.undispatched_until
    if task.result_due is not None and task.result_due <= now:
        code, message = RESULT_TIMEOUT, "no result came before the task's result timeout"
    elif undispatched is not None and undispatched <= now:
        code = DISPATCH_TIMEOUT
        unanswered = f"worker {task.worker_id!r} did not answer its offer in time"
        why = unanswered if task.state is OFFERED else "no worker took it"
        message = f"Task timed out while waiting in queue (dispatch timeout): {why}"
    else:
        return False
    stop_holder(tables, tables.edit(task), StopReason.DEADLINE)
    held = task.state in (OFFERED, LEASED)
    if held:
        leave(tables, task)
        close_attempt(task, now)
    # A task that waits for a worker, for the answer to its offer or for a retry has no attempt that could end.
    tried = held and code is not DISPATCH_TIMEOUT
    outcome = Outcome.failed(code, message, task.worker_id if held else "")
    task.over_reason = Superseded.DEADLINE_EXCEEDED
    task_over(tables, task, outcome, finished_line(task, outcome, now, tried=tried), now)
    return True


def run_again(
    tables: Tables,
    task: TaskRow,
    now: int,
    reason: Unfinished | None,
    *,
    avoid_until: int | None = None,
    how: int = HARD,
    code: str = "",
    cost: Cost = None,
) -> None:
    """Queue an edited task again after an attempt without an outcome.

    If its job's budget does not cover another attempt, the task ends instead.

    Arguments:
        reason: why the attempt ended, for the job's history; None: no line is written.
        avoid_until, how: as in `requeue`.
        code: the worker's error code for that line.
        cost: what the job was charged for the attempt, if known.
    """
    if not again(tables, task):
        close_attempt(task, now)
        outcome = not_covered(tables, task)
        task_over(tables, task, outcome, finished_line(task, outcome, now, cost=cost), now)
        return
    if reason is not None:
        _tell_unfinished(tables, task, reason, now, code)
    requeue(tables, task, now, avoid_until=avoid_until, how=how)


def _tell_unfinished(tables: Tables, task: TaskRow, reason: Unfinished, now: int, code: str) -> None:
    row = tables.job(task.job_id)
    # If a node itself had the task, another node continues the same attempt.
    if row is None or row.over or task.attempt > MOST_TOLD or is_nodes_own(task.worker_id):
        return
    last = task.attempts[-1]
    line = unfinished_line(
        reason,
        now,
        task.attempt,
        worker_id=task.worker_id,
        task_id=task.id,
        code=code,
        took=now - (last.leased or last.offered),
        details={"skill": task.need.skill, "generation": task.generation},
    )
    tables.edit(row).updated_at = now
    tables.tell(row, (line,))


def given_back(
    tables: Tables,
    task: TaskRow,
    now: int,
    reason: Unfinished | None,
    *,
    avoid_until: int | None,
    cost: Cost,
    how: int = HARD,
    code: str = "",
) -> None:
    """Run an edited task again, as `run_again` does, after its worker gave the lease back without an outcome.

    The lease is over: it leaves its session, and no later session can resume it.
    """
    task.session_id = ""
    run_again(tables, task, now, reason, avoid_until=avoid_until, how=how, code=code, cost=cost)


def not_covered(tables: Tables, task: TaskRow, last: Outcome | None = None, *, share_lost: bool = False) -> Outcome:
    """The outcome of a task whose job's budget does not cover another attempt.

    Arguments:
        last: the outcome of the last attempt.
        share_lost: as in `Result`.
    """
    message = f"cost: what is left of the job's budget does not cover another attempt, which may cost {task.may_cost}"
    if last is not None and last.error is not None:
        message += f"; the last one ended with {last.error.code}"
    return _over_budget(tables, task, message, task.may_cost, task.worker_id, share_lost=share_lost)


def _over_budget(
    tables: Tables, task: TaskRow, message: str, amount: int, worker_id: str = "", *, share_lost: bool = False
) -> Outcome:
    """The outcome of a task whose job's budget does not cover an amount; retryable if lost attempts used it up."""
    row = tables.owner(task)
    if eaten(row, amount):
        share_lost = True
        message += f"; {unreported(row)} of the budget is kept for attempts that were lost"
    return Outcome.failed(LIMIT_EXCEEDED, message, worker_id, retryable=True if share_lost else None)


def too_dear(tables: Tables, task: TaskRow, price: int, now: int) -> None:
    """End an edited task taken from its queue, because the worker's price is above the rest of the job's budget."""
    # The task is no longer queued, and no session has it.
    task.state, task.session_id = OFFERED, ""
    message = (
        f"cost: what is left of the job's budget does not cover the {price} that the worker with room for it declares; "
        "give the job, or the task above it, more"
    )
    outcome = _over_budget(tables, task, message, price)
    task_over(tables, task, outcome, finished_line(task, outcome, now, tried=False), now)


def lost(tables: Tables, task: TaskRow, reason: Unfinished, now: int, *, begun: bool) -> Loss | None:
    """Run an edited task again after the session of its lease ended without an outcome; end it after too many losses.

    Arguments:
        begun: whether the worker may have begun the attempt though it did not report that.
    Returns:
        the loss, if the worker had or may have begun the attempt.
    """
    loss = loss_of(task, WORKER_LOST) if begun or task.state is LEASED else None
    give_up(tables, task.worker_id, task.lease_id)
    lose(tables, task)
    # A node's own task does not crash nodes, so the nodes that leave during it do not count as losses.
    task.losses += not is_nodes_own(task.worker_id)
    if task.losses < tables.settings.max_losses:
        run_again(tables, task, now, reason)
        return loss
    close_attempt(task, now)
    message = f"{task.losses} sessions ended while they held the task; it may be what ends them"
    outcome = Outcome.failed(WORKER_LOST, message, task.worker_id)
    task_over(tables, task, outcome, finished_line(task, outcome, now), now)
    return loss


def loss_of(task: TaskRow, code: str) -> Loss | None:
    """The loss of a task's attempt, with an error code; None if a node itself had the task."""
    if is_nodes_own(task.worker_id):
        return None
    return Loss(task.worker_id, task.session_id, task.need.skill, code)
