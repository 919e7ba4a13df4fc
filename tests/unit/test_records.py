"""What is stored of jobs, needs, branches and events comes back as it was."""

from __future__ import annotations

import msgpack
import pytest

from holon.domain.events import CancelRequested, InboxEvent, TaskEvent
from holon.domain.job import Job, Status, Waiting
from holon.domain.matching import Need
from holon.domain.signals import KeptSignal, Signal
from holon.domain.task import RetryPolicy
from holon.domain.value import replace
from holon.domain.wants import Wants
from holon.domain.wishes import Wish
from holon.ports import NewTask
from holon.stores.records import (
    SCHEMA,
    NewerRecord,
    decode_chunk,
    decode_event,
    decode_job,
    decode_need,
    encode_chunk,
    encode_event,
    encode_job,
    encode_need,
    unpack,
)

JOB = Job("0-a", "bp", "ann", {"n": 1}, "start")
NEED = Need("t", "1", "x", ("a",), ("b",), ("t", "u"), 7, ("skipped",), '{"ram_gb":16}', "cheapest", "llama")


@pytest.mark.parametrize(
    "job",
    [
        JOB,
        replace(JOB, plan="gold", client_params=b'{"limit":5}', priority=2.5, allowed_skills=("t", "u"), budget=0),
        replace(JOB, deadline=7, parent_job_id="0-b", depth=2, parts=("0-c", "0-d"), default_priority=2.5),
        replace(JOB, webhook="https://ann.example/ended", max_transitions=7, wants=Wants("2", "gpu", '{"ram_gb":16}')),
        replace(JOB, status=Status.WAITING_FOR_WORKER, waiting=Waiting(4, {"success": "end"}, None)),
        replace(JOB, waiting=Waiting(4, {"success": "x"}, events={"odd": "y"}), events=3),
        replace(JOB, signals=(KeptSignal("paid", {"n": 1}, 7), KeptSignal("sent", {}, 2))),
        replace(JOB, wishes=(Wish("signal", "r1", "paid"), Wish("decision", "r1", "yes"))),
    ],
)
def test_a_job_comes_back_as_it_was(job: Job) -> None:
    assert decode_job(encode_job(job)) == job


@pytest.mark.parametrize("need", [Need("t"), NEED])
def test_a_need_comes_back_as_it_was_with_its_key(need: Need) -> None:
    assert decode_need(encode_need(need)) == need
    assert decode_need(encode_need(need)).key == need.key


def test_branches_come_back_with_the_time_from_which_they_count() -> None:
    task = NewTask("0-a-1-0", 0, NEED, b"{}", 1.5, 300, None, 5, RetryPolicy(), "trace", 7)
    assert decode_chunk(encode_chunk((task,), 99)) == ((task,), 99)


@pytest.mark.parametrize(
    "event",
    [
        CancelRequested("ann"),
        CancelRequested("ann", insist=False),
        CancelRequested("ann", True, "why"),
        Signal("paid", "ann"),
        Signal("paid", "ann", b'{"n":1}', "r1", "top", 7),
        TaskEvent(4, "0-a-4-0", "e1", "odd", b'{"n":1}', "w1", 5, ("h1", "h2"), ("j",), "w9"),
    ],
)
def test_an_event_comes_back_as_it_was(event: InboxEvent) -> None:
    assert decode_event(encode_event(event)) == event


def test_a_record_of_a_newer_release_is_not_read() -> None:
    with pytest.raises(NewerRecord, match=f"reads {SCHEMA} at most"):
        unpack("job", msgpack.packb((SCHEMA + 1, "x")))
