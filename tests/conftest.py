"""What every test shares: how properties are searched, what begins first, and what a run says at its head and end."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Generator
from typing import TypeAlias

import pytest
from hypothesis import settings

from tests.redis_server import versions
from tests.stores import VARIABLE, asked

# Tests start servers as another user, which forks; gRPC's own handlers of that can take the child down.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
# Whoever starts the tests in the background may have them ignore this, and programs inherit that; some are interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Thousands of tests are collected and stay until the end: the collector would look through them all the time.
gc.disable()
gc.set_threshold(50_000)
# Limits in time are not asserted: a busy machine is no failure.
settings.register_profile("holon", deadline=None)
settings.load_profile("holon")


def pytest_report_header() -> list[str]:
    return [
        f"storage: {', '.join(asked()) or 'memory, sqlite and redis; whole processes on sqlite'}",
        f"servers: {', '.join(versions())}",
    ]


MEASURED, OWN_STORE = "measured", "own_store"
Measured: TypeAlias = Callable[[str], None]


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Takes down a figure that a test measured; all of them are shown at the end of the run."""
    return lambda figure: record_property(MEASURED, figure)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # What a test has logged on purpose may be no text that one process can send to another.
    report.sections = [(name, said.encode("utf-8", "backslashreplace").decode()) for name, said in report.sections]
    return report


def pytest_runtest_setup() -> None:
    # What a program has set that ran in this process before is no matter of this test.
    if (root := logging.getLogger()).level != logging.WARNING:
        root.setLevel(logging.WARNING)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if (marker := item.get_closest_marker(OWN_STORE)) is not None:
            item.user_properties.append((OWN_STORE, f"of {item.path.name}: {marker.args[0]}"))
    # Where several processes share the tests, none is left with a long one when the others have ended.
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # What is told here comes with the reports of the tests, which may have run in other processes.
    outcomes = ("passed", "failed", "skipped")
    reports = [one for outcome in outcomes for one in terminalreporter.getreports(outcome)]
    ran = [one for one in reports if isinstance(one, pytest.TestReport)]
    noted = [(*note, one.location[2]) for one in ran if one.when == "call" for note in one.user_properties]
    figures = [f"{test}: {figure}" for name, figure, test in noted if name == MEASURED]
    if figures:
        terminalreporter.section("measured")
        terminalreporter.write_line("\n".join(figures))
    own = Counter(which for name, which, _ in noted if name == OWN_STORE)
    if asked() and own:
        terminalreporter.section(f"NOT ON {', '.join(asked())}, though {VARIABLE} says so", yellow=True, bold=True)
        terminalreporter.write_line("\n".join(f"{count} {which}" for which, count in own.items()))
    # A skipped test tells its file, its line, and why.
    absent = {str(one.longrepr[2]) for one in ran if one.skipped and isinstance(one.longrepr, tuple)}
    if absent:
        terminalreporter.section("NOT CHECKED", yellow=True, bold=True)
        terminalreporter.write_line("\n".join(sorted(absent)))
