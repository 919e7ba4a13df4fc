"""Chaos of holons, from fixed seeds; and its checker, which must notice every promise that is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.holons.breakage import BREAKS
from tests.chaos.holons.run import HolonChaos, Plan
from tests.chaos.holons.saying import lines
from tests.conftest import Measured

pytestmark = [
    pytest.mark.slow,
    pytest.mark.own_store("each of its plans names the root's store"),
    pytest.mark.usefixtures("forked_children"),
]


@pytest.mark.parametrize("plan", [Plan(13), Plan(31, "redis://")], ids=lambda plan: f"{plan.storage}{plan.seed}")
async def test_work_of_three_levels_is_done_once_whatever_fails(plan: Plan, tmp_path: Path, measured: Measured) -> None:
    verdict = await HolonChaos(plan, tmp_path).run()
    told = "\n".join(lines(plan, verdict))
    assert verdict.good, told
    assert verdict.faults.total() >= 3
    assert verdict.ends["finished"] >= plan.jobs / 2
    measured(told)


# A promise that is broken, and by what it is told from the others.
CAUGHT = {
    "origin": ("I2", " made "),
    "origin too": ("P1", "was begun by"),
    "books": ("I6", "not settled"),
    "stops": ("P2", "not ended"),
    "twice": ("I3", "outcomes"),
    "digests": ("P3", "another history"),
}


async def test_the_checker_catches_holons_that_break_their_promises(tmp_path: Path) -> None:
    plan = Plan(2, jobs=12, seconds=1.0, faults=0, deaths=0, calm_s=4.0, broken=tuple(BREAKS))
    verdict = await HolonChaos(plan, tmp_path).run()
    told = "\n".join(lines(plan, verdict))
    found = [(one.number, one.what) for one in verdict.broken]
    seen = {name for name, (number, word) in CAUGHT.items() if any(number == n and word in what for n, what in found)}
    assert seen == set(CAUGHT), told
    # The story of such a job goes from the client to a leaf.
    assert verdict.story.startswith("job j")
    assert all(who in verdict.story for who in ("client", "root's", "child-", "leaf-")), verdict.story
