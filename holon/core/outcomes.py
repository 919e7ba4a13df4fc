"""The core: applies the results of workers, each at most once and only under the current lease."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from holon.core.costs import affords, again, settle
from holon.core.endings import end_task, finished_line, given_back, not_covered, task_over, went
from holon.core.late import late_result
from holon.core.leases import lease, why_not
from holon.core.rows import BACK_OFF, OVER, QUEUED, SOFT, JobRow, TaskRow
from holon.core.steps import land
from holon.core.tables import Tables
from holon.core.tasks import avoid, close_attempt, give_up, queued_changed, unsay
from holon.domain.costs import Cost
from holon.domain.task import CANCELLED, Outcome
from holon.domain.value import replace
from holon.ports import Completed, Result, Seat, Step, Superseded

_time = attrgetter("time")


def complete(
    tables: Tables,
    results: Sequence[tuple[Result, bytes]],
    worker_id: str,
    seats: Sequence[Seat],
    now: int,
) -> Completed:
    """Apply results of one worker. Each ends its lease for the worker, even if the result is not applied.

    Arguments:
        results: results, each with the encoded state after its step; empty if it has no step.
    """
    landed: set[str] = set()
    verdicts = tuple([_complete(tables, result, state, worker_id, landed, now) for result, state in results])
    return Completed(verdicts, frozenset(landed), lease(tables, seats, now))


def _complete(
    tables: Tables, result: Result, state: bytes, worker_id: str, landed: set[str], now: int
) -> Superseded | None:
    task = tables.task(result.task_id)
    give_up(tables, worker_id, result.lease_id)
    if task is None:
        return why_not(tables, result.task_id, None, result.lease_id)
    if task.applied_lease == result.lease_id and task.applied_worker == worker_id:
        return None
    # A lease that was given back has no session: it is over even if no other worker has the task.
    current = task.lease_id == result.lease_id and task.worker_id == worker_id and bool(task.session_id)
    current = current and task.state not in (OVER, BACK_OFF)
    ran_out = task.state is QUEUED or task.over_reason is not None
    if current and ran_out and result.outcome.status == CANCELLED:
        _stopped(tables, tables.edit(task), result, now)
        current = False
    if not current:
        return late_result(tables, task, result, worker_id, now)
    tables.edit(task)
    task.applied_lease, task.applied_worker = result.lease_id, worker_id
    cost = settle(tables, task, result.cost)
    row = tables.job(task.job_id) if result.step is not None and result.retry_after is None else None
    if row is not None and result.step is not None and _as_decided_upon(row, task, result.step):
        _land(tables, row, task, result, cost, state, now)
        landed.add(result.lease_id)
    else:
        apply(tables, task, result.outcome, result.retry_after, now, result.took, cost, share_lost=result.share_lost)
    return None


def _stopped(tables: Tables, task: TaskRow, result: Result, now: int) -> None:
    """Queue an edited task for another worker after its worker stopped because the lease had expired.

    The task itself was not cancelled. The lease may have been resumed since.
    """
    if task.state is QUEUED:
        task.session_id = ""
        return
    cost = settle(tables, task, result.cost)
    # The caller writes the line of history, as for a late result.
    given_back(tables, task, now, None, avoid_until=now + tables.settings.lease, cost=cost)


def _as_decided_upon(row: JobRow, task: TaskRow, step: Step) -> bool:
    """Whether a job is unchanged since a step was decided upon the outcome of its only task."""
    alone = not task.branch and task.step == row.open_step and task.step == row.step - 1
    if not alone or row.over or row.due or row.claim_id or row.inbox or step.job.step != row.step + 1:
        return False
    # Other lines may have been written while the step was decided; its own must not be older than those.
    if min(map(_time, step.history), default=row.updated_at) < row.updated_at:
        return False
    return row.budget is None or affords(row, step.reserves)


def _land(tables: Tables, row: JobRow, task: TaskRow, result: Result, cost: Cost, state: bytes, now: int) -> None:
    """End an edited task and write the step that its job decided upon the outcome, in one operation."""
    step = result.step
    assert step is not None  # noqa: S101  whoever calls has looked
    close_attempt(task, now)
    # The step was decided before this operation began, but its lines follow this one: take the earlier time.
    told_at = min(map(_time, step.history), default=now)
    line = finished_line(task, result.outcome, min(told_at, now), result.took, cost)
    end_task(tables, task, result.outcome, now)
    went(tables.edit(row), result.outcome)
    land(tables, row, step, state, (line,), now)
    if row.due:
        tables.mark_ready(row)


def apply(
    tables: Tables,
    task: TaskRow,
    outcome: Outcome,
    retry_after: int | None,
    now: int,
    took: int | None = None,
    cost: Cost = None,
    *,
    share_lost: bool = False,
) -> None:
    """Apply the outcome of an edited task's current attempt: the task is retried later, or ends.

    Arguments:
        retry_after: the delay of the retry in milliseconds; None: the outcome is final.
        took: as in `finished_line`.
        cost: what the job was charged for the attempt, if known.
        share_lost: as in `Result`.
    """
    close_attempt(task, now)
    if retry_after is not None and not again(tables, task):
        outcome, retry_after = not_covered(tables, task, outcome, share_lost=share_lost), None
    line = finished_line(task, outcome, now, took, cost)
    if retry_after is None:
        task_over(tables, task, outcome, line, now)
        return
    if task.state is QUEUED:
        tables.backlog.dequeued(task)
    else:
        queued_changed(tables, task, 1, now)
    unsay(tables, task)
    task.state = BACK_OFF
    # A worker that ends an attempt had begun it, even if no acceptance was reported.
    task.accepted = True
    task.generation += 1
    if share_lost:
        # Retries are counted by the generation.
        task.retry = replace(task.retry, max_retries=task.retry.max_retries + 1)
    task.execution_due = None
    task.until = now + retry_after
    avoid(task, task.until + tables.settings.lease, now, SOFT)
    tables.arm(task)
    row = tables.job(task.job_id)
    if row is not None:
        tables.edit(row).updated_at = now
        tables.tell(row, (line,))
