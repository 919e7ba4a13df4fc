"""The store in one SQLite file: durable, with no server. The embedded default."""

from __future__ import annotations

from holon.storage.sqlite.storage import SqliteStorage

__all__ = ["SqliteStorage"]
