"""A Redis that is full, evicts, or holds what is not ours: nothing new is begun there."""

from __future__ import annotations

from pathlib import Path

import pytest

from holon.errors import ConfigError, StoreUnavailable
from holon.ports import StoreSettings
from holon.storage.redis import RedisStorage
from tests.claims import claimed
from tests.contract.world import OK, Hand
from tests.integration.redis_store.nodes import Nodes
from tests.redis_server import RedisServer


async def test_without_memory_new_jobs_are_refused_and_results_are_taken(nodes: Nodes) -> None:
    world = await nodes.add("a")
    hand: Hand = await world.hand()
    offer = await world.accepted(hand)
    async with nodes.redis() as redis:
        await redis.config_set("maxmemory", "100kb")
        try:
            await world.storage._rows.heads()  # type: ignore[attr-defined]
            with pytest.raises(StoreUnavailable, match="of its maxmemory; new jobs wait for room"):
                await world.create()
            # Whoever starts or has to connect again can.
            await nodes.add("b")
            assert await world.complete(offer, OK) is None
            assert not (await world.finish(await world.claim_of(offer.job_id))).conflict
        finally:
            await redis.config_set("maxmemory", "0")


async def test_a_server_that_evicts_is_refused(nodes: Nodes) -> None:
    async with nodes.redis() as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(ConfigError, match="noeviction"):
                await nodes.add("a")
        finally:
            await redis.config_set("maxmemory-policy", "noeviction")


async def test_a_server_that_begins_to_evict_is_given_no_new_jobs(nodes: Nodes) -> None:
    world = await nodes.add("a")
    assert isinstance(world.storage, RedisStorage)
    claim = await world.start()
    async with nodes.redis() as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            await world.storage._rows.heads()
            with pytest.raises(StoreUnavailable, match="maxmemory-policy allkeys-lru") as refused:
                await world.create()
            assert refused.value.retry_after
            assert not (await world.finish(claim)).conflict
        finally:
            await redis.config_set("maxmemory-policy", "noeviction")
    await world.storage._rows.heads()
    await world.create()


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [("layout", 9, "has layout 9.*begin anew in another database"), ("shards", 4, "has 4 shards.*takes one with 32")],
)
async def test_a_store_of_another_release_or_shape_is_refused(nodes: Nodes, field: str, value: int, told: str) -> None:
    await nodes.add("a")
    async with nodes.redis() as redis:
        await redis.hset("{holon}:store", field, str(value))
    with pytest.raises(ConfigError, match=told):
        await nodes.add("b")


async def test_a_server_that_is_not_there_is_told_at_the_start() -> None:
    with pytest.raises(ConfigError, match="cannot be reached"):
        async with RedisStorage("unix:///nowhere/at/all", StoreSettings("a")):
            pass


async def test_a_password_opens_the_store_and_nothing_else_does(tmp_path: Path) -> None:
    server = RedisServer(options=("--requirepass", "s3cr3t"))
    try:
        with pytest.raises(ConfigError) as refused:
            async with RedisStorage(server.uri(), StoreSettings("a")):
                pass
        assert "s3cr3t" not in str(refused.value)
        known = RedisStorage(server.uri().replace("unix://", "unix://:s3cr3t@"), StoreSettings("a"))
        async with known as storage:
            assert await claimed(storage) == []
        assert "s3cr3t" not in repr(known)
    finally:
        server.close()
