"""What the tests of several rooms stand on: certificates, and a Redis for each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.scripted_node import Certificates, make_certificates
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
