"""History in a database of its own: a SQLite file, or PostgreSQL, which several nodes can share."""

from __future__ import annotations

from holon.storage.history.postgres import PostgresHistory
from holon.storage.history.sqlite import SqliteHistory

__all__ = ["PostgresHistory", "SqliteHistory"]
