"""The uplink: how a job ended, as the result of the parent's task."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from holon.domain import ends
from holon.domain.ends import CODES, data_of, error_of, story
from holon.domain.events import HistoryEvent
from holon.domain.job import Job, Status
from holon.domain.task import LIMIT_EXCEEDED
from holon.ports import JobRecord
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.uplink.offerings import Offerings
from holon.wire.values import fill, json_payload
from holon.wire.worker import causes_of
from holon.worker.outcome import failure


def result_of(record: JobRecord, holon_id: str, offerings: Offerings) -> worker_pb2.TaskResult:
    """What the parent is told of a job that is over.

    Its result is the data, under the key `result` if it is no JSON object.
    """
    job = record.job
    result = _success(job, offerings) if job.status is Status.FINISHED else _failure(job, holon_id, offerings)
    if record.finished_at is not None:
        fill(result.duration, max(0, record.finished_at - record.created_at))
    return result


def passed_on(job: Job, lines: Sequence[HistoryEvent]) -> worker_pb2.TaskResult | None:
    """What a worker said that did the one task of a job, as it said it.

    None: none has said anything, or the node ended the job as lost attempts used up its budget.

    Arguments:
        lines: of the job's history.
    """
    said = [line.details for line in lines if line.type == "task_finished"]
    if not said:
        return None
    status = str(said[-1].get("status", ""))
    if job.status is Status.FINISHED:
        return worker_pb2.TaskResult(status=status, data=json_payload(orjson.dumps(job.result)))
    if job.error is None or status != "failure" or ends.share_lost(job):
        return None
    result = failure(str(said[-1].get("code", job.error.code)), str(said[-1].get("error", job.error.message)))
    causes, details = causes_of(job.error.details)
    result.error.causes.extend(causes)
    if details is not None:
        result.error.details.data = orjson.dumps(details)
    if job.error.retryable is not None:
        result.error.retryable = job.error.retryable
    return result


def _success(job: Job, offerings: Offerings) -> worker_pb2.TaskResult:
    status = offerings.status_of(job.blueprint, job.current_state)
    return worker_pb2.TaskResult(status=status, data=json_payload(orjson.dumps(data_of(job))))


def _failure(job: Job, holon_id: str, offerings: Offerings) -> worker_pb2.TaskResult:
    error = error_of(job)
    lost = ends.share_lost(job)
    result = failure(LIMIT_EXCEEDED if lost else CODES[job.status], story(job, error))
    if lost:
        result.error.retryable = True
    result.error.causes.extend(types_pb2.TaskErrorCause(**one) for one in ends.causes_of(job, holon_id, error))
    if error.code == "ENDED_FAILED":
        # What its author has it say.
        if error.details is not None:
            result.error.details.data = orjson.dumps(error.details)
        if offerings.may_repeat(job.blueprint, job.current_state):
            result.error.retryable = True
    return result
