"""The log: a line for each record, with ids as fields of their own, and times in the zone that was asked for."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from zoneinfo import ZoneInfo, reset_tzpath

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from opentelemetry.util.re import parse_env_headers

from holon.telemetry.log import MOST_CHARACTERS, JsonLines, TextLines, set_up_logging


def record(message: str, level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("holon.engine", level, "", 0, message, (), None)
    made.created = 1_790_000_000.25
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_json_line_has_the_zones_offset_and_ids_as_fields() -> None:
    line = JsonLines(ZoneInfo("Europe/Moscow")).format(record("hello", job_id="0-a", worker_id="w1", other="x"))
    assert json.loads(line) == {
        "asctime": "2026-09-21T17:13:20.250+03:00",
        "levelname": "INFO",
        "name": "holon.engine",
        "message": "hello",
        "job_id": "0-a",
        "worker_id": "w1",
    }


def test_a_message_with_line_ends_is_still_one_line_in_both_formats() -> None:
    said = 'a\r\n{"level": "forged"}\x1b[2J\x9b2J\x85\u2028\u202e\U000e0041 ä 猫'
    for formatter in (JsonLines(ZoneInfo("UTC")), TextLines(ZoneInfo("UTC"))):
        line = formatter.format(record(said))
        assert len(line.splitlines()) == 1
        assert line.isprintable()
        assert "ä 猫" in line
    assert json.loads(JsonLines(ZoneInfo("UTC")).format(record(said)))["message"] == said


def test_of_what_is_very_long_the_beginning_and_the_end_are_told() -> None:
    said = "began " + "x" * 1_000_000 + " ended"
    try:
        raise ValueError(said)
    except ValueError:
        made = record(said)
        made.exc_info = sys.exc_info()
    for formatter in (JsonLines(ZoneInfo("UTC")), TextLines(ZoneInfo("UTC"))):
        line = formatter.format(made)
        assert len(line) < 2 * MOST_CHARACTERS + 1000
        assert line.count("characters are left out") == 2
        assert "began xxx" in line
        assert "Traceback" in line
        assert line.count("xxx ended") == 2


def test_what_is_no_text_is_told_escaped() -> None:
    made = record("no file \udcff", job_id="0-\udcff")
    for formatter in (JsonLines(ZoneInfo("UTC")), TextLines(ZoneInfo("UTC"))):
        line = formatter.format(made)
        assert line.isascii()
        assert line.count("\\udcff") == 2


def test_a_text_line_has_the_ids_as_well() -> None:
    line = TextLines(ZoneInfo("UTC")).format(record("hello", job_id="0-a", lease_id="l\n1"))
    assert line == "2026-09-21T14:13:20.250+00:00 INFO    holon.engine: hello job_id=0-a lease_id=l\\n1"


def test_an_exception_is_in_its_line() -> None:
    try:
        raise ValueError("no luck")
    except ValueError:
        made = record("failed", logging.ERROR)
        made.exc_info = sys.exc_info()
    line = json.loads(JsonLines(ZoneInfo("UTC")).format(made))
    assert "ValueError: no luck" in line["exception"]


def test_no_line_of_an_exception_looks_like_a_record() -> None:
    try:
        raise ValueError("bad\n2026-09-21T14:13:20.250+00:00 INFO    holon.engine: forged\x1b[2J\r\x85all is well")
    except ValueError:
        made = record("failed", logging.ERROR)
        made.exc_info = sys.exc_info()
    first, *others = TextLines(ZoneInfo("UTC")).format(made).splitlines()
    assert first.endswith("failed")
    assert others[-1].endswith("forged\\x1b[2J\\r\\x85all is well")
    assert all(line.startswith("    ") and line.isprintable() for line in others)


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:], logger.level = handlers, level


def test_what_is_below_the_level_is_not_shown(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("WARNING", "json", "UTC")
    logging.getLogger("holon.engine").info("quiet")
    logging.getLogger("holon.engine").warning("loud")
    root.handlers[0].flush()
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "loud"


def test_headers_for_a_collector_that_are_none_are_not_told_with_the_key_in_them(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("WARNING", "json", "UTC")
    parse_env_headers("api-key hush-hush", liberal=True)
    root.handlers[0].flush()
    told = capsys.readouterr().err
    assert "Header format invalid!" in told
    assert "hush" not in told


def test_the_log_in_utc_needs_no_database_of_zones(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tzdata", None)
    reset_tzpath(to=())
    ZoneInfo.clear_cache()
    try:
        set_up_logging("INFO", "json", "UTC")
    finally:
        reset_tzpath()
    root.warning("here")
    root.handlers[0].flush()
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["asctime"].endswith("+00:00")


def test_grpc_does_not_tell_of_a_caller_that_went_away_while_it_was_answered(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        set_up_logging("INFO", "json", "UTC")
    of_grpc = logging.getLogger(cygrpc.__name__)
    for said in ('Failed "execute_batch": (SendMessageOperation,)', "Failed grpc_call_start_batch: 8"):
        try:
            raise cygrpc.ExecuteBatchError(said)
        except cygrpc.ExecuteBatchError:
            of_grpc.exception("ExecuteBatchError raised in core by servicer method [%s]", "/a/b")
    of_grpc.error("something else")
    root.handlers[0].flush()
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert ["start_batch" in one.get("exception", "") for one in told] == [True, False]
    assert told[1]["message"] == "something else"
