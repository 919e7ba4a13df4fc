"""The domain: attempts that ended without a result: why, and how a job's history tells of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from holon.domain.events import HistoryEvent
from holon.domain.task import WORKER_LOST
from holon.domain.value import Value

# The types of their lines of history.
ATTEMPT_LOST = "attempt_lost"
ATTEMPT_RETURNED = "attempt_returned"
# A history has a line for this many attempts of a task that ended without a result. Nothing else bounds their number.
MOST_TOLD = 1_000

LEASE_EXPIRED = "LEASE_EXPIRED"
# The code of a task that was given back without one.
RETURNED = "RETURNED"


class Unfinished(StrEnum):
    """Why an attempt ended without a result. Clients see these words."""

    NOT_DELIVERED = "not_delivered"
    OFFER_EXPIRED = "offer_expired"
    LEASE_EXPIRED = "lease_expired"
    WORKER_LOST = "worker_lost"
    WORKER_REPLACED = "worker_replaced"
    RETURNED = "returned"
    NODE_LOST = "node_lost"


# By reason, the code and the message of the line.
_SAID = {
    Unfinished.NOT_DELIVERED: ("NOT_DELIVERED", "the offer did not reach worker {}"),
    Unfinished.OFFER_EXPIRED: ("OFFER_EXPIRED", "worker {} did not accept the offer in time"),
    Unfinished.LEASE_EXPIRED: (LEASE_EXPIRED, "worker {} is connected, but did not renew its lease in time"),
    Unfinished.WORKER_LOST: (WORKER_LOST, "the session of worker {} ended, and the worker did not resume the task"),
    Unfinished.WORKER_REPLACED: (WORKER_LOST, "worker {} opened a new session without the task"),
    Unfinished.RETURNED: (RETURNED, "worker {} returned the task"),
    Unfinished.NODE_LOST: ("NODE_LOST", "the node that ran the handler stopped, or lost its claim on the job"),
}


class Loss(Value):
    """An attempt that a worker did not end: its lease was lost, or the node ended it as its time was over.

    `code` is TIMEOUT_ERROR, LEASE_EXPIRED or WORKER_LOST.
    """

    worker_id: str
    session_id: str
    skill: str
    code: str


def unfinished_line(
    reason: Unfinished,
    now: int,
    attempt: int,
    *,
    worker_id: str = "",
    task_id: str | None = None,
    state: str | None = None,
    code: str = "",
    took: int | None = None,
    details: dict[str, Any] | None = None,
) -> HistoryEvent:
    """The line of history of an attempt that ended without a result.

    Arguments:
        code: what the worker gave as its reason; empty: the code of the reason.
        took: how long it lasted, in milliseconds.
        details: what else is told of it.
    """
    usual, message = _SAID[reason]
    told: dict[str, Any] = {"reason": str(reason), "code": code or usual, "error": message.format(worker_id)}
    kind = ATTEMPT_RETURNED if reason is Unfinished.RETURNED else ATTEMPT_LOST
    return HistoryEvent(
        kind,
        now,
        state,
        duration_ms=took,
        worker_id=worker_id or None,
        attempt_number=attempt,
        task_id=task_id,
        details=told | (details or {}),
    )
