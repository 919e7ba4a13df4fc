"""What a child says of a share of a budget that lost attempts used up, and what its parent does then."""

from __future__ import annotations

import pytest

from holon.context import ActionFactory, TaskItem
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Skill
from holon.domain.holarchy import HolonIdentity
from holon.domain.task import FAILURE, Outcome, TaskError
from holon.rxon.v1 import types_pb2, worker_pb2
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.grpc_node import Node
from tests.integration.scripted_node import Certificates
from tests.integration.uplink.paying import DONE, created, paying

A = Skill("a", price=2)
USED_UP = Outcome(FAILURE, error=TaskError("LIMIT_EXCEEDED", "lost attempts used it up", retryable=True))


def two_steps() -> Blueprint:
    blueprint = Blueprint("two_steps", price=2)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "again"}, max_cost=2)

    @blueprint.handler
    async def again(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end"}, max_cost=2)

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


def branches() -> Blueprint:
    blueprint = Blueprint("branches", price=2)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        branch: TaskItem = {"task_type": "a", "max_cost": 2}
        actions.dispatch_parallel([branch, branch], "gather", fail_fast=True)

    @blueprint.aggregator("gather")
    async def gather(actions: ActionFactory) -> None:
        actions.go_to("end")

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


def above(skill: str) -> Blueprint:
    blueprint = Blueprint("above", price=2)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.run_blueprint(skill, {}, {"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


async def lost(leaf: Leaf) -> None:
    """The worker of what was given begins anew, and knows nothing of that: this is as if it was killed."""
    await leaf.given()
    await leaf.__aenter__()


def said(result: worker_pb2.TaskResult) -> tuple[str, str, bool, int]:
    error = result.error
    return result.status, error.code, error.retryable, result.cost


@pytest.mark.parametrize(
    ("blueprint", "budget", "codes"),
    [
        (paying("one", "a"), 2, ["LIMIT_EXCEEDED", "lost"]),
        (paying("one", "a", max_cost=2), 2, ["LIMIT_EXCEEDED", "lost"]),
        (branches(), 5, ["BRANCH_FAILED", "lost"]),
    ],
)
async def test_a_child_whose_share_lost_attempts_used_up_says_so(
    certificates: Certificates, blueprint: Blueprint, budget: int, codes: list[str]
) -> None:
    async with a_child(certificates, [blueprint]) as child, Leaf(child.engine, "w1", A) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", blueprint.name, {}, lineage=types_pb2.Lineage(budget=budget))
        assert (await answer(stream)).HasField("accepted")
        if blueprint.name == "branches":
            await leaf.given()
        await lost(leaf)
        result = (await stream.result()).result
        assert said(result) == ("failure", "LIMIT_EXCEEDED", True, budget // 2 * 2)
        assert [(one.code, one.holon_id, one.name) for one in result.error.causes] == [
            (code, "the-child", blueprint.name) for code in codes
        ]
        assert result.error.causes[-1].message == f"lost attempts used up the budget of {budget}"


async def test_so_does_one_that_has_too_little_left_for_its_next_step(certificates: Certificates) -> None:
    async with a_child(certificates, [two_steps()]) as child, Leaf(child.engine, "w1", A) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "two_steps", {}, lineage=types_pb2.Lineage(budget=5))
        assert (await answer(stream)).HasField("accepted")
        await lost(leaf)
        await leaf.ends(await leaf.given(), DONE, cost=2)
        result = (await stream.result()).result
        assert said(result) == ("failure", "LIMIT_EXCEEDED", True, 4)
        assert [one.code for one in result.error.causes] == ["LIMIT_EXCEEDED", "lost"]
        assert "2 of it is reserved for lost attempts" in result.error.causes[0].message


async def test_so_does_one_that_has_too_little_left_for_a_part_of_it(certificates: Certificates) -> None:
    async with (
        a_child(certificates, [above("below"), paying("below", "a")]) as child,
        Leaf(child.engine, "w1", A) as leaf,
    ):
        stream = await child.linked()
        await offered(stream, "t1", "above", {}, lineage=types_pb2.Lineage(budget=2))
        assert (await answer(stream)).HasField("accepted")
        await lost(leaf)
        result = (await stream.result()).result
        assert said(result) == ("failure", "LIMIT_EXCEEDED", True, 2)
        assert [(one.code, one.name) for one in result.error.causes] == [
            ("CHILD_QUARANTINED", "above"), ("LIMIT_EXCEEDED", "below"), ("lost", "below"),
        ]  # fmt: skip


async def test_so_is_it_for_a_skill_that_is_passed_on(certificates: Certificates) -> None:
    async with a_child(certificates, [], skills=("a",)) as child, Leaf(child.engine, "w1", A) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "a", {}, lineage=types_pb2.Lineage(budget=3))
        assert (await answer(stream)).HasField("accepted")
        await lost(leaf)
        result = (await stream.result()).result
        assert said(result) == ("failure", "LIMIT_EXCEEDED", True, 2)
        assert [one.code for one in result.error.causes] == ["LIMIT_EXCEEDED", "lost"]


async def test_a_parent_gives_another_share_while_its_own_budget_covers_that(parent: Node) -> None:
    parent.engine.blueprints.register(tried_never_again())
    async with Leaf(parent.engine, "child", A, holon=HolonIdentity("below", 1, "i")) as child:
        job_id = await created(parent, "never", 7)
        for generation in (1, 2, 3):
            offer = await child.given()
            assert (offer.generation, offer.max_cost) == (generation, 2)
            await child.ends(offer, USED_UP, cost=2)
        job = await parent.ended(job_id)
        assert (job.status, job.error.code, job.cost) == ("quarantined", "LIMIT_EXCEEDED", 6)


async def test_a_share_of_which_nothing_was_charged_is_a_failure_like_any_other(parent: Node) -> None:
    parent.engine.blueprints.register(tried_never_again())
    async with Leaf(parent.engine, "child", A, holon=HolonIdentity("below", 1, "i")) as child:
        job_id = await created(parent, "never", 7)
        await child.ends(await child.given(), USED_UP, cost=0)
        assert (await parent.ended(job_id)).error.code == "LIMIT_EXCEEDED"
        assert child.offers.empty()


async def test_so_is_what_a_worker_says_of_that_which_is_no_holon(parent: Node) -> None:
    parent.engine.blueprints.register(tried_never_again())
    async with Leaf(parent.engine, "w1", A) as worker:
        job_id = await created(parent, "never", 7)
        await worker.ends(await worker.given(), USED_UP, cost=2)
        assert (await parent.ended(job_id)).cost == 2
        assert worker.offers.empty()


def tried_never_again() -> Blueprint:
    blueprint = Blueprint("never", "/never")

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end"}, max_cost=2, max_retries=0)

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint
