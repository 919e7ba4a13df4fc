"""What a holon below tells with a result, or of a task that is over: what is kept of it, and told above."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.domain.events import HistoryEvent
from holon.domain.tally import Tally
from holon.domain.task import task_id
from holon.domain.tree import Summary, Trouble
from holon.engine import below
from holon.engine.kept import KIND
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage import shared_records
from holon.stores.sealing import Seal
from holon.wire.trees import read_summary
from tests.integration.grpc_node import GUARD, Node, result, update, updates
from tests.integration.hostile_trees.trees import ANY, BELOW, came, child, summary, tree, working


async def test_what_is_told_with_a_result_is_kept_once_and_never_told_otherwise_later(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await working(node, wire)
    ends = result(offer, summary=summary(status="finished", task_counts=[types_pb2.StatusCount(status="x", count=1)]))
    await wire.send(updates(ends))
    assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    # The same result again, with another story: it is acknowledged, and the first story stays.
    again = result(offer, summary=summary(status="failed"))
    again.resent = True
    await wire.send(updates(again))
    assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    await wire.close()
    await node.until(lambda: not list(node.engine.dispatcher.sessions))
    *_, told = await tree(node, job_id)
    assert (told.status, [one.count for one in told.summary.task_counts]) == ("finished", [1])


async def test_what_cannot_be_kept_is_not_and_its_result_counts(node: Node) -> None:
    wire = await child(node)
    large = summary(states=[types_pb2.StateVisit(state="x" * 100)] * 1_000)
    for told in (large, summary(holon_id="another"), summary(job_id="no id!"), types_pb2.JobSummary()):
        job_id, offer = await working(node, wire)
        await wire.send(updates(update(offer, progress=worker_pb2.TaskProgress(summary=told))))
        await wire.send(updates(result(offer, summary=told)))
        assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        assert (await node.ended(job_id)).status == "finished"
    # Nor of a lease that it does not hold, nor with a result that was not used.
    job_id, offer = await working(node, wire)
    stolen = worker_pb2.TaskOffer(task_id=offer.task_id, lease_id="another")
    await wire.send(updates(update(stolen, progress=worker_pb2.TaskProgress(summary=summary()))))
    assert (await wire.refused()).error.reason == "TASK_NOT_HELD"
    await wire.send(updates(result(stolen, summary=summary())))
    assert (await wire.verdict()).verdict == worker_pb2.VERDICT_SUPERSEDED
    assert not node.engine.below.any


async def test_what_is_told_of_a_task_that_is_over_counts_from_who_had_it_last_only(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await working(node, wire)
    await node.cancel(job_id)
    await wire.expect("stop_tasks")
    earlier = worker_pb2.TaskOffer(task_id=offer.task_id, lease_id="earlier")
    for lease, kept in ((earlier, False), (offer, True)):
        await wire.send(updates(result(lease, "cancelled", summary=summary(status="cancelled"))))
        assert (await wire.verdict()).verdict == worker_pb2.VERDICT_SUPERSEDED
        assert node.engine.below.any is kept
    await wire.send(updates(result(earlier, "cancelled", summary=summary(status="finished"))))
    assert (await wire.verdict()).verdict == worker_pb2.VERDICT_SUPERSEDED
    await wire.close()
    await node.until(lambda: not list(node.engine.dispatcher.sessions))
    *_, told = await tree(node, job_id)
    assert told.status == "cancelled"


async def test_of_so_many_jobs_below_is_kept_what_they_told_and_the_oldest_make_room(
    monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    monkeypatch.setattr(below, "MOST", 3)
    monkeypatch.setattr(below, "PAUSE_S", 0.0)
    store = node.engine.store

    async def keys() -> list[str]:
        return [one.key for one in await store.documents(KIND)]

    async def until_only(*wanted: str) -> None:
        async with asyncio.timeout(GUARD):
            while await keys() != list(wanted):  # noqa: ASYNC110  it looks from outside, and nothing tells it
                await asyncio.sleep(0)

    def told(number: int) -> bytes:
        return came(Summary(BELOW, ANY, "finished", "", number, 0))

    kept = below.Below(store, store.now, 60_000, read_summary)
    running = asyncio.create_task(kept.run())
    for number in range(5):
        await kept.ended([(f"t{number}", "lease", told(number), 1)])
        assert await kept.find(f"t{number}") is not None
    await until_only("t2", "t3", "t4")
    # One that is told of again, by another attempt, is not the oldest any more.
    await kept.ended([("t2", "another", told(9), 1)])
    await kept.ended([("t5", "lease", told(10), 1)])
    await until_only("t2", "t4", "t5")
    running.cancel()
    # Another process of the holon goes on with what is there; one that others fill up makes room at once.
    after = below.Below(store, store.now, 60_000, read_summary)
    running = asyncio.create_task(after.run())
    await node.until(lambda: after.any)
    await after.ended([("t9", "lease", told(11), 1)])
    await until_only("t2", "t5", "t9")
    running.cancel()
    monkeypatch.setattr(shared_records, "MAX_DOCUMENTS", 3)
    # How much room it had under the old limit is forgotten.
    store._shared._rooms.clear()  # type: ignore[attr-defined]
    await after.ended([("t99", "lease", told(12), 1)])
    await until_only("t5", "t9", "t99")


async def test_what_holons_told_another_node_of_this_one_is_told_above_too(node: Node) -> None:
    job_id, engine = await node.create(), node.engine
    asked = Tally(job_id)
    asked.take_all(
        [(1, HistoryEvent("task_dispatched", 1, "s", task_id=task_id(job_id, 0, 0), details={"skill": "t"}))]
    )
    record = await engine.store.job(job_id)
    assert record is not None
    assert (await engine.trees.summary(record, asked)).jobs == ()
    heard = asyncio.Event()
    engine.follow_documents(lambda kinds: heard.set() if KIND in kinds else None)
    other = below.Below(engine.store, engine.store.now, 60_000, read_summary)
    await other.ended([(task_id(job_id, 0, 0), "lease", came(Summary(BELOW, ANY, "finished", "", 1, 0)), 1)])
    async with asyncio.timeout(GUARD):
        await heard.wait()
    assert (await engine.trees.summary(record, asked)).jobs == (("finished", 1),)


async def test_holons_that_make_up_statuses_do_not_make_what_is_told_above_of_them_larger(node: Node) -> None:
    job_id = await node.create()
    engine = node.engine
    asked = Tally(job_id)
    asked.take_all([(1, HistoryEvent("task_dispatched", 1, "s", details={"branches": 5, "step": 0}))])
    for index in range(5):
        made_up = tuple((f"{index} {number:03} {'x' * 100}", 1) for number in range(99))
        told = Summary(BELOW, ANY, "finished", "", 1, 0, tasks=(*made_up, ("success", 7)), jobs=made_up)
        await engine.below.ended([(task_id(job_id, 0, index), "lease", came(told), 1)])
    record = await engine.store.job(job_id)
    assert record is not None
    told = await engine.trees.summary(record, asked)
    assert (len(told.tasks), len(told.jobs), told.truncated) == (100, 100, True)
    assert ("success", 35) in told.tasks


async def test_who_tells_of_a_task_all_the_time_is_not_written_all_the_time(
    monkeypatch: pytest.MonkeyPatch, node: Node
) -> None:
    store, writes = node.engine.store, 0
    kept = below.Below(store, store.now, 60_000, read_summary)
    write = store.put_document

    async def told_meanwhile(*args: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes < 100:
            kept.later("t", "lease", came(Summary(BELOW, ANY, "running", "", writes, 0)), 1)
        return await write(*args, **more)

    monkeypatch.setattr(below, "PAUSE_S", 3_600)
    monkeypatch.setattr(store, "put_document", told_meanwhile)
    kept.later("t", "lease", came(Summary(BELOW, ANY, "running", "", 0, 0)), 1)
    running = asyncio.create_task(kept.run())
    async with asyncio.timeout(GUARD):
        while await store.document(KIND, "t") is None:  # noqa: ASYNC110  it looks from outside
            await asyncio.sleep(0)
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert writes == 1
    # What is written next is known already.
    found = await kept.find("t")
    assert found is not None
    assert found.summary.as_of == 1
    running.cancel()


async def test_what_holons_told_is_sealed_where_it_is_stored_and_what_cannot_be_read_is_as_if_untold(
    node: Node,
) -> None:
    store = node.engine.store
    seal = Seal([b"k" * 32])
    told = Summary(BELOW, ANY, "failed", "", 1, 0, errors=(Trouble("C", "a secret"),))
    kept = below.Below(store, store.now, 60_000, read_summary, seal)
    await kept.ended([("t1", "lease", came(told), 1)])
    (document,) = await store.documents(KIND)
    assert b"secret" not in document.value
    found = await below.Below(store, store.now, 60_000, read_summary, Seal([b"k" * 32])).find("t1")
    assert found is not None
    assert found.summary == told
    # Another key, or another release.
    assert await below.Below(store, store.now, 60_000, read_summary, Seal([b"x" * 32])).find("t1") is None
    await store.put_document(KIND, "t2", b'{"from": "another release"}', version=0)
    assert await kept.find("t2") is None
    await kept.ended([("t2", "lease", came(told), 1)])
    assert (await kept.find("t2")) == found
