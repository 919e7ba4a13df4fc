"""The contract suite's model on a store whose writes fail at random: memory and store tell the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from holon.core import writer
from holon.errors import StoreUnavailable
from holon.ports import JobFilter
from tests.contract.judgement import judge, settle
from tests.contract.model import Model
from tests.contract.world import World
from tests.core.audit import audit
from tests.core.faults import Faults, FaultyBackend, FaultyStorage

ACTIONS = 250


async def compare(store: FaultyStorage) -> None:
    """What would be loaded now is what is in memory, and lists tell the same as reads of each job."""
    await store._gate.passed()
    await audit(store)
    records, _ = await store.jobs(JobFilter("ann"), 1_000)
    for record in records:
        assert await store.job(record.job.id) == record


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("seed", range(5))
async def test_memory_and_store_tell_the_same_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, restarts: bool
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", (0.0,))
    random.seed(seed)
    chance, faults = random.Random(seed), Faults()

    def fail_sometimes() -> None:
        if chance.random() < 0.3:
            raise StoreUnavailable("injected")

    (tmp_path / "holon").mkdir()
    world = World(FaultyBackend(faults), tmp_path / "holon", {"max_losses": 1_000})
    await world.open()
    try:
        model = Model(world, seed, restarts=restarts)
        faults.before = faults.after = fail_sometimes
        for _ in range(ACTIONS):
            await model.act()
            assert isinstance(world.storage, FaultyStorage)
            await compare(world.storage)
        await settle(model)
        await judge(model)
    finally:
        await world.close()
