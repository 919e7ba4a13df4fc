"""What is numbered in Redis: a store that has counted further than its numbers had room for goes on."""

from __future__ import annotations

from tests.contract.world import T
from tests.integration.redis_store.nodes import Nodes


async def test_a_store_that_has_counted_to_a_million_millions_goes_on(nodes: Nodes) -> None:
    world = await nodes.add("a")
    async with nodes.redis() as redis:
        await redis.hset("{h:0}:meta", "last", 10**12 - 10)
        tasks = [await world.dispatch() for _ in range(8)]
        assert int(await redis.hget("{h:0}:meta", "last") or 0) > 10**12
    pages = [*await world.storage.queued_tasks(T.key, "", 5)]
    pages += await world.storage.queued_tasks(T.key, pages[-1].id, 5)
    assert [one.id for one in pages] == sorted(tasks)
    hand = await world.hand()
    offers = await world.lease(hand.seat(8))
    assert {offer.task_id for offer in offers} == set(tasks)
    for offer in offers:
        await world.complete(offer)
        await world.finish(await world.claim_of(offer.job_id))
