"""Tasks of a worker, over real mTLS: pace, limits, stops, and results until they are acknowledged."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import replace

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import worker_pb2
from holon.worker import Cancelled, Progress, Result, Worker
from tests.integration.scripted_node import (
    FAST,
    GUARD,
    Certificates,
    Gate,
    ScriptedNode,
    is_at_once,
    keep,
    serving,
    worker_for,
)


async def test_a_task_that_takes_a_while_is_accepted_and_then_ended(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.offer("t1", "held", {"n": 1})
        assert (await stream.update()).HasField("accepted")
        gate.open.set()
        assert (await stream.update()).result.status == "success"


async def test_a_skill_it_lacks_and_a_task_beyond_its_slots_are_rejected(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.offer("t0", "flight")
        update = await stream.update()
        assert (update.rejected.reason, is_at_once(update)) == ("UNKNOWN_SKILL", False)
        for number in range(1, 5):
            await stream.offer(f"t{number}", "held")
        while (update := await stream.update()).HasField("accepted"):
            pass
        assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t4", "BUSY", True)


async def test_a_handler_whose_lease_was_dropped_holds_its_slot_and_the_credits_say_so_before_an_offer_is_given_back(
    certificates: Certificates, node: ScriptedNode, gate: Gate
) -> None:
    worker = worker_for(certificates, node, max_concurrent=1, timing=replace(FAST, stop_patience=GUARD))

    @worker.skill
    def held() -> None:
        gate.pass_through()

    async with serving(worker):
        first = await node.welcomed("first")
        await first.offer("t1", "held")
        await gate.enter()
        first.end(grpc.StatusCode.UNAVAILABLE)
        second = await node.welcomed("second")
        await second.offer("t2", "held")
        update = await second.update()
        assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t2", "BUSY", True)
        said = await second.message("heartbeat")
        while not said.heartbeat.HasField("credits"):
            said = await second.message("heartbeat")
        assert said.heartbeat.credits == 0
        assert second.order[-2:] == ["heartbeat", "task_updates"]
        gate.open.set()
        assert (await second.message("heartbeat")).heartbeat.credits == 1
        await second.offer("t2", "held")
        assert (await second.result()).task_id == "t2"


async def test_progress_comes_after_acceptance_and_ends_with_the_newest(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    @worker.skill
    def count(progress: Progress) -> None:
        for number in range(1000):
            progress(number / 10, f"{number} done")
        gate.pass_through()

    async with serving(worker):
        stream = await node.welcomed()
        await stream.offer("t1", "count")
        seen: list[worker_pb2.TaskProgress] = []
        while not seen or seen[-1].message != "999 done":
            update = await stream.update()
            if update.HasField("progress"):
                seen.append(update.progress)
            else:
                assert update.HasField("accepted")
                assert not seen
        assert seen[-1].percent == pytest.approx(99.9)
        assert len(seen) < 100


async def test_heartbeats_keep_the_pace_that_the_node_sets(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker):
        stream = await node.welcomed(heartbeat_interval=Duration(nanos=60_000_000))
        began = time.monotonic()
        numbers = [(await stream.message("heartbeat")).heartbeat.sequence for _ in range(5)]
        assert numbers == [1, 2, 3, 4, 5]
        assert time.monotonic() - began >= 4 * 0.9 * 0.06
        await stream.send(heartbeat_ack=worker_pb2.HeartbeatAck(sequence=5, next_interval=Duration(seconds=3600)))
        await stream.message("heartbeat")


async def test_a_handler_that_burns_the_processor_does_not_stop_the_heartbeats(
    node: ScriptedNode, worker: Worker
) -> None:
    go_on = threading.Event()

    @worker.skill
    def burn() -> None:
        while not go_on.is_set():
            sum(range(1000))

    async with serving(worker):
        stream = await node.welcomed(heartbeat_interval=Duration(nanos=50_000_000))
        await stream.offer("t1", "burn")
        assert (await stream.update()).HasField("accepted")
        first = (await stream.message("heartbeat")).heartbeat.sequence
        while (await stream.message("heartbeat")).heartbeat.sequence < first + 4:
            pass
        go_on.set()
        assert (await stream.result()).result.status == "success"


async def test_an_async_handler_that_blocks_its_loop_does_not_stop_the_heartbeats(
    node: ScriptedNode, certificates: Certificates
) -> None:
    worker = worker_for(certificates, node)
    go_on, began = threading.Event(), threading.Event()

    @worker.skill
    async def block() -> None:
        began.set()
        go_on.wait(GUARD)

    # On a loop of its own, for the scripted node lives on this one.
    thread = threading.Thread(target=_serve_in_thread, args=(worker,))
    thread.start()
    try:
        stream = await node.welcomed(heartbeat_interval=Duration(nanos=50_000_000))
        await stream.offer("t1", "block")
        assert (await stream.update()).HasField("accepted")
        assert began.is_set()
        first = (await stream.message("heartbeat")).heartbeat.sequence
        while (await stream.message("heartbeat")).heartbeat.sequence < first + 4:
            pass
        go_on.set()
        assert (await stream.result()).result.status == "success"
        await stream.ack("t1")
        worker.drain()
        await stream.wait(stream.half_closed)
        stream.end()
    finally:
        go_on.set()
        worker.drain()
        await asyncio.to_thread(thread.join)


async def test_a_stop_cancels_an_async_handler_and_one_for_an_unknown_lease_is_ignored(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.stop("nothing")
        await stream.offer("t1", "endless")
        await stream.stop("t1")
        update = await stream.result()
        assert (update.task_id, update.result.status) == ("t1", "cancelled")
        await stream.stop("t1")
        await stream.offer("t2", "double", {"n": 1})
        assert (await stream.update()).task_id == "t2"


async def test_a_task_whose_time_was_over_before_it_came_fails_with_a_timeout(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.offer("t1", "endless", time_left=Duration())
        assert (await stream.result()).result.error.code == "TIMEOUT_ERROR"


async def test_within_its_grace_a_handler_still_has_the_word(node: ScriptedNode, worker: Worker) -> None:
    @worker.skill
    async def tidy(cancelled: Cancelled) -> Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
        return Result("cancelled", {"why": cancelled.reason})

    @worker.skill
    def tidy_thread(cancelled: Cancelled) -> Result:
        assert cancelled.sleep(GUARD)
        return Result("cancelled", {"why": cancelled.reason})

    async with serving(worker):
        stream = await node.welcomed()
        for task, skill in (("t1", "tidy"), ("t2", "tidy_thread")):
            await stream.offer(task, skill)
            assert (await stream.update()).HasField("accepted")
            await stream.stop(task, grace=GUARD)
            update = await stream.result()
            assert (update.result.status, update.result.data.data) == ("cancelled", b'{"why":"CANCELLED"}')


async def test_a_handler_that_outlives_its_stop_keeps_its_slot_and_the_credits_say_so(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.message("heartbeat")
        await stream.offer("t1", "held")
        await gate.enter()
        await stream.stop("t1")
        assert (await stream.result()).result.status == "cancelled"
        assert (await stream.message("heartbeat")).heartbeat.credits == 2
        assert stream.order[-2:] == ["heartbeat", "task_updates"]
        gate.open.set()
        assert (await stream.message("heartbeat")).heartbeat.credits == 3
        await stream.offer("t2", "double", {"n": 1})
        assert (await stream.update()).task_id == "t2"


@pytest.mark.parametrize("skill", ["endless", "held"])
async def test_a_task_whose_time_is_over_fails_with_a_timeout(node: ScriptedNode, worker: Worker, skill: str) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.offer("t1", skill, time_left=Duration(nanos=50_000_000))
        result = (await stream.result()).result
        assert (result.status, result.error.code) == ("failure", "TIMEOUT_ERROR")


async def test_a_result_that_the_node_cannot_take_now_is_sent_again_and_the_others_are_forgotten(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        stream = await node.welcomed("first")
        for number in range(1, 5):
            await stream.offer(f"t{number}", "double", {"n": number})
            assert (await stream.result()).task_id == f"t{number}"
        await stream.ack("t1", verdict=worker_pb2.VERDICT_RETRY, retry_after=0.05)
        again = await stream.result()
        assert (again.task_id, again.resent, again.result.data.data) == ("t1", True, b'{"n":2}')
        await stream.ack("t2", verdict=worker_pb2.VERDICT_SUPERSEDED)
        await stream.ack("t3", verdict=worker_pb2.VERDICT_INVALID)
        await stream.ack("t4", verdict=99)
        await stream.offer("t5", "double", {"n": 5})
        assert (await stream.result()).task_id == "t5"
        stream.end(grpc.StatusCode.UNAVAILABLE)
        assert {one.task_id for one in (await node.session()).hello.resume.leases} == {"t1", "t5"}


async def test_a_result_above_the_nodes_payload_limit_becomes_a_failure_that_says_so(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        stream = await node.welcomed(max_payload_bytes=1000)
        await stream.offer("t1", "big", {"size": 2000})
        result = (await stream.result()).result
        assert (result.status, result.error.code) == ("failure", "LIMIT_EXCEEDED")
        assert "1000" in result.error.message
        # The work was done: it cost what it cost.
        assert (result.cost, result.HasField("duration")) == (3, True)


async def test_a_result_above_the_nodes_message_limit_is_not_sent(
    certificates: Certificates, worker: Worker, node: ScriptedNode
) -> None:
    async with serving(worker):
        stream = await node.welcomed(max_message_bytes=10_000, max_payload_bytes=1_000_000)
        await stream.offer("t1", "big", {"size": 20_000})
        result = (await stream.result()).result
        assert (result.error.code, result.cost, result.HasField("duration")) == ("LIMIT_EXCEEDED", 3, True)


async def test_a_result_that_broke_the_stream_is_replaced_and_the_others_stay(
    certificates: Certificates,
) -> None:
    async with ScriptedNode(certificates, max_message_bytes=100_000) as node:
        worker = worker_for(certificates, node)

        @worker.skill
        def big(size: int) -> Result:
            return Result(data={"text": "x" * size}, cost=3)

        async with serving(worker):
            first = await node.welcomed("first")
            await first.offer("small", "big", {"size": 10})
            assert (await first.result()).task_id == "small"
            await first.offer("large", "big", {"size": 200_000})
            second = await node.welcomed("second", leases=keep("small", "large"))
            results = {update.task_id: update.result for update in (await second.result(), await second.result())}
            assert results["small"].status == "success"
            assert (results["large"].error.code, results["large"].cost) == ("LIMIT_EXCEEDED", 3)


def _serve_in_thread(worker: Worker) -> None:
    asyncio.run(worker.serve())


async def test_who_serves_though_he_was_cancelled_before_still_hears_of_a_handler_that_cancels_itself(
    certificates: Certificates, node: ScriptedNode
) -> None:
    worker = worker_for(certificates, node)

    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    worker.skill("confused")(cancelled)

    async def stubborn() -> None:
        with suppress(asyncio.CancelledError):
            await cancelled()
        await worker.serve()

    task = asyncio.create_task(stubborn())
    try:
        stream = await node.welcomed()
        await stream.offer("t1", "confused")
        assert (await stream.result()).result.error.code == "TRANSIENT_ERROR"
    finally:
        task.cancel()
        await asyncio.wait((task,))
