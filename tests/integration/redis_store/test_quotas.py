"""Quotas in Redis, where the jobs of one are in several partitions: exact, whoever drew on it and left it unused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from holon.domain.value import replace
from holon.ports import Quota
from holon.storage.redis import RedisStorage
from holon.storage.redis.answers import ALL_CREATED
from holon.storage.redis.arguments import new_jobs_arguments, quota_name
from holon.storage.redis.keys import SHARED, Keys
from holon.storage.redis.quotas import Allowances, Quotas
from holon.stores.sealing import Seal
from tests.contract.world import World
from tests.integration.redis_store.nodes import Nodes
from tests.redis_server import RedisServer

METAS = ("{h:0}:meta", "{h:1}:meta", "{h:2}:meta")


class Place:
    """One partition, as one node knows it."""

    def __init__(self, world: World, partition: int) -> None:
        assert isinstance(world.storage, RedisStorage)
        self._world = world
        link = world.storage._partitions.first.link
        partitions = [link.about(Keys(number)) for number in range(len(METAS))]
        self._calls = partitions[partition]
        self._quotas = Quotas(link.about(SHARED), partition, partitions)
        self.calls: list[str] = []

    async def create(self, quota: Quota, n: int = 1) -> int:
        """Ask for jobs; how many were made."""
        items = [replace(self._world.new_job(), quota=quota) for _ in range(n)]

        async def call(allowances: Allowances) -> Any:
            self.calls.append("create_jobs")
            given = new_jobs_arguments(items, 2**20, Seal(), allowances)
            return await self._calls.call("create_jobs", *given, 0, 0)

        answer = await self._quotas.create(items, call)
        return n if answer == ALL_CREATED else answer[0].count(b"created")


@pytest.fixture
async def nodes(server: RedisServer) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as opened:
        yield Nodes(server, opened)


async def places(nodes: Nodes, names: str = "ab") -> list[Place]:
    """Three partitions at each of some nodes."""
    worlds = [await nodes.add(name) for name in names]
    async with nodes.redis() as redis:
        for meta in METAS[1:]:
            await redis.copy(METAS[0], meta)
            for stream in ("ready", "suspects"):
                await redis.xgroup_create(meta.replace("meta", stream), "holon", mkstream=True)
    return [Place(world, partition) for world in worlds for partition in range(len(METAS))]


async def made(nodes: Nodes, quota: Quota) -> int:
    """How many jobs count against a quota, in all partitions."""
    async with nodes.redis() as redis:
        found = [await redis.hget(meta.replace("meta", "quotas"), quota_name(quota)) for meta in METAS]
    return sum(int(one.split()[0]) for one in found if one is not None)


def quota(nodes: Nodes, limit: int, key: str = "ann") -> Quota:
    return Quota(key, limit, "2026-11", nodes.clock.now_ms() + 1_000_000)


@pytest.mark.parametrize("seed", range(5))
async def test_partitions_and_nodes_make_exactly_as_many_as_the_quota_says(nodes: Nodes, seed: int) -> None:
    everywhere, dice = await places(nodes), random.Random(seed)
    limited = quota(nodes, 40)

    async def client() -> int:
        return sum([await dice.choice(everywhere).create(limited, dice.randint(1, 3)) for _ in range(10)])

    assert sum(await asyncio.gather(*(client() for _ in range(8)))) == 40
    assert await made(nodes, limited) == 40
    assert [await place.create(limited) for place in everywhere] == [0] * 6


async def test_what_one_partition_drew_and_did_not_use_another_gets(nodes: Nodes) -> None:
    first, second, third = await places(nodes, "a")
    limited = quota(nodes, 20)
    assert await first.create(limited) == 1
    assert await second.create(limited) == 1
    assert await third.create(limited, 30) == 18
    assert [await place.create(limited) for place in (first, second, third)] == [0, 0, 0]
    assert await made(nodes, limited) == 20


async def test_what_was_drawn_by_a_node_that_is_gone_is_not_lost(nodes: Nodes) -> None:
    first, second, _ = await places(nodes, "a")
    limited = quota(nodes, 20)
    assert await first.create(limited) == 1
    again = Place(first._world, 1)
    assert await again.create(limited, 20) == 19
    assert await second.create(limited) == 0


async def test_a_raised_limit_makes_room_in_every_partition_and_a_lowered_one_takes_it(nodes: Nodes) -> None:
    everywhere = await places(nodes)
    assert sum([await place.create(quota(nodes, 6), 2) for place in everywhere]) == 6
    assert sum([await place.create(quota(nodes, 9), 2) for place in reversed(everywhere)]) == 3
    assert sum([await place.create(quota(nodes, 7)) for place in everywhere]) == 0
    assert sum([await place.create(quota(nodes, 100), 3) for place in everywhere]) == 18
    assert await made(nodes, quota(nodes, 0)) == 27


async def test_a_lowered_limit_is_kept_though_more_was_drawn(nodes: Nodes) -> None:
    everywhere = await places(nodes)
    for place in everywhere:
        assert await place.create(quota(nodes, 1_000)) == 1
    assert sum([await place.create(quota(nodes, 10), 3) for place in everywhere]) == 4
    assert await made(nodes, quota(nodes, 0)) == 10


async def test_steady_creating_asks_for_no_more_than_the_creation_itself(nodes: Nodes) -> None:
    place = (await places(nodes, "a"))[0]
    limited = quota(nodes, 10_000)
    for _ in range(50):
        assert await place.create(limited) == 1
    assert len(place.calls) == 50


async def test_who_has_used_up_a_quota_is_told_so_by_the_creation_alone(nodes: Nodes) -> None:
    first, second, _ = await places(nodes, "a")
    limited = quota(nodes, 3)
    assert await second.create(limited) == 1
    assert await first.create(limited, 5) == 2
    first.calls.clear()
    for _ in range(20):
        assert await first.create(limited) == 0
    assert len(first.calls) == 20


async def test_a_period_that_is_over_leaves_nothing_behind(nodes: Nodes) -> None:
    place = (await places(nodes, "a"))[0]
    await place.create(quota(nodes, 10))
    nodes.clock.advance(1_000_000)
    await place._world.storage.purge(0, 1)
    async with nodes.redis() as redis:
        assert [key for key in await redis.keys("*") if b"quota" in key] == []
