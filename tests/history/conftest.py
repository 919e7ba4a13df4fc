"""What the tests of history share: one PostgreSQL for all of them, and an empty database for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import pytest

from holon.ports import HistoryStorage
from tests.history.backends import KEYS, Database, PostgresDatabase, SqliteDatabase
from tests.history.postgres import Server, serving
from tests.history.site import StoreOf
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server that runs; whoever kills it starts it again."""
    with serving() as server:
        yield server


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that this test alone may stop and kill."""
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A server for all stores in Redis, each in a database of its own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def store_of(request: pytest.FixtureRequest, tmp_path: Path) -> StoreOf:
    """Says where a store of a kind is, the same for the whole of a test."""

    @cache
    def uri(kind: str) -> str:
        if kind == "redis":
            server: RedisServer = request.getfixturevalue("redis")
            return server.uri(server.database())
        return "memory://" if kind == "memory" else f"sqlite:///{tmp_path / 'holon.db'}?synchronous=NORMAL"

    return uri


def _database(request: pytest.FixtureRequest, place: Path) -> Database:
    kind, _, sealed = request.param.partition("-")
    keys = KEYS if sealed else ()
    if kind == "sqlite":
        return SqliteDatabase(place, keys)
    return PostgresDatabase(request.getfixturevalue("postgres"), keys)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database, of either kind."""
    return _database(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgres", "sqlite-sealed", "postgres-sealed"])
async def history(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HistoryStorage]:
    """An open history with nothing in it, of either kind, sealed or not."""
    async with _database(request, tmp_path).open() as opened:
        yield opened
