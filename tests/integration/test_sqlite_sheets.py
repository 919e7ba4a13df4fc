"""The SQLite file: what befalls many branches together is one row, until each has its own; nothing is lost by that."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from holon.domain.job import Status
from holon.domain.task import Outcome
from holon.domain.value import replace
from holon.ports import NewFanOut, Offer, Opening, Result, Superseded, TaskRecord
from holon.storage.sqlite.sheets import FEWEST, Sheets
from tests.contract.backends import Sqlite
from tests.contract.world import OK, World
from tests.integration.sqlite_versions import back_to

BRANCHES = 5


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "holon").mkdir()
    world = World(Sqlite(sealed=request.param), tmp_path / "holon", {})
    await world.open()
    yield world
    await world.close()


def rows(world: World) -> dict[str, int]:
    """How many rows there are of each kind."""
    with closing(sqlite3.connect(world._place / "holon.db")) as db:
        return {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("sheets", "offers", "tasks")
        }


def endings(world: World) -> int:
    """How many rows there are of branches that ended together."""
    with closing(sqlite3.connect(world._place / "holon.db")) as db:
        return int(db.execute("SELECT count(*) FROM endings").fetchone()[0])


async def complete(world: World, offers: Sequence[Offer], outcome: Outcome = OK) -> None:
    """Have one call complete all of these."""
    results = [Result(offer.task_id, offer.lease_id, replace(outcome, worker_id=offer.worker_id)) for offer in offers]
    done = await world.storage.complete(results, offers[0].worker_id, 0, ())
    assert set(done.verdicts) == {None}


async def records(world: World, tasks: list[str]) -> list[TaskRecord]:
    return [await world.task_record(task) for task in tasks]


async def test_branches_are_a_row_together_until_they_end(world: World) -> None:
    hand = await world.hand()
    await world.fan_out(BRANCHES)
    assert rows(world) == {"sheets": 1, "offers": 0, "tasks": 0}
    offers = await world.lease(hand.seat(BRANCHES))
    assert rows(world) == {"sheets": 1, "offers": 1, "tasks": 0}
    for ended, offer in enumerate(offers, start=1):
        await world.complete(offer)
        left = int(ended < BRANCHES)
        assert rows(world) == {"sheets": left, "offers": left, "tasks": ended}


async def test_few_tasks_have_rows_of_their_own_at_once(world: World) -> None:
    hand = await world.hand()
    await world.dispatch()
    await world.fan_out(FEWEST - 1)
    assert rows(world) == {"sheets": 0, "offers": 0, "tasks": FEWEST}
    await world.lease(hand.seat(FEWEST - 1))
    assert rows(world) == {"sheets": 0, "offers": 0, "tasks": FEWEST}


async def test_a_restart_finds_each_branch_where_it_was(world: World) -> None:
    hand = await world.hand()
    tasks = await world.fan_out(3 * BRANCHES, params=b'{"n":1}', priority=2.5, result_timeout=90_000)
    offers = await world.lease(hand.seat(2 * BRANCHES))
    await world.touch(accepts=(hand.ref(offers[0]),))
    await world.complete(offers[1])
    await world.hand_back(hand, offers[2])
    before = await records(world, tasks)
    assert {record.state for record in before} == {"queued", "offered", "leased", "over"}
    await world.restart()
    assert await records(world, tasks) == before
    again, opened = await world.resume("w1", *offers[:2], *offers[3:])
    kept = [offer.lease_id for offer in opened.kept]
    assert kept == [offer.lease_id for offer in offers[:1] + offers[3:]]
    for offer in opened.kept:
        assert await world.complete(offer) is None
    left = await world.lease(again.seat(3 * BRANCHES))
    assert [offer.task_id for offer in left] == [offers[2].task_id, *tasks[2 * BRANCHES :]]
    for offer in left:
        assert await world.complete(offer) is None
    assert rows(world) == {"sheets": 0, "offers": 0, "tasks": 3 * BRANCHES}
    [job] = await world.ready()
    step = 0
    assert [(task, outcome.data) for task, outcome in await world.storage.branches(job, step)] == [
        (task, OK.data) for task in tasks
    ]


async def test_an_offer_of_after_a_restart_is_newer_than_one_of_before(world: World) -> None:
    hand = await world.hand()
    await world.fan_out(BRANCHES)
    old = await world.lease(hand.seat(BRANCHES))
    await world.restart()
    hand = await world.hand()
    new = await world.lease(hand.seat(BRANCHES))
    assert [offer.task_id for offer in new] == [offer.task_id for offer in old]
    await world.restart()
    _, opened = await world.resume("w1", *new)
    assert [offer.lease_id for offer in opened.kept] == [offer.lease_id for offer in new]
    assert {offer.attempt for offer in opened.kept} == {2}


async def test_numbers_of_branches_and_offers_on_sheets_are_not_used_again(world: World) -> None:
    hand = await world.hand()
    first = await world.fan_out(BRANCHES)
    await world.lease(hand.seat(BRANCHES))
    await world.restart()
    hand = await world.hand()
    second = await world.fan_out(BRANCHES)
    offers = await world.lease(hand.seat(2 * BRANCHES))
    assert [offer.task_id for offer in offers] == first + second


async def test_a_fan_out_that_is_cancelled_leaves_no_sheets(world: World) -> None:
    hand = await world.hand()
    await world.fan_out(BRANCHES, fail_fast=True)
    offers = await world.lease(hand.seat(BRANCHES - 1))
    await world.complete(offers[0], OK.failed("CODE", "words"))
    assert rows(world) == {"sheets": 0, "offers": 0, "tasks": 0}
    assert endings(world) == 1


async def test_branches_that_end_together_are_a_row(world: World) -> None:
    hand = await world.hand()
    tasks = await world.fan_out(4 * BRANCHES)
    offers = await world.lease(hand.seat(4 * BRANCHES))
    # One that was accepted has a row of its own, and ends in that; so does one that ends alone.
    await world.touch(accepts=(hand.ref(offers[1]),))
    first, alone, *later = offers
    await complete(world, [first, *later[BRANCHES:]])
    assert rows(world) == {"sheets": 1, "offers": 1, "tasks": 1}
    await world.complete(alone, OK.failed("CODE", "words"))
    await complete(world, later[: BRANCHES - 1], OK.failed("OTHER", "words"))
    before = await records(world, tasks)
    await world.restart()
    assert await records(world, tasks) == before
    assert {record.state for record in before} == {"over", "offered"}
    [last] = (await world.resume("w1", later[BRANCHES - 1]))[1].kept
    assert await world.complete(last) is None
    assert rows(world) == {"sheets": 0, "offers": 0, "tasks": 2}
    assert endings(world) == 2
    # Whoever repeats a result hears the same of it, and whoever is late that he is.
    assert await world.complete(first) is None
    assert await world.complete(first, worker_id="w2") is Superseded.STALE_TASK
    [job] = await world.ready()
    outcomes = await world.storage.branches(job, 0)
    assert [task for task, _ in outcomes] == tasks
    codes = [outcome.error and outcome.error.code for _, outcome in outcomes]
    assert codes == [None, "CODE", *["OTHER"] * (BRANCHES - 1), *[None] * (3 * BRANCHES - 1)]


async def test_many_that_end_together_are_several_rows_and_read_a_few_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holon.storage.sqlite.endings.MOST", 7)
    monkeypatch.setattr("holon.storage.sqlite.reading.ENDINGS_PAGE", 1)
    monkeypatch.setattr("holon.storage.sqlite.reading.MOST_AT_ONCE", 0)
    monkeypatch.setattr("holon.storage.sqlite.reading.BRANCHES_PAGE", 3)
    hand = await world.hand()
    tasks = await world.fan_out(20)
    offers = await world.lease(hand.seat(20))
    await complete(world, offers[::-1])
    assert endings(world) == 3
    assert {record.state for record in await records(world, tasks)} == {"over"}
    # All of them once more, as by a worker that did not hear of it.
    await complete(world, offers)
    [job] = await world.ready()
    assert [task for task, _ in await world.storage.branches(job, 0)] == tasks


async def test_large_outcomes_are_few_to_a_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holon.storage.sqlite.endings.MOST_BYTES", 10)
    hand = await world.hand()
    tasks = await world.fan_out(4)
    await complete(world, await world.lease(hand.seat(4)), replace(OK, data=b"123456"))
    assert endings(world) == 2
    [job] = await world.ready()
    assert [(task, outcome.data) for task, outcome in await world.storage.branches(job, 0)] == [
        (task, b"123456") for task in tasks
    ]


async def test_branches_that_lost_their_first_offer_before_they_were_written_still_have_done_so(world: World) -> None:
    hand = await world.hand()
    claim = await world.start()
    branches = tuple(world.task(claim, index) for index in range(BRANCHES))
    fan_out = NewFanOut(BRANCHES, False, ())
    step = world.step(claim, Status.WAITING_FOR_PARALLEL, tasks=branches, fan_out=fan_out)
    # One transaction: its worker's next session resumes nothing.
    await asyncio.gather(
        world.storage.commit(step, 0, [hand.seat(BRANCHES)]),
        world.storage.open_session(Opening("w1", "next", 10, ())),
    )
    tasks = [branch.id for branch in branches]
    before = await records(world, tasks)
    assert {(record.state, record.attempt) for record in before} == {("queued", 1)}
    await world.restart()
    assert await records(world, tasks) == before


async def test_numbers_of_endings_are_not_used_again(world: World) -> None:
    hand = await world.hand()
    await world.fan_out(BRANCHES)
    await complete(world, await world.lease(hand.seat(BRANCHES)))
    await world.restart()
    hand = await world.hand()
    await world.fan_out(BRANCHES)
    await complete(world, await world.lease(hand.seat(BRANCHES)))
    assert endings(world) == 2


async def test_endings_go_with_their_job(world: World) -> None:
    hand = await world.hand()
    await world.fan_out(BRANCHES)
    await complete(world, await world.lease(hand.seat(BRANCHES)))
    [job] = await world.ready()
    await world.finish(await world.claim_of(job))
    assert endings(world) == 1
    assert await world.storage.purge(world.now + 1, 10) == 1
    assert endings(world) == 0


async def test_a_file_of_before_there_were_sheets_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "holon").mkdir()
    world = World(Sqlite(sealed=False), tmp_path / "holon", {})
    with monkeypatch.context() as earlier:
        earlier.setattr("holon.storage.sqlite.sheets.FEWEST", 1_000)
        await world.open()
        tasks = await world.fan_out(BRANCHES)
        await world.close()
    back_to(tmp_path / "holon" / "holon.db", 4)
    await world.restart()
    hand = await world.hand()
    offers = await world.lease(hand.seat(BRANCHES))
    assert [offer.task_id for offer in offers] == tasks
    for offer in offers:
        assert await world.complete(offer) is None
    await world.close()


def test_a_sheet_is_of_no_use_when_its_last_task_has_a_row() -> None:
    sheets = Sheets()
    sheets.add(3, [1, 2, 3])
    sheets.add(5, [4, 5])
    assert 2 in sheets
    assert sheets.emptied([1, 2, 4, 9]) == []
    assert sheets.emptied([4, 5, 1]) == [5]
    sheets.remove([1, 2, 4, 5])
    assert 2 not in sheets
    assert sheets.emptied([3]) == [3]
