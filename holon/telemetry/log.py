"""The log: one line per record, as JSON for machines or as text for people, with ids as fields of their own."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime, tzinfo
from types import TracebackType
from typing import TypeAlias
from zoneinfo import ZoneInfo

import orjson

from holon.telemetry.audit import LOGGER
from holon.telemetry.behind import LinesBehind

ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
# Where gRPC's own code logs, and how the error begins that its core gives for an operation of a call that is over; the
# others of this kind are of who uses it wrongly.
_GRPC = "grpc._cython.cygrpc"
_CALL_OVER = 'Failed "execute_batch"'
# What reads SQLite tells at `DEBUG` each statement twice, with its values.
_SQLITE = "aiosqlite"
# What sends webhooks tells at `DEBUG` each step of a request.
_HTTP = "httpcore"
# What reads OpenTelemetry's headers tells those that are none, and what stands there is mostly a key.
_HEADERS = "opentelemetry.util.re"
FIELDS = ("job_id", "task_id", "worker_id", "lease_id", "session_id", "match_key")
# Of a message, or a traceback, no more is told: an exception may say all that a stranger sent.
MOST_CHARACTERS = 16_384


class JsonLines(logging.Formatter):
    """Records as one JSON object a line. What is not printable in messages is escaped, so nobody can forge a line.

    JSON itself lets C1 controls pass, and what some readers take for the end of a line (U+2028).
    """

    def __init__(self, zone: tzinfo) -> None:
        super().__init__()
        self._zone = zone

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "asctime": datetime.fromtimestamp(record.created, self._zone).isoformat(timespec="milliseconds"),
            "levelname": record.levelname,
            "name": record.name,
            "message": _shortened(record.getMessage()),
            **_fields_of(record),
        }
        if (audit := getattr(record, "audit", None)) is not None:
            line |= {"message": audit["act"], "audit": audit}
        if record.exc_info:
            line["exception"] = _shortened(self.formatException(record.exc_info))
        try:
            text = orjson.dumps(line).decode()
        except TypeError:
            # Half a character, which the name of a file may have: escaped too.
            text = json.dumps(line)
        return text if text.isprintable() else _UNPRINTABLE.sub(_as_json, text)


class TextLines(logging.Formatter):
    """Records as text for people, with the ids that the message does not tell; control characters are escaped."""

    def __init__(self, zone: tzinfo) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._zone = zone

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        return datetime.fromtimestamp(record.created, self._zone).isoformat(timespec="milliseconds")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = _shortened(record.message)
        line = super().formatMessage(record)
        ids = [f" {name}={value}" for name, value in _fields_of(record).items() if value not in line]
        return _escaped("".join((line, *ids)))

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802
        # An exception may say what a stranger sent: its lines stand apart, so that none of them looks like a record.
        told = _shortened(super().formatException(ei))
        return "\n".join(f"    {_escaped(line)}" for line in told.split("\n"))


def _shortened(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters are left out ...] {text[-half:]}"


def _as_json(found: re.Match[str]) -> str:
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in found[0])


def _escaped(text: str) -> str:
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _fields_of(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(value) for name in FIELDS if (value := getattr(record, name, None)) is not None}


def of_a_call_that_is_over(record: logging.LogRecord) -> bool:
    """Whether gRPC tells, as an error, that a caller went away while it was being answered.

    It does where it sends the end of a call itself, after the call's handler, so that no handler can take it.
    """
    error = record.exc_info[1] if record.exc_info else None
    return record.name == _GRPC and type(error).__name__ == "ExecuteBatchError" and str(error).startswith(_CALL_OVER)


def _worth_telling(record: logging.LogRecord) -> bool:
    return not of_a_call_that_is_over(record)


def _without_values(record: logging.LogRecord) -> bool:
    record.args = ("(hidden)",) if record.args else ()
    return True


def zone_of(name: str) -> tzinfo:
    """The time zone of this name; UTC is known also where there is no database of them."""
    return UTC if name == "UTC" else ZoneInfo(name)


def set_up_logging(level: str, form: str, zone: str) -> None:
    """Send the log to standard error, from a thread of its own; replaces what was set up before.

    Arguments:
        level: the least severe level that is shown, such as `INFO`.
        form: `json` or `text`.
        zone: the time zone of its times, such as `Europe/Moscow`.
    """
    formatter = JsonLines(zone_of(zone)) if form == "json" else TextLines(zone_of(zone))
    handler = LinesBehind(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for before in root.handlers:
        if isinstance(before, LinesBehind):
            before.close()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger(_GRPC).addFilter(_worth_telling)
    logging.getLogger(_HEADERS).addFilter(_without_values)
    for chatty in (_GRPC, _SQLITE, _HTTP):
        logging.getLogger(chatty).setLevel(max(root.level, logging.INFO))
    # Who did what is told whatever else is not.
    logging.getLogger(LOGGER).setLevel(logging.INFO)
