"""The worker door: how sessions last and end, and what becomes of their leases."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from holon.errors import PermissionDenied
from holon.ports import Offer
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.transports.grpc import outgoing
from holon.transports.grpc.frames import Frames
from holon.transports.grpc.session import Session
from holon.wire.worker import offer_message
from tests.integration.grpc_node import (
    DRAIN,
    ENDED,
    a_node,
    hello,
    offering,
    reason_of,
    result,
    update,
    updates,
    worker_files,
)

# Short, and yet longer than a busy machine keeps a process from running.
LEASE_S = 1.0
BEYOND_S = 1.5


async def test_a_worker_leaves_with_ok_once_it_has_drained() -> None:
    async with a_node() as node:
        worker = await node.worker(credits=2)
        await node.create(n=1)
        offer = await worker.offer()
        await worker.send(DRAIN)
        await worker.beat()
        await node.create(n=2)
        await worker.send(updates(result(offer)))
        await worker.verdict()
        await worker.close()
        with pytest.raises(EOFError, match="OK"):
            await worker.next()
        await node.until(lambda: not list(node.engine.dispatcher.sessions))


@pytest.mark.parametrize("how", ["drain", "cancel"])
async def test_offers_that_were_not_sent_when_a_worker_leaves_go_to_another_at_once(how: str) -> None:
    async with a_node(offer=600.0) as node:
        leaving = await node.worker("w1", credits=80)
        for n in range(80):
            await node.create(n=n, wide="x" * 200_000)
        await node.until(lambda: sum(len(each.leases) for each in node.engine.dispatcher.sessions) == 80)
        if how == "drain":
            await leaving.send(DRAIN)
        else:
            leaving.call.cancel()
        other = await node.worker("w2")
        assert (await other.offer()).attempt == 2


async def test_a_half_close_is_answered_after_the_results_before_it() -> None:
    async with a_node() as node:
        worker = await node.worker()
        job_id = await node.create(n=1)
        await worker.send(updates(result(await worker.offer())))
        await worker.close()
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        with pytest.raises(EOFError, match="OK"):
            await worker.next()
        assert (await node.ended(job_id)).status == "finished"


async def test_a_half_close_with_tasks_held_is_a_loss_and_says_so() -> None:
    async with a_node(offer=0.2) as node:
        worker = await node.worker()
        await node.create(n=1)
        offer = await worker.offer()
        await worker.close()
        end = await worker.end()
        assert (end.code(), reason_of(end)) == (grpc.StatusCode.FAILED_PRECONDITION, "TASKS_HELD")
        other = await node.worker("w2")
        assert (await other.offer()).task_id == offer.task_id


async def test_a_draining_node_sends_workers_away_takes_their_results_and_no_new_sessions() -> None:
    async with a_node() as node:
        worker = await node.worker(credits=2)
        job_id = await node.create(n=1)
        offer = await worker.offer()
        channel = await node.worker_channel(worker_files("w2"))
        health: Any = health_pb2_grpc.HealthStub(channel)
        services = [health_pb2.HealthCheckRequest(service=name) for name in ("", "holon.rxon.v1.WorkerService")]
        for service in services:
            assert (await health.Check(service)).status == health_pb2.HealthCheckResponse.SERVING

        node.workers.drain()
        node.engine.workers.drain_all(5_000)

        going = await worker.expect("go_away")
        assert (going.reason, going.time_left.seconds) == ("DRAINING", 5)
        late = await node.stream("w2")
        await late.send(hello())
        end = await late.end()
        assert (end.code(), reason_of(end)) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        for service in services:
            assert (await health.Check(service)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await worker.send(updates(result(offer)))
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        assert (await node.ended(job_id)).status == "finished"
        ending = asyncio.create_task(worker.end())
        # A channel that is closed before it has read how its stream ended makes a cancel of that.
        node.resources.push_async_callback(asyncio.wait, (ending,))
    end = await ending
    assert (end.code(), reason_of(end)) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_a_worker_that_was_about_to_open_its_stream_when_its_node_drained_is_sent_away_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_node() as node:
        opening, go_on = asyncio.Event(), asyncio.Event()
        open_session = node.engine.store.open_session

        async def slowly(*arguments: Any) -> Any:
            opening.set()
            await go_on.wait()
            return await open_session(*arguments)

        monkeypatch.setattr(node.engine.store, "open_session", slowly)
        worker = await node.stream("w1")
        await worker.send(hello())
        await opening.wait()
        node.workers.drain()
        node.engine.workers.drain_all(5_000)
        go_on.set()
        await worker.expect("welcome")
        assert (await worker.expect("go_away")).reason == "DRAINING"
        # Nobody here takes what waits: another node's workers may.
        job_id = await node.create(n=1)
        async with asyncio.timeout(10):
            while "is draining" not in (await node.job(job_id)).progress_message:
                pass


async def test_a_closing_door_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with a_node() as node:
        workers = [await node.worker(f"w{number}") for number in range(3)]
        await node.create(n=1)
        gone = await node.worker("w9")
        gone.call.cancel()
        assert len(workers) == 3
    await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if "session" in task.get_name()}
    assert not left


async def test_heartbeats_keep_an_accepted_task_beyond_its_lease() -> None:
    async with a_node(lease=LEASE_S, offer=0.4) as node:
        worker = await node.worker()
        await node.create(n=1)
        offer = await worker.offer()
        await worker.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        began = asyncio.get_running_loop().time()
        beat = 0
        while asyncio.get_running_loop().time() - began < BEYOND_S:
            beat += 1
            await worker.beat(beat)
            await node.engine.touches.flush()
        await worker.send(updates(result(offer)))
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


@pytest.mark.parametrize(("listed", "said"), [(True, False), (False, False), (False, True)])
async def test_a_heartbeat_that_lists_a_lease_accepts_and_extends_it_and_no_other(listed: bool, said: bool) -> None:
    async with a_node(lease=LEASE_S, offer=0.4) as node:
        worker = await node.worker("w1", capabilities=[])
        job_id = await node.create(n=1)
        offer = await worker.offer()
        lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        held = worker_pb2.HeldLeases(leases=[lease] if listed else [], no_leases=said)
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < BEYOND_S:
            await worker.beat(1, held=held)
            await node.engine.touches.flush()
        other = await node.worker("w2")
        if listed:
            await worker.send(updates(result(offer)))
            assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
            assert (await node.ended(job_id)).status == "finished"
        else:
            assert (await other.offer()).task_id == offer.task_id


async def test_a_worker_that_lists_no_capability_has_taken_what_it_is_sent() -> None:
    async with a_node(lease=LEASE_S, offer=0.2) as node:
        worker = await node.worker("w1", capabilities=[])
        job_id = await node.create(n=1)
        offer = await worker.offer()
        other = await node.worker("w2", capabilities=[])
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < BEYOND_S:
            # Whose answer is anything else than that to the heartbeat was told something.
            for one in (worker, other):
                await one.beat()
            await node.engine.touches.flush()
        await worker.send(updates(result(offer)))
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        assert (await node.ended(job_id)).status == "finished"


async def test_a_silent_worker_is_ended_and_the_others_go_on() -> None:
    async with a_node(silence=0.5) as node:
        good = await node.worker("w1", offering("good"))
        silent = await node.worker("w2")
        ending = asyncio.create_task(silent.end())
        beat = 0
        while not ending.done():
            beat += 1
            await good.beat(beat)
        assert (ending.result().code(), reason_of(ending.result())) == (grpc.StatusCode.UNAVAILABLE, "SILENT")
        await node.finishes_jobs(good)


async def test_a_worker_without_certificates_may_end_its_stream_at_any_time() -> None:
    async with a_node(secure=False) as node:
        worker = await node.worker("w1")
        worker.call.cancel()
        with pytest.raises((ENDED, asyncio.CancelledError)):
            await worker.next()
        await node.until(lambda: not list(node.engine.dispatcher.sessions))


async def test_a_stream_that_ends_while_its_welcome_is_on_its_way_has_its_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve, write = Session.serve, Frames.write
    sessions: dict[Frames, Session] = {}

    async def served(session: Session) -> None:
        sessions[session._frames] = session
        await serve(session)

    async def ended_meanwhile(frames: Frames, frame: bytes) -> None:
        sessions[frames].end(PermissionDenied("out", code="OUT"), last_words=False)
        await write(frames, frame)

    monkeypatch.setattr(Session, "serve", served)
    monkeypatch.setattr(Frames, "write", ended_meanwhile)
    async with a_node() as node:
        for _ in range(20):
            worker = await node.stream("w1")
            await worker.send(hello())
            end = await worker.end()
            assert (end.code(), reason_of(end)) == (grpc.StatusCode.PERMISSION_DENIED, "OUT")


@pytest.mark.parametrize("part", ["session-reader", "session-writer", "session-clerk"])
async def test_a_stream_of_which_a_part_is_gone_ends(part: str) -> None:
    async with a_node() as node:
        worker = await node.worker("w1")
        # The library takes no status of a call whose first write is cut off, and that has come to its end once this is
        # answered.
        await worker.beat()
        [task] = [one for one in asyncio.all_tasks() if one.get_name() == part]
        task.cancel()
        end = await worker.end()
        assert (end.code(), reason_of(end)) == (grpc.StatusCode.UNAVAILABLE, "STREAM_LOST")


async def test_an_offer_that_cannot_be_made_ends_the_stream_of_its_worker_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(offer: Offer) -> worker_pb2.TaskOffer:
        if offer.worker_id == "w1":
            raise ValueError("a fault of ours")
        return offer_message(offer)

    monkeypatch.setattr(outgoing, "offer_message", broken)
    async with a_node() as node:
        good = await node.worker("good-1", offering("good"))
        worker = await node.worker("w1")
        job_id = await node.create()
        assert (await worker.end()).code() is grpc.StatusCode.INTERNAL
        assert "a fault of ours" in caplog.text
        await node.finishes_jobs(good)
        other = await node.worker("w2")
        await other.send(updates(result(await other.offer())))
        assert (await node.ended(job_id)).status == "finished"
