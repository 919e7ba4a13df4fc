"""The core: results and handbacks of leases that are over. They change only the job's charges and its history."""

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

# The status of a late handback in its line of history.
REJECTED = "rejected"


def late_result(tables: Tables, task: TaskRow, result: Result, worker_id: str, now: int) -> Superseded:
    """Charge for a result that is not applied, with a line of history if allowed; returns why it is not applied."""
    reason = why_not(tables, task.id, task, result.lease_id)
    owner = tables.job(task.job_id)
    if owner is not None:
        charged = reported(tables, owner, result.lease_id, result.cost)
        # A charge always gets a line, so that the history shows the full cost of the job.
        if _may_tell(tables, owner, task, worker_id) or charged:
            cost = result.cost if charged is None else charged
            _tell(tables, owner, task, worker_id, reason, result.outcome.status, cost, now)
    return reason


def late_handback(tables: Tables, handback: Handback, now: int) -> None:
    """Charge for a handback that arrives after its lease; a charge gets a line of history."""
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
    """Whether a late result gets a line of history: one for each attempt that the worker had.

    This keeps a worker from filling a client's history with false or repeated reports.
    """
    had = sum(attempt.worker_id == worker_id for attempt in task.attempts)
    if not had:
        return False
    late = tables.late(owner, task, worker_id)
    if late.told >= had:
        return False
    tables.edit(late).told += 1
    return True
