"""The row stores that the contract runs on: each test has an empty store of each kind, and can open it once more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from holon.clock import ManualClock
from holon.stores.memory import MemoryRows
from holon.stores.port import RowStore
from holon.stores.postgres import PostgresRows
from holon.stores.redis import RedisRows
from holon.stores.sqlite import SqliteRows
from tests.history.postgres import Server, serving
from tests.redis_server import RedisServer, binaries

SHARDS = 3
SERVERS = [f"redis:{path}" for path in binaries()]
SHARED = ["memory", *SERVERS, "postgres"]
ALL = [*SHARED, "sqlite"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def redis_servers() -> Iterator[Callable[[str], RedisServer]]:
    servers: dict[str, RedisServer] = {}

    def server(path: str) -> RedisServer:
        if path not in servers:
            servers[path] = RedisServer(path)
        return servers[path]

    yield server
    for one in servers.values():
        one.close()


class Stores:
    """Opens one store as often as a test asks."""

    def __init__(self, make: Callable[[], RowStore], opened: AsyncExitStack, clock: ManualClock | None) -> None:
        self._make = make
        self._opened = opened
        self._clock = clock
        self._last: RowStore | None = None

    async def open(self) -> RowStore:
        """The store, opened by one process more; of one that is exclusive, the process before has ended."""
        if self._last is not None and self._last.exclusive:
            await self._opened.aclose()
        self._last = await self._opened.enter_async_context(self._make())
        return self._last

    def later(self, ms: int) -> bool:
        """Move the store's clock on. False if the clock is a server's."""
        if self._clock is not None:
            self._clock.advance(ms)
        return self._clock is not None


@pytest.fixture
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    kind, _, path = request.param.partition(":")
    clock: ManualClock | None = None
    make: Callable[[], RowStore]
    if kind == "memory":
        clock = ManualClock()
        memory = MemoryRows(SHARDS, clock)
        make = lambda: memory  # noqa: E731
    elif kind == "sqlite":
        clock = ManualClock()
        make = lambda: SqliteRows(tmp_path / "holon.db", "NORMAL", clock)  # noqa: E731
    elif kind == "redis":
        server = request.getfixturevalue("redis_servers")(path)
        uri = server.uri(server.database())
        make = lambda: RedisRows(uri, SHARDS)  # noqa: E731
    else:
        uri = request.getfixturevalue("postgres").database()
        make = lambda: PostgresRows(uri, SHARDS)  # noqa: E731
    async with AsyncExitStack() as opened:
        yield Stores(make, opened, clock)


@pytest.fixture
async def store(stores: Stores) -> RowStore:
    return await stores.open()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "stores" in metafunc.fixturenames:
        kinds = SHARED if metafunc.definition.get_closest_marker("shared_store") else ALL
        metafunc.parametrize("stores", kinds, indirect=True, ids=[Path(kind).name for kind in kinds])
