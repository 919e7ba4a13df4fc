"""Events that handlers send: kept until they are acknowledged, and told before the final word."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from holon.errors import HolonError, InvalidArgument, ResourceExhausted
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.worker import SendEvent
from holon.worker.events import MOST_OF_TASK, MOST_UNACKNOWLEDGED
from holon.worker.leases import Lease
from tests.unit.worker_runner.bench import Bench, Make

KNOWS = worker_pb2.Welcome(capabilities=[types_pb2.CAPABILITY_EVENTS])


class Stream:
    """A session of a node that takes events; what is said of them, in order with the updates."""

    end = None
    max_payload_bytes = 10_000

    def __init__(self, welcome: worker_pb2.Welcome = KNOWS) -> None:
        self.welcome = welcome
        self.said: list[Any] = []
        self.heard = asyncio.Event()

    def put(self, encoded: bytes) -> None:
        update = worker_pb2.TaskUpdate.FromString(encoded)
        self.said.append(update)

    def put_control(self, frame: worker_pb2.SessionRequest) -> int:
        self.said += frame.events.events
        self.heard.set()
        return 2

    @property
    def events(self) -> list[worker_pb2.Event]:
        return [one for one in self.said if isinstance(one, worker_pb2.Event)]

    @property
    def updates(self) -> list[worker_pb2.TaskUpdate]:
        return [one for one in self.said if isinstance(one, worker_pb2.TaskUpdate)]


def on(made: Bench, stream: Stream) -> None:
    session: Any = stream
    made.link.reports.session = session
    made.link.reports.repeat()


async def returned(made: Bench, lease: Lease) -> None:
    """The handler has returned, and there is a final word."""
    async with asyncio.timeout(60):
        while made.link.reports.leases.holds(lease):  # noqa: ASYNC110  nobody else is told
            await asyncio.sleep(0)


async def ran(made: Bench, stream: Stream, skill: str = "work") -> None:
    """A task of the skill, until its handler has returned."""
    on(made, stream)
    await returned(made, made.offer(skill))


def acks(*events: worker_pb2.Event, error: types_pb2.Error | None = None) -> worker_pb2.UpdateAcks:
    return worker_pb2.UpdateAcks(events=[worker_pb2.EventAck(event_id=one.event_id, error=error) for one in events])


def later(**seconds: int) -> types_pb2.Error:
    """The node has no room for an event yet."""
    error = types_pb2.Error(reason="INBOX_FULL")
    error.retry_after.SetInParent()
    for name, value in seconds.items():
        setattr(error.retry_after, name, value)
    return error


async def test_events_go_before_the_result_and_again_on_a_new_session_until_they_are_acknowledged(bench: Make) -> None:
    def work(send_event: SendEvent) -> None:
        send_event("begun")
        send_event("seen", {"n": 1})

    made, first = bench(work), Stream()
    await ran(made, first)
    begun, seen = first.events
    assert (begun.type, seen.type) == ("begun", "seen")
    assert (begun.task_id, begun.lease_id, begun.HasField("payload")) == ("t1", "t1-lease", False)
    assert orjson.loads(seen.payload.data) == {"n": 1}
    assert seen.time.seconds > 1_700_000_000
    reports = made.link.reports
    reports.acknowledge(acks(begun))
    second = Stream()
    on(made, second)
    assert second.said == [seen]
    reports.acknowledge(acks(seen, error=types_pb2.Error(reason="TASK_NOT_HELD")))
    assert second.said[-1].HasField("result")
    third = Stream()
    on(made, third)
    [result] = third.said
    assert result.resent


async def test_the_result_waits_for_an_event_that_the_node_cannot_take_yet(bench: Make) -> None:
    def work(send_event: SendEvent) -> None:
        send_event("seen")
        send_event("more")

    made, stream = bench(work), Stream()
    await ran(made, stream)
    seen, more = stream.events
    stream.heard.clear()
    made.link.reports.acknowledge(acks(seen, error=later(nanos=1)))
    made.link.reports.acknowledge(acks(more))
    async with asyncio.timeout(60):
        await stream.heard.wait()
    assert stream.events == [seen, more, seen]
    assert not any(one.HasField("result") for one in stream.updates)
    made.link.reports.acknowledge(acks(seen))
    assert stream.said[-1].HasField("result")


async def test_what_happens_after_an_event_that_is_to_be_sent_again_waits_for_that(bench: Make) -> None:
    made, stream = bench(), Stream()
    on(made, stream)
    reports = made.link.reports
    lease = Lease("t1", "lease")
    reports.leases.take(lease)
    first = worker_pb2.Event(event_id="e1")
    reports.event(lease, first)
    reports.acknowledge(acks(first, error=later(nanos=1)))
    stream.heard.clear()
    reports.event(lease, worker_pb2.Event(event_id="e2"))
    assert len(stream.events) == 1
    async with asyncio.timeout(60):
        await stream.heard.wait()
    assert [one.event_id for one in stream.events] == ["e1", "e1", "e2"]
    reports.event(lease, worker_pb2.Event(event_id="e3"))
    assert stream.events[-1].event_id == "e3"


async def test_no_more_events_are_on_their_way_than_a_node_takes_and_one_put_off_holds_up_no_other_task(
    bench: Make,
) -> None:
    def work(send_event: SendEvent) -> None:
        for _ in range(MOST_OF_TASK):
            send_event("seen")

    made, stream = bench(work), Stream()
    await ran(made, stream)
    first = stream.events
    assert len(first) == MOST_UNACKNOWLEDGED
    await returned(made, made.offer("work", task_id="t2"))
    assert stream.events == first
    made.link.reports.acknowledge(acks(*first, error=later(seconds=3600)))
    assert [one.task_id for one in stream.events[MOST_UNACKNOWLEDGED:]] == ["t2"] * MOST_OF_TASK
    made.link.reports.stop()


async def test_what_is_told_again_under_a_newer_lease_is_sent_under_that(bench: Make) -> None:
    made, stream = bench(), Stream()
    on(made, stream)
    reports = made.link.reports
    for lease in (Lease("t1", "older"), Lease("t1", "newer")):
        reports.leases.take(lease)
        reports.event(lease, worker_pb2.Event(event_id="j1-3", type="seen"))
    assert [one.lease_id for one in stream.events] == ["older", "newer"]
    reports.reject(Lease("t1", "older"), "STALE_OFFER", "the task is here under a newer lease")
    third = Stream()
    on(made, third)
    assert [one.lease_id for one in third.events] == ["newer"]


async def test_nothing_is_kept_of_a_task_whose_result_is_acknowledged_or_that_was_given_back(bench: Make) -> None:
    def work(send_event: SendEvent) -> None:
        send_event("seen")

    made, stream = bench(work), Stream()
    await ran(made, stream)
    ack = worker_pb2.ResultAck(task_id="t1", lease_id="t1-lease", verdict=worker_pb2.VERDICT_COMMITTED)
    made.link.reports.acknowledge(worker_pb2.UpdateAcks(results=[ack]))
    assert repr(made.link.reports.events) == "Events(unacknowledged=0)"


async def test_a_node_that_takes_no_events_is_sent_none(bench: Make) -> None:
    def work(send_event: SendEvent) -> None:
        send_event("seen")

    made, stream = bench(work), Stream(worker_pb2.Welcome())
    await ran(made, stream)
    assert stream.events == []
    assert repr(made.link.reports.events) == "Events(unacknowledged=0)"


@pytest.mark.parametrize(
    ("type_", "payload", "says"),
    [
        ("", None, "event type ''"),
        ("approval_requested", None, "is reserved for what a job waits for"),
        ("x" * 129, None, "1 to 128 printable"),
        ("a\nb", None, "1 to 128 printable"),
        (7, None, "event type 7"),
        ("seen", [1], "is a list; give a dict"),
        ("seen", {"at": object()}, "cannot be written as JSON"),
        ("seen", {"x": "y" * 65_536}, "over the limit of 65536"),
    ],
)
async def test_what_can_be_no_event_is_refused_where_it_is_sent(
    bench: Make, type_: Any, payload: Any, says: str
) -> None:
    caught: list[HolonError] = []

    def work(send_event: SendEvent) -> None:
        with pytest.raises(InvalidArgument, match=says) as error:
            send_event(type_, payload)
        caught.append(error.value)

    made, stream = bench(work), Stream()
    await ran(made, stream)
    assert [one.code for one in caught] == ["EVENT_INVALID"]
    assert stream.events == []


@pytest.mark.parametrize(("type_", "payload"), [("", None), ("signal_awaited", None), ("seen", {"x": object()})])
async def test_a_task_that_sends_what_can_be_no_event_is_not_tried_again(bench: Make, type_: str, payload: Any) -> None:
    def work(send_event: SendEvent) -> None:
        send_event(type_, payload)

    made, stream = bench(work), Stream()
    await ran(made, stream)
    [result] = [one.result for one in stream.said if one.HasField("result")]
    assert (result.status, result.error.code) == ("failure", "PERMANENT_ERROR")


async def test_a_task_sends_no_more_than_a_thousand(bench: Make) -> None:
    caught: list[HolonError] = []

    def work(send_event: SendEvent) -> None:
        for _ in range(MOST_OF_TASK):
            send_event("seen")
        with pytest.raises(ResourceExhausted, match="1000 events, which is the limit") as error:
            send_event("seen")
        caught.append(error.value)

    made, stream = bench(work), Stream()
    await ran(made, stream)
    assert [one.code for one in caught] == ["EVENTS_FULL"]
    assert len(stream.events) == MOST_OF_TASK
