"""What is told of a job's end."""

from __future__ import annotations

import orjson
import pytest

from holon.domain.job import Job, JobError, Status
from holon.domain.value import replace
from holon.engine.end_messages import MAX_MESSAGE_BYTES, end_message, message_id

JOB = Job("0-a", "flow", "ann", {"secret": 1}, "end", Status.FINISHED, result={"n": 1})


def test_a_finished_job_is_told_of_with_its_result() -> None:
    assert orjson.loads(end_message(JOB)) == {
        "event": "job_finished",
        "job_id": "0-a",
        "status": "finished",
        "result": {"n": 1},
        "error": None,
    }
    assert message_id("0-a") == "end_0-a"


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.QUARANTINED])
def test_any_other_end_is_told_of_with_its_error_and_no_result(status: Status) -> None:
    job = replace(JOB, status=status, error=JobError("CODE", "a sentence", {"more": [1]}))
    assert orjson.loads(end_message(job)) == {
        "event": f"job_{status.value}",
        "job_id": "0-a",
        "status": status.value,
        "result": None,
        "error": {"code": "CODE", "message": "a sentence", "details": {"more": [1]}},
    }


def test_what_is_too_large_is_left_out_and_named() -> None:
    fits = replace(JOB, result="x" * (MAX_MESSAGE_BYTES - 200))
    assert "left_out" not in orjson.loads(end_message(fits))
    text = end_message(replace(JOB, result="x" * MAX_MESSAGE_BYTES))
    assert len(text) < 1_000
    told = orjson.loads(text)
    assert (told["status"], told["result"], told["left_out"]) == ("finished", None, ["result"])
    error = JobError("CODE", "y" * MAX_MESSAGE_BYTES, "z" * MAX_MESSAGE_BYTES)
    told = orjson.loads(end_message(replace(JOB, status=Status.FAILED, error=error)))
    assert (told["error"]["code"], told["error"]["details"]) == ("CODE", None)
    assert told["error"]["message"] == "y" * 4_096
    assert told["left_out"] == ["error.details"]
