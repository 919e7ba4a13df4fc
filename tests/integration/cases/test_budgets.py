"""Acceptance: a budget is kept whichever node runs a step, and whenever the worker came that does its tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from holon.testing import RunningNode
from holon.worker import TaskError
from tests.integration.cases.site import Start, create, ended, fan_out, numbered, one_task, waits


@asynccontextmanager
async def doing(node: RunningNode, price: int) -> AsyncIterator[None]:
    """A worker that declares this price, and fails the first attempt of each task."""
    worker = node.new_worker("w1", max_concurrent=5)

    @worker.skill("t", price=price)
    async def t(attempt: int, n: int = 0) -> dict[str, int]:
        if attempt == 1:
            raise TaskError("TRANSIENT_ERROR", "not yet")
        return {"n": n}

    async with worker:
        yield


async def test_budgets_cover_what_is_asked_for_before_its_worker_comes_and_after_it_has_left(start: Start) -> None:
    async with start(one_task(), fan_out(numbered(2))) as node:
        before = await create(node, "one_task", budget=100), await create(node, "fan_out", {}, budget=100)
        await waits(node, before[0])
        await waits(node, before[1], "waiting_for_parallel")
        async with doing(node, 9):
            one, two = [await ended(node, job_id) for job_id in before]
            assert (one.status, one.cost, two.status, two.cost) == ("finished", 18, "finished", 36)
        after = await create(node, "fan_out", {}, budget=100)
        await waits(node, after, "waiting_for_parallel")
        async with doing(node, 20):
            job = await ended(node, after)
            assert (job.status, job.cost) == ("finished", 80)


async def test_budgets_end_the_branches_that_they_do_not_cover(start: Start) -> None:
    async with start(fan_out(numbered(3))) as node, doing(node, 30):
        # Each first attempt costs as much, and then there is enough for one more.
        job = await ended(node, await create(node, "fan_out", {}, budget=149))
        codes = sorted((one["error"] or {}).get("code", "") for one in job.result["results"])
        assert (job.cost, codes) == (120, ["", "LIMIT_EXCEEDED", "LIMIT_EXCEEDED"])
