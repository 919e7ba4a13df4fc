"""What a node has no key for is left to those that have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from holon.engine.page_tokens import PageTokens
from holon.engine.records import Records
from holon.errors import StoreUnavailable
from holon.ports import JobFilter, StoreSettings
from holon.storage.history.sqlite import SqliteHistory
from holon.stores.sealing import Seal
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


async def test_a_list_goes_on_behind_jobs_that_a_node_has_no_key_for(nodes: Nodes) -> None:
    able, unable = await nodes.add("a", seal=Seal([bytes(range(32))])), await nodes.add("b", seal=Seal())
    older = await unable.create()
    for _ in range(2):
        await able.create()
    page, more = await unable.storage.jobs(JobFilter("ann"), 2)
    assert (list(page), more is None) == ([], False)
    [record], more = await unable.storage.jobs(JobFilter("ann", before=more), 2)
    assert (record.job.id, more) == (older, None)


async def test_a_list_goes_on_behind_jobs_that_a_node_has_no_key_for_also_where_history_is_kept_elsewhere(
    nodes: Nodes, tmp_path: Path
) -> None:
    able, unable = await nodes.add("a", seal=Seal([bytes(range(32))])), await nodes.add("b", seal=Seal())
    older = await unable.create()
    for _ in range(2):
        await able.create()
    async with SqliteHistory(tmp_path / "history.db") as history:
        records = Records(unable.storage, history, PageTokens())
        page, token = await records.jobs(JobFilter("ann"), "", 2)
        assert (list(page), token != "") == ([], True)
        [record], token = await records.jobs(JobFilter("ann"), token, 2)
    assert (record.job.id, token) == (older, "")


async def test_history_that_a_node_has_no_key_for_keeps_back_no_other(nodes: Nodes) -> None:
    moves = {name: StoreSettings(name, history_backlog=2**30) for name in "ab"}
    able = await nodes.add("a", moves["a"], seal=Seal([bytes(range(32))]))
    unable = await nodes.add("b", moves["b"], seal=Seal())
    sealed, plain = await able.create(), await unable.create()
    assert [notice.record.job.id for notice in await unable.storage.take(1)] == [plain]
    assert await unable.storage.take(1) == []
    unable.clock.advance(unable.settings.claim + 1)
    assert sealed in [notice.record.job.id for notice in await able.storage.take(2)]
