"""The log: lines that a thread of its own writes, so that nobody who logs waits for who reads the log."""

from __future__ import annotations

import errno
import logging
import threading
from collections import deque
from typing import Any, Protocol

_SLOW = "the reader of the log is too slow"
# Who reads is this far behind at most; what comes then is lost, and how much that was is told.
MOST_LINES = 10_000
# How long the end of the program waits for who reads.
FAREWELL_S = 1.0


class Lines(Protocol):
    """Where lines are written."""

    def write(self, text: str, /) -> Any:
        """Take some of them."""

    def flush(self) -> None:
        """Pass on what was taken."""


class LinesBehind(logging.Handler):
    """Formats each record where it is logged, and writes the lines to a stream from a daemon thread, in order.

    Lines that cannot be written, as on a full disk, are lost, and the next ones are tried all the same; once nobody is
    there to read any more, it ends.

    Arguments:
        most: how many lines may wait; more are lost.
    """

    def __init__(self, stream: Lines, most: int = MOST_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._most = most
        self._lines: deque[str] = deque()
        self._lost = 0
        self._why = _SLOW
        self._changed = threading.Condition()
        self._writing = False
        self._closed = False
        threading.Thread(target=self._write, name="holon-log", daemon=True).start()

    def __repr__(self) -> str:
        return f"LinesBehind(waiting={len(self._lines)}, lost={self._lost})"

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line of a record; never waits."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  as handlers do: a log call that is wrong must not end its caller
            self.handleError(record)
            return
        with self._changed:
            if self._closed:
                return
            if len(self._lines) >= self._most:
                self._lost += 1
                return
            self._lines.append(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all that was logged is written, a second at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines and not self._writing, FAREWELL_S)

    def close(self) -> None:
        """Write what is there, and no more; waits a second at most."""
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                lines, self._lines, lost, why = self._lines, deque(), self._lost, self._why
                self._lost, self._why = 0, _SLOW
                self._writing = True
            told = [self.format(_loss(lost, why))] if lost else []
            # What was written before something failed may have ended within a line.
            head = [""] if why != _SLOW else []
            try:
                self._stream.write("\n".join((*head, *lines, *told, "")))
                self._stream.flush()
            except (OSError, ValueError) as error:
                with self._changed:
                    if _is_gone(error):
                        # There is nowhere left to say so.
                        self._closed, self._writing = True, False
                        self._lines.clear()
                        self._changed.notify_all()
                        return
                    self._lost += lost + len(lines)
                    self._why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _is_gone(error: OSError | ValueError) -> bool:
    """Whether nobody reads any more, or the stream is closed."""
    if isinstance(error, OSError) and (isinstance(error, BrokenPipeError) or error.errno == errno.EBADF):
        return True
    return isinstance(error, ValueError) and not isinstance(error, UnicodeError)


def _loss(lost: int, why: str) -> logging.LogRecord:
    message = f"{lost} log lines were lost: {why}"
    return logging.LogRecord("holon.log", logging.WARNING, "", 0, message, (), None)
