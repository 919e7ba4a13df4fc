"""What a node has no key for is left to those that have it."""

from __future__ import annotations

import pytest

from holon.errors import StoreUnavailable
from holon.ports import StoreSettings
from holon.storage.sealing import Seal
from tests.contract.world import T
from tests.hints import heard, hints_of
from tests.integration.redis_store.nodes import Nodes


async def test_a_job_that_a_node_has_no_key_for_is_given_back_to_those_that_have_it(nodes: Nodes) -> None:
    old, new = bytes(range(32)), bytes(range(1, 33))
    able = await nodes.add("a", seal=Seal([new, old]))
    unable = await nodes.add("b", StoreSettings("b", claim=100), seal=Seal([old]))
    job = await able.create(data={"n": 1})
    hints = hints_of(able.storage)
    assert await able.storage.claim(0) == ()
    assert await unable.storage.claim(1) == ()
    assert await able.storage.claim(1) == ()
    await heard(hints, lambda hint: hint.ready)
    [claim] = await able.storage.claim(1)
    assert (claim.job.id, claim.job.initial_data, claim.deliveries) == (job, {"n": 1}, 1)
    with pytest.raises(StoreUnavailable, match="ENCRYPTION_KEY_FILE") as unknown:
        await unable.storage.job(job)
    assert unknown.value.code == "ENCRYPTION_KEY_UNKNOWN"


async def test_a_task_that_a_node_has_no_key_for_is_not_offered_by_it(nodes: Nodes) -> None:
    able, unable = await nodes.add("a", seal=Seal([bytes(range(32))])), await nodes.add("b", seal=Seal())
    task = await able.dispatch()
    assert await unable.storage.queued_tasks(T.key, "", 5) == []
    hand = await unable.hand("w1", 5)
    assert await unable.lease(hand.seat(5)) == []
    assert await able.waiting() == 0
    await able.after(unable.settings.offer + 1)
    assert [one.id for one in await able.storage.queued_tasks(T.key, "", 5)] == [task]
