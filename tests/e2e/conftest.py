"""Tests of whole processes run on SQLite, or on the durable stores that were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_node import Started
from tests.forked_children import forked_children
from tests.redis_server import RedisServer
from tests.stores import NewStore, chosen

__all__ = ["forked_children"]


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


@pytest.fixture
def started() -> Iterator[list[Started]]:
    """What a test starts, ended with it."""
    every: list[Started] = []
    yield every
    for one in every:
        one.kill()
