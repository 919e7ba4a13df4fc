"""Budgets of holons whose workers are killed, in real processes: lost attempts stay charged, and others are paid."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.holons import Family, a_family, holon_node
from tests.e2e.processes import Node, Process, work_log

KILLS, BUDGET = 10, 100


@contextlib.asynccontextmanager
async def killed_again(worker: Process) -> AsyncIterator[None]:
    """The worker is started again whenever it was killed."""
    supervisor = asyncio.create_task(worker.restarted())
    try:
        yield
    finally:
        supervisor.cancel()
        await asyncio.wait([supervisor])


async def failed_tries(node: Node, job: str) -> list[dict[str, Any]]:
    """What a job's history says of the attempts of its task that failed."""
    told = [line for line in await node.history(job) if line["event_type"] == "task_finished"]
    return [line["context_snapshot"] for line in told if line["context_snapshot"]["status"] == "failure"]


async def spends(family: Family, data: dict[str, Any], budget: int = BUDGET) -> tuple[str, dict[str, Any]]:
    asked = {"params": {"kills": KILLS}, **data}
    job = await family.parent.create("/jobs/ask", asked, budget=budget)
    return job, await family.parent.ended(job, 120)


async def test_a_job_outlives_ten_killed_workers_within_its_budget(tmp_path: Path) -> None:
    # What is tried again for this is none of the tries that a task has.
    async with a_family(tmp_path, above={"JOB_MAX_RETRIES": 0}) as family, killed_again(family.leaf):
        job, ended = await spends(family, {"skill": "spend", "max_cost": 3})
        assert ended["status"] == "finished", ended
        # Three shares of three prices, and of the last one the tenth kill and the work that was done.
        assert (ended["cost"], ended["budget"]) == (3 * 3 + 2, BUDGET)
        assert len(work_log(family.child.folder, "leaf")) == KILLS + 1
        tries = await failed_tries(family.parent, job)
        assert [(one["code"], one["cost"]) for one in tries] == [("LIMIT_EXCEEDED", 3)] * 3
        assert "3 of the budget is kept for attempts that were lost" in tries[0]["error"]


async def test_a_budget_that_lost_attempts_used_up_ends_the_job_and_no_more_is_charged(tmp_path: Path) -> None:
    async with a_family(tmp_path) as family, killed_again(family.leaf):
        _, ended = await spends(family, {"skill": "spend"}, budget=8)
        assert (ended["status"], ended["error"]["code"], ended["cost"]) == ("quarantined", "LIMIT_EXCEEDED", 6)
        assert len(work_log(family.child.folder, "leaf")) == 6


async def test_a_job_without_a_budget_tries_no_more_often_than_its_task_may(tmp_path: Path) -> None:
    async with a_family(tmp_path, above={"JOB_MAX_RETRIES": 1}) as family, killed_again(family.leaf):
        job = await family.parent.create("/jobs/ask", {"skill": "spend", "params": {"kills": KILLS}, "max_cost": 3})
        ended = await family.parent.ended(job, 120)
        assert (ended["status"], ended["error"]["code"], ended["cost"]) == ("quarantined", "LIMIT_EXCEEDED", 6)
        causes = ended["error"]["details"]["causes"]
        assert [(one["code"], one["name"]) for one in causes] == [("LIMIT_EXCEEDED", "spend"), ("lost", "spend")]
        assert causes[1]["message"] == "lost attempts used up the budget of 3"


@pytest.mark.slow
async def test_each_of_three_levels_gives_new_shares_as_far_as_its_own_budget_goes(tmp_path: Path) -> None:
    async with a_family(tmp_path, above={"JOB_MAX_RETRIES": 0}) as family:
        last = holon_node(tmp_path, "child-3", family.child)
        leaf = last.worker("leaf", "echo_worker.py")
        await family.leaf.end()
        try:
            await last.start()
            await leaf.start()
            async with killed_again(leaf):
                job, ended = await spends(family, {"skill": "have_spent"})
            assert ended["status"] == "finished", ended
            # The middle level gives two shares of three out of its seven, twice: the tenth kill is in the fourth.
            assert ended["cost"] == 6 + 3 + 2
            assert len(work_log(last.folder, "leaf")) == KILLS + 1
            tries = await failed_tries(family.parent, job)
            assert [(one["code"], one["cost"]) for one in tries] == [("LIMIT_EXCEEDED", 6)]
        finally:
            if leaf.alive:
                await leaf.end()
            await last.close()
