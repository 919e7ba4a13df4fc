"""Acceptance: fan-outs that are made and gathered a part at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.domain import branches, specs
from holon.engine import planning
from tests.integration.cases.site import Passes, Start, create, fan_out, numbered, waits

BRANCH_RESULT = (branches, "branch_result")


@pytest.fixture
def passes_of(start: Start, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a job that gathers so many branches, and tells how often some work was done in a pass of the loop."""

    async def counted(count: int, *work: tuple[Any, str]) -> Passes:
        passes = Passes()
        for module, name in work:
            monkeypatch.setattr(module, name, passes.counted(name, getattr(module, name)))
        async with start(fan_out(numbered(count))) as node:
            worker = node.new_worker("w1", max_concurrent=200)

            @worker.skill("t")
            async def t(n: int) -> dict[str, int]:
                return {"n": n}

            watching = asyncio.create_task(passes.run())
            async with worker:
                job = await node.run("fan_out", {})
            watching.cancel()
            assert [one["data"]["n"] for one in job.result["results"]] == list(range(count))
        return passes

    return counted


async def test_a_large_fan_out_is_made_and_gathered_a_part_at_a_time_and_others_run_in_between(
    passes_of: Callable[..., Any],
) -> None:
    count = 4 * planning.CHUNK
    passes = await passes_of(count, (specs, "spec_of"), (planning, "encode"), BRANCH_RESULT)
    assert passes.all["spec_of"] == passes.all["branch_result"] == count
    assert max(passes.most.values()) <= planning.CHUNK + 1


async def test_results_of_branches_that_take_long_to_read_are_read_one_at_a_time_and_others_run_in_between(
    passes_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if each of them took longer than a turn.
    monkeypatch.setattr("holon.turns.AT_ONCE_S", -1.0)
    passes = await passes_of(20, BRANCH_RESULT)
    assert (passes.all, passes.most) == ({"branch_result": 20}, {"branch_result": 1})


async def test_a_handler_whose_fan_outs_are_large_runs_once_for_each_and_not_once_more_in_vain(start: Start) -> None:
    ran: list[str] = []
    bp = Blueprint("spreads", api_endpoint="/jobs/spreads", api_version="v1")

    @bp.handler(is_start=True)
    async def begin(job_id: str, actions: ActionFactory) -> None:
        ran.append(job_id)
        actions.dispatch_parallel(numbered(planning.CHUNK + 1), "gather")

    @bp.aggregator
    async def gather(actions: ActionFactory) -> None:
        actions.go_to("finished")

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    async with start(bp) as node:
        jobs = []
        for _ in range(4):
            jobs.append(await create(node, "spreads"))
            await waits(node, jobs[-1], "waiting_for_parallel")
    # Of the second it is found out that its decision takes too long to be made while the job is created.
    assert ran == [jobs[0], jobs[1], *jobs[1:]]
