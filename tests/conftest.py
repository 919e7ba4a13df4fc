"""What every test shares: how properties are searched, and what the head of a run says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import settings

from tests.stores import asked

# Limits in time are not asserted: a busy machine is no failure.
settings.register_profile("holon", deadline=None)
settings.load_profile("holon")


def pytest_report_header() -> str:
    return f"storage: {', '.join(asked()) or 'memory, sqlite and redis; whole processes on sqlite'}"


Measured: TypeAlias = Callable[[str], None]
_MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Takes down a figure that a test measured; all of them are shown at the end of the run."""
    figures = request.config.stash.setdefault(_MEASURED, [])
    return lambda figure: figures.append(f"{request.node.name}: {figure}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash.get(_MEASURED, [])
    if figures:
        terminalreporter.section("measured")
        for figure in figures:
            terminalreporter.write_line(figure)
