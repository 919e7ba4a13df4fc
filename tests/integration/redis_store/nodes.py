"""Several nodes on one Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from holon.clock import ManualClock
from holon.errors import StoreUnavailable
from holon.ports import StoreSettings
from holon.storage.redis import RedisStorage
from tests.contract.backends import REDIS
from tests.contract.world import World
from tests.redis_server import RedisServer

GUARD = 60.0  # seconds; reached only by what does not come


class Nodes:
    """Worlds of several nodes on one store."""

    def __init__(self, server: RedisServer, opened: AsyncExitStack) -> None:
        self.server = server
        self.uri = server.uri(server.database())
        self.clock = ManualClock()
        self._opened = opened

    async def add(self, name: str, settings: StoreSettings | None = None, **options: Any) -> World:
        """One more node, under the same clock. Jobs that it creates are in shards that it owns then."""
        world = OneOfSeveral(REDIS, self.server.socket, {})
        world.clock, world.settings = self.clock, settings or StoreSettings(name)
        world.storage = await self._opened.enter_async_context(
            RedisStorage(self.uri, world.settings, self.clock, **options)
        )
        # Each node makes names of its own.
        world._made = 1_000_000 * len(name) * ord(name[-1])
        return world

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        async with Redis.from_url(self.uri) as client:
            yield client


class OneOfSeveral(World):
    """The world of one node: its own shards have its jobs."""

    def job_id(self, owner: str, request_id: str | None = None) -> str:
        shard, _, _ = self.storage.new_job_id(owner, request_id).partition("-")
        return f"{shard}-{self.unique()}"


async def confirms(world: World, shard: int = 0) -> bool:
    """Whether the store writes what a node changes in a shard."""
    try:
        await world.storage.spawn(f"{shard}-no-job", 0)
    except StoreUnavailable:
        return False
    return True
