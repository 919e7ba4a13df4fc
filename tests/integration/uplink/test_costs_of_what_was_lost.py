"""What a task cost whose lease was lost, or that was cancelled while the link was away: its parent is told."""

from __future__ import annotations

from typing import Any

import pytest

from holon.clock import SystemClock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Skill
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage.memory import MemoryStorage
from holon.uplink import running
from tests.integration.a_child import STORE, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates, ScriptedNode
from tests.integration.uplink.paying import DONE, done_anew, half_done, paying, twice

A = Skill("a", price=2)


async def test_a_lease_that_was_lost_costs_nothing_where_its_job_goes_on_under_a_newer_one(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_COMES_BACK_S", GUARD)
    async with a_child(certificates, [twice("t")]) as child, Leaf(child.engine, "w1", A) as leaf:
        first = await child.linked(session_id="first")
        await offered(first, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(first)).HasField("accepted")
        await leaf.ends(await leaf.given(), DONE, cost=1)
        first.end()
        second = await child.linked(session_id="second")
        await offered(second, "t1", "t", {}, lease_id="newer", attempt=2, lineage=types_pb2.Lineage(budget=5))
        said = [await answer(second) for _ in range(2)]
        assert {(one.lease_id, one.WhichOneof("update")) for one in said} == {
            ("t1-lease", "result"),
            ("newer", "accepted"),
        }
        free = next(one.result for one in said if one.HasField("result"))
        assert (free.status, free.HasField("cost"), free.cost) == ("cancelled", True, 0)
        await second.ack("t1", verdict=worker_pb2.VERDICT_SUPERSEDED)
        await leaf.ends(await leaf.given(), DONE, cost=1)
        told = await second.result()
        assert (told.lease_id, told.result.status, told.result.cost) == ("newer", "success", 2)


async def test_what_a_task_cost_that_others_took_over_while_the_link_was_away_is_told_until_that_is_known(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [twice("t")], cleanup=0.1) as child, Leaf(child.engine, "w1", A) as leaf:
        first = await child.linked(session_id="first")
        await half_done(leaf, first)
        first.end()
        # It goes on with no lease.
        second = await child.linked(session_id="second")
        told = await second.result()
        assert (told.task_id, told.lease_id) == ("t1", "t1-lease")
        second.end()
        third = await child.linked(session_id="third")
        told = await third.result()
        assert (told.result.status, told.result.cost, told.resent) == ("cancelled", 3, True)
        await third.ack("t1", verdict=worker_pb2.VERDICT_SUPERSEDED)
        await done_anew(leaf, third)


async def test_what_a_task_cost_that_others_took_over_is_told_though_the_child_ends_before_that_is_known(
    certificates: Certificates,
) -> None:
    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        more: dict[str, Any] = {"store": store, "parent": parent, "cleanup": 0.1}
        async with a_child(certificates, [twice("t")], **more) as child, Leaf(child.engine, "w1", A) as leaf:
            first = await child.linked(session_id="first")
            await half_done(leaf, first)
            first.end()
            second = await child.linked(session_id="second")
            assert (await second.result()).result.cost == 3
        async with a_child(certificates, [twice("t")], **more) as child, Leaf(child.engine, "w1", A) as leaf:
            third = await child.linked(session_id="third")
            told = await third.result()
            assert (told.lease_id, told.result.status, told.result.cost) == ("t1-lease", "cancelled", 3)
            await third.ack("t1", verdict=worker_pb2.VERDICT_SUPERSEDED)
            await done_anew(leaf, third)


async def test_it_is_told_too_that_a_task_cost_nothing_that_was_lost_with_the_link(certificates: Certificates) -> None:
    async with a_child(certificates, [paying("t", "nobodys")], cleanup=0.1) as child:
        first = await child.linked(session_id="first")
        await offered(first, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        await offered(first, "t2", "t", {})
        assert {(await answer(first)).WhichOneof("update") for _ in range(2)} == {"accepted"}
        first.end()
        second = await child.linked(session_id="second")
        told = {one.task_id: one.result for one in [await second.result() for _ in range(2)]}
        assert {one.status for one in told.values()} == {"cancelled"}
        # What has no budget waits for no such word.
        assert (told["t1"].HasField("cost"), told["t1"].cost, told["t2"].HasField("cost")) == (True, 0, False)


async def test_what_a_task_cost_that_its_parent_cancelled_is_told_though_the_link_was_away_for_its_end(
    certificates: Certificates,
) -> None:
    blueprint = Blueprint("t")

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end", "cancelled": "tidy"})

    @blueprint.handler
    async def tidy(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    async with a_child(certificates, [blueprint]) as child, Leaf(child.engine, "w1", A) as leaf:
        first = await child.linked(session_id="first")
        await offered(first, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(first)).HasField("accepted")
        work = await leaf.given()
        await first.stop("t1")
        cleaning = await leaf.given()
        first.end()
        second = await child.linked(session_id="second")
        # Once it has taken the terms of this stream, the lease is lost.
        await offered(second, "t2", "unknown", {})
        assert (await answer(second)).HasField("rejected")
        await leaf.ends(work, DONE, cost=2)
        await leaf.ends(cleaning, DONE, cost=1)
        told = (await second.result()).result
        assert (told.status, told.cost) == ("cancelled", 3)
