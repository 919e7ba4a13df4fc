"""The log: lines that a thread of its own writes, so that nobody who logs waits for who reads the log."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any, Protocol

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

    Arguments:
        most: how many lines may wait; more are lost.
    """

    def __init__(self, stream: Lines, most: int = MOST_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._most = most
        self._lines: deque[str] = deque()
        self._lost = 0
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
                lines, self._lines, lost = self._lines, deque(), self._lost
                self._lost = 0
                self._writing = True
            if lost:
                lines.append(self.format(_loss(lost)))
            try:
                self._stream.write("\n".join((*lines, "")))
                self._stream.flush()
            except (OSError, ValueError):
                # Nobody reads any more: there is nowhere left to say so.
                with self._changed:
                    self._closed, self._writing = True, False
                    self._lines.clear()
                    self._changed.notify_all()
                return


def _loss(lost: int) -> logging.LogRecord:
    message = f"{lost} lines of the log are lost: whoever reads it is too slow"
    return logging.LogRecord("holon.log", logging.WARNING, "", 0, message, (), None)
