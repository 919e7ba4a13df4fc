"""A real Redis Cluster for tests: masters, and replicas if wanted, of our own, gone with the session."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.crc import key_slot

from tests.ports import free_ports
from tests.redis_server import RedisServer

SLOTS = 16_384
MASTERS = 3
GUARD_S = 30.0
# A node's peers are where its clients are, and this much higher.
BUS = 10_000


class RedisCluster:
    """Three masters that share the slots; with `replicas`, each has one.

    Arguments:
        options: of each server.
    """

    def __init__(self, binary: str | None = None, *, replicas: bool = False, options: Sequence[str] = ()) -> None:
        # A machine that is busy may let a node stand still for a second; only who has a replica is to be given up then.
        patience = "1000" if replicas else "10000"
        self.ports = [port - BUS for port in free_ports(2 * MASTERS if replicas else MASTERS, bus=BUS)]
        self.servers = [
            RedisServer(
                binary,
                cluster=True,
                options=(
                    *("--bind", "127.0.0.1", "--port", str(port), "--cluster-announce-ip", "127.0.0.1"),
                    *(
                        "--cluster-enabled",
                        "yes",
                        "--cluster-node-timeout",
                        patience,
                        "--repl-diskless-sync-delay",
                        "0",
                    ),
                    *options,
                ),
            )
            for port in self.ports
        ]
        self.clients = [Redis(port=port, decode_responses=True) for port in self.ports]
        self.ids = [str(self.call(at, "CLUSTER", "MYID")) for at in range(len(self.ports))]
        # So that each master has some of the shards.
        bounds = (0, 10_000, 14_000, SLOTS)
        for at in range(MASTERS):
            self.call(at, "CLUSTER", "ADDSLOTS", *range(bounds[at], bounds[at + 1]))
            self.call(at, "CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        for port in self.ports[1:]:
            self.call(0, "CLUSTER", "MEET", "127.0.0.1", port)
        self._wait(lambda: all(self._sees_all(at) for at in range(len(self.ports))))
        for at in range(MASTERS, len(self.ports)):
            self.call(at, "CLUSTER", "REPLICATE", self.ids[at - MASTERS])
        self._wait(lambda: all(self._is_well(at) for at in range(len(self.ports))))

    @property
    def uri(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in self.ports[:2])}"

    def call(self, at: int, *command: Any) -> Any:
        """A command to a node."""
        return self.clients[at].execute_command(*command)  # type: ignore[no-untyped-call]

    def _sees_all(self, at: int) -> bool:
        lines = self.call(at, "CLUSTER", "NODES").splitlines()
        return len(lines) == len(self.ports) and not any("handshake" in line for line in lines)

    def _is_well(self, at: int) -> bool:
        info = self.clients[at].info("replication")
        return "cluster_state:ok" in self.call(at, "CLUSTER", "INFO") and info.get("master_link_status", "up") == "up"

    def _wait(self, true: Any) -> None:
        end = time.monotonic() + GUARD_S
        while not true():
            assert time.monotonic() < end, "the Redis Cluster did not come up"
            time.sleep(0.02)

    def flush(self) -> None:
        """Forget all keys."""
        for client in self.clients:
            if client.info("replication")["role"] == "master":
                client.flushall()

    def owner(self, key: str) -> int:
        """Which node has a key's slot."""
        slot = key_slot(key.encode())
        for first, last, (_, port, *_), *_ in self.call(0, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return self.ports.index(port)
        raise AssertionError(f"nobody has slot {slot}")

    def move(self, key: str, to: int) -> None:
        """Move a key's slot to another node, a few keys at a time, as `redis-cli --cluster reshard` does it."""
        self.end_move(key, to, self.begin_move(key, to))

    def begin_move(self, key: str, to: int) -> int:
        """Move the keys of a key's slot, and tell nobody yet; returns where they were."""
        slot, source = key_slot(key.encode()), self.owner(key)
        self.call(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source])
        self.call(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[to])
        while keys := self.call(source, "CLUSTER", "GETKEYSINSLOT", slot, 5):
            self.call(source, "MIGRATE", "127.0.0.1", self.ports[to], "", 0, 5_000, "KEYS", *keys)
        return source

    def end_move(self, key: str, to: int, source: int) -> None:
        """Tell all nodes where a key's slot is now."""
        slot = key_slot(key.encode())
        for at in (to, source, *range(MASTERS)):
            self.call(at, "CLUSTER", "SETSLOT", slot, "NODE", self.ids[to])

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for server in self.servers:
            server.close()
