"""Records of older schemas are read as what they mean today."""

from __future__ import annotations

import msgpack

from holon.domain.events import CancelRequested, TaskEvent
from holon.domain.job import Job, Status, Waiting
from holon.domain.matching import Need
from holon.domain.signals import KeptSignal, Signal
from holon.domain.task import RetryPolicy
from holon.domain.value import replace
from holon.domain.wants import Wants
from holon.domain.wishes import Wish
from holon.ports import NewTask
from holon.storage.ledger.rows import TaskRow
from holon.storage.records import (
    SCHEMA,
    decode_chunk,
    decode_event,
    decode_job,
    decode_need,
    encode_chunk,
    encode_event,
    encode_job,
    encode_need,
    pack,
    unpack,
)
from holon.storage.records.schema import UPGRADES
from holon.storage.sqlite.task_rows import fields_of

# The fields of a job that came since schema 8.
NEWEST = 11


def test_a_job_that_was_written_before_clients_had_plans_has_none() -> None:
    job = Job("0-a", "bp", "ann", {"n": 1}, "start", plan="gold", client_params=b'{"limit":5}', priority=2.5)
    assert decode_job(encode_job(job)) == job
    *fields, _, _, _ = unpack("job", encode_job(job))[:-NEWEST]
    assert decode_job(msgpack.packb((3, *fields))) == job
    *fields, _ = fields
    assert decode_job(msgpack.packb((2, *fields))) == replace(job, priority=None)
    *fields, _, _ = fields
    assert decode_job(msgpack.packb((1, *fields))) == replace(job, plan="unknown", client_params=b"", priority=None)


def test_what_was_written_before_there_were_limits_may_use_all_skills_at_any_price() -> None:
    job = Job("0-a", "bp", "ann", {}, "start", allowed_skills=("t", "u"), budget=0)
    assert decode_job(encode_job(job)) == job
    *fields, _, _, _ = unpack("job", encode_job(job))[:-NEWEST]
    assert decode_job(msgpack.packb((3, *fields))) == replace(job, allowed_skills=None, budget=None)

    need = Need("t", "1", "x", ("a",), ("b",), ("t", "u"), 7, ("skipped",))
    assert decode_need(encode_need(need)) == need
    *fields, _, _, _, _ = unpack("need", encode_need(need))
    assert decode_need(msgpack.packb((7, *fields))) == replace(need, statuses=())
    del fields[-2:]
    before = Need("t", "1", "x", ("a",), ("b",))
    assert decode_need(msgpack.packb((3, *fields))) == before
    assert decode_need(msgpack.packb((1, *fields))) == before

    task = NewTask("0-a-1-0", 0, need, b"{}", 1.5, 300, None, 5, RetryPolicy(), "trace", 7)
    assert decode_chunk(encode_chunk((task,), 99)) == ((task,), 99)
    (fields,), _ = unpack("chunk", encode_chunk((task,), 99))
    del fields[2][-4:]
    unsaid = replace(task, need=replace(need, statuses=()))
    assert decode_chunk(msgpack.packb((7, [fields], 99))) == ((unsaid,), 99)
    assert decode_chunk(msgpack.packb((6, [fields]))) == ((unsaid,), None)
    del fields[2][-2:]
    del fields[-1]
    assert decode_chunk(msgpack.packb((3, [fields]))) == ((replace(task, need=before),), None)
    assert decode_chunk(msgpack.packb((2, [fields[:-1]]))) == ((replace(task, need=before, lost_after=0),), None)


def test_a_job_that_was_written_before_it_had_a_deadline_has_none() -> None:
    job = Job("0-a", "bp", "ann", {}, "start", budget=7, deadline=1_700_000_000_000)
    assert decode_job(encode_job(job)) == job
    *fields, _ = unpack("job", encode_job(job))[:-NEWEST]
    assert decode_job(msgpack.packb((5, *fields))) == replace(job, deadline=None)


def test_a_job_that_was_written_before_jobs_had_parts_is_none_and_has_none() -> None:
    job = Job("0-a", "bp", "ann", {}, "start", deadline=7, parent_job_id="0-b", depth=2, parts=("0-c", "0-d"))
    assert decode_job(encode_job(job)) == job
    fields = unpack("job", encode_job(job))[:-NEWEST]
    assert decode_job(msgpack.packb((8, *fields))) == replace(job, parent_job_id="", depth=0, parts=())


def test_the_one_part_that_a_job_had_before_it_could_have_several_is_read_as_such() -> None:
    for child, parts in (("0-c", ("0-c",)), ("", ())):
        said = {"webhook": "https://ann.example/ended", "default_priority": 2.5, "max_transitions": 7}
        job = Job("0-a", "bp", "ann", {}, "start", depth=2, parts=parts, **said)  # type: ignore[arg-type]
        assert decode_job(encode_job(job)) == job
        *fields, _, _, _, _, _ = unpack("job", encode_job(job))
        fields[fields.index(list(parts), 27)] = child
        assert decode_job(msgpack.packb((9, *fields))) == replace(job, default_priority=0.0, max_transitions=None)


def test_a_job_comes_back_with_the_signals_that_it_keeps_and_a_signal_as_it_was_sent() -> None:
    kept = (KeptSignal("paid", {"n": 1}, 7), KeptSignal("sent", {}, 2))
    wishes = (Wish("signal", "r1", "paid"), Wish("decision", "r1", "yes"))
    job = Job("0-a", "bp", "ann", {}, "start", Status.WAITING_FOR_SIGNAL, signals=kept, wishes=wishes)
    assert decode_job(encode_job(job)) == job
    for event in (Signal("paid", "ann"), Signal("paid", "ann", b'{"n":1}', "r1", "top", 7)):
        assert decode_event(encode_event(event)) == event


def test_a_job_of_schema_10_is_read_be_it_from_before_jobs_kept_signals_or_after() -> None:
    job = Job("0-a", "bp", "ann", {}, "start", default_priority=2.5, max_transitions=7)
    fields = unpack("job", encode_job(job))
    assert fields[-3:] == [[], [], 0]
    assert decode_job(msgpack.packb((10, *fields[:-3]))) == job
    keeps = replace(job, signals=(KeptSignal("paid", {"n": 1}, 7),))
    assert decode_job(msgpack.packb((10, *unpack("job", encode_job(keeps))[:-2]))) == keeps


def test_a_job_of_schema_11_is_read_be_it_from_before_jobs_remembered_wishes_or_after() -> None:
    kept = (KeptSignal("paid", {"n": 1}, 7),)
    job = Job("0-a", "bp", "ann", {}, "start", signals=kept)
    fields = unpack("job", encode_job(job))
    assert decode_job(msgpack.packb((11, *fields[:-2]))) == job
    remembers = replace(job, wishes=(Wish("signal", "r1", "paid"),))
    assert decode_job(msgpack.packb((11, *unpack("job", encode_job(remembers))[:-1]))) == remembers


def test_what_records_have_is_said_by_their_schema() -> None:
    """Nodes of the release before stop at a newer schema alone: who changes these numbers gives it the next one."""
    job = unpack("job", encode_job(Job("0-a", "bp", "ann", {}, "start")))
    need = unpack("need", encode_need(Need("t")))
    new = NewTask("0-a-0-0", 0, Need("t"), b"{}", 0.0, 1, None, None, RetryPolicy())
    (task,), _ = unpack("chunk", encode_chunk((new,), 9))
    row = fields_of(TaskRow.made(1, "0-a", 0, new, False, 1))
    assert (SCHEMA, len(job), len(need), len(task), len(row)) == (13, 36, 11, 12, 31)


def test_a_cancel_is_read_with_all_that_was_said_of_it() -> None:
    for event in (CancelRequested("ann"), CancelRequested("ann", insist=False), CancelRequested("ann", True, "why")):
        assert decode_event(encode_event(event)) == event
    assert encode_event(CancelRequested("ann")) == pack("cancel", "ann")


def test_a_job_that_was_written_before_there_were_webhooks_has_none() -> None:
    job = Job("0-a", "bp", "ann", {}, "start", deadline=7, webhook="https://ann.example/ended")
    assert decode_job(encode_job(job)) == job
    fields = unpack("job", encode_job(job))[:-NEWEST]
    assert decode_job(msgpack.packb((8, *fields))) == replace(job, webhook="")


def test_what_upgrades_a_tasks_fields_upgrades_them_among_those_that_ended_together_too() -> None:
    # Endings came with schema 5; the fields of a task stand in them as in a record of its own.
    since = {kind: {schema for one, schema in UPGRADES if one == kind and schema >= 5} for kind in ("task", "endings")}
    assert since["endings"] == since["task"]


def test_what_a_job_waits_for_is_read_as_it_was_written_before_there_were_questions_and_pauses() -> None:
    job = Job("0-a", "bp", "ann", {}, "start", Status.WAITING_FOR_WORKER, waiting=Waiting(4, {"success": "end"}, None))
    fields = unpack("job", encode_job(job))[:-NEWEST]
    assert [4, {"success": "end"}, None] in fields
    assert decode_job(msgpack.packb((8, *fields))) == job


def test_what_was_written_before_tasks_could_ask_for_more_asks_for_nothing() -> None:
    job = Job("0-a", "bp", "ann", {}, "start", deadline=7, wants=Wants("2", "gpu", '{"ram_gb":16}'))
    assert decode_job(encode_job(job)) == job
    fields = unpack("job", encode_job(job))[:-NEWEST]
    assert decode_job(msgpack.packb((8, *fields))) == replace(job, wants=None)

    before = Need("t", "1", "x", ("a",), ("b",), ("t", "u"), 7, ("skipped",))
    need = replace(before, resources='{"ram_gb":16}', strategy="cheapest", hint="llama")
    assert decode_need(encode_need(need)) == need
    assert decode_need(encode_need(need)).key == need.key != before.key
    *fields, _, _, _ = unpack("need", encode_need(need))
    assert decode_need(msgpack.packb((8, *fields))) == before
    task = NewTask("0-a-1-0", 0, need, b"{}", 1.5, 300, None, 5, RetryPolicy(), "trace", 7)
    assert decode_chunk(encode_chunk((task,), 99)) == ((task,), 99)
    (fields,), _ = unpack("chunk", encode_chunk((task,), 99))
    del fields[2][-3:]
    assert decode_chunk(msgpack.packb((8, [fields], 99))) == ((replace(task, need=before),), 99)


def test_an_event_of_a_task_comes_back_as_it_was_and_so_does_a_job_that_waits_for_one() -> None:
    event = TaskEvent(4, "0-a-4-0", "e1", "odd", b'{"n":1}', "w1", 5, ("h1", "h2"), ("j",), "w9")
    assert decode_event(encode_event(event)) == event
    job = Job("0-a", "bp", "ann", {}, "start", waiting=Waiting(4, {"success": "x"}, events={"odd": "y"}), events=3)
    assert decode_job(encode_job(job)) == job
    fields = unpack("job", encode_job(job))[:-NEWEST]
    assert decode_job(msgpack.packb((8, *fields))) == replace(job, events=0)
