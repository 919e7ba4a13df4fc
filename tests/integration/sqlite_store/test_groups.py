"""The SQLite store: what shares a transaction is written together or not at all, and then everybody is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holon.domain.events import Woken
from holon.domain.job import Status
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import Appended, Created, Creation, Quota
from holon.storage.sqlite import SqliteStorage
from holon.storage.waiting import MAX_WAITING, MAX_WAITING_TO_CREATE, RETRY_AFTER_S
from tests.contract.world import T, World
from tests.integration.sqlite_faults import Faults, FaultyBackend, settled


async def test_i1_no_reply_leaves_before_its_commit(world: World, faults: Faults) -> None:
    async with faults.held_up(world):
        new = world.new_job()
        creating = asyncio.create_task(world.storage.create_jobs([new], 0))
        await settled()
        assert not creating.done()
        assert await world.storage.job(new.job.id) is None
    assert (await creating).jobs == ((new.job.id, Creation.CREATED),)
    assert await world.storage.job(new.job.id) is not None


async def test_calls_that_come_in_while_a_transaction_runs_share_the_next(world: World, faults: Faults) -> None:
    async with faults.held_up(world):
        before = faults.commits
        creating = [asyncio.create_task(world.create()) for _ in range(100)]
    await asyncio.gather(*creating)
    assert faults.commits == before + 1


async def test_i8_a_transaction_has_a_bounded_number_of_operations(world: World, faults: Faults) -> None:
    async with faults.held_up(world):
        before = faults.commits
        creating = [asyncio.create_task(world.create()) for _ in range(257)]
    await asyncio.gather(*creating)
    assert faults.commits == before + 2


async def test_i8_calls_beyond_so_many_are_refused_and_new_jobs_first(world: World, faults: Faults) -> None:
    async with faults.held_up(world):
        calls = [asyncio.create_task(world.ready()) for _ in range(MAX_WAITING_TO_CREATE)]
        await settled()
        with pytest.raises(StoreUnavailable, match=f"{MAX_WAITING_TO_CREATE} calls waiting; try again"):
            await world.create()
        calls += [asyncio.create_task(world.ready()) for _ in range(MAX_WAITING - MAX_WAITING_TO_CREATE)]
        await settled()
        with pytest.raises(StoreUnavailable, match=f"{MAX_WAITING} calls waiting; try again") as refused:
            await world.ready()
    assert refused.value.retry_after == RETRY_AFTER_S
    await asyncio.gather(*calls)
    assert await world.create()


async def test_a_transaction_has_a_bounded_number_of_rows(world: World, faults: Faults) -> None:
    async with faults.held_up(world):
        before = faults.commits
        batches = [[world.new_job() for _ in range(1_000)] for _ in range(4)]
        creating = [asyncio.create_task(world.storage.create_jobs(batch, 0)) for batch in batches]
    await asyncio.gather(*creating)
    assert faults.commits == before + 2


async def test_what_is_not_kept_in_the_file_costs_no_commit(world: World, faults: Faults) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    claim = await world.start()
    before = faults.commits
    assert await world.keep(claim) == [True]
    assert (await world.touch(extends=(hand.ref(offer),))).lost == ()
    assert await world.ready() == []
    assert await world.lease(hand.seat()) == []
    assert (await world.commit(replace(world.step(claim), claim_id="another"))).conflict
    assert faults.commits == before


async def test_i2_a_commit_that_fails_takes_its_whole_group_back(world: World, faults: Faults) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    claim = await world.start()
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),))
    before = await world.record(claim.job.id)
    new = world.new_job(request_id="r")
    async with faults.held_up(world, then_fail="injected"):
        group = [
            asyncio.create_task(world.commit(step, [hand.seat()])),
            asyncio.create_task(world.complete(offer)),
            asyncio.create_task(world.storage.create_jobs([new], 0)),
            asyncio.create_task(world.storage.append(claim.job.id, Woken(9), "key", 0)),
        ]
    for reply in await asyncio.gather(*group, return_exceptions=True):
        assert isinstance(reply, StoreUnavailable)
        assert "injected" in reply.message
    assert await world.record(claim.job.id) == before
    assert await world.storage.task(step.tasks[0].id) is None
    assert await world.storage.job(new.job.id) is None

    done = await world.commit(step, [hand.seat()])
    assert [made.task_id for made in done.leased.offers] == [step.tasks[0].id]
    assert await world.complete(offer) is None
    assert await world.complete(done.leased.offers[0]) is None
    assert (await world.storage.create_jobs([new], 0)).jobs[0][1] is Creation.CREATED
    assert {offer.job_id, claim.job.id, new.job.id} <= set(await world.ready())


async def test_a_job_that_waits_for_a_fan_out_is_read_while_nothing_can_be_written(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = (await world.fan_out(1))[0].rsplit("-", 2)[0]
    assert isinstance(world.storage, SqliteStorage)
    done, asked = world.storage._do, asyncio.Event()

    async def do(operation: Any) -> Any:
        asked.set()
        return await done(operation)

    async with faults.held_up(world, then_fail="injected"):
        creating = asyncio.create_task(world.create())
        await settled()
        monkeypatch.setattr(world.storage, "_do", do)
        reading = asyncio.create_task(world.record(job_id))
        await asked.wait()
    with pytest.raises(StoreUnavailable, match="injected"):
        await creating
    read = await reading
    assert (read.job.status, read.queued_need) == (Status.WAITING_FOR_PARALLEL, None)
    # Why it waits was not to be had then, and is told as soon as it is.
    assert (await world.record(job_id)).queued_need == T


async def test_i3_tasks_of_a_step_that_failed_and_is_repeated_are_leased_once(world: World, faults: Faults) -> None:
    claim = await world.start()
    waits = await world.dispatch()
    faults.fail_next("injected")
    with pytest.raises(StoreUnavailable):
        await world.fan_out(3, claim=claim)
    branches = await world.fan_out(3, claim=claim)
    hand = await world.hand()
    offers = await world.lease(hand.seat(9))
    assert [offer.task_id for offer in offers] == [waits, *branches]
    assert await world.waiting() == 0
    for offer in offers:
        assert await world.complete(offer) is None


async def test_a_worker_of_a_group_that_failed_is_not_kept(world: World, faults: Faults) -> None:
    async with faults.held_up(world, then_fail="injected"):
        creating = asyncio.create_task(world.create())
        joining = asyncio.create_task(world.hand("w1"))
    for reply in await asyncio.gather(creating, joining, return_exceptions=True):
        assert isinstance(reply, StoreUnavailable)
    assert (await world.kept())["workers"] == 0
    await world.hand("w1")
    assert (await world.kept())["workers"] == 1


async def test_an_operation_that_cannot_be_written_fails_alone(world: World, faults: Faults) -> None:
    claim = await world.start()
    async with faults.held_up(world):
        good = [asyncio.create_task(world.create()) for _ in range(3)]
        bad = asyncio.create_task(world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=2**70)))
        more = [asyncio.create_task(world.create()) for _ in range(3)]
    with pytest.raises(OverflowError):
        await bad
    made = await asyncio.gather(*good, *more)
    assert set(made) <= set(await world.ready())
    assert not (await world.finish(claim)).conflict


async def test_a_caller_that_goes_away_leaves_its_operation_to_be_done(world: World, faults: Faults) -> None:
    async with faults.held_up(world):
        new = world.new_job()
        creating = asyncio.create_task(world.storage.create_jobs([new], 0))
        beside = asyncio.create_task(world.create())
        await settled()
        creating.cancel()
    # It has its reply, and waits for nothing more.
    assert (await creating).jobs[0][1] is Creation.CREATED
    await beside
    assert await world.storage.job(new.job.id) is not None


async def test_what_was_asked_for_before_the_end_is_done(tmp_path: Path) -> None:
    world = World(FaultyBackend(Faults()), tmp_path, {})
    await world.open()
    new = world.new_job()
    creating: asyncio.Task[Created] = asyncio.create_task(world.storage.create_jobs([new], 0))
    await settled()
    await world.close()
    assert (await creating).jobs[0][1] is Creation.CREATED
    with pytest.raises(StoreUnavailable, match="closed"):
        await world.create()
    with pytest.raises(StoreUnavailable, match="closed"):
        await world.storage.job(new.job.id)


async def test_what_is_over_does_not_stay_in_memory(world: World) -> None:
    store = world.storage
    assert isinstance(store, SqliteStorage)
    hand = await world.hand()
    for number in range(20):
        offer = await world.offered(hand)
        await world.complete(offer)
        await world.finish(await world.claim_of(offer.job_id))
        await world.finish(await world.start(request_id=str(number)))
        assert await world.append(offer.job_id, Woken(9)) is Appended.OVER
        assert await world.complete(offer) is None
    assert store._writer is not None
    in_memory = await store._writer.submit(
        lambda ledger: [
            *(ledger.tables.jobs, ledger.tables.tasks, ledger.tables.requests),
            *(ledger.visitors._jobs, ledger.visitors._tasks),
        ]
    )
    assert in_memory == [{}] * 5


async def test_a_job_of_which_its_purge_s_own_transaction_tells_something_stays_until_that_is_moved(
    tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: Any) -> None: ...

    async def moved() -> list[str]:
        notices = await world.storage.take(100)
        await world.storage.settle([notice.id for notice in notices])
        return [event.type for notice in notices for event in notice.events if notice.record.job.id == job_id]

    world = World(FaultyBackend(faults), tmp_path, {"history_backlog": 10 * 2**20})
    await world.open()
    assert isinstance(world.storage, SqliteStorage)
    offer = await world.accepted(await world.hand())
    job_id = offer.job_id
    await world.complete(offer)
    await world.finish(await world.claim_of(job_id))
    assert await moved()
    async with faults.held_up(world):
        late = asyncio.create_task(world.complete(replace(offer, lease_id="another")))
        await settled()
        with monkeypatch.context() as patching:
            # What has expired is deleted by a call before, which has a transaction of its own.
            patching.setattr(world.storage, "_do", nothing)
            purging = asyncio.create_task(world.storage.purge(world.now + 1, 10))
            await settled()
    await asyncio.gather(late, purging)
    assert await moved() == ["result_superseded"]
    assert world.storage.history_backlog == 0
    assert await world.storage.purge(world.now + 1, 10) == 1
    assert await world.storage.job(job_id) is None
    await world.close()


async def test_a_version_that_is_deleted_together_with_a_change_of_a_job_does_not_come_again(
    world: World, faults: Faults
) -> None:
    claim, storage = await world.start(), world.storage
    first = await storage.put_document("keys", "a", b"1", version=0)
    async with faults.held_up(world):
        ending = asyncio.create_task(world.finish(claim))
        deleting = asyncio.create_task(storage.put_document("keys", "a", None, version=first or 0))
    await ending
    deleted = await deleting
    assert deleted
    await world.restart()
    again = await world.storage.put_document("keys", "a", b"2", version=0)
    assert again
    assert again > deleted


async def test_i2_documents_and_quotas_of_a_group_that_fails_are_as_they_were(world: World, faults: Faults) -> None:
    storage, quota = world.storage, Quota("ann", 5, "2026-11", world.now + 60_000)
    await storage.create_jobs([replace(world.new_job(), quota=quota)], 0)
    changed = await storage.put_document("keys", "changed", b"1", version=0)
    deleted = await storage.put_document("keys", "deleted", b"2", version=0)
    await storage.put_document("keys", "expired", b"3", version=0, expires_in=1_000)
    before = await storage.documents("keys")
    world.clock.advance(1_000)
    async with faults.held_up(world, then_fail="injected"):
        group: list[asyncio.Task[object]] = [
            asyncio.create_task(storage.put_document("keys", "changed", b"4", version=changed or 0)),
            asyncio.create_task(storage.put_document("keys", "deleted", None, version=deleted or 0)),
            asyncio.create_task(storage.put_document("keys", "deleted", b"5", version=0)),
            asyncio.create_task(storage.put_document("keys", "expired", b"6", version=0)),
            asyncio.create_task(storage.put_document("keys", "new", b"7", version=0)),
            asyncio.create_task(storage.create_jobs([replace(world.new_job(), quota=quota) for _ in range(2)], 0)),
        ]
    for reply in await asyncio.gather(*group, return_exceptions=True):
        assert isinstance(reply, StoreUnavailable)
    assert await storage.documents("keys") == before[:2]
    assert await world.quota_used("ann", "2026-11") == 1
    assert await storage.put_document("keys", "changed", b"8", version=changed or 0)
    assert await storage.put_document("keys", "expired", b"9", version=0)
    await world.restart()
    found = [(one.key, one.value) for one in await world.storage.documents("keys")]
    assert found == [("changed", b"8"), ("deleted", b"2"), ("expired", b"9")]
    assert await world.quota_used("ann", "2026-11") == 1
