"""The uplink: lines of logs on their way up, each with the holons that it passed and the task that wrote it."""

from __future__ import annotations

from typing import Any

import orjson

from holon.domain.log_lines import FROM_JOB, FROM_TASK, MAX_FIELDS, PASSED, Logged, LogLine
from holon.domain.value import replace
from holon.rxon.v1 import types_pb2
from holon.wire.log_lines import line_message


def passed_up(logged: Logged, job_id: str, holon_id: str) -> list[types_pb2.LogLine]:
    """Lines as the parent is told them.

    Arguments:
        job_id: the job here whose task wrote them, or had them written below.
        holon_id: this holon's.
    """
    return [line_message(_passed(line, logged.task_id, job_id, holon_id)) for line in logged.lines]


def _passed(line: LogLine, task_id: str, job_id: str, holon_id: str) -> LogLine:
    fields: dict[str, Any] = orjson.loads(line.fields) if line.fields else {}
    below = fields.pop(PASSED, None)
    chain = {PASSED: [*(below or ()), holon_id]}
    if below is not None:
        origin = {name: fields.pop(name) for name in (FROM_JOB, FROM_TASK) if name in fields}
    else:
        origin = {FROM_JOB: job_id, FROM_TASK: task_id}
    text = orjson.dumps(fields | chain | origin)
    if len(text) > MAX_FIELDS:
        left_out = {"fields_left_out": f"{len(text)} bytes of JSON, and {MAX_FIELDS} are taken"}
        text = orjson.dumps(left_out | chain | origin)
    return replace(line, fields=text)
