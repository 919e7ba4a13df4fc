"""Fixtures for the store in Redis: servers, and several nodes on one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from tests.integration.redis_store.nodes import Nodes
from tests.redis_server import RedisServer, binaries


@pytest.fixture(params=binaries(), scope="package")
def each_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Every server that is installed."""
    server = RedisServer(request.param, append_only=True, options=("--appendfsync", "no"))
    yield server
    server.close()


@pytest.fixture
async def nodes(each_server: RedisServer) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as opened:
        yield Nodes(each_server, opened)
