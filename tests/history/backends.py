"""The databases of history that the suite runs on."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from holon.ports import HistoryStorage
from holon.storage.history import PostgresHistory, SqliteHistory
from tests.history.postgres import Server


class Database(Protocol):
    """One empty database, which outlives those who open it."""

    def open(self) -> AbstractAsyncContextManager[HistoryStorage]:
        """A history in it."""
        ...


class SqliteDatabase:
    """A file."""

    def __init__(self, place: Path) -> None:
        self.path = place / "history.db"

    def open(self) -> AbstractAsyncContextManager[HistoryStorage]:
        return SqliteHistory(self.path)


class PostgresDatabase:
    """A database of a server."""

    def __init__(self, server: Server) -> None:
        self.uri = server.database()

    def open(self) -> AbstractAsyncContextManager[HistoryStorage]:
        return PostgresHistory(self.uri)
