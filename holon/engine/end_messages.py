"""What is told of a job's end: the message of a webhook."""

from __future__ import annotations

from typing import Any

import orjson

from holon.domain.job import Job, Status

# Many a receiver takes no more.
MAX_MESSAGE_BYTES = 256 * 1024
_LONGEST_SENTENCE = 4_096


def message_id(job_id: str) -> str:
    """What the message of a job's end is known by: each has one, and only one, however often it is told."""
    return f"end_{job_id}"


def end_message(job: Job) -> bytes:
    """What is told of a job that is over, as JSON: as a client reads it, but for what there is no room for.

    What is left out is null, and named in `left_out`.
    """
    error = job.error
    told: dict[str, Any] = {
        "event": f"job_{job.status.value}",
        "job_id": job.id,
        "status": job.status.value,
        "result": job.result if job.status is Status.FINISHED else None,
        "error": None if error is None else {"code": error.code, "message": error.message, "details": error.details},
    }
    text = orjson.dumps(told)
    if len(text) <= MAX_MESSAGE_BYTES:
        return text
    left_out = []
    if told["result"] is not None:
        told["result"] = None
        left_out.append("result")
    if error is not None:
        told["error"] |= {"message": error.message[:_LONGEST_SENTENCE], "details": None}
        left_out.append("error.details")
    return orjson.dumps(told | {"left_out": left_out})
