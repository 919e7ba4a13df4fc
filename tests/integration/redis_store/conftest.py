"""What the tests of the store in Redis stand on: servers, nodes on them, and a store of several partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.contract.backends import PARTITIONED
from tests.contract.world import World
from tests.integration.redis_store.nodes import Nodes
from tests.redis_server import RedisServer, binaries


@pytest.fixture(params=binaries(), scope="package")
def each_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Every server that is here."""
    server = RedisServer(request.param, append_only=True, options=("--appendfsync", "no"))
    yield server
    server.close()


@pytest.fixture
async def nodes(each_server: RedisServer) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as opened:
        yield Nodes(each_server, opened)


@pytest.fixture(scope="package", autouse=True)
def _partitioned() -> Iterator[None]:
    yield
    PARTITIONED.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A node on a store of several partitions."""
    world = World(PARTITIONED, tmp_path, {})
    await world.open()
    yield world
    await world.close()
