"""A node that lacks a key of another one: what it cannot open it leaves alone, and goes on once it has the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from holon.engine.page_tokens import PageTokens
from holon.engine.records import Records
from holon.errors import StoreUnavailable
from holon.ports import Appended, JobFilter
from holon.storage.history.sqlite import SqliteHistory
from holon.stores.sealing import Seal
from tests.contract.cancelling import CANCEL
from tests.contract.world import World
from tests.integration.redis_store.nodes import Nodes

KEY = bytes(range(32))


async def of_two(nodes: Nodes) -> tuple[World, Seal, str, str]:
    """A node without a key and its seal, on a store with an older job in the open and two sealed ones."""
    seal = Seal()
    able = await nodes.add("a", seal=seal)
    older = await able.create()
    seal.open_with((KEY,))
    seal.seal_with(KEY)
    sealed = [await able.create(data={"n": 1}) for _ in range(2)]
    without = Seal()
    return await nodes.add("b", seal=without), without, older, sealed[-1]


async def test_a_job_that_a_node_has_no_key_for_is_told_and_is_read_once_it_has_it(nodes: Nodes) -> None:
    unable, seal, _, sealed = await of_two(nodes)
    with pytest.raises(StoreUnavailable, match="ENCRYPTION_KEY_FILE") as unknown:
        await unable.storage.job(sealed)
    assert unknown.value.code == "ENCRYPTION_KEY_UNKNOWN"
    seal.open_with((KEY,))
    record = await unable.storage.job(sealed)
    assert record is not None
    assert record.job.initial_data == {"n": 1}
    # The nodes understand each other too.
    assert await unable.append(sealed, CANCEL) is Appended.APPENDED


async def test_a_list_goes_on_behind_jobs_that_a_node_has_no_key_for(nodes: Nodes) -> None:
    unable, _, older, _ = await of_two(nodes)
    [record], more = await unable.storage.jobs(JobFilter("ann"), 2)
    assert (record.job.id, more) == (older, None)


async def test_a_list_goes_on_behind_jobs_that_a_node_has_no_key_for_also_where_history_is_kept_elsewhere(
    nodes: Nodes, tmp_path: Path
) -> None:
    unable, _, older, _ = await of_two(nodes)
    async with SqliteHistory(tmp_path / "history.db") as history:
        records = Records(unable.storage, history, PageTokens())
        [record], token = await records.jobs(JobFilter("ann"), "", 2)
    assert (record.job.id, token) == (older, "")
