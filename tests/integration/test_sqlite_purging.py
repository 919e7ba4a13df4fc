"""The SQLite file: jobs are deleted in transactions of so many rows, however many their tasks and lines have."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holon.domain.value import replace
from holon.ports import JobFilter, Put, Quota
from holon.storage.sqlite import SqliteStorage, needs, purging, writer
from holon.storage.sqlite.storage import PURGE_AT_A_TIME
from tests.contract.backends import Sqlite
from tests.contract.world import World

MOST = 60
TABLES = ("jobs", "states", "tasks", "endings", "lates", "history")


class Counting(sqlite3.Connection):
    """A connection that notes how many rows each of its transactions changed."""

    noted: list[int]
    _before = 0

    def execute(self, statement: str, *more: Any) -> sqlite3.Cursor:
        if statement == "BEGIN IMMEDIATE":
            self._before = self.total_changes
        cursor = super().execute(statement, *more)
        if statement == "COMMIT":
            self.noted.append(self.total_changes - self._before)
        return cursor


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    Counting.noted = []
    monkeypatch.setattr(SqliteStorage, "connection_class", Counting)
    monkeypatch.setattr(writer, "MAX_ROWS", MOST)
    world = World(Sqlite(sealed=False), tmp_path, {})
    await world.open()
    yield world
    await world.close()


async def over(world: World, branches: int, request_id: str | None = None) -> str:
    """The id of a job that is over, and that has a row and a line of history for each of its branches."""
    hand = await world.hand()
    await world.fan_out(branches, claim=(claim := await world.start(request_id=request_id)))
    for offer in await world.lease(hand.seat(branches)):
        await world.complete(offer)
    await world.finish(await world.claim_of(claim.job.id))
    return claim.job.id


async def delete_a_part(world: World) -> None:
    """Of the jobs that are over, as much as one transaction may."""
    storage, at = world.storage, world.now + 1
    assert isinstance(storage, SqliteStorage)
    assert storage._writer is not None
    assert await storage._writer.submit(lambda ledger: ledger.purging.purge(at, 10, ())) == (0, True)


def rows(world: World) -> dict[str, int]:
    with closing(sqlite3.connect(world._place / "holon.db")) as db:
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


async def test_a_purge_has_transactions_of_so_many_rows_whatever_the_jobs_have(world: World) -> None:
    jobs = [await over(world, branches) for branches in (1, 100, 1, 40, 40, *[1] * 20)]
    alive = await world.create()
    Counting.noted.clear()
    assert await world.storage.purge(world.now + 1, 1_000) == len(jobs)
    # The clock is noted beside, and what tasks needed.
    assert max(Counting.noted) <= MOST + 2
    assert len(Counting.noted) < len(jobs)
    assert rows(world) == {"jobs": 1, "states": 0, "tasks": 0, "endings": 0, "lates": 0, "history": 1}
    assert await world.storage.job(alive) is not None
    assert await world.storage.purge(world.now + 1, 1_000) == 0


async def test_small_jobs_are_deleted_many_together_and_no_more_than_the_limit(world: World) -> None:
    for _ in range(12):
        await world.finish(await world.start())
    Counting.noted.clear()
    assert await world.storage.purge(world.now + 1, 10) == 10
    assert len(Counting.noted) == 1
    assert rows(world)["jobs"] == 2
    assert PURGE_AT_A_TIME > 10


async def test_what_is_noted_of_late_results_goes_with_the_job(world: World) -> None:
    hands = [await world.hand(name) for name in ("w1", "w2")]
    await world.fan_out(40, claim=(claim := await world.start()))
    for hand in hands:
        for offer in (offers := await world.lease(hand.seat(40))):
            await world.hand_back(hand, offer)
        for offer in offers:
            await world.complete(offer)
    [last, *others] = await world.lease((await world.hand("w3")).seat(40))
    for offer in (last, *others):
        await world.complete(offer)
    await world.finish(await world.claim_of(claim.job.id))
    assert rows(world)["lates"] == 80
    Counting.noted.clear()
    assert await world.storage.purge(world.now + 1, 10) == 1
    assert max(Counting.noted) <= MOST + 2
    assert rows(world) == dict.fromkeys(TABLES, 0)


async def test_what_has_expired_is_deleted_in_transactions_of_so_many_rows(world: World) -> None:
    many, quota = 2_500, Quota("ann", 5, "2026-11", world.now + 1_000)
    for kind in ("a_kind", "another"):
        puts = [Put(str(n), b"{}", 0, 1_000 if n else None) for n in range(many)]
        await world.storage.put_documents(kind, puts)
    await world.storage.create_jobs([replace(world.new_job(), quota=quota)], 0)
    world.clock.advance(1_000)
    Counting.noted.clear()
    assert await world.storage.purge(world.now, 10) == 0
    assert sum(Counting.noted) >= 2 * (many - 1) + 1
    assert max(Counting.noted) <= 1_010
    assert (await world.kept())["documents"] == 2
    assert await world.quota_used("ann", "2026-11") == 0


async def test_a_large_job_of_which_a_part_is_deleted_goes_on_being_deleted_after_a_restart(world: World) -> None:
    await over(world, 100)
    before = rows(world)
    await delete_a_part(world)
    after = rows(world)
    assert sum(before.values()) - MOST <= sum(after.values()) < sum(before.values())
    await world.restart()
    at = world.now + 1
    assert await world.storage.purge(at, 10) == 1
    assert rows(world) == dict.fromkeys(TABLES, 0)


@pytest.mark.parametrize("restarts", [0, 1])
async def test_a_large_job_of_which_a_part_is_deleted_is_there_for_nobody(world: World, restarts: int) -> None:
    job = await over(world, 100, request_id="r1")
    await delete_a_part(world)
    for _ in range(restarts):
        await world.restart()
    assert await world.storage.job(job) is None
    assert list(await world.storage.history(job, 0, 10)) == []
    assert (await world.storage.jobs(JobFilter("ann"), 10))[0] == []
    again = await world.create(request_id="r1")
    assert again != job
    assert await world.storage.purge(world.now + 1, 10) == 1
    assert await world.storage.job(again) is not None


async def test_those_that_stay_are_looked_at_a_few_at_a_time_and_what_comes_behind_them_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "LOOK_AT", 5)
    world = World(Sqlite(sealed=False), tmp_path, {"history_backlog": 2**20})
    await world.open()
    for _ in range(23):
        await world.finish(await world.start())
    storage, at = world.storage, world.now + 1
    assert isinstance(storage, SqliteStorage)
    assert storage._writer is not None
    told = await storage.take(100)
    last = max(int(one.id.partition(":")[0]) for one in told)
    await storage.settle([one.id for one in told if one.id.startswith(f"{last}:")])
    looks = [await storage._writer.submit(lambda ledger: ledger.purging.purge(at, 10, ())) for _ in range(6)]
    assert looks == [*[(0, True)] * 4, (1, False), (0, True)]
    assert rows(world)["jobs"] == 22
    await storage.settle([one.id for one in told])
    # From where the look before this one ended, and then from the first on.
    assert await storage.purge(at, 100) + await storage.purge(at, 100) == 22
    await world.close()


async def test_what_tasks_needed_is_not_gone_through_with_each_purge_while_an_older_job_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noting(sqlite3.Connection):
        deleted = 0

        def execute(self, statement: str, *more: Any) -> sqlite3.Cursor:
            Noting.deleted += statement == needs.PURGE
            return super().execute(statement, *more)

    monkeypatch.setattr(SqliteStorage, "connection_class", Noting)
    world = World(Sqlite(sealed=False), tmp_path, {})
    await world.open()
    alive = await world.create()
    for _ in range(5):
        await world.finish(await world.start())
        assert await world.storage.purge(world.now + 1, 10) == 1
    assert Noting.deleted == 0
    await world.finish(await world.claim_of(alive))
    assert await world.storage.purge(world.now + 1, 10) == 1
    assert Noting.deleted == 1
    await world.close()
