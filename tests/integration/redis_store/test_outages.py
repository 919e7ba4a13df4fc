"""A Redis that is away, forgot the functions, or lost the store: what was answered is kept, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import pytest

from holon.core import writer
from holon.errors import ConfigError, StoreBroken, StoreUnavailable
from holon.ports import JobFilter
from tests.contract.world import OK
from tests.e2e.processes import until
from tests.integration.redis_store.nodes import GUARD, Nodes
from tests.redis_server import RedisServer

T = TypeVar("T")


async def repeated(call: Callable[[], Awaitable[T]]) -> T:
    """The answer to a call that is repeated while the store is away."""
    async with asyncio.timeout(GUARD):
        while True:
            try:
                return await call()
            except StoreBroken:
                raise
            except StoreUnavailable:
                await asyncio.sleep(0.01)


async def test_functions_that_the_server_has_forgotten_are_loaded_again(nodes: Nodes) -> None:
    world = await nodes.add("a")
    async with nodes.redis() as redis:
        await redis.function_flush()
    created = await asyncio.gather(*(world.create() for _ in range(5)))
    assert sorted(await world.ready()) == sorted(created)


async def test_i1_calls_that_wait_for_a_server_that_was_killed_are_answered_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A slow machine may take longer than a second to start the server.
    monkeypatch.setattr(writer, "AWAY_S", GUARD)
    server = RedisServer(append_only=True)
    try:
        async with AsyncExitStack() as opened:
            world = await Nodes(server, opened).add("a")
            jobs = [await world.create() for _ in range(20)]
            server.kill()
            pending = [asyncio.create_task(world.create()) for _ in range(5)]
            await asyncio.sleep(0)
            await asyncio.to_thread(server.start)
            jobs += await asyncio.gather(*pending)
            assert sorted(await world.ready()) == sorted(jobs)
            records, _ = await world.storage.jobs(JobFilter("ann"), 100)
            assert sorted(record.job.id for record in records) == sorted(jobs)
    finally:
        server.close()


async def test_i1_calls_are_refused_while_the_server_stays_away_and_go_on_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    server = RedisServer(append_only=True)
    try:
        async with AsyncExitStack() as opened:
            world = await Nodes(server, opened).add("a")
            job_id = await world.create()
            claim = await world.start()
            server.kill()
            with pytest.raises(StoreUnavailable, match="does not confirm writes") as refused:
                async with asyncio.timeout(GUARD):
                    await world.create()
            assert refused.value.retry_after
            # Reads too: what memory shows may be another node's by now.
            with pytest.raises(StoreUnavailable, match="does not confirm writes"):
                await world.storage.job(job_id)
            await asyncio.to_thread(server.start)
            assert not (await repeated(lambda: world.finish(claim))).conflict
            assert (await world.record(job_id)).job.id == job_id
            said = [record.getMessage() for record in caplog.records if record.name == writer.log.name]
            assert said[-1].startswith("the store confirms writes again, after ")
            # Each reason is logged once.
            assert all(one.startswith("the store confirms nothing: ") for one in said[:-1])
            assert 1 <= len(said[:-1]) <= len(set(said[:-1])) + 1
            await world.create()
            assert [record.getMessage() for record in caplog.records if record.name == writer.log.name] == said
    finally:
        server.close()


async def test_a_server_that_lost_the_store_is_not_taken_for_it(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    world = await nodes.add("a")
    ended = await world.start()
    await world.finish(ended)
    async with nodes.redis() as redis:
        await redis.flushdb()
    # The node does not say that there is no such job.
    with pytest.raises(StoreUnavailable):
        await world.storage.job(ended.job.id)
    async with asyncio.timeout(GUARD):
        with pytest.raises(StoreBroken, match="lost the store"):
            await world.storage.failure()
    # A node that starts there makes a new store, and says so. The next one finds it.
    made = "the Redis of STORAGE_URI held no store, so a new one was made; jobs of an earlier store are gone"
    assert caplog.messages.count(made) == 1
    for name in "bc":
        await nodes.add(name)
        assert caplog.messages.count(made) == 2


async def test_a_server_that_is_no_master_for_a_moment_is_waited_for(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    world = await nodes.add("a")
    async with nodes.redis() as redis:
        # A replica that has not heard of the functions either.
        await redis.function_flush()
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        try:
            connections = (await redis.info("stats"))["total_connections_received"]
            creating = asyncio.create_task(repeated(world.create))

            async def tried() -> bool:
                return bool((await redis.info("stats"))["total_connections_received"] >= connections + 3)

            await until(tried, "it was tried again")
        finally:
            await redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
    assert await creating
    # Not once for each connection.
    assert caplog.text.count("read only replica") == 1, caplog.text


async def test_a_server_without_the_functions_and_without_memory_for_them_gets_them_when_there_is_room(
    nodes: Nodes,
) -> None:
    world = await nodes.add("a")
    offer = await world.accepted(await world.hand())
    async with nodes.redis() as redis:
        await redis.function_flush()
        await redis.config_set("maxmemory", "100kb")
        try:
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                await world.complete(offer, OK)
            with pytest.raises(ConfigError, match="maxmemory"):
                await nodes.add("b")
        finally:
            await redis.config_set("maxmemory", "0")
    assert await repeated(lambda: world.complete(offer, OK)) is None
