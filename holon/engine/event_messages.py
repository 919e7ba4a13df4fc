"""What is told of an event of a job: the message of a webhook."""

from __future__ import annotations

from typing import Any

import orjson

from holon.domain.events import HistoryEvent
from holon.engine.end_messages import MAX_MESSAGE_BYTES


def event_id(job_id: str, number: int) -> str:
    """What the message of an event is known by, however often it is told.

    Arguments:
        number: that of its line in the job's history.
    """
    return f"event_{job_id}-{number}"


def event_message(job_id: str, number: int, line: HistoryEvent) -> bytes:
    """What is told of an event, as JSON: its line of history as a client reads it, as far as it says something.

    What there is no room for is null, and named in `left_out`.
    """
    told: dict[str, Any] = {
        "event": line.type,
        "job_id": job_id,
        "sequence": number,
        "timestamp": line.time / 1000,
        "state": line.state,
        "worker_id": line.worker_id,
        "task_id": line.task_id,
        "context_snapshot": line.details,
    }
    text = orjson.dumps(told)
    if len(text) <= MAX_MESSAGE_BYTES:
        return text
    return orjson.dumps(told | {"context_snapshot": None, "left_out": ["context_snapshot"]})
