"""A child that is cut off while it works: what stays with it, and what another child does meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.costs import Cost
from holon.domain.fleet import Skill
from holon.domain.task import CANCELLED, Outcome
from tests.chaos.link import Link
from tests.conftest import Measured
from tests.integration.a_child import Leaf
from tests.integration.admission import admission
from tests.integration.grpc_node import Node, a_node
from tests.integration.uplink.children import child_of
from tests.integration.uplink.paying import DONE, created

LEAF = Skill("leaf", price=5)
# How long a worker keeps a task, and a holon, unless the task says so.
LEASE_S, CHILD_LEASE_S = 0.6, 600.0
# It is a second at a quiet machine, and this at any.
STOPPED_S = 10.0


def asked(name: str, on_lost: float | None) -> Blueprint:
    """Has the skill `t` do something, which goes to another so many seconds after its holder was lost."""
    blueprint = Blueprint(name, "/" + name)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "end"}, on_lost=on_lost, max_cost=20)

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


def tidying() -> Blueprint:
    """Has a leaf do it, which cleans up when that is cancelled."""
    blueprint = Blueprint("t", price=20)

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, {"success": "end", "cancelled": "tidy"})

    @blueprint.handler
    async def tidy(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, {"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


async def told(parent: Node, job_id: str, event_type: str) -> list[str]:
    """Who is told of by such lines of a job's history."""
    return [one.worker_id for one in await parent.history(job_id) if one.event_type == event_type]


async def cost_is(parent: Node, job_id: str, cost: Cost) -> None:
    """A job comes to have cost so much."""
    async with asyncio.timeout(STOPPED_S):
        while (await parent.job(job_id)).cost != cost:  # noqa: ASYNC110  polled, as by a client without a watch
            await asyncio.sleep(0.005)


async def test_what_may_wait_stays_with_who_is_cut_off_and_what_may_not_is_done_by_another_and_stopped_there(
    tmp_path: Path, measured: Measured
) -> None:
    rules = admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"')
    work = [tidying()]
    async with (
        a_node(admission=rules, heartbeat=0.1, lease=LEASE_S, child_lease=CHILD_LEASE_S) as parent,
        Link("child to parent", lambda: ports[0]) as link,
    ):
        ports: list[int | None] = [parent.workers.port]
        parent.engine.blueprints.register_all([asked("stays", None), asked("goes", LEASE_S)])
        async with child_of(parent, "child-1", work, port=link.port) as first, Leaf(first, "leaf", LEAF) as leaf:
            stays = await created(parent, "stays", 100)
            kept = await leaf.given()
            goes = await created(parent, "goes", 100)
            lost = await leaf.given()
            (session,) = parent.engine.dispatcher.sessions
            await parent.until(lambda: len(session.accepted) == 2)
            await parent.engine.touches.flush()
            ports[0] = None
            link.cut()
            await parent.until(lambda: not list(parent.engine.dispatcher.sessions))

            async with child_of(parent, "child-2", work) as second, Leaf(second, "leaf", LEAF) as idle:
                await idle.ends(await idle.given(), DONE, cost=5)
                assert (await parent.ended(goes)).cost == 5
                # What comes later is done there too, and what stays is never given to it, though it has nothing to do.
                another = await created(parent, "goes", 100)
                await idle.ends(await idle.given(), DONE)
                assert (await parent.ended(another)).status == "finished"
                assert leaf.stops.empty()

                ports[0] = parent.workers.port
                await parent.until(lambda: len(list(parent.engine.dispatcher.sessions)) == 2)
                began = asyncio.get_running_loop().time()
                async with asyncio.timeout(STOPPED_S):
                    stop = await leaf.stops.get()
                measured(f"stopped {asyncio.get_running_loop().time() - began:.3f} s after the link was back")
                assert stop.lease.lease_id == lost.lease_id
                # What it cost there is told too, beside the one outcome.
                await leaf.ends(lost, Outcome(CANCELLED), cost=3)
                await leaf.ends(await leaf.given(), DONE, cost=1)
                await cost_is(parent, goes, 5 + 3 + 1)
                assert await told(parent, goes, "task_finished") == ["child-2"]
                assert await told(parent, goes, "result_superseded") == ["child-1"]

                await leaf.ends(kept, DONE)
                assert (await parent.ended(stays)).status == "finished"
                assert await told(parent, stays, "task_finished") == ["child-1"]
                assert (leaf.offers.empty(), leaf.stops.empty(), idle.offers.empty()) == (True, True, True)
