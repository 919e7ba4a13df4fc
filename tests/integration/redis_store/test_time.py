"""Time is that of the server, and goes forward alone."""

from __future__ import annotations

from holon.clock import ManualClock
from holon.ports import StoreSettings
from holon.storage.redis import RedisStorage
from tests.integration.redis_store.nodes import Nodes


class Wall(ManualClock):
    """A clock as a server has it: whoever sets it may set it back."""

    def step(self, ms: int) -> None:
        self._now_ms += ms


async def test_i6_time_goes_on_though_the_servers_clock_was_set_back_or_leaps(nodes: Nodes) -> None:
    nodes.clock = wall = Wall()
    first, second = await nodes.add("a"), await nodes.add("b")
    wall.step(3_600_000)
    claim = await first.start()
    # It was an hour ahead for that moment; then it is of a machine that starts without a clock, which is put right.
    for leap in (-3_600_000, -(10**12), 10**12):
        wall.step(leap)
        assert await first.keep(claim) == [True]
        for _ in range(first.settings.claim // 1_000 - 1):
            wall.step(1_000)
            assert not (await second.fire(want=1)).claims
        wall.step(1_000)
        [again] = (await second.fire(want=1)).claims
        assert again.job.id == claim.job.id
        first, second, claim = second, first, again


async def test_the_time_is_the_servers(nodes: Nodes) -> None:
    async with RedisStorage(nodes.uri, StoreSettings("a")) as storage, nodes.redis() as redis:
        await storage.claim(0)
        seconds, _ = await redis.time()
        assert abs(storage.now() - 1_000 * seconds) < 5_000
