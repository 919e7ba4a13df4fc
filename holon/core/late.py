"""The core: what workers say of leases that are over. It changes what their jobs are charged, and nothing else."""

from __future__ import annotations

from typing import Any

from holon.core.costs import reported
from holon.core.leases import why_not
from holon.core.rows import JobRow, TaskRow
from holon.core.tables import Tables
from holon.domain.costs import Cost
from holon.domain.events import HistoryEvent
from holon.domain.task import job_of
from holon.ports import Handback, Result, Superseded

# The status of what was given back, in its line.
REJECTED = "rejected"


def late_result(tables: Tables, task: TaskRow, result: Result, worker_id: str, now: int) -> Superseded:
    """Tell of a result that is not applied, if it may be told; answers why it is not."""
    reason = why_not(tables, task.id, task, result.lease_id)
    owner = tables.job(task.job_id)
    if owner is not None:
        charged = reported(tables, owner, result.lease_id, result.cost)
        # What is charged is told in any case: who knows a job by its history alone knows what it cost.
        if _may_tell(tables, owner, task, worker_id) or charged:
            cost = result.cost if charged is None else charged
            _tell(tables, owner, task, worker_id, reason, result.outcome.status, cost, now)
    return reason


def late_handback(tables: Tables, handback: Handback, now: int) -> None:
    """Charge for what is given back after its lease, which is told if it cost anything."""
    ref = handback.lease
    task, owner = tables.task(ref.task_id), tables.job(job_of(ref.task_id))
    charged = owner and reported(tables, owner, ref.lease_id, handback.cost or 0)
    if task is not None and owner is not None and charged:
        reason = task.over_reason or Superseded.STALE_TASK
        _tell(tables, owner, task, ref.worker_id, reason, REJECTED, charged, now)


def _tell(
    tables: Tables,
    owner: JobRow,
    task: TaskRow,
    worker_id: str,
    reason: Superseded,
    status: str,
    cost: Cost,
    now: int,
) -> None:
    details: dict[str, Any] = {"reason": reason, "status": status}
    if cost is not None:
        details["cost"] = cost
    line = HistoryEvent("result_superseded", now, worker_id=worker_id, task_id=task.id, details=details)
    tables.tell(tables.edit(owner), (line,))


def _may_tell(tables: Tables, owner: JobRow, task: TaskRow, worker_id: str) -> bool:
    """Whether a late result is to be told: of a worker that had the task, once for each time.

    A history is its client's: nobody may fill it with what never was, or say the same again and again.
    """
    had = sum(attempt.worker_id == worker_id for attempt in task.attempts)
    if not had:
        return False
    late = tables.late(owner, task, worker_id)
    if late.told >= had:
        return False
    tables.edit(late).told += 1
    return True
