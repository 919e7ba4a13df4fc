"""The contract suite's model on a SQLite store whose commits fail at random: memory and file tell the same."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any, cast

import pytest

from holon.errors import StoreUnavailable
from holon.ports import JobFilter, Storage
from holon.storage.ledger.row import Row
from holon.storage.ledger.tables import Tables
from holon.storage.sealing import Seal
from holon.storage.sqlite import SqliteStorage, sheets
from holon.storage.sqlite.loading import load
from holon.storage.sqlite.sheets import Sheets
from holon.storage.sqlite.work import Ledger
from tests.contract.judgement import judge, settle
from tests.contract.model import Model
from tests.contract.world import World
from tests.integration.sqlite_faults import Faults, FaultyBackend

ACTIONS = 250
# What lives in memory only; that of a fan-out is compared as a row of its own.
MEMORY_ONLY = {"claim_id", "claim_until", "fan", "lease_until", "ready_seq", "reply", "spawn_at", "timer_at"}


class Repeating:
    """A store whose calls are repeated until they succeed: nothing of one that failed may have happened."""

    def __init__(self, store: Storage, failed: list[str]) -> None:
        self._store = store
        self._failed = failed

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name in ("now", "hints"):
            return method

        async def repeat(*arguments: Any, **named: Any) -> Any:
            while True:
                try:
                    return await method(*arguments, **named)
                except StoreUnavailable:
                    self._failed.append(name)

        return repeat


class RepeatingWorld(World):
    """A world that repeats what failed. `failed` are the names of those calls."""

    def __init__(self, faults: Faults, place: Path) -> None:
        super().__init__(FaultyBackend(faults), place, {"max_losses": 1_000})
        self.failed: list[str] = []
        self.sqlite: SqliteStorage

    async def open(self) -> None:
        await super().open()
        assert isinstance(self.storage, SqliteStorage)
        self.sqlite = self.storage
        self.storage = cast("Storage", Repeating(self.storage, self.failed))


def durable(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__ if name not in MEMORY_ONLY}


def everything(tables: Tables) -> dict[str, Any]:
    rows: dict[str, Row] = {**tables.jobs, **tables.tasks}
    fans = {row.id: durable(row.fan) for row in tables.jobs.values() if row.fan is not None}
    for fan in fans.values():
        # It stands in the file with what is not spawned yet, for the sake of that.
        fan["dispatched"] = fan["chunks"] and fan["dispatched"]
    waiting = {key: number for key, number in tables.backlog.waiting.items() if number}
    return {"rows": {name: durable(row) for name, row in rows.items()}, "fans": fans, "waiting": waiting}


def compare(ledger: Ledger) -> None:
    """What would be loaded from the file now is what is in memory."""
    loaded = Tables(ledger.tables.settings)
    made, offered = Sheets(), Sheets()
    load(ledger.visitors._db, loaded, made, offered, Seal(), 0)
    for row in loaded.tasks.values():
        # A start gave what was held time to be heard of; the file has that once the task is written for something else.
        here = ledger.tables.tasks.get(row.id)
        if row.execution_due is not None and here is not None and here.execution_due is not None:
            row.execution_due = max(row.execution_due, here.execution_due)
    assert everything(loaded) == everything(ledger.tables)
    assert (vars(made), vars(offered)) == (vars(ledger.made), vars(ledger.offered))
    ready = {row.id for row in ledger.tables.jobs.values() if row.ready_seq or row.claim_id}
    assert {row.id for row in loaded.jobs.values() if row.ready_seq} == ready


async def compare_reads(store: SqliteStorage) -> None:
    """What is told of each job, from memory where it is known, is what the file says."""
    records, _ = await store.jobs(JobFilter("ann"), 1_000)
    for record in records:
        assert await store.job(record.job.id) == record


@pytest.mark.parametrize("fewest", [1, sheets.FEWEST])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("seed", range(5))
async def test_memory_and_file_tell_the_same_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, restarts: bool, fewest: int
) -> None:
    monkeypatch.setattr(sheets, "FEWEST", fewest)
    random.seed(seed)
    chance = random.Random(seed)
    faults = Faults()

    def fail_sometimes() -> None:
        if chance.random() < 0.3:
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error

    (tmp_path / "holon").mkdir()
    world = RepeatingWorld(faults, tmp_path / "holon")
    await world.open()
    try:
        model = Model(world, seed, restarts=restarts)
        faults.on_commit = fail_sometimes
        for _ in range(ACTIONS):
            await model.act()
            assert world.sqlite._writer is not None
            await world.sqlite._writer.submit(compare)
            await compare_reads(world.sqlite)
        assert world.failed
        await settle(model)
        await judge(model)
    finally:
        await world.close()
