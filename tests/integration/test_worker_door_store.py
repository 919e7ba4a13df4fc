"""The worker door: what workers are told while the node's store is away or slow."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from holon.engine import rekeying
from holon.errors import StoreUnavailable
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.transports.grpc import clerk
from tests.integration.grpc_node import (
    GUARD,
    Node,
    a_node,
    hello,
    offering,
    reason_of,
    result,
    update,
    updates,
)


async def away(*_: Any) -> None:
    raise StoreUnavailable("the store is away", retry_after=0.5)


async def test_a_result_that_cannot_be_stored_is_to_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_node() as node:
        worker = await node.worker()
        job_id = await node.create()
        offer = await worker.offer()
        with monkeypatch.context() as broken:
            broken.setattr(node.engine.store, "complete", away)
            await worker.send(updates(result(offer, {"n": 1})))
            ack = await worker.verdict()
        assert (ack.verdict, ack.error.reason) == (worker_pb2.VERDICT_RETRY, "STORE_UNAVAILABLE")
        assert ack.error.retry_after.ToMilliseconds() == 1000
        await worker.send(updates(result(offer, {"n": 1})))
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        assert (await node.ended(job_id)).status == "finished"


async def test_a_failure_whose_task_cannot_be_looked_up_is_to_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_node() as node:
        worker = await node.worker()
        lease = types_pb2.LeaseRef(task_id="0-abc-0-0", lease_id="of-an-earlier-session")
        with monkeypatch.context() as broken:
            broken.setattr(node.engine.store, "task", away)
            await worker.send(updates(result(lease, status="failure")))
            assert (await worker.verdict()).verdict == worker_pb2.VERDICT_RETRY
        await worker.send(updates(result(lease, status="failure")))
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_SUPERSEDED


async def test_a_session_cannot_open_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_node() as node:
        with monkeypatch.context() as broken:
            broken.setattr(node.engine.store, "open_session", away)
            worker = await node.stream("w1")
            await worker.send(hello())
            end = await worker.end()
        assert (end.code(), reason_of(end)) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        await node.worker("w1")


async def test_an_end_of_a_session_that_could_not_be_stored_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    failures = 2

    async with a_node() as node:
        close = node.engine.store.close_session

        async def often_away(worker_id: str, session_id: str) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                await away()
            await close(worker_id, session_id)
            closed.put_nowait((worker_id, session_id))

        monkeypatch.setattr(node.engine.store, "close_session", often_away)
        worker = await node.worker("w1")
        await worker.close()
        async with asyncio.timeout(GUARD):
            worker_id, _ = await closed.get()
        assert (worker_id, failures) == ("w1", 0)


@pytest.mark.parametrize("of", ["a Hello", "a Catalog"])
async def test_a_new_contract_is_taken_soon_and_what_waits_is_tried_on_it_when_that_can_be_done(
    monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    schema = types_pb2.Payload(data=b'{"type":"object"}')
    offered = offering("a", input_schema=schema)
    async with a_node() as node:
        store, asked, free = node.engine.store, asyncio.Event(), asyncio.Event()
        tasks, queued = store.queued_tasks, store.queued
        failures = 2

        async def slowly(key: str, after: str, limit: int) -> Any:
            asked.set()
            await free.wait()
            return await tasks(key, after, limit)

        async def often_away(skill: str) -> Any:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise StoreUnavailable("the store is away", retry_after=0.001)
            return await queued(skill)

        another = await node.worker("w0", offering("a", input_schema=types_pb2.Payload(data=b'{"type":"string"}')))
        job_id = await node.create(skill="a")
        monkeypatch.setattr(rekeying, "PATIENCE_S", 0.01)
        monkeypatch.setattr(store, "queued_tasks", slowly)
        monkeypatch.setattr(store, "queued", often_away)
        if of == "a Hello":
            worker = await node.worker("w1", offered, credits=2)
        else:
            worker = await node.worker("w1", credits=2)
            await worker.send(worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=1, offerings=[offered])))
        async with asyncio.timeout(GUARD):
            await asked.wait()
        # What comes meanwhile is the worker's already, though what waits is not.
        fresh = await node.create(skill="a")
        assert (await worker.offer()).job_id == fresh
        free.set()
        assert (await worker.offer()).job_id == job_id
        await another.close()


async def test_reading_never_waits_for_the_store_and_what_waits_for_it_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_node() as node:
        worker = await node.worker(credits=20)
        jobs = [await node.create(n=n) for n in range(20)]
        offers = [await worker.offer() for _ in jobs]
        stored = _held_back(node, monkeypatch)
        monkeypatch.setattr(clerk, "MAX_RESULTS", 5)
        await worker.send(updates(result(offers[0])))
        await worker.beat(1)
        await worker.send(updates(*(result(offer) for offer in offers[1:])))
        again = {(await worker.verdict()).lease_id for _ in range(14)}
        assert len(again) == 14
        await worker.beat(2)
        stored.set()
        done = {(await worker.verdict()).lease_id for _ in range(6)}
        assert done | again == {offer.lease_id for offer in offers}
        await worker.send(updates(*(result(offer) for offer in offers if offer.lease_id in list(again)[:5])))
        assert {(await worker.verdict()).verdict for _ in range(5)} == {worker_pb2.VERDICT_COMMITTED}


async def test_updates_of_a_lease_are_taken_in_the_order_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_node() as node:
        worker = await node.worker()
        await node.create()
        offer = await worker.offer()
        stored = _held_back(node, monkeypatch)
        progress = update(offer, progress=worker_pb2.TaskProgress(percent=99))
        await worker.send(updates(update(offer, accepted=worker_pb2.TaskAccepted()), progress, result(offer)))
        await worker.beat(1)
        stored.set()
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        await worker.send(updates(progress))
        assert (await worker.refused()).error.reason == "TASK_NOT_HELD"


def _held_back(node: Node, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let no result be stored before the event is set."""
    stored = asyncio.Event()
    complete = node.engine.store.complete

    async def slowly(*arguments: Any) -> Any:
        await stored.wait()
        return await complete(*arguments)

    monkeypatch.setattr(node.engine.store, "complete", slowly)
    return stored


async def test_credits_that_come_while_the_store_leases_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_node() as node:
        worker = await node.worker(credits=1)
        await node.create()
        held = await worker.offer()
        await node.create()
        told = asyncio.Event()
        lease, touch = node.engine.store.lease, node.engine.store.touch

        async def leased_before(seats: Any) -> Any:
            answer = await lease(seats)
            await told.wait()
            return answer

        async def touched(*touches: Any) -> Any:
            answer = await touch(*touches)
            told.set()
            return answer

        monkeypatch.setattr(node.engine.store, "lease", leased_before)
        monkeypatch.setattr(node.engine.store, "touch", touched)
        # What is said of a lease is gathered for a while: the credits come meanwhile.
        await worker.send(updates(update(held, accepted=worker_pb2.TaskAccepted())))
        await worker.beat(credits=2)
        assert (await worker.offer()).skill == "t"


@pytest.mark.parametrize("learning", [True, False], ids=["of the one being learned", "of one that waits for that"])
async def test_credits_of_an_offering_that_come_before_its_catalog_is_learned_count_above_what_that_says(
    monkeypatch: pytest.MonkeyPatch, learning: bool
) -> None:
    async with a_node() as node:
        worker = await node.worker(credits=10)
        asked, free = asyncio.Event(), asyncio.Event()
        queued = node.engine.store.queued

        async def slowly(skill: str) -> Any:
            asked.set()
            await free.wait()
            return await queued(skill)

        monkeypatch.setattr(node.engine.store, "queued", slowly)
        schema = types_pb2.Payload(data=b'{"type":"object"}')
        offered = [offering("less", credits=3, input_schema=schema), offering("more", credits=0)]
        older = [offering("other", input_schema=schema)]
        for sequence, offerings in enumerate([offered] if learning else [older, offered], 1):
            catalog = worker_pb2.Catalog(sequence=sequence, offerings=offerings)
            await worker.send(worker_pb2.SessionRequest(catalog=catalog))
            await asked.wait()
        credits_of = worker_pb2.OfferingCredits
        await worker.beat(
            1, offering_credits=[credits_of(skill="less", credits=2), credits_of(skill="more", credits=3)]
        )
        await worker.beat(2, offering_credits=[credits_of(skill="less", credits=1)])
        free.set()
        for _ in range(3):
            await node.create(skill="less")
            await node.create(skill="more")
        skills = sorted([(await worker.offer()).skill for _ in range(4)])
        assert skills == ["less", "more", "more", "more"]
        await worker.beat(3)
