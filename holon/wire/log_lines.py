"""The wire: lines of tasks' logs, from workers and to clients."""

from __future__ import annotations

import orjson

from holon.domain.log_bounds import MAX_FIELDS, MAX_TEXT
from holon.domain.log_lines import LEVELS, MAX_LINES, PASSED, Logged, LogLine
from holon.domain.plain import obstacle
from holon.domain.texts import clipped
from holon.errors import InvalidArgument, Violation, invalid
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.wire.values import MAX_ID, fill, json_of

_OF_NUMBER = {number: name.removeprefix("LOG_LEVEL_").lower() for name, number in types_pb2.LogLevel.items()}
_NUMBER_OF = {name: number for number, name in _OF_NUMBER.items()}
_LATEST_S = 253_402_300_799
MOST_PASSED = 64


def lines_of(logs: worker_pb2.TaskLogs, now: int, *, passed: bool) -> tuple[LogLine, ...]:
    """The lines that somebody wrote.

    Arguments:
        now: the time of lines that have none, or none that can be (epoch ms).
        passed: whether they may say that they were passed on by holons; a plain worker's word of that is left out.
    Raises:
        InvalidArgument: there are too many, or the fields of one are no JSON object, or too large.
    """
    if len(logs.lines) > MAX_LINES:
        raise invalid("logs.lines", f"has {len(logs.lines)} lines, over the limit of {MAX_LINES}")
    return tuple(
        LogLine(
            _time(line, now),
            _level(line.level),
            clipped(line.text, MAX_TEXT),
            _fields(line, f"logs.lines[{at}].fields", passed=passed) if line.HasField("fields") else b"",
        )
        for at, line in enumerate(logs.lines)
    )


def line_message(line: LogLine) -> types_pb2.LogLine:
    """A line as a message."""
    message = types_pb2.LogLine(level=_NUMBER_OF[line.level], text=line.text)
    fill(message.time, line.time)
    if line.fields:
        message.fields.data = line.fields
    return message


def logs_message(logged: Logged) -> job_pb2.JobLogs:
    """What clients are told of lines."""
    lines = [line_message(line) for line in logged.lines]
    return job_pb2.JobLogs(task_id=logged.task_id, attempt=logged.attempt, lines=lines)


def _level(number: types_pb2.LogLevel.ValueType) -> str:
    name = _OF_NUMBER.get(number)
    return name if name in LEVELS else "info"


def _time(line: types_pb2.LogLine, now: int) -> int:
    seconds, nanos = line.time.seconds, line.time.nanos
    known = line.HasField("time") and 0 <= seconds <= _LATEST_S and 0 <= nanos < 10**9
    return seconds * 1000 + nanos // 1_000_000 if known else now


def _fields(line: types_pb2.LogLine, where: str, *, passed: bool) -> bytes:
    text = json_of(line.fields, where)
    if len(text) > MAX_FIELDS:
        raise invalid(where, f"has {len(text)} bytes, over the limit of {MAX_FIELDS}")
    try:
        fields = orjson.loads(text) if text else {}
    except ValueError as error:
        raise invalid(where, f"is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise invalid(where, "is not a JSON object")
    # Who passes it on writes it anew, which goes less deep than what can be read.
    if found := obstacle(fields, where):
        raise InvalidArgument(found, details=[Violation(where, "cannot be passed on as JSON")])
    chain = fields.get(PASSED)
    if PASSED in fields and not (passed and _is_chain(chain)):
        del fields[PASSED]
        return orjson.dumps(fields) if fields else b""
    return text


def _is_chain(chain: object) -> bool:
    return (
        isinstance(chain, list)
        and len(chain) <= MOST_PASSED
        and all(isinstance(one, str) and len(one) <= MAX_ID for one in chain)
    )
