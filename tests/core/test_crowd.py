"""A store at which many call at once while writes fail: it agrees with what is stored, and with itself.

`HOLON_CROWD_RUNS` is how many seeds are run.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from holon.core import costs, steps, tasks, timers, writer
from holon.errors import StoreUnavailable
from tests.contract.world import World
from tests.core.audit import audit
from tests.core.crowd import Crowd
from tests.core.faults import Faults, FaultyBackend

RUNS = int(os.environ.get("HOLON_CROWD_RUNS", "3"))
ROUNDS = 120


async def check(crowd: Crowd) -> None:
    """What is in memory is what would be loaded, what is counted is what there is, and reads from memory are right."""
    store = crowd.store
    await store._gate.passed()
    await audit(store)
    for job_id in crowd.programs:
        known = store.at_hand(job_id)
        if known is not None:
            assert await store.job(job_id) == known


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("seed", range(RUNS))
async def test_a_store_at_which_many_call_at_once_agrees_with_what_is_stored_and_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, restarts: bool, moving: bool
) -> None:
    # All that comes with numbers comes soon.
    monkeypatch.setattr(costs, "MOST_UNREPORTED", 1)
    monkeypatch.setattr(writer, "RETRY_S", (0.0,))
    for module in (steps, tasks, timers):
        monkeypatch.setattr(module, "SPAWN_BELOW", 3)
    random.seed(seed)
    chance, faults = random.Random(seed), Faults()

    def fail_sometimes() -> None:
        if chance.random() < 0.15:
            raise StoreUnavailable("injected")

    (tmp_path / "holon").mkdir()
    settings = {"max_losses": 4, "max_inbox": 6}
    world = World(FaultyBackend(faults), tmp_path / "holon", settings | ({"history_backlog": 2**30} if moving else {}))
    await world.open()
    try:
        crowd = Crowd(world, faults, seed)
        faults.before = faults.after = fail_sometimes
        for _ in range(ROUNDS):
            await crowd.act()
            await check(crowd)
            if restarts and chance.random() < 0.03:
                await world.restart()
                crowd.sessions.clear()
    finally:
        await world.close()
