"""The backends that the contract suite runs on: how each is opened, and how each is left as by SIGKILL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, Self

from holon.clock import Clock
from holon.core import tables
from holon.ports import Storage, StoreSettings
from holon.storage.postgres import PostgresStorage
from holon.storage.redis import RedisStorage
from holon.storage.shared_records import DOCUMENT, QUOTA
from holon.stores import postgres, redis
from holon.stores.port import Draw, RowStore
from holon.stores.postgres import PostgresRows
from holon.stores.redis import Library, RedisRows
from holon.stores.redis_servers import packed
from holon.stores.sealing import Seal
from tests.history.postgres import Server, serving
from tests.redis_cluster import RedisCluster
from tests.redis_server import RedisServer
from tests.stores import chosen

# Set, the whole suite runs on stores that are sealed.
ALL_SEALED = "HOLON_TEST_SEALED"
KEYS = (bytes(range(32)),)


class Backend(Protocol):
    """One kind of store, of so many `shards`. `durable` ones outlive their process, at a place in the file system."""

    name: str
    durable: bool
    shards: int

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        """The store at a place that belongs to this test alone."""
        ...

    def killed(self, place: Path) -> Path:
        """Where to find what a store that is still open at `place` would leave behind if it were killed now."""
        ...


async def kept(storage: Storage) -> dict[str, int]:
    """How much an open store keeps of workers, of queues, of documents and, when they are many, of timers."""
    kept: dict[str, int] = await storage._do(  # type: ignore[attr-defined]
        lambda core, _: {
            "workers": len(core.workers),
            "needs": len(core.backlog.needs),
            "counts": len(core.backlog.waiting),
            "entries": core.backlog.entries,
            "timers": len(core._timers) if len(core._timers) > tables.MOST_STALE + 4 else 0,
        }
    )
    rows: RowStore = storage._rows  # type: ignore[attr-defined]
    documents = [await rows.count_records(f"{DOCUMENT}{kind}") for kind in ("keys", "a_kind", "another")]
    return {**kept, "documents": sum(documents)}


async def quota_used(storage: Storage, key: str, period: str) -> int:
    """How many jobs an open store has counted against a quota in this period."""
    rows: RowStore = storage._rows  # type: ignore[attr-defined]
    [drawn] = await rows.draw([Draw(QUOTA, f"{period}/{key}", 0, 2**53, 1)])
    return drawn.value


class Memory:
    """The store in memory."""

    name = "memory"
    durable = False
    shards = 1

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        from holon.storage.memory import MemoryStorage

        return MemoryStorage(settings, clock)

    def killed(self, place: Path) -> Path:
        raise AssertionError("memory does not outlive its process: this test is for durable backends only")


class Sqlite:
    """The store in one SQLite file."""

    durable = True
    shards = 1

    def __init__(self, *, sealed: bool) -> None:
        self.name = "sqlite-sealed" if sealed else "sqlite"
        self._keys = KEYS if sealed else ()

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        from holon.storage.sqlite import SqliteStorage

        # A killed process loses nothing of NORMAL either; only a power cut would tell the two apart.
        return SqliteStorage(place / "holon.db", settings, clock, synchronous="NORMAL", seal=Seal(self._keys))

    def killed(self, place: Path) -> Path:
        # No call is in flight, so the file and its log are what a killed process leaves; its lock dies with it.
        copy = place.with_name(f"{place.name}-killed")
        shutil.copytree(place, copy)
        return copy


# Has the functions of a server go by a time that they were told: the last one.
_TOLD = """
local told = 0
local function tell(keys, args) told = tonumber(args[1]) return 1 end
local function now_ms() return told end
"""


class _ToldLane(redis._Lane):
    """A lane that tells the server the time of a test's clock first."""

    clock: Clock

    async def _round_trip(self, commands: list[bytes]) -> list[Any]:
        told = packed(self._library.call("tell", (), self.clock.now_ms()))
        return (await super()._round_trip([told, *commands]))[1:]


class _ToldRows(RedisRows):
    """Rows whose servers tell the time of a test's clock."""

    def __init__(self, uri: str, clock: Clock) -> None:
        super().__init__(uri)
        text = files("holon.stores").joinpath("holon.lua").read_text(encoding="utf-8")
        before, _, rest = text.partition("local function now_ms()")
        _, _, rest = rest.partition("\nend\n")
        self._library = Library(f"{before}{_TOLD}{rest}register('tell', tell, true)\n")
        self._clock = clock

    def _lane(self, key: str) -> _ToldLane:
        lane = _ToldLane(self._place(key), key, self._strictness, self._library)
        lane.clock = self._clock
        return lane


class _ToldStorage(RedisStorage):
    """A store over such rows."""

    def _open_rows(self) -> RowStore:
        return _ToldRows(self._uri, self._clock)


class Redis:
    """The store in Redis: each place is a database of its own, on one server for all tests."""

    durable = True
    shards = redis.SHARDS

    def __init__(self, name: str, *, sealed: bool = False) -> None:
        self.name = name
        self._keys = KEYS if sealed else ()
        self._server: RedisServer | None = None
        self._databases: dict[Path, int] = {}

    @property
    def server(self) -> RedisServer:
        """The server, started when it is asked for."""
        if self._server is None:
            self._server = RedisServer()
        return self._server

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        database = self._databases.get(place) or self._databases.setdefault(place, self.server.database())
        return _ToldStorage(self.server.uri(database), settings, clock, seal=Seal(self._keys))

    def killed(self, place: Path) -> Path:
        # The server lives on; what is left of the node is what is there.
        return place

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._databases.clear()


class Clustered:
    """The store in a Redis Cluster of three masters, with shards at each; every place is all of it."""

    name = "redis-cluster"
    durable = True
    shards = redis.SHARDS

    def __init__(self) -> None:
        self._cluster: RedisCluster | None = None
        self._place: Path | None = None

    def use(self, cluster: RedisCluster) -> None:
        """Take this cluster, and close it at the end."""
        self._cluster, self._place = cluster, None

    @property
    def cluster(self) -> RedisCluster:
        """The cluster, started when it is asked for."""
        if self._cluster is None:
            self._cluster = RedisCluster()
        return self._cluster

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        if self._place != place:
            self.cluster.flush()
            self._place = place
        return _ToldStorage(self.cluster.uri, settings, clock)

    def killed(self, place: Path) -> Path:
        return place

    def close(self) -> None:
        """Stop the cluster."""
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None


class _ClockedRows(PostgresRows):
    """Rows whose server tells the time of a test's clock."""

    clock: Clock
    _told = 0

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await super()._rows("CREATE TABLE IF NOT EXISTS test_clock AS SELECT 0::bigint AS ms")
        await super()._rows(
            "CREATE OR REPLACE FUNCTION holon_now() RETURNS bigint LANGUAGE sql VOLATILE "
            "AS $$ SELECT ms FROM test_clock $$"
        )
        return self

    async def _rows(self, query: str, *arguments: Any) -> Sequence[Any]:
        if (now := self.clock.now_ms()) != self._told:
            self._told = now
            await super()._rows("UPDATE test_clock SET ms = greatest(ms, $1)", now)
        return await super()._rows(query, *arguments)


class _ClockedStorage(PostgresStorage):
    """A store over such rows."""

    def _open_rows(self) -> RowStore:
        rows = _ClockedRows(self._uri)
        rows.clock = self._clock
        return rows


class Postgres:
    """The store in PostgreSQL: each place is a database of its own, on one server for all tests."""

    name = "postgresql"
    durable = True
    shards = postgres.SHARDS

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._server: Server | None = None
        self._databases: dict[Path, str] = {}

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        if self._server is None:
            self._server = self._stack.enter_context(serving())
        uri = self._databases.get(place) or self._databases.setdefault(place, self._server.database())
        return _ClockedStorage(uri, settings, clock, seal=Seal(()))

    def killed(self, place: Path) -> Path:
        # The server lives on; what is left of the node is what is there.
        return place

    def close(self) -> None:
        """Stop the server."""
        self._stack.close()
        self._server = None
        self._databases.clear()


REDIS = Redis("redis")
POSTGRES = Postgres()
CLUSTERED = Clustered()
SEALED_REDIS = Redis("redis-sealed", sealed=True)
_PLAIN: dict[str, Backend] = {one.name: one for one in (Memory(), Sqlite(sealed=False), REDIS, POSTGRES, CLUSTERED)}
_SEALED: dict[str, Backend] = {"sqlite": Sqlite(sealed=True), "redis": SEALED_REDIS}
# What is sealed is what restarts find, so those are tested with both, and all the rest where that is asked for.
_EVERYWHERE = _PLAIN | _SEALED if os.environ.get(ALL_SEALED) else _PLAIN
BACKENDS = tuple(_EVERYWHERE[name] for name in chosen(_EVERYWHERE, ("memory", "sqlite", "redis")))
# On PostgreSQL, a run that asks for no store tries only what restarts find: each call there takes a disk's time.
UNSEALED = tuple(
    _EVERYWHERE[name] for name in chosen(_EVERYWHERE, ("sqlite", "redis", "postgresql")) if _EVERYWHERE[name].durable
)
DURABLE = tuple(dict.fromkeys((*UNSEALED, *(_SEALED[name] for name in chosen(_SEALED)))))
