"""What happens again and again is in the log once a minute for a reason."""

from __future__ import annotations

import logging

import pytest

from holon.telemetry.seldom import EVERY_S, MOST, Seldom

log = logging.getLogger("test.seldom")


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return said


def test_the_same_is_said_once_a_minute_with_how_often_it_was_of_whatever_job(caplog: pytest.LogCaptureFixture) -> None:
    time = Time()
    seldom = Seldom(log, time)
    for job in ("a", "b", "c"):
        seldom.warn("job %s waits", job, why="full", job_id=job)
    assert warnings(caplog) == ["job a waits: full"]
    time.now += EVERY_S - 1
    seldom.warn("job %s waits", "d", why="full", job_id="d")
    assert warnings(caplog) == []
    time.now += 1
    for job in ("e", "f"):
        seldom.warn("job %s waits", job, why="full", job_id=job)
    assert warnings(caplog) == ["job e waits: full; 3 more since the last log line"]


def test_another_reason_and_another_message_are_said(caplog: pytest.LogCaptureFixture) -> None:
    seldom = Seldom(log, Time())
    for message, why in (("cannot claim", "full"), ("cannot claim", "away"), ("cannot lease", "full")):
        seldom.warn(message, why=why)
    assert warnings(caplog) == ["cannot claim: full", "cannot claim: away", "cannot lease: full"]


def test_for_debugging_all_of_it_is_there_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, log.name)
    seldom = Seldom(log, Time())
    for job in ("a", "b"):
        seldom.warn("job %s waits", job, why="full", job_id=job)
    assert [vars(record)["job_id"] for record in caplog.records] == ["a", "b"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]


def test_of_reasons_that_are_all_different_so_many_are_said_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    time = Time()
    seldom = Seldom(log, time)
    for n in range(MOST + 10):
        seldom.warn("cannot claim", why=str(n))
    assert repr(seldom) == f"Seldom(test.seldom, said={MOST})"
    time.now += EVERY_S
    seldom.warn("cannot claim", why="another")
    assert repr(seldom) == "Seldom(test.seldom, said=1)"
    assert len(warnings(caplog)) == MOST + 1
