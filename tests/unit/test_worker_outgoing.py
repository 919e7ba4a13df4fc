"""The node's side of a worker's session: what it queues, and what it gives back when it cannot send."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.attempts import Unfinished
from holon.domain.costs import Cost
from holon.domain.task import RetryPolicy
from holon.engine.members import Member
from holon.engine.session import Session
from holon.engine.workers import Workers
from holon.errors import HolonError
from holon.ports import LeaseRef, Offer, Opened, Stop, StopReason
from holon.rxon.v1 import worker_pb2
from holon.telemetry.metrics import StreamMetrics
from holon.transports.grpc.outgoing import Outgoing
from holon.wire.stream import StreamWriter


class Recorder(Workers):
    """Workers that only note what they are given back."""

    def __init__(self) -> None:
        self.back: list[tuple[str, int | None]] = []

    def rejected(
        self,
        member: Member,
        task_id: str,
        lease_id: str,
        *,
        again_after: int | None = None,
        cost: Cost = None,
        unbegun: bool = False,
        why: str = "",
        reason: Unfinished = Unfinished.RETURNED,
        code: str = "",
    ) -> bool:
        self.back.append((task_id, again_after))
        return member.session.leases.pop(lease_id, None) is not None


class Door:
    """An outgoing side whose frames are kept, and whose stream ends are noted."""

    def __init__(self, *, max_message_bytes: int = 4 * 2**20, max_bytes: int = 2**20, can_stop: bool = True) -> None:
        self.frames: list[worker_pb2.SessionResponse] = []
        self.ends: list[tuple[str, bool]] = []
        self.workers = Recorder()
        self.writer = StreamWriter(self._keep, max_message_bytes=max_message_bytes, max_items=100, max_bytes=max_bytes)
        self.outgoing = Outgoing(self.writer, self.workers, can_stop, True, self._ended, StreamMetrics())
        session = Session("w1", "s1", 100, {}, self.outgoing)
        self.member = Member(session, Opened(None))
        self.outgoing.open(self.member, worker_pb2.Welcome())

    async def _keep(self, encoded: bytes) -> None:
        self.frames.append(worker_pb2.SessionResponse.FromString(encoded))

    def _ended(self, error: HolonError, last_words: bool) -> None:
        self.ends.append((error.code, last_words))

    def offer(self, *numbers: int, size: int = 0) -> list[Offer]:
        offers = [_offer(number, size) for number in numbers]
        self.member.session.leases.update({one.lease_id: one for one in offers})
        self.outgoing.offer(offers)
        return offers

    async def sent(self) -> list[Any]:
        self.writer.close()
        await self.writer.run()
        return [(str(frame.WhichOneof("message")), frame) for frame in self.frames[1:]]


def _offer(number: int, size: int) -> Offer:
    params = b'"%b"' % (b"x" * size)
    return Offer("w1", "s1", f"t{number}", f"l{number}", "j", "t", "", "", params, 0, 1, 1, None, None, RetryPolicy())


def _stop(offer: Offer, reason: StopReason = StopReason.CANCELLED) -> Stop:
    return Stop(LeaseRef("w1", "s1", offer.task_id, offer.lease_id), reason)


async def test_what_is_too_large_for_the_worker_is_given_back_and_avoids_it() -> None:
    door = Door(max_message_bytes=64 * 1024)
    door.offer(1, size=100_000)
    door.offer(2)
    assert door.workers.back == [("t1", None)]
    assert not door.ends
    ((kind, frame),) = await door.sent()
    assert (kind, [one.task_id for one in frame.task_offers.offers]) == ("task_offers", ["t2"])


async def test_what_a_worker_that_does_not_read_has_no_room_for_is_given_back() -> None:
    door = Door(max_bytes=100_000)
    door.offer(1, 2, 3, size=40_000)
    assert door.workers.back == [("t3", None)]
    assert not door.ends


async def test_control_that_finds_no_room_ends_the_stream_at_once() -> None:
    door = Door()
    for sequence in range(100):
        door.outgoing.beat(sequence, 0)
    assert door.ends == [("STREAM_FULL", False)]


async def test_a_stop_takes_back_an_offer_that_was_not_sent_and_tells_of_one_that_was() -> None:
    door = Door()
    (unsent,) = door.offer(1)
    held = _offer(2, 0)
    door.member.session.leases["l2"] = held
    door.outgoing.stop([_stop(unsent), _stop(held), _stop(held, StopReason.LEASE_LOST), _stop(_offer(9, 0))])
    assert door.workers.back == [("t1", 0)]
    ((kind, frame),) = await door.sent()
    assert (kind, [(one.task_id, one.reason) for one in frame.stop_tasks.stops]) == (
        "stop_tasks",
        [("t2", "CANCELLED")],
    )


async def test_a_worker_that_is_sent_away_is_offered_nothing_more() -> None:
    door = Door()
    door.offer(1)
    door.outgoing.go_away("DRAINING", "this node is shutting down", 1_500)
    door.offer(2)
    assert door.workers.back == [("t1", 0), ("t2", 0)]
    assert not door.ends
    ((kind, frame),) = await door.sent()
    assert (kind, frame.go_away.reason, frame.go_away.time_left.ToMilliseconds()) == ("go_away", "DRAINING", 1500)


async def test_a_worker_that_is_replaced_is_shown_out_after_the_last_words() -> None:
    door = Door()
    door.outgoing.go_away("REPLACED", "a newer session of this worker has opened", 0)
    assert door.ends == [("SESSION_REPLACED", True)]


@pytest.mark.parametrize("can_stop", [True, False])
async def test_only_a_worker_that_can_stop_is_told_to(can_stop: bool) -> None:
    door = Door(can_stop=can_stop)
    held = _offer(2, 0)
    door.member.session.leases["l2"] = held
    door.outgoing.stop([_stop(held)])
    assert [kind for kind, _ in await door.sent()] == ["stop_tasks"] * can_stop
