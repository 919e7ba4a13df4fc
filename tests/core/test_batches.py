"""What leaves a node waits for the batch that it rests on, and what came meanwhile shares the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from holon.core import writer
from holon.core.tables import Tables
from holon.domain.events import CancelRequested, Woken
from holon.domain.job import Job, Status
from holon.domain.value import replace
from holon.errors import StoreBroken, StoreUnavailable
from holon.ports import Appended, Created, Creation, Hint, JobFilter, NewJob, Note, Put, Quota, Touch
from holon.storage import owned
from holon.storage.memory import MemoryStorage
from holon.storage.owned import OwnedStorage
from holon.storage.waiting import MAX_WAITING, MAX_WAITING_TO_CREATE, RETRY_AFTER_S
from holon.stores.memory import MemoryRows
from holon.stores.port import Batch, Head, Word
from tests.contract.world import World
from tests.core.faults import Faults, FaultyBackend, settled


async def test_i1_no_reply_leaves_before_its_batch(world: World, faults: Faults) -> None:
    async with faults.held_up(world):
        new = world.new_job()
        creating = asyncio.create_task(world.storage.create_jobs([new]))
        reading = asyncio.create_task(world.storage.job(new.job.id))
        await settled()
        assert not creating.done()
        assert not reading.done()
        assert world.storage.at_hand(new.job.id) is None
    assert (await creating).jobs == ((new.job.id, Creation.CREATED),)
    assert await reading is not None


@pytest.mark.parametrize("applied", [False, True])
async def test_i1_a_write_of_which_nothing_is_known_is_repeated_and_counts_once(
    world: World, faults: Faults, applied: bool
) -> None:
    faults.fail_next(applied=applied)
    quota = Quota("ann", 5, "period", world.now + 60_000)
    new = replace(world.new_job(), quota=quota)
    assert (await world.storage.create_jobs([new])).jobs == ((new.job.id, Creation.CREATED),)
    await world.restart()
    assert await world.storage.job(new.job.id) is not None
    assert await world.quota_used("ann", "period") == 1


async def test_calls_that_come_in_while_a_batch_is_written_share_the_next(world: World, faults: Faults) -> None:
    async with faults.held_up(world):
        before = faults.writes
        creating = [asyncio.create_task(world.create()) for _ in range(100)]
    await asyncio.gather(*creating)
    assert faults.writes == before + 1


async def test_i8_calls_beyond_so_many_are_refused_and_new_jobs_first(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To begin so many calls takes a busy machine longer.
    monkeypatch.setattr(writer, "AWAY_S", 60.0)
    async with faults.held_up(world):
        calls = [asyncio.create_task(world.fire()) for _ in range(MAX_WAITING_TO_CREATE)]
        await settled()
        with pytest.raises(StoreUnavailable, match=f"{MAX_WAITING_TO_CREATE + 1} calls waiting; try again"):
            await world.create()
        calls += [asyncio.create_task(world.fire()) for _ in range(MAX_WAITING - MAX_WAITING_TO_CREATE - 1)]
        await settled()
        with pytest.raises(StoreUnavailable, match=f"{MAX_WAITING} calls waiting; try again") as refused:
            await world.fire()
    assert refused.value.retry_after == RETRY_AFTER_S
    await asyncio.gather(*calls)
    assert await world.create()


async def test_what_is_not_kept_costs_no_write(world: World, faults: Faults) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    claim = await world.start()
    before = faults.writes
    assert (await world.touch(extends=(hand.ref(offer),))).lost == ()
    assert await world.ready() == []
    assert await world.lease(hand.seat()) == []
    assert (await world.commit(replace(world.step(claim), claim_id="another"))).conflict
    assert faults.writes == before


async def test_a_store_that_confirms_nothing_takes_no_more_and_goes_on_when_it_does(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = world.new_job()
    faults.go_on.clear()
    with monkeypatch.context() as soon:
        soon.setattr(writer, "AWAY_S", 0.0)
        with pytest.raises(StoreUnavailable, match="may yet be carried out"):
            await world.storage.create_jobs([waiting])
    with pytest.raises(StoreUnavailable, match="does not confirm writes"):
        await world.create()
    # So are reads of what the store has not confirmed: nobody waits for it.
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailable, match="does not confirm writes"):
            await world.storage.job(waiting.job.id)
        with pytest.raises(StoreUnavailable, match="does not confirm writes"):
            await world.storage.jobs(JobFilter(waiting.job.owner), 10)
    faults.go_on.set()
    while True:
        with contextlib.suppress(StoreUnavailable):
            assert await world.create()
            break
        await asyncio.sleep(0)
    assert await world.storage.job(waiting.job.id)


async def test_a_job_whose_note_is_outdated_counts_nothing(world: World) -> None:
    quota = Quota("ann", 5, "period", world.now + 60_000)
    new = replace(world.new_job(), quota=quota, note=Note("notes", Put("n", b"1", 7)))
    assert (await world.storage.create_jobs([new])).jobs == ((new.job.id, Creation.OUTDATED),)
    assert await world.quota_used("ann", "period") == 0


@pytest.mark.parametrize("what", ["records", "exchange", "draw"])
async def test_i10_who_asks_for_what_is_in_no_shard_is_refused_while_the_store_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async def silent(*_: object) -> None:
        await asyncio.Event().wait()

    storage = world.storage
    assert isinstance(storage, OwnedStorage)
    monkeypatch.setattr(owned, "PATIENCE_S", 0.05)
    monkeypatch.setattr(storage._rows, what, silent)
    new = replace(world.new_job(), quota=Quota("ann", 5, "period", world.now + 60_000))
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "records": lambda: storage.document("keys", "a"),
        "exchange": lambda: storage.put_document("keys", "a", b"1", version=0),
        "draw": lambda: storage.create_jobs([new]),
    }
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await calls[what]()
    assert await storage.job(new.job.id) is None


async def test_a_file_that_is_lost_under_a_document_ends_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise StoreBroken("the file is gone")

    storage = world.storage
    assert isinstance(storage, OwnedStorage)
    monkeypatch.setattr(storage._rows, "exchange", lost)
    for _ in range(2):
        with pytest.raises(StoreBroken, match="the file is gone"):
            await storage.put_document("keys", "a", b"1", version=0)
    with pytest.raises(StoreBroken, match="the file is gone"):
        await storage.failure()


@pytest.mark.parametrize("turns", range(8))
async def test_i6_a_writer_of_a_document_that_is_cancelled_learns_of_its_version(world: World, turns: int) -> None:
    written: list[int | None] = []

    async def write() -> None:
        written.append(await world.storage.put_document("keys", "a", b"1", version=0))

    call = asyncio.create_task(write())
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    document = await world.storage.document("keys", "a")
    assert written == ([] if document is None else [document.version])


async def test_what_changes_nothing_waits_for_the_batch_in_flight_and_makes_none(world: World, faults: Faults) -> None:
    known = await world.create()
    async with faults.held_up(world):
        before = faults.writes
        reads = [asyncio.create_task(read) for read in (world.storage.job(known), world.storage.needs())]
        await settled()
        assert not any(read.done() for read in reads)
    await asyncio.gather(*reads)
    assert faults.writes == before


async def test_a_store_in_memory_is_not_written_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RENEW_S", 0.0)
    writes = 0
    apply = MemoryRows.apply

    async def counted(rows: MemoryRows, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        nonlocal writes
        writes += 1
        return await apply(rows, batches)

    monkeypatch.setattr(MemoryRows, "apply", counted)
    async with MemoryStorage() as store:
        before = writes
        for _ in range(10):
            await settled()
        assert writes == before
        await store.create_jobs([NewJob(Job(store.new_job_id("ann"), "bp", "ann", {}, "start"), ())])
        assert writes == before + 1


async def test_a_file_that_nobody_else_can_take_over_is_not_written_while_nothing_changes(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RENEW_S", 0.0)
    await world.create()
    before = faults.writes
    for _ in range(10):
        await settled()
    assert faults.writes == before


async def test_an_error_that_nobody_expects_of_a_write_ends_the_store(world: World, faults: Faults) -> None:
    failing = asyncio.create_task(world.storage.failure())
    faults.fail_next(RuntimeError("odd"))
    with pytest.raises(StoreUnavailable, match="repeat it"):
        await world.create()
    with pytest.raises(StoreBroken, match=r"odd.*restart the node"):
        await failing


async def test_a_store_that_can_never_be_written_again_says_so_to_all_who_wait(world: World, faults: Faults) -> None:
    store = world.storage
    async with faults.held_up(world) as _:
        pass
    failing = asyncio.create_task(store.failure())
    await settled()
    assert not failing.done()
    faults.fail_next(StoreBroken("the disk is gone"))
    with pytest.raises(StoreUnavailable, match="repeat it"):
        await world.create()
    with pytest.raises(StoreBroken, match="the disk is gone"):
        await failing
    with pytest.raises(StoreUnavailable, match="the disk is gone"):
        await world.create()


async def test_an_operation_that_fails_half_way_leaves_the_rows_as_they_were(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = await world.hand()
    claim = await world.start()
    done = Tables.arm

    def fail(*arguments: Any) -> None:
        done(*arguments)
        raise RuntimeError("a bug")

    with monkeypatch.context() as patching:
        patching.setattr(Tables, "arm", fail)
        with pytest.raises(RuntimeError, match="a bug"):
            await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=5))
    assert (await world.record(claim.job.id)).job.step == claim.job.step
    # The job is ready once its shard is loaded again.
    while claim.job.id not in await world.ready():  # noqa: ASYNC110  nobody says when
        await asyncio.sleep(0)
    assert (await world.record(claim.job.id)).job.step == claim.job.step
    # Workers that are there get tasks as before.
    task = await world.dispatch(claim=await world.claim_of(claim.job.id))
    assert [offer.task_id for offer in await world.lease(hand.seat())] == [task]


async def test_a_caller_that_goes_away_leaves_its_operation_to_be_done(world: World, faults: Faults) -> None:
    async with faults.held_up(world):
        new = world.new_job()
        creating = asyncio.create_task(world.storage.create_jobs([new]))
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
    creating: asyncio.Task[Created] = asyncio.create_task(world.storage.create_jobs([new]))
    await settled()
    await world.close()
    assert (await creating).jobs[0][1] is Creation.CREATED
    with pytest.raises(StoreUnavailable, match="not open"):
        await world.create()
    with pytest.raises(StoreUnavailable, match="not open"):
        await world.storage.job(new.job.id)


async def test_what_is_over_does_not_stay_in_memory(world: World) -> None:
    store = world.storage
    assert isinstance(store, OwnedStorage)
    hand = await world.hand()
    for number in range(20):
        offer = await world.offered(hand)
        await world.complete(offer)
        await world.finish(await world.claim_of(offer.job_id))
        await world.finish(await world.start(request_id=str(number)))
        assert await world.append(offer.job_id, Woken(9)) is Appended.OVER
        assert await world.complete(offer) is None
    tables = store._tables
    assert [tables.jobs, tables.tasks, tables.requests, tables.lates] == [{}] * 4


async def test_a_document_that_is_made_again_has_a_newer_version_also_after_a_restart(world: World) -> None:
    first = await world.storage.put_document("keys", "a", b"1", version=0)
    deleted = await world.storage.put_document("keys", "a", None, version=first or 0)
    await world.restart()
    again = await world.storage.put_document("keys", "a", b"2", version=0)
    assert again
    assert again > (deleted or 0)


async def test_who_waits_for_a_job_is_woken_before_who_changed_it_and_all_others_after(world: World) -> None:
    claim = await world.start()
    await world.storage.watch(claim.job.id)
    loop, woken = asyncio.get_running_loop(), list[str]()

    def told(hint: Hint) -> None:
        loop.call_soon(woken.append, "who watches" if hint.jobs else "others")

    world.storage.hear(told)

    async def change() -> None:
        await world.dispatch(claim=claim)
        woken.append("who changed it")

    await change()
    await asyncio.sleep(0)
    assert woken == ["who watches", "who changed it", "others"]


async def test_a_call_that_changes_nothing_is_answered_after_the_calls_before_it(world: World) -> None:
    job_id = await world.create()
    await world.storage.watch(job_id)
    answered, later = list[str](), list[asyncio.Task[None]]()

    async def call() -> None:
        await world.storage.touch(Touch(), ())
        answered.append("the later call")

    def told(hint: Hint) -> None:
        if hint.jobs:
            later.append(asyncio.create_task(call()))

    world.storage.hear(told)

    async def change() -> None:
        await world.append(job_id, CancelRequested("ann"))
        answered.append("the earlier call")

    await change()
    await asyncio.gather(*later)
    assert answered == ["the earlier call", "the later call"]
