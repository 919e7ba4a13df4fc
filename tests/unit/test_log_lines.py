"""Lines of logs on the wire, and what holons add to those that they pass on."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from holon.domain.log_bounds import MAX_FIELDS
from holon.domain.log_lines import MAX_LINES, Logged, LogLine
from holon.engine.told_above import lines_above
from holon.errors import InvalidArgument
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.wire.log_lines import line_message, lines_of, logs_message
from holon.wire.values import json_payload

NOW = 1_700_000_000_000


def written(*lines: types_pb2.LogLine, passed: bool = False) -> tuple[LogLine, ...]:
    return lines_of(worker_pb2.TaskLogs(lines=lines), NOW, passed=passed)


def with_fields(fields: Any) -> types_pb2.LogLine:
    return types_pb2.LogLine(
        text="x", fields=json_payload(fields if isinstance(fields, bytes) else orjson.dumps(fields))
    )


def test_a_line_comes_through_as_it_was_written() -> None:
    line = types_pb2.LogLine(level=types_pb2.LOG_LEVEL_ERROR, text="on fire", fields=json_payload(b'{"n": 1}'))
    line.time.FromMilliseconds(5)
    [read] = written(line)
    assert read == LogLine(5, "error", "on fire", b'{"n": 1}')
    message = logs_message(Logged("t", 2, (read,)))
    assert (message.task_id, message.attempt, list(message.lines)) == ("t", 2, [line])


@pytest.mark.parametrize("level", [0, 9, -1])
def test_a_level_that_nobody_knows_is_read_as_info(level: int) -> None:
    line: Any = types_pb2.LogLine
    assert written(line(level=level))[0].level == "info"


@pytest.mark.parametrize(("seconds", "nanos"), [(-1, 0), (1 << 60, 0), (0, -1), (0, 10**9)])
def test_a_time_that_is_none_is_now(seconds: int, nanos: int) -> None:
    line = types_pb2.LogLine()
    line.time.seconds, line.time.nanos = seconds, nanos
    assert [one.time for one in written(line, types_pb2.LogLine())] == [NOW, NOW]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object"),
        ({"x": "y" * MAX_FIELDS}, "over the limit"),
        (b'{"holon_ids":1,"x":' + b"[" * 300 + b"]" * 300 + b"}", "nested over"),
    ],
)
def test_fields_that_are_no_object_are_refused_by_their_line(fields: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"logs.lines\[1\].fields.*{says}"):
        written(types_pb2.LogLine(), with_fields(fields))


def test_too_many_lines_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"logs.lines has 1001 lines"):
        written(*[types_pb2.LogLine()] * (MAX_LINES + 1))


def test_only_a_holon_may_say_which_holons_a_line_passed() -> None:
    line = with_fields({"holon_ids": ["h1"], "n": 1})
    assert orjson.loads(written(line)[0].fields) == {"n": 1}
    assert written(with_fields({"holon_ids": ["h1"]}))[0].fields == b""
    assert orjson.loads(written(line, passed=True)[0].fields) == {"holon_ids": ["h1"], "n": 1}
    forged = with_fields({"holon_ids": ["x" * 200]})
    assert written(forged, passed=True)[0].fields == b""


def sent_up(logged: Logged, job_id: str, holon_id: str) -> list[types_pb2.LogLine]:
    return [line_message(line) for line in lines_above(logged, job_id, holon_id)]


def test_each_level_adds_its_holon_and_the_lowest_says_which_task_it_was() -> None:
    logged = Logged("1-leaf-0-0", 1, (LogLine(NOW, "info", "deep", b'{"job_id": "own", "n": 1}'),))
    [below] = sent_up(logged, "1-leaf", "h2")
    assert orjson.loads(below.fields.data) == {
        "n": 1,
        "holon_ids": ["h2"],
        "job_id": "1-leaf",
        "task_id": "1-leaf-0-0",
    }
    between = Logged("0-mid-0-0", 1, written(below, passed=True))
    [above] = sent_up(between, "0-mid", "h1")
    assert orjson.loads(above.fields.data) == {
        "n": 1,
        "holon_ids": ["h2", "h1"],
        "job_id": "1-leaf",
        "task_id": "1-leaf-0-0",
    }
    assert (above.text, above.level, above.time.ToMilliseconds()) == ("deep", types_pb2.LOG_LEVEL_INFO, NOW)


def test_fields_that_have_no_room_beside_the_chain_are_left_out_and_that_is_said() -> None:
    full = orjson.dumps({"x": "y" * (MAX_FIELDS - 10)})
    [line] = sent_up(Logged("t", 1, (LogLine(NOW, "info", "deep", full),)), "j", "h")
    told = orjson.loads(line.fields.data)
    assert (told["holon_ids"], told["task_id"], "x" in told) == (["h"], "t", False)
    assert "bytes of JSON" in told["fields_left_out"]
