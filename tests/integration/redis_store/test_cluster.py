"""A store in a Redis Cluster: its masters have shards, which move from one to another, and die with one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holon.clock import ManualClock
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import JobFilter, StoreSettings
from holon.storage.redis import RedisStorage
from holon.stores import redis_servers
from holon.telemetry.seldom import Seldom
from tests.claims import claimed
from tests.contract.backends import CLUSTERED
from tests.contract.judgement import judge, settle
from tests.contract.model import Model
from tests.contract.world import OK, T, World
from tests.e2e.processes import until
from tests.hints import heard, hints_of
from tests.integration.redis_store.nodes import confirms
from tests.ports import free_ports
from tests.redis_cluster import MASTERS, RedisCluster
from tests.redis_server import RedisServer, binaries

MOVES = 6
GUARD = 40  # seconds; reached only by what does not come


@pytest.fixture(scope="module", params=binaries())
def cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """Every server that is here, as a cluster."""
    cluster = RedisCluster(request.param)
    CLUSTERED.use(cluster)
    yield cluster
    CLUSTERED.close()


@pytest.fixture
async def world(cluster: RedisCluster, tmp_path: Path) -> AsyncIterator[World]:
    world = World(CLUSTERED, tmp_path, {"max_losses": 1_000})
    await world.open()
    yield world
    await world.close()


def head(shard: int) -> str:
    return f"{{holon:{shard}}}:head"


async def test_each_master_has_shards_and_jobs_go_through_all_of_them(cluster: RedisCluster, world: World) -> None:
    assert {cluster.owner(head(number)) for number in range(CLUSTERED.shards)} == set(range(MASTERS))
    jobs = [await world.create() for _ in range(30)]
    assert {cluster.owner(head(int(job.partition("-")[0]))) for job in jobs} == set(range(MASTERS))
    hand = await world.hand()
    for job in jobs:
        await world.dispatch(claim=await world.claim_of(job))
    offers = await world.lease(hand.seat(100))
    assert sorted(offer.job_id for offer in offers) == sorted(jobs)
    for offer in offers:
        assert await world.complete(offer, OK) is None
        await world.finish(await world.claim_of(offer.job_id))
    records, more = await world.storage.jobs(JobFilter("ann"), 100)
    assert (len(records), more) == (30, None)
    assert all(record.job.status.terminal for record in records)


async def test_a_node_warns_once_that_a_crash_of_redis_loses_writes_however_many_connections_it_has(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_servers, "_seldom", Seldom(redis_servers.log))
    cluster.flush()
    async with RedisStorage(cluster.uri, StoreSettings("a")):
        pass
    assert [one.levelname for one in caplog.records if "appendonly off" in one.message] == ["WARNING"]


async def test_nodes_of_a_cluster_wake_each_other(world: World, tmp_path: Path) -> None:
    other = World(CLUSTERED, tmp_path, {})
    other.settings = StoreSettings("another")
    await other.open()
    try:
        assert await other.ready() == []
        hand, hints = await other.hand(), hints_of(other.storage)
        for _ in range(6):
            task = await world.dispatch()
            await heard(hints, lambda hint: T.key in hint.keys)
            assert [offer.task_id for offer in await other.lease(hand.seat())] == [task]
    finally:
        await other.close()


@pytest.mark.parametrize("seed", [3, 1_002])
async def test_slots_that_move_under_load_lose_nothing_and_double_nothing(
    cluster: RedisCluster, world: World, seed: int
) -> None:
    random.seed(seed)
    model = Model(world, seed, restarts=seed > 1_000)
    moved = 0

    async def keep_moving() -> None:
        nonlocal moved
        while True:
            number = random.randrange(CLUSTERED.shards)
            to = (cluster.owner(head(number)) + 1) % MASTERS
            await asyncio.to_thread(cluster.move, head(number), to)
            moved += 1
            # A slot that never rests lets nothing through.
            await asyncio.sleep(0.1)

    moving = asyncio.create_task(keep_moving())
    try:
        acts = 0
        async with asyncio.timeout(GUARD):
            while acts < 150 or moved < MOVES:
                await model.act()
                acts += 1
    finally:
        moving.cancel()
        await asyncio.wait([moving])
    await settle(model)
    await judge(model)


async def test_a_node_that_connects_again_while_a_slot_moves_waits_for_it(cluster: RedisCluster, world: World) -> None:
    """Redis answers ASK for a slot whose keys are at its next master, and MOVED when it is told so."""
    source = cluster.owner(head(0))
    to = (source + 1) % MASTERS

    def asked() -> bool:
        return "errorstat_ASK" in cluster.clients[source].info("errorstats")

    async def created() -> bool:
        with contextlib.suppress(StoreUnavailable):
            made.add((await world.create()).partition("-")[0])
        return "0" in made

    made: set[str] = set()
    cluster.clients[source].config_resetstat()
    cluster.begin_move(head(0), to)
    cluster.call(source, "CLIENT", "KILL", "TYPE", "normal")
    creating = asyncio.create_task(until(created, "a job is made in the shard", GUARD))
    await until(asked, "Redis told the node to ask elsewhere")
    cluster.end_move(head(0), to, source)
    async with asyncio.timeout(GUARD):
        await creating


@pytest.mark.slow
async def test_i1_when_a_master_dies_its_replica_goes_on_with_its_shards(tmp_path: Path) -> None:
    cluster = await asyncio.to_thread(RedisCluster, replicas=True)
    world = World(CLUSTERED, tmp_path, {})

    def storage(replicas: int) -> RedisStorage:
        return RedisStorage(cluster.uri, StoreSettings("a"), world.clock, replicas=replicas)

    try:
        async with storage(replicas=1) as world.storage:
            jobs = [await world.create() for _ in range(9)]
        async with storage(replicas=0) as world.storage:
            cluster.servers[cluster.owner(head(1))].kill()
            await until(lambda: confirms(world, 1), "the replica is a master")
            jobs += [await world.create() for _ in range(6)]
            found = {claim.job.id for claim in await claimed(world.storage)}
            assert found == set(jobs)
    finally:
        await asyncio.to_thread(cluster.close)


async def test_a_cluster_is_not_taken_for_a_server_nor_a_server_for_a_cluster(cluster: RedisCluster) -> None:
    with pytest.raises(ConfigError, match=r"is a Redis Cluster; name it as redis\+cluster://"):
        async with RedisStorage(f"redis://127.0.0.1:{cluster.ports[0]}", StoreSettings("a"), ManualClock()):
            pass
    [port] = free_ports(1)
    server = RedisServer(options=("--bind", "127.0.0.1", "--port", str(port)))
    try:
        with pytest.raises(ConfigError, match=r"is no Redis Cluster|cluster support disabled"):
            async with RedisStorage(f"redis+cluster://127.0.0.1:{port}", StoreSettings("a"), ManualClock()):
                pass
    finally:
        server.close()


@pytest.mark.parametrize("told", ["hostname", "unknown-endpoint"])
async def test_nodes_that_have_no_name_are_where_the_cluster_was_asked(
    cluster: RedisCluster, world: World, tmp_path: Path, told: str
) -> None:
    """Before Redis 7 all of them tell their addresses."""
    setting = "cluster-preferred-endpoint-type"
    named = [bool(client.config_get(setting)) for client in cluster.clients]
    for client in cluster.clients:
        if all(named):
            client.config_set(setting, told)
    # Each node knows the ports of the others, and all of them are on this machine.
    other = World(CLUSTERED, tmp_path, {})
    other.settings = StoreSettings("node-2")
    try:
        await other.open()
        job_id = await world.create()
        assert (await other.record(job_id)).job.id == job_id
        await other.close()
    finally:
        for client in cluster.clients:
            if all(named):
                client.config_set(setting, "ip")


async def test_a_cluster_that_is_not_there_is_told_at_the_start() -> None:
    with pytest.raises(ConfigError, match="cannot be reached"):
        async with RedisStorage("redis+cluster://127.0.0.1:1,127.0.0.1:2", StoreSettings("a")):
            pass
