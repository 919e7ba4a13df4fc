"""The model test: random runs with every fault that the rules know. Nothing is applied twice, nothing is stuck.

`HOLON_MODEL_RUNS` says how many runs each backend gets, and `HOLON_MODEL_ACTIONS` how long each is.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.contract.judgement import judge, settle
from tests.contract.model import Model
from tests.contract.world import Factory

RUNS = int(os.environ.get("HOLON_MODEL_RUNS", "20"))
ACTIONS = int(os.environ.get("HOLON_MODEL_ACTIONS", "250"))


async def run(store: Factory, seed: int, *, restarts: bool) -> None:
    random.seed(seed)
    model = Model(await store(max_losses=1_000), seed, restarts=restarts)
    for _ in range(ACTIONS):
        await model.act()
    await settle(model)
    await judge(model)


@pytest.mark.parametrize("seed", range(RUNS))
async def test_whatever_happens_every_job_ends_once_and_every_result_counts_once(store: Factory, seed: int) -> None:
    await run(store, seed, restarts=False)


@pytest.mark.parametrize("seed", range(1_000, 1_000 + RUNS))
async def test_the_same_holds_when_the_node_is_killed_again_and_again(unsealed: Factory, seed: int) -> None:
    await run(unsealed, seed, restarts=True)
