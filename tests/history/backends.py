"""The databases of history that the suite runs on."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from holon.ports import HistoryStorage
from holon.storage.history import PostgresHistory, SqliteHistory
from holon.stores.sealing import Seal
from tests.history.postgres import Server

KEYS = (bytes(range(32)),)


class Database(Protocol):
    """One empty database, which outlives those who open it."""

    def open(self) -> AbstractAsyncContextManager[HistoryStorage]:
        """A history in it."""
        ...


class SqliteDatabase:
    """A file."""

    def __init__(self, place: Path, keys: tuple[bytes, ...] = ()) -> None:
        self.path = place / "history.db"
        self._keys = keys

    def open(self) -> AbstractAsyncContextManager[HistoryStorage]:
        return SqliteHistory(self.path, Seal(self._keys))


class PostgresDatabase:
    """A database of a server."""

    def __init__(self, server: Server, keys: tuple[bytes, ...] = ()) -> None:
        self.uri = server.database()
        self._keys = keys

    def open(self) -> AbstractAsyncContextManager[HistoryStorage]:
        return PostgresHistory(self.uri, Seal(self._keys))
