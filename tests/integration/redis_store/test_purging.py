"""Jobs that ended are deleted in Redis, whatever became of them there meanwhile."""

from __future__ import annotations

from tests.integration.redis_store.nodes import Nodes


async def test_a_job_that_is_gone_already_leaves_the_list_of_those_that_ended(nodes: Nodes) -> None:
    world = await nodes.add("a")
    gone, kept = await world.start(), await world.start()
    for claim in (gone, kept):
        await world.finish(claim)
    async with nodes.redis() as redis:
        assert await redis.delete("{h:0}:j:" + gone.job.id)
        await world.storage.purge(world.now + 1, 10, {kept.job.id})
        assert await redis.zrange("{h:0}:over", 0, -1) == [kept.job.id.encode()]
    assert await world.storage.purge(world.now + 1, 10) == 1
