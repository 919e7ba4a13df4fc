"""Blueprints whose work may cost something, and a task of them that was done in part."""

from __future__ import annotations

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.costs import Cost
from holon.domain.task import SUCCESS, Outcome
from holon.rxon.v1 import job_pb2, types_pb2
from tests.integration.a_child import Leaf, answer, offered
from tests.integration.grpc_node import Node, json_payload
from tests.integration.scripted_node import Stream

DONE = Outcome(SUCCESS, b"{}")


def paying(name: str, skill: str, *, max_cost: Cost = None, price: Cost = None) -> Blueprint:
    """Has a skill done for so much at most."""
    blueprint = Blueprint(name, "/" + name, price=price)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task(skill, {}, {"success": "end"}, max_cost=max_cost)

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


async def above(parent: Node) -> str:
    request = job_pb2.CreateJobRequest(blueprint_name="above", initial_data=json_payload({}))
    created: job_pb2.CreateJobResponse = await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)
    return created.job_id


def twice(name: str) -> Blueprint:
    """Has a skill done, and then once more."""
    blueprint = Blueprint(name, "/" + name, price=4)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "again"})

    @blueprint.handler
    async def again(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


def spending(name: str, caps: list[Cost]) -> Blueprint:
    """Has a skill done several times at once, and then once more, for up to 40."""
    blueprint = Blueprint(name, "/" + name)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_parallel([{"task_type": "t", "max_cost": cap} for cap in caps], "more")

    @blueprint.aggregator("more")
    async def more(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "end"}, max_cost=41)

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


async def created(parent: Node, blueprint: str, budget: int) -> str:
    request = job_pb2.CreateJobRequest(blueprint_name=blueprint, initial_data=json_payload({}), budget=budget)
    made: job_pb2.CreateJobResponse = await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)
    return made.job_id


async def half_done(leaf: Leaf, stream: Stream) -> None:
    """The parent gives `t1` a budget of 5 for work done twice: once it was, for 1, and a worker has the rest."""
    await offered(stream, "t1", "t", {}, lineage=types_pb2.Lineage(budget=5))
    assert (await answer(stream)).HasField("accepted")
    await leaf.ends(await leaf.given(), DONE, cost=1)
    await leaf.given()


async def done_anew(leaf: Leaf, stream: Stream) -> None:
    """As after any lease that was taken back, `t1` may come again, and begins anew."""
    await offered(stream, "t1", "t", {}, lease_id="again", attempt=2, lineage=types_pb2.Lineage(budget=5))
    assert (await answer(stream)).HasField("accepted")
    await leaf.ends(await leaf.given(), DONE, cost=1)
    await leaf.ends(await leaf.given(), DONE, cost=1)
    assert (await stream.result()).result.cost == 2
