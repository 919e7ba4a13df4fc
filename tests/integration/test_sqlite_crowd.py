"""A SQLite store at which many call at once while commits fail: it agrees with its file, and with itself.

`HOLON_CROWD_RUNS` says how many runs there are.
"""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

import pytest

from holon.ports import Hint
from holon.storage.ledger import costs, steps, tasks, timers
from holon.storage.ledger.tables import Tables
from holon.storage.sqlite import needs, sheets, writer
from tests.contract.world import World
from tests.integration.crowd import Crowd
from tests.integration.ledger_audit import audit, everything
from tests.integration.sqlite_faults import Faults, FaultyBackend, failure
from tests.integration.test_sqlite_model import compare

RUNS = int(os.environ.get("HOLON_CROWD_RUNS", "3"))
ROUNDS = 120


@pytest.fixture(autouse=True)
def _taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a transaction that failed leaves is what the one before it left."""
    done, take_back = Tables.done, Tables.take_back
    left: dict[Tables, dict[str, object]] = {}

    def remember(tables: Tables) -> Hint | None:
        hint = done(tables)
        left[tables] = everything(tables)
        return hint

    def compare_what_is_left(tables: Tables) -> None:
        before = left[tables]
        take_back(tables)
        assert everything(tables) == before

    monkeypatch.setattr(Tables, "done", remember)
    monkeypatch.setattr(Tables, "take_back", compare_what_is_left)


async def check(crowd: Crowd, *, moving: bool) -> None:
    """What is in memory is what would be loaded, what is counted is what there is, and reads from memory are right."""
    store = crowd.store
    assert store._writer is not None
    await store._writer.submit(compare)
    told = await store._writer.submit(audit)
    assert store.history_backlog == (told if moving else 0)
    for job_id in crowd.programs:
        known = store.at_hand(job_id)
        if known is not None:
            read, _ = await store._reader.job(job_id)
            assert read is not None
            assert [known] == await store._with_branches([read])


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("seed", range(RUNS))
async def test_a_store_at_which_many_call_at_once_agrees_with_its_file_and_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, restarts: bool, moving: bool
) -> None:
    # All that comes with numbers comes soon.
    monkeypatch.setattr(sheets, "FEWEST", 1 + seed % 3)
    monkeypatch.setattr(writer, "MAX_ROWS", 10 if seed % 2 else 2_000)
    monkeypatch.setattr(needs, "PURGE", needs.PURGE.replace(str(needs.LAG), "5"))
    monkeypatch.setattr(needs, "LAG", 5)
    monkeypatch.setattr(costs, "MOST_UNREPORTED", 1)
    for module in (steps, tasks, timers):
        monkeypatch.setattr(module, "SPAWN_BELOW", 3)
    random.seed(seed)
    chance, faults = random.Random(seed), Faults()

    def fail_sometimes() -> None:
        if chance.random() < 0.15:
            raise failure("injected", sqlite3.SQLITE_BUSY)

    (tmp_path / "holon").mkdir()
    settings = {"max_losses": 4, "max_inbox": 6}
    world = World(FaultyBackend(faults), tmp_path / "holon", settings | ({"history_backlog": 2**30} if moving else {}))
    await world.open()
    try:
        crowd = Crowd(world, seed)
        faults.on_commit = fail_sometimes
        for _ in range(ROUNDS):
            await crowd.act()
            await check(crowd, moving=moving)
            if restarts and chance.random() < 0.03:
                await world.restart()
                crowd.sessions.clear()
    finally:
        await world.close()
