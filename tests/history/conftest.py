"""What the tests of history share: one PostgreSQL for all of them, and an empty database for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holon.ports import HistoryStorage
from tests.history.backends import Database, PostgresDatabase, SqliteDatabase
from tests.history.postgres import Server, serving


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server that runs; whoever kills it starts it again."""
    with serving() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database, of either kind."""
    if request.param == "sqlite":
        return SqliteDatabase(tmp_path)
    return PostgresDatabase(request.getfixturevalue("postgres"))


@pytest.fixture
async def history(database: Database) -> AsyncIterator[HistoryStorage]:
    """An open history with nothing in it."""
    async with database.open() as opened:
        yield opened
