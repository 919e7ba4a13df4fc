"""The draining writer: control goes first, data goes together and in order, and nothing grows without a limit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.config.settings import table
from holon.errors import ResourceExhausted, TooLarge, Unavailable
from holon.rxon.v1 import worker_pb2
from holon.wire.frames import frames_of, member_of
from holon.wire.stream import MOST_MESSAGE_BYTES, Lane, StreamWriter

Frame = worker_pb2.SessionResponse


class Wire:
    """Where frames go: what was sent, and a brake."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.free = asyncio.Event()
        self.free.set()
        self.used = asyncio.Event()

    async def send(self, encoded: bytes) -> None:
        self.frames.append(Frame.FromString(encoded))
        self.used.set()
        await self.free.wait()

    def kinds(self) -> list[str | None]:
        return [frame.WhichOneof("message") for frame in self.frames]


def offer(task_id: str, size: int = 0) -> worker_pb2.TaskOffer:
    message = worker_pb2.TaskOffer(task_id=task_id)
    message.params.data = b"x" * size
    return message


def offers_of(writer: StreamWriter) -> Lane[worker_pb2.TaskOffer]:
    return writer.lane(worker_pb2.TaskOffer, frames_of(Frame, "task_offers", "offers"))


def acks_of(writer: StreamWriter) -> Lane[worker_pb2.ResultAck]:
    return writer.lane(worker_pb2.ResultAck, frames_of(Frame, "update_acks", "results"))


def control(sequence: int = 1) -> Frame:
    return Frame(heartbeat_ack=worker_pb2.HeartbeatAck(sequence=sequence))


async def sent(wire: Wire, writer: StreamWriter) -> list[Frame]:
    """Everything that was put, as frames."""
    writer.close()
    await writer.run()
    return wire.frames


def test_workers_and_clients_read_as_much_as_the_settings_can_allow_a_node_to_send() -> None:
    assert table()["GRPC_MESSAGE_MAX_BYTES"].maximum == MOST_MESSAGE_BYTES


def ids(frame: Frame) -> list[str]:
    return [one.task_id for one in frame.task_offers.offers]


async def test_what_one_turn_of_the_loop_collects_shares_a_frame_and_control_goes_before_it() -> None:
    wire = Wire()
    writer = StreamWriter(wire.send)
    offers, acks = offers_of(writer), acks_of(writer)
    offers.put(offer("t1"))
    acks.put(worker_pb2.ResultAck(task_id="t0"))
    offers.put(offer("t2"))
    writer.put_control(control(1))
    writer.put_control(control(2))
    frames = await sent(wire, writer)
    assert wire.kinds() == ["heartbeat_ack", "heartbeat_ack", "task_offers", "update_acks"]
    assert [frame.heartbeat_ack.sequence for frame in frames[:2]] == [1, 2]
    assert ids(frames[2]) == ["t1", "t2"]


async def test_control_that_comes_while_data_is_stuck_goes_next() -> None:
    wire = Wire()
    wire.free.clear()
    writer = StreamWriter(wire.send)
    offers = offers_of(writer)
    for number in range(300):
        offers.put(offer(f"t{number}"))
    running = asyncio.create_task(writer.run())
    await wire.used.wait()
    writer.put_control(control())
    wire.free.set()
    writer.close()
    await running
    assert wire.kinds() == ["task_offers", "heartbeat_ack", "task_offers"]


async def test_control_is_told_which_frame_of_the_stream_it_will_be() -> None:
    wire = Wire()
    wire.free.clear()
    writer = StreamWriter(wire.send)
    offers = offers_of(writer)
    offers.put(offer("t1"))
    running = asyncio.create_task(writer.run())
    await wire.used.wait()
    offers.put(offer("t2"))
    said = {number: writer.put_control(control(number)) for number in (7, 8)}
    writer.close()
    wire.free.set()
    await running
    assert {
        one.heartbeat_ack.sequence: n for n, one in enumerate(wire.frames, 1) if one.HasField("heartbeat_ack")
    } == said


async def test_a_writer_that_is_stopped_sends_the_frame_that_is_on_its_way_and_no_other() -> None:
    wire = Wire()
    wire.free.clear()
    writer = StreamWriter(wire.send)
    writer.put_control(control(1))
    writer.put_control(control(2))
    running = asyncio.create_task(writer.run())
    await wire.used.wait()
    writer.stop()
    wire.free.set()
    await running
    assert wire.kinds() == ["heartbeat_ack"]


async def test_a_batch_stops_at_256_items_and_at_one_mebibyte_but_one_item_may_be_alone() -> None:
    wire = Wire()
    writer = StreamWriter(wire.send)
    offers = offers_of(writer)
    for number in range(300):
        offers.put(offer(f"t{number}"))
    for name, size in (("a", 600_000), ("b", 600_000), ("c", 2_000_000), ("d", 10)):
        offers.put(offer(name, size))
    frames = await sent(wire, writer)
    assert [len(frame.task_offers.offers) for frame in frames] == [256, 45, 1, 1, 1]
    assert [task for frame in frames for task in ids(frame)] == [*(f"t{number}" for number in range(300)), *"abcd"]
    assert all(frame.ByteSize() <= 1024 * 1024 or len(ids(frame)) == 1 for frame in frames)


async def test_a_batch_keeps_to_a_smaller_limit_of_the_other_side() -> None:
    wire = Wire()
    writer = StreamWriter(wire.send, max_message_bytes=1000)
    offers = offers_of(writer)
    for number in range(100):
        offers.put(offer(f"t{number}", 50))
    assert all(frame.ByteSize() <= 1000 for frame in await sent(wire, writer))


async def test_lanes_take_turns() -> None:
    wire = Wire()
    writer = StreamWriter(wire.send)
    offers, acks = offers_of(writer), acks_of(writer)
    for number in range(600):
        offers.put(offer(f"t{number}"))
    acks.put(worker_pb2.ResultAck(task_id="t0"))
    await sent(wire, writer)
    assert wire.kinds() == ["task_offers", "update_acks", "task_offers", "task_offers"]


async def test_what_was_not_sent_can_be_taken_back() -> None:
    wire = Wire()
    writer = StreamWriter(wire.send, max_bytes=100)
    offers = offers_of(writer)
    for name in ("t1", "t2", "t3"):
        offers.put(offer(name, 20))
    assert [one.task_id for one in offers.discard(lambda one: one.task_id == "t2")] == ["t2"]
    assert len(offers) == 2
    offers.put(offer("t4", 20))
    assert [ids(frame) for frame in await sent(wire, writer)] == [["t1", "t3", "t4"]]
    assert offers.discard(lambda one: True) == []


async def test_a_message_that_the_other_side_could_not_read_is_refused_and_the_stream_goes_on() -> None:
    wire = Wire()
    writer = StreamWriter(wire.send, max_message_bytes=1000)
    offers = offers_of(writer)
    with pytest.raises(TooLarge, match="1000"):
        offers.put(offer("t1", 1000))
    with pytest.raises(TooLarge, match="1000"):
        writer.put_control(Frame(go_away=worker_pb2.GoAway(message="x" * 1000)))
    offers.put(offer("t2", 950))
    (frame,) = await sent(wire, writer)
    assert ids(frame) == ["t2"]
    assert frame.ByteSize() <= 1000


async def test_a_full_queue_is_an_error_that_says_so() -> None:
    writer = StreamWriter(Wire().send, max_items=2, max_bytes=100)
    offers = offers_of(writer)
    offers.put(offer("t1", 80))
    with pytest.raises(ResourceExhausted, match="bytes wait"):
        offers.put(offer("t2", 80))
    offers.put(offer("t3"))
    with pytest.raises(ResourceExhausted, match="2 messages wait"):
        offers.put(offer("t4"))
    writer.put_control(control())
    writer.put_control(control())
    with pytest.raises(ResourceExhausted, match="does not read"):
        writer.put_control(control())


async def test_a_closed_stream_takes_nothing_more() -> None:
    wire = Wire()
    writer = StreamWriter(wire.send)
    offers = offers_of(writer)
    offers.put(offer("t1"))
    assert len(await sent(wire, writer)) == 1
    with pytest.raises(Unavailable, match="ended"):
        offers.put(offer("t2"))
    with pytest.raises(Unavailable, match="ended"):
        writer.put_control(control())


def test_a_frame_of_encoded_items_is_the_frame_of_the_items() -> None:
    offers = [offer("", 0), offer("t1", 0), offer("t2", 100), offer("t3", 127), offer("t4", 20_000)]
    for items in ([], offers[:1], offers):
        encoded = frames_of(Frame, "task_offers", "offers")([one.SerializeToString() for one in items])
        assert encoded == Frame(task_offers=worker_pb2.TaskOffers(offers=items)).SerializeToString()


def test_an_encoded_member_after_the_rest_of_a_message_is_the_member_of_it() -> None:
    within = member_of(worker_pb2.TaskUpdate, "result")
    rest = worker_pb2.TaskUpdate(task_id="t", resent=True)
    for size in (0, 1, 127, 128, 20_000):
        result = worker_pb2.TaskResult(status="s" * size)
        whole = worker_pb2.TaskUpdate(task_id="t", resent=True, result=result)
        encoded = rest.SerializeToString() + within(result.SerializeToString())
        assert worker_pb2.TaskUpdate.FromString(encoded) == whole


async def test_a_failed_write_ends_the_writer_and_closes_the_stream() -> None:
    async def broken(_: Any) -> None:
        raise ConnectionError("gone")

    writer = StreamWriter(broken)
    writer.put_control(control())
    with pytest.raises(ConnectionError):
        await writer.run()
    assert writer.closed


async def test_control_that_waits_is_bounded_in_bytes_too() -> None:
    wire = Wire()
    writer = StreamWriter(wire.send, max_bytes=1_000)
    large = Frame(session_error=worker_pb2.SessionError(task_id="x" * 600))
    writer.put_control(large)
    with pytest.raises(ResourceExhausted):
        writer.put_control(large)
    assert len(await sent(wire, writer)) == 1
