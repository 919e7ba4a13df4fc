"""The worker SDK: a handler's `log`, from any thread: lines for whoever follows the job, sent a few times a second."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from holon.domain.log_bounds import MAX_FIELDS, MAX_TEXT, left_out
from holon.domain.texts import clipped
from holon.rxon.v1 import types_pb2
from holon.worker.outcome import text_of
from holon.worker.thinned import Thinned
from holon.worker.threads import Mailbox

# So many lines wait to be sent, of the newest; a message holds so many, and about so many bytes.
MOST_WAITING = 1_000
_LINES_AT_ONCE = 100
_BYTES_AT_ONCE = 128 * 1024
_LEVELS = {
    "debug": types_pb2.LOG_LEVEL_DEBUG,
    "info": types_pb2.LOG_LEVEL_INFO,
    "warning": types_pb2.LOG_LEVEL_WARNING,
    "error": types_pb2.LOG_LEVEL_ERROR,
}


class Log:
    """A handler's `log`: `log("text")`, or `log.warning("text", rows=3)`.

    Lines are best effort: they go to whoever follows the job at that moment, and are kept nowhere.

    Arguments:
        mailbox: leads to the stream's loop.
        report: takes lines, in the order written; called in the stream's loop.
        every: least time between two reports, in seconds; what is written meanwhile goes with the next.
    """

    def __init__(self, mailbox: Mailbox, report: Callable[[Sequence[types_pb2.LogLine]], None], every: float) -> None:
        self._report = report
        # Each as it was written, when and how serious it is; with the number of all that were.
        self._lines: deque[tuple[int, int, str, str, bytes]] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()
        self._written = 0
        self._told = 0
        self._thinned = Thinned(mailbox, self._say, every)

    def __call__(self, message: object, /, **fields: Any) -> None:
        """The same as `info`."""
        self._write("info", message, fields)

    def debug(self, message: object, /, **fields: Any) -> None:
        """A line for whoever debugs the skill; as `info`."""
        self._write("debug", message, fields)

    def info(self, message: object, /, **fields: Any) -> None:
        """A line on the ordinary course of things. Never blocks; any thread may call it.

        Of more than 1,000 lines at once the newest are told, and how many are not.

        Arguments:
            message: what happened, in one line for people; cut to 8,192 bytes.
            fields: named values that belong to it, at most 8,192 bytes of JSON; what JSON does not know is written as
                its text.
        """
        self._write("info", message, fields)

    def warning(self, message: object, /, **fields: Any) -> None:
        """A line on something to look at, though the work goes on; as `info`."""
        self._write("warning", message, fields)

    def error(self, message: object, /, **fields: Any) -> None:
        """A line on something that failed; as `info`."""
        self._write("error", message, fields)

    def _write(self, level: str, message: object, fields: Mapping[str, Any]) -> None:
        text, named = clipped(text_of(message), MAX_TEXT), _json(fields)
        with self._lock:
            self._written += 1
            self._lines.append((self._written, time.time_ns(), level, text, named))
        self._thinned.ask()

    def end(self) -> None:
        """Report what waits, and nothing more: the final word is about to be said. Called in the stream's loop."""
        if self._thinned.end():
            self._say()

    def _say(self) -> None:
        """Report all that waits. Handlers go on writing meanwhile: no more is taken than was there at first."""
        batch: list[types_pb2.LogLine] = []
        size = 0
        for _ in range(len(self._lines)):
            try:
                number, at, level, text, fields = self._lines.popleft()
            except IndexError:
                break
            if (dropped := number - self._told - 1) > 0:
                batch.append(
                    _line(
                        at,
                        "warning",
                        f"{dropped} log lines before this one were dropped, because there were too many at once",
                        b"",
                    )
                )
            self._told = number
            batch.append(_line(at, level, text, fields))
            size += batch[-1].ByteSize()
            if len(batch) >= _LINES_AT_ONCE or size >= _BYTES_AT_ONCE:
                self._report(batch)
                batch, size = [], 0
        if batch:
            self._report(batch)


def _line(at: int, level: str, text: str, fields: bytes) -> types_pb2.LogLine:
    line = types_pb2.LogLine(level=_LEVELS[level], text=text)
    line.time.FromNanoseconds(at)
    if fields:
        line.fields.data = fields
    return line


def _json(fields: Mapping[str, Any]) -> bytes:
    """Fields as JSON; those of a line that has too much of them are left out, and that is said."""
    if not fields:
        return b""
    try:
        text = orjson.dumps(fields, default=text_of, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError) as error:
        text = orjson.dumps({"fields_left_out": text_of(error)})
    if len(text) > MAX_FIELDS:
        return orjson.dumps(left_out(len(text)))
    return text
