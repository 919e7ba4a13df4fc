"""The acceptance cases run on stores that outlive a node, and where they are asked for on any.

Those of the dispatch also run with client and workers at different nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from holon.testing import running_node
from tests.history.postgres import Server, serving
from tests.integration.cases.apart import two_nodes
from tests.integration.cases.site import Start
from tests.redis_server import RedisServer
from tests.stores import asked, chosen

# What must not depend on which node is asked: history, many jobs at once, tasks and results, fan-out, cancel, signals,
# budgets, reputations, attempts.
_APART = re.compile(r"test_(a12|b25|b26|c\d\d|d01|d12|d16|e17|e18|signals|budgets|attempts)_")


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A server for all cases, each in a database of its own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server for all cases, each in a database of its own."""
    with serving() as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "start" in metafunc.fixturenames:
        stores = chosen(("memory", "sqlite", "redis", "postgresql"), ("sqlite", "redis"))
        apart = _APART.match(metafunc.function.__name__) and not metafunc.definition.get_closest_marker("one_node")
        if "redis" in stores and apart:
            # Asked for Redis, a run has the time for both.
            stores.append("two nodes")
            if not asked():
                stores.remove("redis")
        if "postgresql" in stores and apart:
            stores.append("two nodes, postgresql")
        metafunc.parametrize("start", stores, indirect=True)


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Starts a node over a store of its own: `async with start(blueprint, SETTING=value) as node`.

    With two nodes, clients are at one of them and workers at the other.
    """
    if request.param in ("redis", "two nodes"):
        server: RedisServer = request.getfixturevalue("redis")
        one_or_two = two_nodes if request.param.startswith("two nodes") else running_node
        return partial(one_or_two, STORAGE_URI=server.uri(server.database()))
    if request.param.endswith("postgresql"):
        one_or_two = two_nodes if request.param.startswith("two nodes") else running_node
        return partial(one_or_two, STORAGE_URI=request.getfixturevalue("postgres").database())
    # A killed process loses nothing of NORMAL either, and nothing here cuts the power.
    stores = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'holon.db'}?synchronous=NORMAL"}
    return partial(running_node, STORAGE_URI=stores[request.param])
