"""The end of a process that is held up: it comes in time, whoever else stands still."""

from __future__ import annotations

import logging
import threading

import pytest

from holon.node.ending import LastResort, alone, last_resort

GUARD = 10.0


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set in the place of the process's end; nothing of the test's own log is shut down."""
    event = threading.Event()
    monkeypatch.setattr("holon.node.ending.os._exit", lambda _: event.set())
    monkeypatch.setattr("holon.node.ending.logging.shutdown", lambda: None)
    return event


def test_it_comes_in_time_though_nobody_reads_the_log(left: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    class Stuck(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            go_on.wait(GUARD)

    stuck = Stuck()
    logging.getLogger("holon.node.ending").addHandler(stuck)
    monkeypatch.setattr("holon.node.ending._SAID_S", 0.01)
    try:
        LastResort().within(0)
        assert left.wait(GUARD)
    finally:
        go_on.set()
        logging.getLogger("holon.node.ending").removeHandler(stuck)


def test_of_several_words_the_earliest_end_counts(left: threading.Event) -> None:
    last = LastResort()
    last.within(3_600)
    last.within(0)
    last.within(3_600)
    assert left.wait(GUARD)


def test_what_has_ended_is_left_alone(left: threading.Event) -> None:
    before = {*threading.enumerate()}
    with alone():
        last_resort().within(3_600)
        (waiting,) = {*threading.enumerate()} - before
    waiting.join(GUARD)
    assert not waiting.is_alive()
    assert not left.is_set()


def test_a_process_that_is_others_too_is_left_alone(left: threading.Event) -> None:
    before = {*threading.enumerate()}
    last_resort().within(0)
    assert {*threading.enumerate()} <= before
    assert not left.is_set()
