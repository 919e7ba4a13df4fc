"""What the tests of several rooms stand on: a node behind its gRPC doors, certificates, and a Redis for each file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.grpc_node import Node, Wire, a_node, offering
from tests.integration.scripted_node import Certificates, make_certificates
from tests.integration.tls_site import Site
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Nobody changes them: who has files replaced makes its own."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with a_node() as node:
        yield node


@pytest.fixture
async def good(node: Node) -> Wire:
    """A worker that goes on, whatever anybody does."""
    return await node.worker("good-1", offering("good"))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Site.followed(tmp_path) as it:
        yield it
