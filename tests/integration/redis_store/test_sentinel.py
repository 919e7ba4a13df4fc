"""A Redis that sentinels watch: when its master dies, the store goes on at the replica that takes its place."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from holon.errors import ConfigError
from holon.ports import StoreSettings
from holon.storage.redis import RedisStorage
from tests.claims import claimed
from tests.contract.backends import REDIS
from tests.e2e.processes import until
from tests.integration.redis_store.nodes import OneOfSeveral, confirms
from tests.ports import free_ports
from tests.redis_server import RedisServer, binaries

FAST = ("--repl-diskless-sync-delay", "0")


class Watched:
    """A master, its replica, and one sentinel."""

    def __init__(self, place: Path) -> None:
        self.ports = free_ports(3)
        first, second, self.sentinel_port = self.ports
        here = ("--bind", "127.0.0.1")
        self.master = RedisServer(options=(*here, *FAST, "--port", str(first)))
        follows = ("--replicaof", "127.0.0.1", str(first))
        self.replica = RedisServer(options=(*here, *FAST, "--port", str(second), *follows))
        settings = place / "sentinel.conf"
        settings.write_text(
            f"port {self.sentinel_port}\nbind 127.0.0.1\ndir {place}\n"
            f"sentinel monitor jobs 127.0.0.1 {first} 1\n"
            "sentinel down-after-milliseconds jobs 500\nsentinel failover-timeout jobs 3000\n"
        )
        self.sentinel = subprocess.Popen([binaries()[0], str(settings), "--sentinel"], stdout=subprocess.DEVNULL)
        self.uri = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel_port}/jobs/0"

    async def ready(self) -> bool:
        """Whether the sentinel knows the replica, and the replica has everything."""
        try:
            async with Redis(port=self.sentinel_port) as sentinel:
                replicas = await sentinel.sentinel_slaves("jobs")
        except (RedisError, OSError):
            return False
        return [replica["master-link-status"] for replica in replicas] == ["ok"]

    def close(self) -> None:
        self.sentinel.kill()
        self.sentinel.wait()
        self.master.close()
        self.replica.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    watched.close()


async def test_the_store_goes_on_at_the_replica_when_the_master_dies(watched: Watched) -> None:
    await until(watched.ready, "the sentinel knows the replica")
    world = OneOfSeveral(REDIS, watched.master.socket, {})
    async with RedisStorage(watched.uri, StoreSettings("a"), world.clock, replicas=1) as world.storage:
        jobs = [await world.create() for _ in range(10)]
    async with RedisStorage(watched.uri, StoreSettings("a"), world.clock) as world.storage:
        watched.master.kill()
        await until(lambda: confirms(world), "the replica is the master")
        ready = [claim.job.id for claim in await claimed(world.storage)]
        assert sorted(ready) == sorted(jobs)


async def test_sentinels_that_ask_for_a_password_are_given_that_of_the_servers(watched: Watched) -> None:
    await until(watched.ready, "the sentinel knows the replica")
    for port in watched.ports[:2]:
        async with Redis(port=port) as redis:
            await redis.execute_command("ACL", "SETUSER", "holon", "on", ">s{3}cr3t", "~*", "&*", "+@all")  # type: ignore[no-untyped-call]
    async with Redis(port=watched.sentinel_port) as sentinel:
        await sentinel.execute_command("ACL", "SETUSER", "holon", "on", ">s{3}cr3t", "+@all")  # type: ignore[no-untyped-call]
        await sentinel.execute_command("ACL", "SETUSER", "default", "resetpass", ">s{3}cr3t")  # type: ignore[no-untyped-call]
    with pytest.raises(ConfigError, match="no sentinel names a master: Authentication required"):
        async with RedisStorage(watched.uri, StoreSettings("a")):
            pass
    uri = watched.uri.replace("127.0.0.1:1,", "holon:s{3}cr3t@127.0.0.1:1,")
    async with RedisStorage(uri, StoreSettings("a")) as storage:
        assert await claimed(storage) == []


async def test_a_service_that_no_sentinel_knows_is_told_at_the_start(watched: Watched) -> None:
    await until(watched.ready, "the sentinel knows the replica")
    with pytest.raises(ConfigError, match="no master is known as other"):
        async with RedisStorage(watched.uri.replace("/jobs/", "/other/"), StoreSettings("a")):
            pass
