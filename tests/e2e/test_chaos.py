"""Chaos for a short while, from fixed seeds; and its checker, which must notice every promise that is broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.__main__ import lines
from tests.chaos.run import Chaos, Plan, Verdict
from tests.conftest import Measured

pytestmark = [pytest.mark.own_store("each of its plans names its store"), pytest.mark.usefixtures("forked_children")]
SHORT = Plan(seconds=15, seed=1, fault_every_s=0.8)
PAUSES = replace(SHORT, seconds=9, faults=("worker paused",), fault_every_s=0.6, long=0.4, jobs_per_s=1.5, workers=4)
QUIET = replace(SHORT, seconds=5, faults=("worker killed",), fault_every_s=3, jobs_per_s=10)
# So many that workers have more to do than they grant.
MUCH = replace(QUIET, jobs_per_s=12)
# Jobs that a broken node has forgotten do not end, however long they are waited for.
TWICE = replace(QUIET, repeated=0.8, calm_s=15)


async def run(plan: Plan, folder: Path) -> Verdict:
    return await Chaos(plan, folder).run()


def said(plan: Plan, verdict: Verdict) -> str:
    return "\n".join(lines(plan, verdict))


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [SHORT, replace(SHORT, seed=2), replace(SHORT, seed=3, storage="redis://", nodes=2)],
    ids=lambda plan: f"{plan.storage}{plan.seed}",
)
async def test_every_promise_holds_whatever_fails(plan: Plan, tmp_path: Path, measured: Measured) -> None:
    verdict = await run(plan, tmp_path)
    assert verdict.good, said(plan, verdict)
    assert verdict.faults.total() >= 5
    assert verdict.ends["finished"] >= 30
    measured(
        f"{verdict.ends.total()} jobs, {verdict.faults.total()} faults, over {verdict.calm_s:.1f} s after the last"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "plan", "number"),
    [("fencing", PAUSES, "I3"), ("outbox", QUIET, "I3"), ("inbox", TWICE, "I3"), ("credits", MUCH, "I4")],
)
async def test_the_checker_catches_a_node_without(broken: str, plan: Plan, number: str, tmp_path: Path) -> None:
    plan = replace(plan, broken=broken)
    verdict = await run(plan, tmp_path)
    assert number in {one.number for one in verdict.broken if one.job}, said(plan, verdict)
    # The story of such a job names the worker's part, the history's, and nothing of other jobs.
    assert verdict.story.startswith("job ")
    assert "task_dispatched" in verdict.story
    assert "received" in verdict.story
