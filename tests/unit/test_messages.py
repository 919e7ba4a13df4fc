"""Messages between nodes: what is packed comes back, whichever release packed it; other bytes are refused."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from holon.core.messages import MalformedMessage, pack, unpack
from holon.domain.attempts import Loss, Unfinished
from holon.domain.events import (
    ApprovalResolved,
    BranchesDone,
    CancelRequested,
    HistoryEvent,
    InboxEvent,
    TaskEnded,
    TaskEvent,
    Woken,
)
from holon.domain.job import Job, JobError, Question, Status, Waiting
from holon.domain.matching import Need
from holon.domain.signals import KeptSignal, Signal
from holon.domain.task import Outcome, RetryPolicy, TaskError
from holon.domain.value import Value, field, replace
from holon.domain.wants import Wants
from holon.domain.wishes import Wish
from holon.errors import InvalidArgument
from holon.ports import (
    Accept,
    Appended,
    Claim,
    Completed,
    Created,
    Creation,
    Handback,
    Leased,
    LeaseRef,
    NewFanOut,
    NewJob,
    NewTask,
    Note,
    Offer,
    Opened,
    Opening,
    Progress,
    Put,
    Quota,
    Replaced,
    Result,
    Seat,
    Step,
    Stop,
    StopReason,
    Superseded,
    Touch,
    Touched,
)

NEED = Need("t", "1", "x", ("a",), ("b",), ("t", "u"), 7, ("skipped",), '{"ram_gb":16}', "cheapest", "llama")
WAITING = Waiting(4, {"success": "end", "failure": "mend"}, None, Question("q", "May I?", "chat", 5), 9, {"odd": "y"})
STATE = {"text": "ä", "list": [1, 2.5, None, True], "large": 2**64 - 1, "small": -(2**63), "deep": {"a": {"b": []}}}
JOB = Job(
    "0-a",
    "bp",
    "ann",
    {"n": 1},
    "start",
    Status.WAITING_FOR_WORKER,
    step=4,
    state_history=STATE,
    waiting=WAITING,
    result=[1, {"a": None}],
    error=JobError("ODD", "it is odd", {"seen": [3]}, retryable=False),
    client_params=b"\x00\xff",
    priority=2.5,
    allowed_skills=("t", "u"),
    parts=("0-b",),
    wants=Wants("2", "gpu"),
    signals=(KeptSignal("paid", {"n": 1}, 7), KeptSignal("sent", {}, 2)),
    wishes=(Wish("signal", "r1", "paid"),),
)
OUTCOME = Outcome("success", b'{"n":1}', None, "w1")
FAILED = Outcome("failure", b"", TaskError("ODD", "it is odd", b'{"a":1}', retryable=True), "w1")
TASK = NewTask("0-a-5-0", 0, NEED, b"{}", 1.5, 300, None, 5, RetryPolicy(5, 10, 20), "trace", 7, None)
LINE = HistoryEvent("state_started", 5, "start", "before", details={"a": [1]})
FAN_OUT = NewFanOut(3, True, ((TASK, TASK), (TASK,)))
STEP = Step("c1", "m1", JOB, (1, 2), (LINE, HistoryEvent("x", 6)), (TASK,), FAN_OUT, 100, True, True, True)
OFFER = Offer(
    "w1", "s1", "0-a-4-0", "l1", "0-a", "t", "1", "x", b'{"n":1}', 2.5, 1, 2, 300, 12_345, RetryPolicy(), "trace", 30,
    ("t",), 7, ("a",), ("skipped",), '{"ram_gb":16}', "llama", ("1", "x"),
)  # fmt: skip
LEASED = Leased((OFFER, replace(OFFER, deadline=None, time_left=None)), frozenset({"k1", "k2"}))
LEASE = LeaseRef("w1", "s1", "0-a-4-0", "l1")
EVENTS: tuple[InboxEvent, ...] = (
    TaskEnded(4, "0-a-4-0", FAILED, 2),
    BranchesDone(4, 1, True, True),
    Woken(4),
    CancelRequested("ann", False, "why"),
    ApprovalResolved("q", "yes", "ann", b'{"n":1}', "fine", "r1", "top", 7),
    Signal("paid", "ann", b'{"n":1}', "r1", "top", 7),
    TaskEvent(4, "0-a-4-0", "e1", "odd", b'{"n":1}', "w1", 5, ("h1", "h2"), ("j",), "w9"),
)
CLAIM = Claim(JOB, "c1", tuple(enumerate(EVENTS, 1)), 2)
SEATS = (
    Seat("w1", "s1", 3, ("k1", "k2"), frozenset({"k1"}), {"k1": 5}),
    Seat("w2", "s2", 1, ("k1",)),
    Seat("w3", "s3", 1, (), prices=MappingProxyType({"k1": 5})),
)
PUT = Put("key", b"\x00\xff", 3, 500)
LOSS = Loss("w1", "s1", "t", "WORKER_LOST")
NEW_JOB = NewJob(JOB, (LINE,), "r1", b"\x01", STEP, Quota("ann", 5, "2026-11", 900), Note("note", PUT))
RESULT = Result("0-a-4-0", "l1", OUTCOME, took=12, cost=5)

# The arguments and the replies of the calls whose shard may be elsewhere, with their types.
MESSAGES: list[tuple[Any, object]] = [
    *((InboxEvent, event) for event in EVENTS),
    (tuple[str, InboxEvent, str, str, int | None], ("0-a", EVENTS[0], "k", "", None)),
    (Appended, Appended.FULL),
    (Sequence[Claim], [CLAIM, replace(CLAIM, events=())]),
    (Sequence[Result], [RESULT, replace(RESULT, outcome=FAILED, retry_after=5, share_lost=True)]),
    (tuple[Sequence[Result], str, tuple[Seat, ...]], ([replace(RESULT, step=STEP)], "w1", SEATS)),
    (Completed, Completed((None, Superseded.STALE_TASK), frozenset({"l1"}), LEASED, frozenset({"l2"}))),
    (
        Touch,
        Touch(
            (Accept(LEASE, 5), Accept(LEASE)),
            (LEASE,),
            (Handback(LEASE, 5, 7, True, True, Unfinished.NOT_DELIVERED, "FULL"), Handback(LEASE)),
            (Progress(LEASE, 12.5, "half"), Progress(LEASE, None, None)),
            (("w1", "s1", 3),),
        ),
    ),
    (Touch, Touch()),
    (
        Touched,
        Touched((LEASE,), (Stop(LEASE, StopReason.LEASE_LOST),), LEASED, (Replaced("s1", "s2", "i2"),)),
    ),
    (Opening, Opening("w1", "s1", 5, (("0-a-4-0", "l1"),), 30, 300, "i1", 3)),
    (Opened, Opened("s0", (OFFER,), (("0-a-4-0", "l1", Superseded.JOB_CANCELLED),), (LOSS,), outranked=True)),
    (Opened, Opened(None)),
    (tuple[str, str], ("w1", "s1")),
    (None, None),
    (tuple[NewJob, ...], (NEW_JOB, NewJob(Job("0-a", "bp", "ann", {}, "start"), ()))),
    (
        Created,
        Created((("0-a", Creation.CREATED), ("0-b", Creation.OVER_QUOTA)), LEASED, (None, 3)),
    ),
    (tuple[Seat, ...], SEATS),
    (Leased, LEASED),
    (Leased, Leased()),
    (Mapping[str, Need], {"k1": NEED, "k2": Need("u")}),
    (Mapping[str, JobError], {"a": JobError("ODD", "it is odd", {"a": 1})}),
    (frozenset[str], frozenset({"k1", "k2"})),
    (None | Claim, CLAIM),
    (None | Claim, None),
    (Superseded, Superseded.STALE_TASK),
    (bytes, b"\x00\xff"),
]


@pytest.mark.parametrize(("kind", "message"), MESSAGES)
def test_a_message_comes_back_as_it_was(kind: Any, message: object) -> None:
    read = unpack(kind, pack(message))
    assert read == message
    assert type(read) is type(message)


def test_a_read_value_is_of_the_classes_that_were_packed() -> None:
    job = unpack(NewJob, pack(NEW_JOB)).job
    assert type(job) is Job
    assert type(job.status) is Status
    assert type(job.signals) is tuple
    assert list(job.waiting.transitions) == ["success", "failure"] if job.waiting else False
    assert unpack(Need, pack(NEED)).key == NEED.key


def test_a_result_that_is_the_state_history_is_packed_once_and_is_it_again() -> None:
    ended = replace(JOB, result=STATE)
    read = unpack(Job, pack(ended))
    assert read == ended
    assert read.result is read.state_history
    assert len(pack(ended)) < len(pack(replace(JOB, result=dict(STATE))))


@pytest.mark.parametrize("data", [{"a": {1, 2}}, {"a": 2**64}, {1: "a"}, {"a": float("nan")}])
def test_the_sender_refuses_users_data_that_is_not_json(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="not JSON") as caught:
        pack([Claim(replace(JOB, state_history=data), "c1", (), 0)])
    assert caught.value.code == "NOT_JSON"


def test_what_no_message_can_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot hold a object"):
        pack([object()])
    with pytest.raises(TypeError, match="cannot be read from a message"):
        unpack(Job | Step | None, b"\xc0")


# Releases --------------------------------------------------------------------------------------------------------


class Older(Value):
    """A class of an older release."""

    name: str
    need: Need


class Newer(Value):
    """The same class, of a release that appended fields."""

    name: str
    need: Need
    more: tuple[str, ...] = ("x",)
    prices: Mapping[str, int] = field(default_factory=dict)


class OlderData(Value, gc=True):
    """A class with users' data, of an older release."""

    name: str
    data: dict[str, Any]


class NewerData(Value, gc=True):
    """The same class, of a release that appended fields."""

    name: str
    data: dict[str, Any]
    steps: int = 3
    result: Any = 7
    more: dict[str, Any] = field(default_factory=lambda: {"a": 1})
    jobs: tuple[OlderData, ...] = (OlderData("d", {}),)
    last: str = "end"


DATA = {"n": 1}


@pytest.mark.parametrize(
    ("kind", "packed", "read"),
    [
        (Newer, Older("a", NEED), Newer("a", NEED)),
        (Older, Newer("a", NEED, (), {"k": 1}), Older("a", NEED)),
        (NewerData, OlderData("a", DATA), NewerData("a", DATA)),
        (OlderData, NewerData("a", DATA, 1, 2, {}, (), "x"), OlderData("a", DATA)),
        (tuple[NewerData, ...], (OlderData("a", DATA),), (NewerData("a", DATA),)),
        (Sequence[OlderData | None], [None, NewerData("a", DATA)], [None, OlderData("a", DATA)]),
    ],
)
def test_a_newer_release_only_appends_fields(kind: Any, packed: object, read: object) -> None:
    assert unpack(kind, pack(packed)) == read


@pytest.mark.parametrize("event", EVENTS)
def test_an_inbox_event_may_have_more_fields(event: InboxEvent) -> None:
    fields = msgspec.msgpack.decode(pack(event))
    assert unpack(InboxEvent, msgspec.msgpack.encode([*fields, "of a newer release", 7])) == event


# Garbage ---------------------------------------------------------------------------------------------------------

OTHERS = [
    b"",
    b"\xc1",
    b"\xa2\xff\xff",
    b"\x91" * 100_000,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    pack(OFFER) + b"\x00",
    pack("text"),
    pack(["of another", "kind"]),
    pack({"a": {"b": 1}}),
]


@pytest.mark.parametrize("kind", [InboxEvent, Offer, Sequence[Result], Created, tuple[Appended, tuple[Claim, ...]]])
@pytest.mark.parametrize("data", OTHERS)
def test_bytes_of_another_kind_are_refused(kind: Any, data: bytes) -> None:
    with pytest.raises(MalformedMessage, match=f"^{len(data)} bytes are no message of kind"):
        unpack(kind, data)


@pytest.mark.parametrize("place", [-1, 0, 4, 10, 13, 99])
def test_users_data_in_the_place_of_no_text_is_refused(place: int) -> None:
    fields = msgspec.msgpack.decode(pack(JOB))
    fields[10] = place
    with pytest.raises(MalformedMessage, match="Job has no text in place"):
        unpack(Job, msgspec.msgpack.encode(fields))


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000])
def test_users_data_that_is_not_as_its_field_says_is_refused(text: bytes) -> None:
    fields = msgspec.msgpack.decode(pack(JOB))
    fields[10] = text
    with pytest.raises(MalformedMessage):
        unpack(Job, msgspec.msgpack.encode(fields))


@pytest.mark.parametrize(("kind", "message"), MESSAGES)
def test_damaged_bytes_raise_nothing_else(kind: Any, message: object) -> None:
    whole, dice = pack(message), random.Random(0)
    damaged = [whole[: dice.randrange(len(whole))] for _ in range(50)]
    for _ in range(200):
        one = bytearray(whole)
        one[dice.randrange(len(one))] = dice.randrange(256)
        damaged.append(bytes(one))
    for data in damaged:
        with suppress(MalformedMessage):
            unpack(kind, data)
