"""A worker moves from one stream to the next: nothing is lost between them, and nothing begun twice."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import worker_pb2
from holon.worker import Worker
from holon.worker.timing import Timing
from tests.integration.scripted_node import (
    GUARD,
    Certificates,
    Gate,
    ScriptedNode,
    Stream,
    is_at_once,
    keep,
    serving,
    worker_for,
)
from tests.integration.worker_sdk.skills import nothing
from tests.log_watch import LogWatch


async def test_a_node_that_rotates_gets_the_new_stream_before_the_old_one_is_closed(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        old = await node.welcomed("old")
        await old.offer("t1", "held", {"n": 1})
        await gate.enter()
        await old.offer("t2", "double", {"n": 2})
        assert (await old.result()).task_id == "t2"
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
        new = await node.session()
        assert not old.half_closed.is_set()
        assert new.peer != old.peer, "a connection of its own, for the old one may be the trouble"
        assert {one.task_id for one in new.hello.resume.leases} == {"t1", "t2"}
        await new.welcome("new", leases=keep("t1", "t2"))
        await old.wait(old.half_closed)
        old.end()
        again = await new.result()
        assert (again.task_id, again.resent) == ("t2", True)
        gate.open.set()
        assert (await new.result()).task_id == "t1"
        assert gate.runs == 1


async def moving(node: ScriptedNode) -> tuple[Stream, Stream]:
    """A stream on which a task runs, and the one that is to take its place, which has said Hello."""
    old = await node.welcomed("old")
    await old.offer("t1", "endless")
    assert (await old.update()).HasField("accepted")
    await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
    return old, await node.session()


async def test_what_was_given_back_while_a_new_stream_was_opened_is_given_back_on_that_too(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        old, new = await moving(node)
        assert {one.task_id for one in new.hello.resume.leases} == {"t1"}
        await old.stop("t1", "LEASE_LOST")
        while not (await old.update()).HasField("rejected"):
            pass
        await new.welcome("new", leases=keep("t1"))
        update = await new.update()
        assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t1", "STALE_OFFER", True)


@pytest.mark.parametrize("answered", [True, False])
async def test_what_is_offered_while_a_hello_is_on_its_way_waits_for_its_answer(
    node: ScriptedNode, worker: Worker, gate: Gate, *, answered: bool
) -> None:
    async with serving(worker):
        old, new = await moving(node)
        await old.offer("t2", "held")
        # It is read behind the offer.
        await old.stop("t1", "LEASE_LOST")
        while not (await old.update()).HasField("rejected"):
            pass
        if answered:
            await new.welcome("new")
            await new.offer("t3", "double", {"n": 3})
            assert (await new.result()).task_id == "t3"
            assert gate.runs == 0, "the node has given it to others, for the Hello did not name it"
        else:
            new.end(grpc.StatusCode.UNAVAILABLE, "DRAINING")
            await gate.enter()
            gate.open.set()
            assert (await old.result()).task_id == "t2", "the stream on which it came goes on"


async def test_what_is_stopped_while_it_waits_for_the_answer_to_a_hello_is_given_back_and_never_begun(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    gate.open.set()
    async with serving(worker):
        old = await node.welcomed("old")
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
        new = await node.session()
        await old.offer("t1", "held")
        await old.offer("t2", "double", {"n": 2})
        await old.stop("t1")
        update = await old.update()
        assert (update.task_id, update.WhichOneof("update"), is_at_once(update)) == ("t1", "rejected", True)
        new.end(grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert (await old.result()).task_id == "t2"
    assert gate.runs == 0


async def test_who_drains_while_a_hello_is_on_its_way_gives_back_what_waits_for_the_answer(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        old = await node.welcomed("old")
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
        await node.session()
        await old.offer("t1", "held")
        await old.offer("t2", "held")
        # It is read behind the offers.
        await old.stop("t2")
        assert (await old.update()).task_id == "t2"
        worker.drain()
        update = await old.update()
        assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t1", "DRAINING", True)


async def test_no_more_offers_wait_for_the_answer_to_a_hello_than_there_may_be(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        old, new = await moving(node)
        most = new.hello.credits
        for n in range(most + 1):
            await old.offer(f"w{n}", "double", {"n": n})
        assert (await old.result()).task_id == f"w{most}"


async def test_what_comes_late_on_a_stream_that_was_left_begins_and_stops_nothing(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        old = await node.welcomed("old")
        await old.offer("t1", "endless")
        await old.offer("t2", "double", {"n": 2})
        assert (await old.result()).task_id == "t2"
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
        new = await node.session()
        await new.welcome("new", leases=keep("t1"))
        await old.wait(old.half_closed)
        await old.offer("t3", "held")
        await old.stop("t1", "LEASE_LOST")
        await old.ack("t2")
        old.end()
        await old.wait(old.gone)
        assert (await new.result()).task_id == "t2"
        await new.stop("t1")
        update = await new.result()
        assert (update.task_id, update.result.status) == ("t1", "cancelled")
        assert gate.runs == 0


async def test_while_no_other_stream_is_to_be_had_the_old_one_still_takes_results(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        old = await node.welcomed("old")
        await old.offer("t1", "held")
        await gate.enter()
        await old.send(go_away=worker_pb2.GoAway(reason="DRAINING", time_left=Duration(seconds=5)))
        (await node.session()).end(grpc.StatusCode.UNAVAILABLE, "DRAINING")
        gate.open.set()
        assert (await old.result()).task_id == "t1"


async def test_the_address_that_a_leaving_node_names_is_tried_first(
    certificates: Certificates, node: ScriptedNode, worker: Worker
) -> None:
    async with ScriptedNode(certificates) as other, serving(worker):
        stream = await node.welcomed()
        urls = ["http://nonsense", "grpc://127.0.0.1:1", other.url]
        await stream.send(go_away=worker_pb2.GoAway(reason="DRAINING", try_urls=urls))
        assert (await other.session()).hello.resume.session_id == "s1"


class Counting(Timing):
    """Waits as little as can be, and notes after how many losses in a row."""

    __slots__ = ()
    counted: ClassVar[list[int]] = []

    def pause(self, losses: int) -> float:
        self.counted.append(losses)
        return 0.0


class Patient(Timing):
    """Waits long from the second loss on."""

    def pause(self, losses: int) -> float:
        return 0.0 if losses < 2 else 2 * GUARD


async def test_who_was_sent_away_and_had_nowhere_to_go_comes_back_soon_once_the_old_stream_has_ended(
    node: ScriptedNode, certificates: Certificates
) -> None:
    worker = worker_for(certificates, node, timing=Patient())
    worker.skill(nothing)
    async with serving(worker):
        old = await node.welcomed("old")
        await old.send(go_away=worker_pb2.GoAway(reason="DRAINING"))
        (await node.session()).end(grpc.StatusCode.UNAVAILABLE, "DRAINING")
        with LogWatch("trying again in 120") as watch:
            (await node.session()).end(grpc.StatusCode.UNAVAILABLE, "DRAINING")
            await asyncio.wait_for(watch.seen.wait(), GUARD)
        old.end(grpc.StatusCode.UNAVAILABLE, "DRAINING")
        await node.welcomed("new")


async def test_what_was_lost_before_a_session_that_lasted_does_not_slow_down_who_is_sent_away(
    certificates: Certificates, node: ScriptedNode
) -> None:
    Counting.counted.clear()
    worker = worker_for(certificates, node, timing=Counting(settled=0.0))
    worker.skill(nothing)
    async with serving(worker):
        for _ in range(3):
            (await node.session()).end(grpc.StatusCode.UNAVAILABLE, "no room")
        await (await node.welcomed()).send(go_away=worker_pb2.GoAway(reason="DRAINING"))
        (await node.session()).end(grpc.StatusCode.UNAVAILABLE, "no room")
        await node.session()
    assert Counting.counted == [1, 2, 3, 1]
