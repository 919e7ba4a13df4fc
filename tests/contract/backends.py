"""The backends that the contract suite runs on: how each is opened, and how each is left as by SIGKILL."""

from __future__ import annotations

import shutil
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from redis.asyncio import Redis as Client

from holon.clock import Clock
from holon.ports import Storage, StoreSettings
from holon.storage.ledger import tables
from holon.storage.redis import RedisStorage
from tests.redis_server import RedisServer
from tests.stores import chosen


class Backend(Protocol):
    """One kind of store. `durable` ones outlive their process, at a place in the file system."""

    name: str
    durable: bool

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        """The store at a place that belongs to this test alone."""
        ...

    def killed(self, place: Path) -> Path:
        """Where to find what a store that is still open at `place` would leave behind if it were killed now."""
        ...


async def kept(storage: Storage) -> dict[str, int]:
    """How much an open store keeps of workers, of queues, of documents and, when they are many, of timers."""
    return await (_kept_in_redis(storage) if isinstance(storage, RedisStorage) else _kept_by_the_ledger(storage))


async def _kept_by_the_ledger(storage: Storage) -> dict[str, int]:
    kept: dict[str, int] = await storage._do(  # type: ignore[attr-defined]
        lambda ledger, _: {
            "workers": len(ledger.workers),
            "needs": len(ledger.backlog.needs),
            "counts": len(ledger.backlog.waiting),
            "entries": ledger.backlog.entries,
            "timers": len(ledger._timers) if len(ledger._timers) > tables.MOST_STALE + 4 else 0,
            "documents": sum(map(len, ledger.documents.values())),
        }
    )
    return kept


async def _kept_in_redis(storage: RedisStorage) -> dict[str, int]:
    async with Client.from_url(storage._uri, decode_responses=True) as redis:
        keys = [str(key) for key in await redis.keys("{h:0}:*")]
        queues = [key for key in keys if key.startswith("{h:0}:q:")]
        timers = await redis.zcard("{h:0}:timers")
        return {
            "workers": len({key.split(":")[3] for key in keys if key.startswith(("{h:0}:w:", "{h:0}:held:"))}),
            "needs": await redis.hlen("{h:0}:needs"),
            "counts": await redis.hlen("{h:0}:waiting"),
            "entries": sum([await redis.zcard(key) for key in queues]),
            "timers": timers if timers > tables.MOST_STALE + 4 else 0,
            "documents": sum([await redis.hlen(key) for key in await redis.keys("{h:r}:d:*")]),
        }


class Memory:
    """The store in memory."""

    name = "memory"
    durable = False

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        from holon.storage.memory import MemoryStorage

        return MemoryStorage(settings, clock)

    def killed(self, place: Path) -> Path:
        raise AssertionError("memory does not outlive its process: this test is for durable backends only")


class Sqlite:
    """The store in one SQLite file."""

    name = "sqlite"
    durable = True

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        from holon.storage.sqlite import SqliteStorage

        # A killed process loses nothing of NORMAL either; only a power cut would tell the two apart.
        return SqliteStorage(place / "holon.db", settings, clock, synchronous="NORMAL")

    def killed(self, place: Path) -> Path:
        # No call is in flight, so the file and its log are what a killed process leaves; its lock dies with it.
        copy = place.with_name(f"{place.name}-killed")
        shutil.copytree(place, copy)
        return copy


class Redis:
    """The store in Redis: each place is a database of its own, on one server for all tests."""

    name = "redis"
    durable = True

    def __init__(self) -> None:
        self._server: RedisServer | None = None
        self._databases: dict[Path, int] = {}

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        if self._server is None:
            self._server = RedisServer()
        database = self._databases.setdefault(place, self._server.database())
        return RedisStorage(self._server.uri(database), settings, clock)

    def killed(self, place: Path) -> Path:
        # The server lives on; what is left of the node is what is there.
        return place

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.close()
            self._server = None


REDIS = Redis()
_ALL: dict[str, Backend] = {one.name: one for one in (Memory(), Sqlite(), REDIS)}
BACKENDS = tuple(_ALL[name] for name in chosen(_ALL))
DURABLE = tuple(one for one in BACKENDS if one.durable)
