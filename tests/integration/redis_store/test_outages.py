"""A Redis that is away, forgot its code or lost the store: what was answered is kept, and nothing else is."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from holon.errors import ConfigError, StoreUnavailable
from holon.ports import JobFilter
from holon.storage.redis import lane
from holon.storage.redis.scripts import code
from holon.stores import redis_servers as of_server
from holon.stores.redis_servers import ask
from tests.contract.world import OK
from tests.e2e.processes import until
from tests.integration.redis_store.nodes import GUARD, Nodes
from tests.redis_server import RedisServer


async def test_code_that_the_server_has_forgotten_is_loaded_again(nodes: Nodes) -> None:
    world = await nodes.add("a")
    async with nodes.redis() as redis:
        await redis.function_flush()
    created = await asyncio.gather(*(world.create() for _ in range(5)))
    assert sorted(await world.ready()) == sorted(created)


async def test_code_that_the_server_forgets_again_at_once_is_loaded_once_more(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await nodes.add("a")
    forgets = [True, True]
    loads = code.Functions.load

    async def load(self: Any, connection: Any) -> None:
        await loads(self, connection)
        if forgets and forgets.pop():
            await ask(connection, ("FUNCTION", "FLUSH"))

    monkeypatch.setattr(code.Functions, "load", load)
    async with nodes.redis() as redis:
        await redis.function_flush()
    job_id = await world.create()
    assert not forgets
    assert await world.ready() == [job_id]


async def test_i1_a_short_outage_is_ridden_out_and_nothing_that_was_answered_is_lost() -> None:
    server = RedisServer(append_only=True)
    try:
        async with AsyncExitStack() as opened:
            world = await Nodes(server, opened).add("a")
            jobs = [await world.create() for _ in range(20)]
            server.kill()
            pending = [asyncio.create_task(world.create()) for _ in range(5)]
            await asyncio.sleep(0)
            server.start()
            jobs += await asyncio.gather(*pending)
            assert sorted(await world.ready()) == sorted(jobs)
            records, _ = await world.storage.jobs(JobFilter("ann"), 100)
            assert sorted(record.job.id for record in records) == sorted(jobs)
    finally:
        server.close()


async def test_a_store_that_stays_away_is_told_as_unavailable_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    # What is new waits for less than what goes on.
    monkeypatch.setattr(lane, "RIDE_OUT_TO_CREATE_S", 0.5)
    monkeypatch.setattr(lane, "RIDE_OUT_S", 2 * GUARD)
    server = RedisServer(append_only=True)
    try:
        async with AsyncExitStack() as opened:
            world = await Nodes(server, opened).add("a")
            claim = await world.start()
            server.kill()
            with pytest.raises(StoreUnavailable) as refused:
                async with asyncio.timeout(GUARD):
                    await world.create()
            assert refused.value.retry_after
            server.start()
            assert not (await world.finish(claim)).conflict
            said = [record.getMessage() for record in caplog.records if record.name == lane.log.name]
            assert said[-1].startswith("the store is there again, after ")
            # What becomes of it is told, each thing once: the connection is lost, then nobody listens.
            reasons = [one.partition(" calls wait: ")[2] for one in said[:-1]]
            assert 2 <= len(reasons) == len(set(reasons))
            assert not await world.ready()
            assert [record.getMessage() for record in caplog.records if record.name == lane.log.name] == said
    finally:
        server.close()


async def test_a_server_that_lost_the_store_is_not_taken_for_it(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    world = await nodes.add("a")
    job_id = await world.create()
    async with nodes.redis() as redis:
        await redis.flushdb()
    # Not that there is no such job.
    with pytest.raises(StoreUnavailable):
        await world.storage.job(job_id)
    async with asyncio.timeout(GUARD):
        with pytest.raises(StoreUnavailable, match="lost the store"):
            await world.storage.failure()
    # Who is started again there makes a new store, and says so; the next one finds it.
    made = "the Redis of STORAGE_URI held no store: a new one was made, and any job of before is gone"
    assert caplog.messages.count(made) == 1
    for _ in range(2):
        await nodes.add("b")
        assert caplog.messages.count(made) == 2


async def test_a_server_that_is_no_master_for_a_moment_is_waited_for(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    world = await nodes.add("a")
    async with nodes.redis() as redis:
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        try:
            creating = asyncio.create_task(world.create())
            await until(lambda: "the store is away" in caplog.text, "the call was refused once")
        finally:
            await redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
    assert await creating


async def test_of_a_server_that_is_no_master_and_knows_no_code_no_line_is_logged_for_each_connection(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    world = await nodes.add("a")
    caplog.set_level("INFO")
    async with nodes.redis() as redis:
        # As a replica that had not heard of it yet when it took its master's place, or was taken for that.
        await redis.function_flush()
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        try:
            connections = (await redis.info("stats"))["total_connections_received"]
            creating = asyncio.create_task(world.create())

            async def tried() -> bool:
                return bool((await redis.info("stats"))["total_connections_received"] >= connections + 3)

            await until(tried, "it was tried again")
        finally:
            await redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
    assert await creating
    assert caplog.text.count("read only replica") == 1, caplog.text


async def test_a_server_without_the_library_and_without_memory_for_it_is_given_it_once_there_is_room(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "RIDE_OUT_S", 0.3)
    world = await nodes.add("a")
    offer = await world.accepted(await world.hand())
    async with nodes.redis() as redis:
        await redis.function_flush()
        await redis.config_set("maxmemory", "100kb")
        try:
            with pytest.raises(StoreUnavailable, match="no room"):
                await world.complete(offer, OK)
            with pytest.raises(ConfigError, match=r"cannot hold a store: .*maxmemory"):
                await nodes.add("b")
        finally:
            await redis.config_set("maxmemory", "0")
    assert await world.complete(offer, OK) is None


async def test_a_call_that_its_replicas_do_not_have_is_not_answered(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_server, "WAIT_MS", 100)
    monkeypatch.setattr(lane, "RIDE_OUT_S", 0.3)
    with pytest.raises(StoreUnavailable):
        await nodes.add("a", replicas=1)
