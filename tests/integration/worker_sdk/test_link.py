"""Sessions of a worker with a node, over real mTLS: how they open, are lost and taken up again."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import worker_pb2
from holon.wire.stream import MOST_MESSAGE_BYTES
from holon.worker import Worker
from tests.integration.scripted_node import (
    FAST,
    Certificates,
    Gate,
    ScriptedNode,
    keep,
    serving,
    worker_for,
)
from tests.integration.worker_sdk.skills import nothing


async def test_a_worker_proves_itself_by_its_certificate_and_its_task_ends_with_its_result(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        stream = await node.session()
        assert stream.hello.worker_id == ""
        assert stream.hello.credits == 3
        assert stream.hello.max_message_bytes == MOST_MESSAGE_BYTES
        assert not stream.hello.HasField("resume")
        assert [one.skill for one in stream.hello.catalog.offerings] == ["double", "held", "endless", "big"]
        await stream.welcome()
        await stream.offer("t1", "double", {"n": 21})
        update = await stream.update()
        assert (update.task_id, update.lease_id, update.resent) == ("t1", "t1-lease", False)
        assert (update.result.status, update.result.data.data) == ("success", b'{"n":42}')


async def test_a_token_goes_with_every_session(certificates: Certificates, node: ScriptedNode) -> None:
    worker = worker_for(certificates, node, token="secret", worker_id="w7")
    worker.skill(nothing)
    async with serving(worker):
        stream = await node.session()
        assert stream.metadata["x-worker-token"] == "secret"
        assert stream.hello.worker_id == "w7"


async def test_after_a_loss_running_work_goes_on_and_unacknowledged_results_are_sent_again(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        first = await node.welcomed("first")
        await first.offer("t1", "double", {"n": 1})
        await first.offer("t2", "double", {"n": 2})
        await first.offer("t3", "held", {"n": 3})
        results = [await first.result(), await first.result()]
        assert not any(update.resent for update in results)
        await first.ack("t1")
        await gate.enter()
        await first.offer("t4", "flight")
        while not (await first.update()).HasField("rejected"):
            pass
        first.end(grpc.StatusCode.UNAVAILABLE, "a crash")

        second = await node.session()
        assert second.hello.instance_id == first.hello.instance_id
        assert second.hello.resume.session_id == "first"
        assert {one.task_id for one in second.hello.resume.leases} == {"t2", "t3"}
        await second.welcome("second", leases=keep("t3"))
        again = await second.result()
        assert (again.task_id, again.resent, again.result.data.data) == ("t2", True, b'{"n":4}')
        gate.open.set()
        later = await second.result()
        assert (later.task_id, later.resent) == ("t3", False)
        assert gate.runs == 1


async def test_an_end_with_ok_that_the_worker_did_not_begin_is_a_loss(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker):
        (await node.welcomed("first")).end()
        assert (await node.session()).hello.resume.session_id == "first"


async def test_a_lease_that_the_node_dropped_is_stopped_and_nothing_more_is_said_of_it(
    node: ScriptedNode, worker: Worker
) -> None:
    stopped = asyncio.Event()

    @worker.skill
    async def watched() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with serving(worker):
        first = await node.welcomed("first")
        await first.offer("t1", "watched")
        assert (await first.update()).HasField("accepted")
        first.end(grpc.StatusCode.UNAVAILABLE)
        second = await node.welcomed("second")
        await second.wait(stopped)
        await second.offer("t2", "double", {"n": 1})
        assert (await second.update()).task_id == "t2"


async def test_a_silent_node_is_left_and_found_again(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker):
        first = await node.welcomed("first", silence_timeout=Duration(nanos=200_000_000))
        await first.wait(first.half_closed)
        assert (await node.session()).hello.resume.session_id == "first"


async def test_a_node_that_does_not_welcome_is_tried_again_over_a_fresh_connection(
    certificates: Certificates, node: ScriptedNode
) -> None:
    timing = FAST.__class__(welcome=0.2, reconnect_first=0.02)
    worker = worker_for(certificates, node, timing=timing)
    worker.skill(nothing)
    async with serving(worker):
        first, second = await node.session(), await node.session()
        assert first.peer != second.peer


async def test_what_it_does_not_know_is_ignored_and_logged_once(
    node: ScriptedNode, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        # Member 2000 of the frame, a message of two bytes.
        await stream.send_bytes(b"\x82\x7d\x02ab")
        await stream.send_bytes(b"\x82\x7d\x02ab")
        await stream.send(command=worker_pb2.Command(command_id="c1", name="dance"))
        await stream.send(session_error=worker_pb2.SessionError(frame=7))
        await stream.offer("t1", "double", {"n": 1})
        assert (await stream.result()).task_id == "t1"
    assert sum("a newer kind" in record.message for record in caplog.records) == 1
    assert sum("(command)" in record.message for record in caplog.records) == 1


async def test_a_node_that_asks_for_the_catalog_gets_it_again(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker):
        stream = await node.welcomed(catalog_needed=True)
        assert len((await stream.message("catalog")).catalog.offerings) == 4
