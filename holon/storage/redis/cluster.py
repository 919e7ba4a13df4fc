"""A Redis Cluster: its masters have the slots, and a partition is where its slot is."""

from __future__ import annotations

import random
from typing import Any

from redis.asyncio import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from holon.storage.redis.keys import Keys
from holon.storage.redis.server import Connection, ask, connected, pool_of

CLUSTERS = ("redis+cluster://", "rediss+cluster://")


class Cluster:
    """Where a Redis Cluster is.

    Which master has a slot is asked anew for each connection: one is made when a node starts, and when a master has
    died or has given a slot away, and then what was known before is what is wrong.

    Arguments:
        uri: `redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT`, or `rediss+cluster://...` with what the client
            library takes in its query. Some of its nodes are enough.
    Raises:
        ConfigError: the URI is none of these.
    """

    def __init__(self, uri: str) -> None:
        scheme, _, rest = uri.partition("+cluster://")
        place, question, query = rest.partition("?")
        credentials, at, hosts = place.rstrip("/").rpartition("@")
        self._before, self._behind = f"{scheme}://{credentials}{at}", f"/0{question}{query}"
        self._named = hosts.split(",")
        self._known: list[str] = []
        for host in self._named:
            self._pool(host)

    def __repr__(self) -> str:
        return f"Cluster({', '.join(self._known or self._named)})"

    async def connect(self, slot: int) -> Connection:
        """A new connection to the master of a slot; raises RedisError or OSError when there is none to be had."""
        return await connected(self._pool(await self._master(slot)))

    def _pool(self, address: str) -> ConnectionPool:
        return pool_of(f"{self._before}{address}{self._behind}")

    async def _master(self, slot: int) -> str:
        said: object = "none answers"
        # One that was cut off tells of what was: not always the same one is asked.
        known = random.sample(self._known, len(self._known))
        for address in dict.fromkeys((*known, *self._named)):
            try:
                connection = await connected(self._pool(address))
            except (RedisError, OSError) as error:
                said = error
                continue
            try:
                [found] = await ask(connection, ("CLUSTER", "SLOTS"))
            except (RedisError, OSError) as error:
                found = error
            finally:
                await connection.disconnect(nowait=True)
            if not isinstance(found, list):
                said = found
                continue
            host = address.rpartition(":")[0] or address
            self._known = [_address(node, host) for _, _, *nodes in found for node in nodes] or self._known
            for first, last, master, *_ in found:
                if first <= slot <= last:
                    return _address(master, host)
            said = f"no master has slot {slot}"
        raise RedisConnectionError(f"the Redis Cluster cannot be asked where a partition is: {said}")


class Slot:
    """Where keys are in a Redis Cluster; as `Server`."""

    clustered = True

    def __init__(self, cluster: Cluster, keys: Keys) -> None:
        self._cluster = cluster
        self._slot: int = key_slot(keys.meta.encode())

    def __repr__(self) -> str:
        return f"Slot({self._slot} of {self._cluster})"

    async def connect(self) -> Connection:
        """A new connection to its master; raises RedisError or OSError when there is none to be had."""
        return await self._cluster.connect(self._slot)


def _address(node: list[Any], asked: str) -> str:
    """The address of a node as the cluster tells it; one that does not know its own is where it was asked."""
    host = node[0].decode() if node[0] and node[0] != b"?" else asked
    return f"[{host}]:{node[1]}" if ":" in host and not host.startswith("[") else f"{host}:{node[1]}"
