"""The backends that the contract suite runs on: how each is opened, and how each is left as by SIGKILL."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from redis.asyncio import Redis as Client

from holon.clock import Clock
from holon.core import tables
from holon.ports import Quota, Storage, StoreSettings
from holon.storage.postgres import PostgresStorage
from holon.storage.redis import RedisStorage
from holon.storage.redis.arguments import quota_name
from holon.storage.redis.partition import Partition
from holon.storage.shared_records import DOCUMENT, QUOTA
from holon.stores.port import Draw, RowStore
from holon.stores.postgres import SHARDS, PostgresRows
from holon.stores.sealing import Seal
from tests.history.postgres import Server, serving
from tests.redis_cluster import RedisCluster
from tests.redis_server import RedisServer
from tests.stores import chosen

# Set, the whole suite runs on stores that are sealed.
ALL_SEALED = "HOLON_TEST_SEALED"
KEYS = (bytes(range(32)),)


class Backend(Protocol):
    """One kind of store. `durable` ones outlive their process, at a place in the file system.

    Jobs are in one of its `partitions`; what order is promised is that of each.
    """

    name: str
    durable: bool
    partitions: int

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        """The store at a place that belongs to this test alone."""
        ...

    def killed(self, place: Path) -> Path:
        """Where to find what a store that is still open at `place` would leave behind if it were killed now."""
        ...


async def kept(storage: Storage) -> dict[str, int]:
    """How much an open store keeps of workers, of queues, of documents and, when they are many, of timers."""
    return await (_kept_in_redis(storage) if isinstance(storage, RedisStorage) else _kept_by_the_core(storage))


async def _kept_by_the_core(storage: Storage) -> dict[str, int]:
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


@asynccontextmanager
async def client_of(partition: Partition, *, decode_responses: bool = False) -> AsyncIterator[Client]:
    """A client of the server that a partition is on."""
    connection = await partition.link._server.connect()
    try:
        where = {name: getattr(connection, name) for name in ("host", "port") if hasattr(connection, name)}
        path = {"unix_socket_path": connection.path} if hasattr(connection, "path") else {}
        async with Client(**where, **path, db=connection.db, decode_responses=decode_responses) as client:
            yield client
    finally:
        await connection.disconnect(nowait=True)


async def _kept_in_redis(storage: RedisStorage) -> dict[str, int]:
    kept: Counter[str] = Counter()
    workers: set[str] = set()
    for partition in storage._partitions:
        prefix = partition._keys.prefix
        async with client_of(partition, decode_responses=True) as redis:
            keys = [str(key) for key in await redis.keys(f"{prefix}*")]
            timers = await redis.zcard(f"{prefix}timers")
            workers |= {key.split(":")[3] for key in keys if key.startswith((f"{prefix}w:", f"{prefix}held:"))}
            kept["needs"] += await redis.hlen(f"{prefix}needs")
            kept["counts"] += await redis.hlen(f"{prefix}waiting")
            kept["entries"] += sum([await redis.zcard(key) for key in keys if key.startswith(f"{prefix}q:")])
            kept["timers"] += timers if timers > tables.MOST_STALE + 4 else 0
    documents = 0
    for server in {repr(one.link._server): one for one in storage._partitions}.values():
        async with client_of(server, decode_responses=True) as redis:
            documents += sum([await redis.hlen(key) for key in await redis.keys("{h:r}:d:*")])
    return {"workers": len(workers), **kept, "documents": documents}


async def quota_used(storage: Storage, key: str, period: str) -> int:
    """How many jobs an open store has counted against a quota in this period."""
    if not isinstance(storage, RedisStorage):
        rows: RowStore = storage._rows  # type: ignore[attr-defined]
        [drawn] = await rows.draw([Draw(QUOTA, f"{period}/{key}", 0, 2**53, 1)])
        return drawn.value
    made = 0
    for partition in storage._partitions:
        async with client_of(partition, decode_responses=True) as redis:
            count = await redis.hget(f"{partition._keys.prefix}quotas", quota_name(Quota(key, 0, period, 0)))
            made += int(str(count).partition(" ")[0]) if count is not None else 0
    return made


class Memory:
    """The store in memory."""

    name = "memory"
    durable = False
    partitions = 1

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> AbstractAsyncContextManager[Storage]:
        from holon.storage.memory import MemoryStorage

        return MemoryStorage(settings, clock)

    def killed(self, place: Path) -> Path:
        raise AssertionError("memory does not outlive its process: this test is for durable backends only")


class Sqlite:
    """The store in one SQLite file."""

    durable = True
    partitions = 1

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


class Redis:
    """The store in Redis: each place is a database of its own, on one server for all tests."""

    durable = True

    def __init__(self, name: str, partitions: int, *, sealed: bool = False) -> None:
        self.name = name
        self.partitions = partitions
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
        uri, seal = self.server.uri(database), Seal(self._keys)
        return RedisStorage(uri, settings, clock, partitions=self.partitions, seal=seal)

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
    """The store in a Redis Cluster of three masters, with a partition at each; every place is all of it."""

    name = "redis-cluster"
    durable = True
    partitions = 3

    def __init__(self) -> None:
        self._cluster: RedisCluster | None = None
        self._place: Path | None = None

    def use(self, cluster: RedisCluster) -> None:
        """Take this cluster."""
        self.close()
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
        return RedisStorage(self.cluster.uri, settings, clock, partitions=self.partitions)

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
    partitions = SHARDS

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


REDIS = Redis("redis", 1)
POSTGRES = Postgres()
PARTITIONED = Redis("redis-partitions", 3)
CLUSTERED = Clustered()
SEALED_REDIS = Redis("redis-sealed", 1, sealed=True)
_PLAIN: dict[str, Backend] = {
    one.name: one for one in (Memory(), Sqlite(sealed=False), REDIS, POSTGRES, PARTITIONED, CLUSTERED)
}
_SEALED: dict[str, Backend] = {"sqlite": Sqlite(sealed=True), "redis": SEALED_REDIS}
# What is sealed is what restarts find, so those are tested with both, and all the rest where that is asked for.
_EVERYWHERE = _PLAIN | _SEALED if os.environ.get(ALL_SEALED) else _PLAIN
BACKENDS = tuple(_EVERYWHERE[name] for name in chosen(_EVERYWHERE, ("memory", "sqlite", "redis")))
# On PostgreSQL, a run that asks for no store tries only what restarts find: each call there takes a disk's time.
UNSEALED = tuple(
    _EVERYWHERE[name] for name in chosen(_EVERYWHERE, ("sqlite", "redis", "postgresql")) if _EVERYWHERE[name].durable
)
DURABLE = tuple(dict.fromkeys((*UNSEALED, *(_SEALED[name] for name in chosen(_SEALED)))))
