"""Acceptance: conditions on handlers, by what becomes of jobs."""

from __future__ import annotations

from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from tests.integration.cases.site import NEVER, Start, history

URGENT = "context.initial_data.type == 'urgent'"


def blueprint(name: str = "bp") -> Blueprint:
    return Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")


async def test_b07_the_handler_runs_whose_condition_holds_and_else_the_default(start: Start) -> None:
    bp = blueprint()

    @bp.handler("start", is_start=True).when(URGENT)
    async def hurry(actions: ActionFactory) -> None:
        actions.go_to("urgent")

    @bp.handler("start")
    async def wait(actions: ActionFactory) -> None:
        actions.go_to("normal")

    @bp.handler(is_end=True)
    async def urgent() -> None: ...

    @bp.handler(is_end=True)
    async def normal() -> None: ...

    async with start(bp) as node:
        # More than once each: from the second on a step is decided before its job is stored.
        for data, state in [({"type": "urgent"}, "urgent"), ({"type": "slow"}, "normal"), ({}, "normal")] * 3:
            job = await node.run("bp", data)
            assert (job.status, job.current_state) == ("finished", state), data


@pytest.mark.parametrize(
    ("sign", "larger"), [("==", [5]), ("!=", [4, 6]), (">", [6]), ("<", [4]), (">=", [5, 6]), ("<=", [4, 5])]
)
async def test_b08_each_operator_chooses_by_a_number_that_a_worker_or_a_handler_left(
    start: Start, sign: str, larger: list[int]
) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(initial_data: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["order"] = {"size": initial_data["n"]}
        actions.go_to("sort")

    @bp.handler("sort", is_end=True).when(f"context.state_history.order.size {sign} 5")
    async def chosen() -> str:
        return "chosen"

    @bp.handler("sort")
    async def other() -> str:
        return "other"

    async with start(bp) as node:
        results = [(await node.run("bp", {"n": n})).result for n in (4, 5, 6)]
        assert [n for n, result in zip((4, 5, 6), results, strict=True) if result == "chosen"] == larger


async def test_a_job_for_which_no_condition_holds_is_quarantined_and_says_what_was_looked_at(start: Start) -> None:
    bp = blueprint()

    @bp.handler("start", is_start=True, is_end=True).when(URGENT)
    async def only() -> None: ...

    async with start(bp, **NEVER) as node:
        assert (await node.run("bp", {"type": "urgent"})).status == "finished"
        job = await node.run("bp", {"type": "slow"})
        assert job.error is not None
        assert (job.status, job.error.code) == ("quarantined", "NO_CONDITION_HOLDS")
        assert f"state 'start' has no handler for this job: `{URGENT}` found a text" in job.error.message
        assert "slow" not in job.error.message
        assert len(await history(node, job.id, "state_failed")) == 1


async def test_a_condition_looks_at_what_the_state_before_has_left_and_a_loop_ends_by_it(start: Start) -> None:
    bp = blueprint()

    @bp.handler("count", is_start=True)
    async def more(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["n"] = state_history.get("n", 0) + 1
        actions.go_to("count")

    @bp.handler("count", is_end=True).when("context.state_history.n >= 3")
    async def enough(n: int) -> int:
        return n

    async with start(bp) as node:
        job = await node.run("bp", {})
        assert (job.status, job.result) == ("finished", 3)
