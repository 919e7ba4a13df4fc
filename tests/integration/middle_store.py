"""Where a holon in the middle has its jobs, and their history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.redis_server import RedisServer


def stores_of(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The settings of one empty store: `sqlite`, `moved` with the history in a file of its own, or `redis`."""
    if kind == "redis":
        with closing(RedisServer()) as server:
            yield {"STORAGE_URI": server.uri()}
    else:
        history = {"HISTORY_DATABASE_URI": f"sqlite:///{folder}/moved.db"} if kind == "moved" else {}
        yield {"STORAGE_URI": f"sqlite:///{folder}/middle.db", **history}
