"""The acceptance cases run on every store."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from holon.testing import running_node
from tests.integration.cases.site import Start
from tests.redis_server import RedisServer
from tests.stores import chosen


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A server for all cases, each in a database of its own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(params=chosen(("memory", "sqlite", "redis")))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Starts a node over a store of its own: `async with start(blueprint, SETTING=value) as node`."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        return partial(running_node, STORAGE_URI=server.uri(server.database()))
    # A killed process loses nothing of NORMAL either, and nothing here cuts the power.
    stores = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'holon.db'}?synchronous=NORMAL"}
    return partial(running_node, STORAGE_URI=stores[request.param])
