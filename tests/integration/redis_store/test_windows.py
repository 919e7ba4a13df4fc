"""Windows and quotas are those of all nodes together."""

from __future__ import annotations

import asyncio

from holon.domain.value import replace
from holon.ports import Count, Creation, Quota
from tests.integration.redis_store.nodes import Nodes


async def test_windows_and_quotas_are_exact_over_all_nodes(nodes: Nodes) -> None:
    worlds = [await nodes.add(name) for name in "abc"]
    counted = await asyncio.gather(
        *(world.storage.count([Count("ann", 1, 10, 60_000)] * 3) for world in worlds for _ in range(4))
    )
    assert sum(one.granted for answer in counted for one in answer) == 10
    quota = Quota("ann", 10, "2026-11", worlds[0].now + 60_000)
    created = await asyncio.gather(
        *(
            world.storage.create_jobs([replace(world.new_job(), quota=quota) for _ in range(3)])
            for world in worlds
            for _ in range(4)
        )
    )
    assert sum(what is Creation.CREATED for one in created for _, what in one.jobs) == 10
    assert [await world.quota_used("ann", "2026-11") for world in worlds] == [10, 10, 10]
