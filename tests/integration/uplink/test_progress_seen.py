"""How far a task of a child is, as who watches the job above sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Skill
from tests.integration.a_child import Leaf
from tests.integration.grpc_node import GUARD, Node
from tests.integration.uplink.blueprints import DONE
from tests.integration.uplink.children import child_of
from tests.integration.watching import Response, watch


def spoilt_once() -> Blueprint:
    """Three dispatches, one after the other, and then a failure that may be repeated; the second time none."""
    runs = 0
    blueprint = Blueprint("t")

    @blueprint.handler(is_start=True)
    async def first(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, {"success": "second"})

    @blueprint.handler
    async def second(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, {"success": "third"})

    @blueprint.handler
    async def third(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, {"success": "last"})

    @blueprint.handler
    async def last(actions: ActionFactory) -> None:
        nonlocal runs
        runs += 1
        actions.go_to("spoilt" if runs == 1 else "over")

    @blueprint.handler(is_end=True, outcome="failed", retry=True)
    async def spoilt() -> None: ...

    @blueprint.handler(is_end=True)
    async def over() -> None: ...

    return blueprint


async def comes_to(parent: Node, job_id: str, percent: float) -> None:
    """The parent's job comes to be so far, and that is stored."""
    async with asyncio.timeout(GUARD):
        while (await parent.job(job_id)).progress != percent:
            await asyncio.sleep(0.005)
            await parent.engine.touches.flush()


def percents(told: Sequence[Response]) -> list[float]:
    """How far a job was, as it was told."""
    return [one.progress.percent for one in told if one.progress.HasField("percent")]


async def test_watched_progress_falls_only_where_a_child_begins_anew_and_is_100_with_the_result(parent: Node) -> None:
    async with child_of(parent, "child-1", [spoilt_once()]) as child, Leaf(child, "leaf", Skill("leaf")) as leaf:
        job_id = await parent.create()
        watching = asyncio.create_task(watch(parent, job_id).rest())
        for _ in range(2):
            for percent in (12.5, 37.5, 62.5):
                given = await leaf.given()
                await leaf.says(given, 50)
                await comes_to(parent, job_id, percent)
                await leaf.ends(given, DONE)
        assert (await parent.ended(job_id)).status == "finished"
        told = await watching
        first, last = (n for n, one in enumerate(told) if one.event.event_type == "task_finished")
        before, meanwhile, after = (percents(part) for part in (told[:first], told[first:last], told[last:]))
        assert before == sorted(before)
        assert sum(now < earlier for earlier, now in pairwise(before + meanwhile)) == 1
        assert max(before + meanwhile) < 100
        assert (set(after) <= {100}, told[-1].job.progress) == (True, 100)
