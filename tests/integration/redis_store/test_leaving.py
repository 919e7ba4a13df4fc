"""Nodes on one Redis that fall silent, come back or are gone for good: their work goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.errors import StoreUnavailable
from holon.ports import StoreSettings
from holon.storage.redis import RedisStorage, channel
from holon.stores.sealing import Seal
from tests.hints import heard, hints_of
from tests.integration.redis_store.nodes import GUARD, Nodes, look


async def test_the_jobs_of_a_node_that_fell_silent_go_to_another(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    claim = await first.start()
    nodes.clock.advance(first.settings.claim)
    [again] = (await second.fire(want=1)).claims
    assert (again.job.id, again.deliveries) == (claim.job.id, 2)
    assert (await first.finish(claim)).conflict
    assert not (await second.finish(again)).conflict


async def test_a_node_that_starts_again_takes_back_only_what_was_its_own(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    mine, other = await first.start(), await second.start()
    again = await nodes.add("a")
    assert await second.keep(other) == [True]
    with pytest.raises(StoreUnavailable, match="INSTANCE_ID"):
        await first.keep(mine)
    assert await again.ready() == [mine.job.id]


async def test_of_two_processes_of_one_name_the_earlier_ends_and_does_not_come_again(nodes: Nodes) -> None:
    first, later = await nodes.add("a"), await nodes.add("a")
    with pytest.raises(StoreUnavailable):
        await first.ready()
    async with asyncio.timeout(GUARD):
        with pytest.raises(StoreUnavailable, match=r"another process runs as a .* INSTANCE_ID"):
            await first.storage.failure()
    # Its connection is lost as any may be, and is its own all the same.
    async with nodes.redis() as redis:
        await redis.client_kill_filter(_type="normal", skipme=True)
    assert await later.ready() == []


async def test_a_suspect_does_not_keep_other_nodes_from_their_work(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    suspect = await first.create()
    await first.claim_of(suspect)
    await first.after(first.settings.claim)
    assert await first.ready() == [suspect]
    job = await second.create()
    assert await first.ready() == []
    assert await second.ready() == [job]


async def test_others_hear_at_once_of_a_job_that_comes_to_a_node_which_runs_a_suspect(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "LOOK_EVERY_S", GUARD)
    first, second = await nodes.add("a"), await nodes.add("b")
    suspect = await first.create()
    await first.claim_of(suspect)
    await first.after(first.settings.claim)
    assert await first.ready() == [suspect]
    assert await second.ready() == []
    hints = hints_of(second.storage)
    made = await first.storage.create_jobs([first.new_job()], 1)
    assert made.claims == ()
    async with asyncio.timeout(channel.SILENCE_S / 2):
        await heard(hints, lambda hint: hint.ready)
    assert await second.ready() == [made.jobs[0][0]]


async def test_a_node_that_goes_is_known_to_be_away_however_many_went_before(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hand = await first.hand()
    async with nodes.redis() as redis:
        await redis.zadd("{h:0}:nodes", {f"before-{n}": first.now - 3_600_000 for n in range(200)})
    nodes.clock.advance(60_000)
    await look(second, watchful=True)
    await second.dispatch()
    assert await first.lease(hand.seat()) == []


async def test_sessions_of_a_node_that_is_away_get_nothing_and_go_on_when_it_is_back(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hand = await first.hand()
    nodes.clock.advance(60_000)
    await look(second, watchful=True)
    await second.dispatch()
    assert await first.lease(hand.seat()) == []
    await look(first)
    assert len(await first.lease(hand.seat())) == 1


async def test_a_node_that_is_gone_for_good_leaves_nothing(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    await first.hand()
    await first.storage.watch(await first.create())
    await first.ready()
    await first.after(first.settings.claim)
    nodes.clock.advance(2 * 86_400_000)
    await look(second, watchful=True)
    async with nodes.redis() as redis:
        assert await redis.exists("{h:0}:w:w1", "{h:0}:sessions:a", "{h:0}:watched") == 0
        assert [consumer["name"] for consumer in await redis.xinfo_consumers("{h:0}:suspects", "holon")] == []


async def test_a_node_that_ends_gives_back_nothing_later(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    able = await nodes.add("a", seal=Seal([bytes(range(32))]))
    await able.create()
    loop = asyncio.get_running_loop()
    call_later, timers = loop.call_later, list[asyncio.TimerHandle]()

    def noted(*given: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(call_later(*given, **more))
        return timers[-1]

    settings = StoreSettings("b", claim=600_000)
    async with RedisStorage(nodes.uri, settings, nodes.clock, seal=Seal()) as unable:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_later", noted)
            assert await unable.claim(1) == ()
        [later] = [one for one in timers if one.when() > loop.time() + 200]
    assert later.cancelled()
