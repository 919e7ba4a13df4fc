"""Whatever goes wrong, two nodes on one store keep every promise; and each rule of the core is needed for that.

`HOLON_SIM_SEEDS` is how many seeds are run, from `HOLON_SIM_FIRST` on: `HOLON_SIM_SEEDS=10000 pytest tests/sim`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.conftest import Measured
from tests.sim.rules import RULES
from tests.sim.world import World

SEEDS = int(os.environ.get("HOLON_SIM_SEEDS", "20"))
FIRST = int(os.environ.get("HOLON_SIM_FIRST", "1"))
# Among so many seeds at most, one shows what a missing rule breaks.
MOST = 100


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    # Everything that nodes complain about is meant to happen.
    logger = logging.getLogger("holon")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.mark.parametrize("failovers", [False, True])
def test_i1_i2_i3_i4_i6_i9_whatever_goes_wrong(measured: Measured, failovers: bool) -> None:
    counts = Counter[str]()
    for seed in range(FIRST, FIRST + SEEDS):
        world = World(seed, failovers=failovers)
        assert world.run() == [], f"seed {seed}"
        counts.update(world.counts)
    measured(f"{SEEDS} seeds: {', '.join(f'{what} {count}' for what, count in sorted(counts.items()))}")


@pytest.mark.parametrize("rule", RULES)
def test_without_a_rule_a_promise_is_broken(rule: str) -> None:
    without, failovers = RULES[rule]
    for seed in range(MOST):
        with without():
            if World(seed, failovers=failovers).run():
                return
    pytest.fail(f"no seed of {MOST} needs the rule: {rule}")
