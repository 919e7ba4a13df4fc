"""What a child's job may cost, and what its parent is told that it did."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.costs import Cost
from holon.domain.fleet import Skill
from holon.rxon.v1 import types_pb2
from holon.worker import Result
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.holon_line import a_holon
from tests.integration.scripted_node import Certificates
from tests.integration.uplink.paying import DONE, paying

A = Skill("a", price=2)


@pytest.mark.parametrize(("own", "below"), [(None, 2), (3, 3), (5, 5)])
async def test_a_childs_task_costs_no_more_than_its_parents_task_may(
    certificates: Certificates, own: Cost, below: int
) -> None:
    async with (
        a_child(certificates, [paying("t", "a", max_cost=own, price=4)]) as child,
        Leaf(child.engine, "w1", Skill("a")) as silent,
        Leaf(child.engine, "w2", Skill("a", price=2)) as cheap,
    ):
        stream = await child.linked()
        assert types_pb2.CAPABILITY_BUDGET in stream.hello.capabilities
        await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(stream)).HasField("accepted")
        given = await cheap.given()
        assert given.max_cost == below
        await cheap.ends(given, DONE)
        # What it was charged goes up: what its worker declares, where that says nothing else.
        result = (await stream.result()).result
        assert (result.status, result.cost) == ("success", 2)
        assert silent.offers.empty()


async def test_a_job_whose_result_is_too_large_for_the_parent_costs_what_it_did_and_says_how_it_was_done(
    certificates: Certificates,
) -> None:
    wordy = Blueprint("wordy", price=20)

    @wordy.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end"})

    @wordy.handler(is_end=True)
    async def end() -> dict[str, str]:
        return {"text": "x" * 2_000}

    async with a_child(certificates, [wordy]) as child, Leaf(child.engine, "w1", A) as leaf:
        stream = await child.linked(max_payload_bytes=1_000)
        await offered(stream, "t1", "wordy", {}, lineage=types_pb2.Lineage(budget=20))
        await leaf.ends(await leaf.given(), DONE, cost=1)
        result = (await stream.result()).result
        assert (result.error.code, result.cost, result.summary.current_state) == ("LIMIT_EXCEEDED", 1, "end")


async def test_a_parent_is_told_in_full_what_nobody_has_reported(certificates: Certificates) -> None:
    async with a_child(certificates, [paying("t", "a", price=5)]) as child, Leaf(child.engine, "w1", A) as lost:
        stream = await child.linked()
        await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(stream)).HasField("accepted")
        first = await lost.given()
        # Its worker began anew, and knows nothing of what it held: what that cost is never said.
        async with Leaf(child.engine, "w1", A) as leaf:
            again = await leaf.given()
            assert (again.task_id, again.max_cost) == (first.task_id, 2)
            await leaf.ends(again, DONE, cost=1)
            assert (await stream.result()).result.cost == 3


async def test_what_was_begun_by_a_worker_that_is_shut_out_is_told_as_what_it_may_have_cost(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [paying("t", "a")]) as child, Leaf(child.engine, "w1", A) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        await leaf.given()
        child.engine.workers.expel(leaf.member)
        async with Leaf(child.engine, "w2", A) as other:
            await other.ends(await other.given(), DONE, cost=1)
            assert (await stream.result()).result.cost == 3


async def test_a_child_sends_nothing_that_may_cost_more_than_its_parents_task(certificates: Certificates) -> None:
    async with (
        a_child(certificates, [paying("t", "a", max_cost=6, price=5)]) as child,
        Leaf(child.engine, "w1", Skill("a", price=1)) as leaf,
    ):
        stream = await child.linked()
        await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
        result = (await stream.result()).result
        assert (result.status, result.error.code) == ("failure", "CHILD_FAILED")
        assert [one.code for one in result.error.causes] == ["LIMIT_EXCEEDED"]
        assert "cost: " in result.error.message
        # Not what the blueprint declares, for nothing of it was done.
        assert (result.HasField("cost"), result.cost) == (True, 0)
        assert leaf.offers.empty()


async def test_a_skill_that_is_passed_on_is_done_within_the_budget(certificates: Certificates) -> None:
    async with (
        a_child(certificates, [], skills=("a",)) as child,
        Leaf(child.engine, "w1", Skill("a", price=6)) as dear,
        Leaf(child.engine, "w2", Skill("a", price=3)) as cheap,
    ):
        stream = await child.linked()
        await offered(stream, "t1", "a", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(stream)).HasField("accepted")
        given = await cheap.given()
        assert given.max_cost == 3
        await cheap.ends(given, DONE, cost=4)
        assert (await stream.result()).result.cost == 3
        assert dear.offers.empty()


async def test_a_parent_is_told_the_price_of_a_blueprint_and_the_dearest_of_a_skill(certificates: Certificates) -> None:
    async with (
        a_child(certificates, [paying("t", "a", price=4), paying("u", "a")], skills=("a",)) as child,
        Leaf(child.engine, "w1", Skill("a", price=6)),
        Leaf(child.engine, "w2", Skill("a", price=0)),
    ):
        stream = await child.linked()
        prices: dict[str, Cost] = {}
        offerings = stream.hello.catalog.offerings
        while len(prices) < 3:
            prices = {one.skill: one.price if one.HasField("price") else None for one in offerings}
            if len(prices) < 3:
                offerings = (await stream.message("catalog")).catalog.offerings
        assert prices == {"t": 4, "u": None, "a": 6}


async def test_a_limit_that_is_none_is_given_back_and_no_job_is_made(certificates: Certificates) -> None:
    async with a_child(certificates, [paying("t", "a")]) as child:
        stream = await child.linked()
        for number, wrong in enumerate((-1, 2**53)):
            await offered(stream, f"t{number}", "t", {}, lineage=types_pb2.Lineage(budget=wrong))
            rejected = (await answer(stream)).rejected
            assert rejected.reason == "UNSUITABLE"
            assert rejected.message.startswith("lineage.budget is ")
        assert await child.jobs() == []


async def test_a_budget_goes_three_levels_down_and_what_it_was_charged_comes_up(tmp_path: Path) -> None:
    async with (
        a_holon(tmp_path, "root", paying("top", "middle")) as root,
        a_holon(tmp_path, "middle", paying("middle", "work", price=8), above=root) as middle,
        a_holon(tmp_path, "last", above=middle, UPLINK_SKILLS="work") as last,
    ):
        worker = last.new_worker("leaf")
        costs = iter((2, 99))

        @worker.skill("work", price=3)
        async def work() -> Result:
            return Result(cost=next(costs))

        async with worker, asyncio.timeout(60):
            # The second says more than what it may cost, which is its price.
            for charged in (2, 3):
                # An offer that is lost while holons tell of each other keeps what it may cost.
                job = (await root.client.create_job("top", {}, budget=100)).job_id
                ended = await root.client.wait_for(job, timeout=60)
                assert (ended.status, ended.cost, ended.budget) == ("finished", charged, 100)
