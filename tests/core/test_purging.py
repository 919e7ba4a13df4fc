"""Jobs that are over are deleted with all that is theirs, in batches of bounded size."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from holon.core import writer
from holon.core.shard import ENDED
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import Ends, JobFilter, Notice, Put, Quota
from holon.storage import owned
from holon.storage.owned import OwnedStorage
from holon.storage.shared_records import KEPT_LONGER
from holon.stores.sqlite import SqliteRows
from tests.claims import claimed
from tests.contract.test_ends import HOLD, HOOK
from tests.contract.test_outbox import ended, settle, tell, told
from tests.contract.world import World
from tests.core.faults import Faults, settled
from tests.core.parts import Pair, hand_over
from tests.history.waiting import until


async def over(world: World, branches: int, request_id: str | None = None) -> str:
    """The id of a job that is over, and that has a task for each of its branches."""
    hand = await world.hand()
    await world.fan_out(branches, claim=(claim := await world.start(request_id=request_id)))
    for offer in await world.lease(hand.seat(branches)):
        await world.complete(offer)
    await world.finish(await world.claim_of(claim.job.id))
    return claim.job.id


def rows(world: World) -> set[str]:
    """The jobs that have any row."""
    with closing(sqlite3.connect(world._place / "holon.db")) as db:
        return {job for (job,) in db.execute("SELECT DISTINCT job FROM row WHERE job <> ''")}


async def test_large_jobs_are_deleted_one_after_the_other_and_small_ones_together(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "PURGE_AT_A_TIME", 100)
    for branches in (100, 100, *[1] * 7):
        await over(world, branches)
    alive = await world.create()
    before = faults.writes
    assert await world.storage.purge(world.now + 1, 1_000) == 9
    assert 3 <= faults.writes - before <= 6
    assert rows(world) == {alive}
    assert await world.storage.purge(world.now + 1, 1_000) == 0


async def test_no_more_are_deleted_than_the_limit(world: World) -> None:
    for _ in range(12):
        await world.finish(await world.start())
    assert await world.storage.purge(world.now + 1, 10) == 10
    assert len(rows(world)) == 2


async def test_what_is_noted_of_late_results_goes_with_the_job(world: World) -> None:
    hands = [await world.hand(name) for name in ("w1", "w2")]
    await world.fan_out(40, claim=(claim := await world.start()))
    for hand in hands:
        for offer in (offers := await world.lease(hand.seat(40))):
            await world.hand_back(hand, offer)
        for offer in offers:
            await world.complete(offer)
    for offer in await world.lease((await world.hand("w3")).seat(40)):
        await world.complete(offer)
    await world.finish(await world.claim_of(claim.job.id))
    assert await world.storage.purge(world.now + 1, 10) == 1
    assert rows(world) == set()


async def test_a_job_that_is_being_deleted_is_there_for_nobody(world: World, faults: Faults) -> None:
    job = await over(world, 10, request_id="r1")
    await world.restart()
    faults.go_on.clear()
    faults.reached.clear()
    purging = [asyncio.create_task(world.storage.purge(world.now + 1, 10)) for _ in range(3)]
    await faults.reached.wait()
    reading = asyncio.create_task(world.storage.job(job))
    listing = asyncio.create_task(world.storage.jobs(JobFilter("ann"), 10))
    making = asyncio.create_task(world.create(request_id="r1"))
    await settled()
    faults.go_on.set()
    assert sum(await asyncio.gather(*purging)) == 1
    again = await making
    assert await reading is None
    assert job not in [record.job.id for record in (await listing)[0]]
    assert again != job
    await world.restart()
    assert await world.storage.job(again) is not None
    assert await world.storage.job(job) is None
    assert await world.create(request_id="r1") == again


@pytest.mark.parametrize("change", ["its end is told", "a late result"])
async def test_a_job_of_which_something_is_to_be_written_stays_until_it_is(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    late, other = await world.hand("w1"), await world.hand("w2")
    await world.fan_out(1, claim=(claim := await world.start(webhook=HOOK)))
    [offer] = await world.lease(late.seat())
    await world.hand_back(late, offer)
    [again] = await world.lease(other.seat())
    await world.complete(again)
    await world.finish(await world.claim_of(job := claim.job.id))
    if change == "a late result":
        await world.storage.settle_ends([job])
    store = world.storage
    assert isinstance(store, OwnedStorage)
    looked, changing, entries = asyncio.Event(), list[asyncio.Task[object]](), SqliteRows.range

    async def look(rows: SqliteRows, index: str, *arguments: Any, **more: Any) -> Any:
        found = await entries(rows, index, *arguments, **more)
        if index == ENDED and not looked.is_set():
            faults.go_on.clear()
            faults.reached.clear()
            changing.append(asyncio.create_task(world.create()))
            await faults.reached.wait()
            changed = store.settle_ends([job]) if change == "its end is told" else world.complete(offer)
            changing.append(asyncio.create_task(changed))
            await until(lambda: store.waiting == 2)
            looked.set()
        return found

    monkeypatch.setattr(SqliteRows, "range", look)
    purging = asyncio.create_task(store.purge(world.now + 1, 10))
    await looked.wait()
    await settled()
    faults.go_on.set()
    await asyncio.gather(*changing)
    assert await purging == 0
    assert await store.purge(world.now + 1, 10) == 1
    assert job not in rows(world)
    await world.restart()
    assert await world.storage.take_ends(10, HOLD) == Ends()


async def test_however_much_has_expired_is_deleted(world: World) -> None:
    many, quota = 2_500, Quota("ann", 5, "2026-11", world.now + 1_000)
    for kind in ("a_kind", "another"):
        puts = [Put(str(n), b"{}", 0, 1_000 if n else None) for n in range(many)]
        await world.storage.put_documents(kind, puts)
    await world.storage.create_jobs([replace(world.new_job(), quota=quota)])
    world.clock.advance(1_000 + KEPT_LONGER)
    assert await world.storage.purge(world.now, 10) == 0
    assert (await world.kept())["documents"] == 2
    assert await world.quota_used("ann", "2026-11") == 0


async def test_a_job_whose_history_is_not_moved_stays_until_it_is(world: World) -> None:
    world.settings = replace(world.settings, history_backlog=2**20)
    await world.restart()
    for _ in range(23):
        await world.finish(await world.start())
    storage, at = world.storage, world.now + 1
    notices = await storage.take(100)
    last = notices[-1].record.job.id
    await storage.settle([one.id for one in notices if one.record.job.id == last])
    assert await storage.purge(at, 10) == 1
    await world.restart()
    assert await world.storage.purge(at, 100) == 0
    await settle(world, await world.storage.take(100))
    assert await world.storage.purge(at, 100) == 22
    assert rows(world) == set()


async def test_history_is_counted_once_when_it_is_moved_again_after_it_was_not(world: World) -> None:
    world.settings = replace(world.settings, history_backlog=2_000)
    await world.restart()
    deleted, late = await ended(world), await tell(world, 200)
    world.settings = replace(world.settings, history_backlog=None)
    await world.restart()
    assert await world.storage.purge(world.now + 1, 10) == 1
    alive = await world.create()
    world.settings = replace(world.settings, history_backlog=2_000)
    await world.restart()
    seen: list[Notice] = []
    while notices := await world.storage.take(5):
        seen += notices
        await settle(world, notices)
    assert told(seen, deleted) == []
    assert [number for number, _ in told(seen, late)] == list(range(1, 201))
    # Nothing waits any more, so jobs are made and deleted again.
    assert world.storage.history_backlog == 0  # type: ignore[attr-defined]
    await world.create()
    await world.finish(await world.claim_of(alive))
    await settle(world, await world.storage.take(10))
    assert await world.storage.purge(world.now + 1, 10) == 1


async def test_an_entry_of_history_whose_page_is_gone_is_deleted(world: World) -> None:
    world.settings = replace(world.settings, history_backlog=2**20)
    await world.restart()
    job, other = await ended(world), await ended(world)
    await world.close()
    with closing(sqlite3.connect(world._place / "holon.db", isolation_level=None)) as db:
        db.execute("DELETE FROM row WHERE job = ? AND name = 'lines.1'", (job,))
    await world.open()
    notices = await world.storage.take(10)
    assert [number for number, _ in told(notices, job)] == [2, 3]
    assert [number for number, _ in told(notices, other)] == [1, 2, 3]
    await settle(world, notices)
    assert world.storage.history_backlog == 0  # type: ignore[attr-defined]
    assert await world.storage.purge(world.now + 1, 10) == 2


async def test_history_that_is_settled_again_after_a_refusal_is_counted_once(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings = replace(world.settings, history_backlog=2**20)
    await world.restart()
    await ended(world)
    notices = await world.storage.take(10)
    faults.go_on.clear()
    with monkeypatch.context() as impatient:
        impatient.setattr(writer, "AWAY_S", 0.0)
        with pytest.raises(StoreUnavailable):
            await settle(world, notices)
    with pytest.raises(StoreUnavailable):
        await settle(world, notices)
    faults.go_on.set()
    while True:
        with suppress(StoreUnavailable):
            await settle(world, notices)
            break
        await asyncio.sleep(0)
    assert world.storage.history_backlog == 0  # type: ignore[attr-defined]
    assert await world.storage.purge(world.now + 1, 10) == 1


async def test_each_of_the_nodes_that_share_a_store_keeps_its_share_of_the_jobs_that_are_over(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    await pair.open()
    await hand_over(pair.first, pair.second, range(16))
    for shard in range(16, 24):
        new = pair.first.new_job()
        await pair.first.storage.create_jobs([replace(new, job=replace(new.job, id=f"{shard}-a"))])
    for claim in await claimed(pair.first.storage):
        await pair.first.finish(claim)
    kept = [await pair.first.storage.surplus(keep) is None for keep in (16, 15, 14, 0)]
    assert kept == [True, True, False, False]
    assert await pair.second.storage.surplus(0) is None
    await pair.close()
