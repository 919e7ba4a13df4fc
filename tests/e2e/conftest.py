"""Tests of whole processes run on SQLite, or on the durable stores that were asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer
from tests.stores import VARIABLE, NewStore, asked, chosen


@pytest.fixture(scope="session", params=chosen(("sqlite", "redis"), unasked=("sqlite",)))
def new_store(request: pytest.FixtureRequest) -> Iterator[NewStore]:
    """Gives the STORAGE_URI of an empty store, in a folder where it may have files; it outlives any node."""
    if request.param == "sqlite":
        yield lambda folder: f"sqlite:///{folder / 'holon.db'}"
        return
    server = RedisServer(append_only=True, options=("--appendfsync", "no"))
    yield lambda _: server.uri(server.database())
    server.close()


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> str:
    """The STORAGE_URI of an empty store."""
    return new_store(tmp_path)


_OWN = pytest.StashKey[Counter[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    own = config.stash.setdefault(_OWN, Counter())
    for item in items:
        marker = item.get_closest_marker("own_store")
        if marker is not None and item.path.is_relative_to(Path(__file__).parent):
            own[f"of {item.path.name}: {marker.args[0]}"] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    own = config.stash.get(_OWN, Counter())
    if asked() and own:
        terminalreporter.section(f"NOT ON {', '.join(asked())}, though {VARIABLE} says so", yellow=True, bold=True)
        for which, count in own.items():
            terminalreporter.write_line(f"{count} {which}")
