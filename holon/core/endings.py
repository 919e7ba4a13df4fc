"""The core: how tasks end, and how their jobs learn of it."""

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
    """End an edited task with an outcome, and tell its job: at once, or with the last branch."""
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
    """End tasks that still wait for a lease behind a match key."""
    for name, outcome in ends:
        task = tables.task(name)
        if task is not None and task.state is QUEUED and task.key == key:
            tables.edit(task)
            task_over(tables, task, outcome, finished_line(task, outcome, now, tried=False), now)


def went(row: JobRow, outcome: Outcome) -> None:
    """How far an edited job is once its single task is over: what ended well is done, as a branch is.

    The last that the task itself told need not be stored: its end may have been quicker.
    """
    if outcome.error:
        row.progress = None
    elif row.progress is not None and succeeded(outcome):
        row.progress = 100.0


def end_task(tables: Tables, task: TaskRow, outcome: Outcome, now: int) -> None:
    """End an edited task with an outcome, and tell nobody."""
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
    """End what is still open of a job's last step; those who work on it are told to stop."""
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
    # Those of branches that were not made yet are left.
    row.reserved = 0


def finished_line(
    task: TaskRow, outcome: Outcome, now: int, took: int | None = None, cost: Cost = None, *, tried: bool = True
) -> HistoryEvent:
    """The line of history that says how a task's attempt ended, with every lease that it had.

    `took` is the worker's own measure of the attempt; without it the node's counts, from its acceptance.
    `cost` is what the attempt was charged. `tried`: whether there was one; else the task has ended before it began
    another, and what is said of earlier ones is not said of this end.
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
    # In the order of its fields, without a state before or after.
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
    """End a task whose result timeout is over, or its dispatch timeout; whether one is."""
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
    # One that waits, for a worker, its answer or to be tried again, has no attempt that this ends.
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
    """An edited task's attempt ended without an outcome: queue the task again.

    The task is over instead where its job's budget does not cover another attempt. `reason` and `code` are told in the
    job's history; None: that is told otherwise. `avoid_until` and `how` are as in `requeue`, `cost` is what the attempt
    was charged, if that is known.
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
    # Another node takes what a node does by itself, and goes on with the same attempt.
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
    """The worker of an edited task's lease has ended it without an outcome: run it again, as `run_again` does.

    With its worker's final word the lease is over: it is no session's, and no later one goes on with it.
    """
    task.session_id = ""
    run_again(tables, task, now, reason, avoid_until=avoid_until, how=how, code=code, cost=cost)


def not_covered(tables: Tables, task: TaskRow, last: Outcome | None = None, *, share_lost: bool = False) -> Outcome:
    """How a task ends whose job's budget does not cover another attempt.

    Arguments:
        last: how the last one ended.
        share_lost: as in `Result`.
    """
    message = f"cost: what is left of the job's budget does not cover another attempt, which may cost {task.may_cost}"
    if last is not None and last.error is not None:
        message += f"; the last one ended with {last.error.code}"
    return _over_budget(tables, task, message, task.may_cost, task.worker_id, share_lost=share_lost)


def _over_budget(
    tables: Tables, task: TaskRow, message: str, amount: int, worker_id: str = "", *, share_lost: bool = False
) -> Outcome:
    """How a task ends whose job's budget does not cover so much. It is retryable where lost attempts used that up."""
    row = tables.owner(task)
    if eaten(row, amount):
        share_lost = True
        message += f"; {unreported(row)} of the budget is kept for attempts that were lost"
    return Outcome.failed(LIMIT_EXCEEDED, message, worker_id, retryable=True if share_lost else None)


def too_dear(tables: Tables, task: TaskRow, price: int, now: int) -> None:
    """End an edited task that was taken from its queue, as its job's budget does not cover what its worker declares."""
    # It does not wait any more, and nobody has it.
    task.state, task.session_id = OFFERED, ""
    message = (
        f"cost: what is left of the job's budget does not cover the {price} that the worker with room for it declares; "
        "give the job, or the task above it, more"
    )
    outcome = _over_budget(tables, task, message, price)
    task_over(tables, task, outcome, finished_line(task, outcome, now, tried=False), now)


def lost(tables: Tables, task: TaskRow, reason: Unfinished, now: int, *, begun: bool) -> Loss | None:
    """The session of an edited task's lease ended without an outcome: run it again, or give it up.

    Answers with the loss, if the worker had begun the attempt. `begun` says that it may have, though it did not say so.
    """
    loss = loss_of(task, WORKER_LOST) if begun or task.state is LEASED else None
    give_up(tables, task.worker_id, task.lease_id)
    lose(tables, task)
    # What a node does by itself ends no node, however often one goes while that lasts.
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
    """The loss of a task's attempt with a code; None where its worker is a node itself."""
    if is_nodes_own(task.worker_id):
        return None
    return Loss(task.worker_id, task.session_id, task.need.skill, code)
