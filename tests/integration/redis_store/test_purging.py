"""Jobs that ended are deleted in Redis, whatever became of them there meanwhile."""

from __future__ import annotations

import pytest

from holon.domain.job import Status
from holon.errors import ResourceExhausted
from holon.ports import StoreSettings
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


async def test_the_row_of_a_job_of_many_steps_grows_no_more_and_all_that_they_made_goes_with_it(nodes: Nodes) -> None:
    world = await nodes.add("a")
    hand, job_id = await world.hand(), await world.create()
    sizes: list[int] = []
    async with nodes.redis() as redis:
        for _ in range(300):
            claim = await world.claim_of(job_id)
            step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),))
            offers = (await world.commit(step, [hand.seat()])).leased.offers
            await world.complete(offers[0])
            sizes.append(await redis.strlen("{h:0}:j:" + job_id))
        assert max(sizes[100:]) < min(sizes[:10]) + 300
        assert len(await redis.keys("{h:0}:t:*")) == 300
        await world.finish(await world.claim_of(job_id))
        assert await world.storage.purge(world.now + 1, 10) == 1
        assert await redis.keys(f"*{job_id}*") == []


async def test_nobody_watches_a_job_that_is_gone_whatever_was_not_said_of_that(nodes: Nodes) -> None:
    world = await nodes.add("a")
    claim = await world.start()
    await world.storage.watch(claim.job.id)
    async with nodes.redis() as redis:
        await world.finish(claim)
        assert await redis.hlen("{h:0}:watched") == 1
        assert await world.storage.purge(world.now + 1, 10) == 1
        assert await redis.hlen("{h:0}:watched") == 0
        assert await redis.hget("{h:0}:meta", "watched") == b"0"


async def test_history_that_goes_with_its_job_while_none_is_moved_waits_no_more(nodes: Nodes) -> None:
    moves, keeps = await nodes.add("a", StoreSettings("a", history_backlog=1)), await nodes.add("b")
    await moves.finish(await moves.start())
    with pytest.raises(ResourceExhausted, match="HISTORY_BACKLOG"):
        await moves.create()
    assert await keeps.storage.purge(keeps.now + 1, 10) == 1
    assert await moves.storage.take(10) == []
    await moves.create()
