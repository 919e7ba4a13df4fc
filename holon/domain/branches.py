"""The domain: how a branch of a fan-out ended, for its aggregator and for `fail_fast`."""

from __future__ import annotations

from typing import Any

from holon.domain.children import is_nodes_own
from holon.domain.task import CANCELLED, FAILURE, SUCCESS, Outcome


def branch_result(job_id: str, task: str, outcome: Outcome, data: Any, details: Any) -> dict[str, Any]:
    """What an aggregator sees of one branch. `data` and `details` are the outcome's, decoded."""
    error = outcome.error
    return {
        "job_id": job_id,
        "task_id": task,
        "worker_id": None if is_nodes_own(outcome.worker_id) else outcome.worker_id or None,
        "status": outcome.status,
        "data": data,
        "error": error and {"code": error.code, "message": error.message, "details": details},
    }


def succeeded(outcome: Outcome) -> bool:
    """Whether a branch with this outcome counts as done well, for `fail_fast`: any status but failure or cancelled."""
    return outcome.status == SUCCESS or outcome.status not in (FAILURE, CANCELLED)
