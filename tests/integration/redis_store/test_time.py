"""Time is that of the server."""

from __future__ import annotations

from holon.clock import ManualClock
from holon.ports import StoreSettings
from holon.storage.redis import RedisStorage
from tests.integration.redis_store.nodes import Nodes


async def test_the_time_is_the_servers_whatever_the_nodes_clock_says(nodes: Nodes) -> None:
    clock = ManualClock()
    async with RedisStorage(nodes.uri, StoreSettings("a"), clock) as storage, nodes.redis() as redis:
        seconds, _ = await redis.time()
        assert abs(storage.now() - 1_000 * seconds) < 5_000
        assert abs(clock.now_ms() - 1_000 * seconds) > 5_000
