"""The times that the command line shows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from holon.cli.watching import log_line
from holon.client import JobLogs, LogLine


@pytest.fixture(params=["Asia/Tokyo", "America/New_York"])
def _zone(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize("seconds", [253_402_300_799.0, -62_135_596_800.0, 1e18])
def test_a_line_of_a_log_is_shown_whatever_its_workers_clock_says(seconds: float) -> None:
    line = LogLine(seconds, "info", "hello", {})
    assert log_line(JobLogs("j-0-0", 1, (line,)), line).endswith(" #0-0 INFO hello")
