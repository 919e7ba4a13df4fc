"""Lines that are written from behind: in order, and never at the cost of whoever logs."""

from __future__ import annotations

import errno
import io
import logging
import threading

from holon.telemetry.behind import LinesBehind


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("holon", logging.INFO, "", 0, message, (), None)


class Slow(io.StringIO):
    """A stream whose writes wait until they may go on; `went_on` once one was let, and had not only waited for long."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.went_on = False

    def write(self, text: str) -> int:
        self.began.set()
        self.went_on = self.go_on.wait(30)
        return super().write(text)


def test_lines_are_written_in_their_order() -> None:
    stream = io.StringIO()
    handler = LinesBehind(stream)
    for number in range(100):
        handler.handle(record(str(number)))
    handler.close()
    assert stream.getvalue().split() == [str(number) for number in range(100)]


def test_who_logs_does_not_wait_for_who_reads_and_what_is_lost_is_told() -> None:
    stream = Slow()
    handler = LinesBehind(stream, most=3)
    handler.handle(record("first"))
    assert stream.began.wait(30)
    for number in range(10):
        handler.handle(record(str(number)))
    stream.go_on.set()
    handler.close()
    assert stream.went_on
    assert stream.getvalue().splitlines() == [
        "first",
        "0",
        "1",
        "2",
        "7 log lines were lost: the reader of the log is too slow",
    ]


class Gone(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_stream_that_nobody_reads_any_more_ends_the_log_and_nothing_else() -> None:
    handler = LinesBehind(Gone())
    handler.handle(record("to nobody"))
    handler.flush()
    handler.handle(record("more"))
    # Nothing waits for what will not come.
    assert repr(handler) == "LinesBehind(waiting=0, lost=0)"
    handler.close()


class Full(io.StringIO):
    """A stream that takes three characters of each of its first two writes, as a disk that is full for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 2

    def write(self, text: str) -> int:
        if not self.refusals:
            return super().write(text)
        self.refusals -= 1
        super().write(text[:3])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_cannot_be_written_is_lost_and_told_and_the_log_goes_on() -> None:
    stream = Full()
    handler = LinesBehind(stream)
    for message in ("lost", "gone", "here", "there"):
        handler.handle(record(message))
        handler.flush()
    handler.close()
    assert stream.getvalue().split("\n") == [
        "los",
        "go",
        "here",
        "2 log lines were lost: No space left on device",
        "there",
        "",
    ]


def test_a_log_call_that_is_wrong_does_not_end_its_caller() -> None:
    stream = io.StringIO()
    handler = LinesBehind(stream)
    handler.handle(logging.LogRecord("holon", logging.INFO, "", 0, "%d", ("no number",), None))
    handler.handle(record("next"))
    handler.close()
    assert stream.getvalue() == "next\n"
