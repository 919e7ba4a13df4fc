"""Events of tasks at the worker door: in the job's history once, however often they are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holon.rxon.v1 import types_pb2, worker_pb2
from holon.transports.grpc.outgoing import MAX_REFUSALS
from tests.integration.admission import admission
from tests.integration.grpc_node import Node, Wire, a_node, end_of, json_payload, offering, result, updates
from tests.integration.holons_below import comes, identity
from tests.integration.watching import watch


def event(lease: Any, event_id: str = "e1", kind: str = "seen", **more: Any) -> worker_pb2.Event:
    return worker_pb2.Event(event_id=event_id, type=kind, task_id=lease.task_id, lease_id=lease.lease_id, **more)


async def tells(worker: Wire, *events: worker_pb2.Event) -> list[worker_pb2.EventAck]:
    """Send events; what the node says of them."""
    await worker.send(frame(*events))
    return [await worker.expect("event_acks") for _ in events]


def frame(*events: worker_pb2.Event) -> worker_pb2.SessionRequest:
    return worker_pb2.SessionRequest(events=worker_pb2.WorkerEvents(events=events))


async def told(node: Node, job_id: str) -> list[str]:
    """The lines of a job's history that tell of events."""
    types = [line.event_type for line in await node.history(job_id)]
    return [one.removeprefix("worker_event:") for one in types if one.startswith("worker_event:")]


async def test_an_event_is_in_the_jobs_history_once_with_what_it_says_and_is_told_to_who_follows(node: Node) -> None:
    job_id = await node.create()
    stream = watch(node, job_id)
    await stream.next()
    worker = await node.worker()
    assert types_pb2.CAPABILITY_EVENTS in worker.welcome.capabilities
    offer = await worker.offer()
    said = event(offer, payload=json_payload({"n": 1}))
    said.time.FromMilliseconds(1_700_000_000_000)
    acks = await tells(worker, said, event(offer, "e2", "more"))
    assert [(ack.event_id, ack.HasField("error")) for ack in acks] == [("e1", False), ("e2", False)]
    # The answer was lost, and it comes again.
    assert not (await tells(worker, said))[0].HasField("error")
    lines = (await stream.until("event"))[-1:] + await stream.until("event")
    assert [one.event.event_type for one in lines if one.HasField("event")] == [
        "worker_event:seen",
        "worker_event:more",
    ]
    line = lines[0].event
    assert (line.worker_id, line.task_id) == ("w1", offer.task_id)
    assert b'"payload":{"n":1}' in line.context_snapshot.data
    assert (await node.job(job_id)).status == "waiting_for_worker"
    await worker.send(updates(result(offer, {})))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    assert (await node.ended(job_id)).status == "finished"
    assert await told(node, job_id) == ["seen", "more"]


async def test_what_was_sent_before_a_result_is_told_before_it(node: Node) -> None:
    job_id = await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    # In one go: the node has read all of it before it has stored any.
    await worker.send(frame(*(event(offer, f"e{n}", f"n{n}") for n in range(20))))
    await worker.send(updates(result(offer, {})))
    acks = [await worker.expect("event_acks") for _ in range(20)]
    assert not any(ack.HasField("error") for ack in acks)
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    await node.ended(job_id)
    assert await told(node, job_id) == [f"n{n}" for n in range(20)]


async def test_two_workers_may_give_their_events_the_same_ids(node: Node) -> None:
    jobs = []
    for worker_id in ("w1", "w2"):
        worker = await node.worker(worker_id)
        jobs.append(await node.create())
        [ack] = await tells(worker, event(await worker.offer()))
        assert not ack.HasField("error")
    assert [await told(node, job_id) for job_id in jobs] == [["seen"], ["seen"]]


@pytest.mark.parametrize("text", [b'{"a":' * 65 + b"1" + b"}" * 65, b'{"a":100000000000000000000}'])
async def test_a_payload_that_no_handler_could_be_given_is_refused_and_its_job_goes_on(node: Node, text: bytes) -> None:
    job_id = await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    [ack] = await tells(worker, event(offer, payload=types_pb2.Payload(data=text)))
    assert (ack.error.reason, ack.error.HasField("retry_after")) == ("NOT_JSON", False)
    await worker.send(updates(result(offer, {})))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    assert (await node.ended(job_id)).status == "finished"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"kind": ""}, "type"),
        ({"kind": "x" * 129}, "type"),
        ({"payload": json_payload([1])}, "payload"),
        ({"payload": types_pb2.Payload(data=b"{")}, "payload"),
        ({"payload": json_payload({"x": "y" * 65_536})}, ""),
        ({"holon_ids": ["h"]}, "holon_ids"),
        ({"job_ids": ["j"]}, "holon_ids"),
        ({"origin_worker_id": "w"}, "holon_ids"),
        ({"receipts": [types_pb2.Receipt()]}, "receipts"),
    ],
)
async def test_what_can_be_no_event_is_refused_by_its_id_and_the_rest_is_taken(
    node: Node, more: dict[str, Any], field: str
) -> None:
    job_id = await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    kind = more.pop("kind", "bad")
    await worker.send(frame(event(offer, "bad", kind, **more), event(offer, "good")))
    acks = {ack.event_id: ack for ack in [await worker.expect("event_acks") for _ in range(2)]}
    assert not acks["good"].HasField("error")
    assert [one.field for one in acks["bad"].error.field_violations] == ([field] if field else [])
    assert not acks["bad"].error.HasField("retry_after")
    assert await told(node, job_id) == ["seen"]


async def test_an_event_without_an_id_that_can_be_one_is_refused_by_its_message(node: Node) -> None:
    await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    await worker.send(frame(event(offer, "")))
    assert [one.field for one in (await worker.refused()).error.field_violations] == ["event_id"]


async def test_an_event_of_a_task_that_the_worker_does_not_hold_is_refused(node: Node) -> None:
    job_id = await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    other = await node.worker("w2")
    [ack] = await tells(other, event(offer))
    assert ack.error.reason == "TASK_NOT_HELD"
    [ack] = await tells(worker, event(worker_pb2.TaskOffer(task_id="0-x-0-0", lease_id=offer.lease_id)))
    assert ack.error.reason == "TASK_NOT_HELD"
    assert await told(node, job_id) == []


async def test_an_event_on_a_stream_that_its_worker_is_leaving_is_asked_for_again_on_the_newer_one(node: Node) -> None:
    job_id = await node.create()
    old = await node.worker(instance_id="a")
    offer = await old.offer()
    lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
    new = await node.worker(instance_id="a", resume=worker_pb2.Resume(leases=[lease]))
    [ack] = await tells(old, event(offer))
    assert (ack.error.reason, ack.error.HasField("retry_after")) == ("SESSION_REPLACED", True)
    [ack] = await tells(old, event(worker_pb2.TaskOffer(task_id=offer.task_id, lease_id="another")))
    assert not ack.error.HasField("retry_after")
    [ack] = await tells(new, event(offer))
    assert not ack.HasField("error")
    assert await told(node, job_id) == ["seen"]


async def test_a_batch_over_the_limit_is_refused_whole(node: Node) -> None:
    await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    await worker.send(frame(*(event(offer, f"e{n}") for n in range(257))))
    assert (await worker.refused()).error.reason == "BATCH_TOO_LARGE"
    assert (await tells(worker, event(offer)))[0].event_id == "e1"


async def test_an_event_of_a_job_that_was_cancelled_is_acknowledged_and_told_to_nobody(node: Node) -> None:
    job_id = await node.create()
    worker = await node.worker(capabilities=[])
    offer = await worker.offer()
    await node.cancel(job_id)
    await node.ended(job_id)
    [ack] = await tells(worker, event(offer))
    assert ack.event_id == "e1"
    assert await told(node, job_id) == []


SEEN = worker_pb2.EventType(
    type="seen",
    schema=json_payload({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}),
)


async def test_what_a_skill_declares_of_its_events_is_checked_and_nothing_else_of_who_declares_none(node: Node) -> None:
    job_id = await node.create()
    worker = await node.worker("w1", offering("t", events=[SEEN, worker_pb2.EventType(type="any")]))
    offer = await worker.offer()
    good, bad, none, free, other = await tells(
        worker,
        event(offer, "e1", payload=json_payload({"n": 1})),
        event(offer, "e2", payload=json_payload({"n": "1"})),
        event(offer, "e3"),
        event(offer, "e4", "any", payload=json_payload({"m": [1]})),
        event(offer, "e5", "other"),
    )
    assert [one.HasField("error") for one in (good, free)] == [False, False]
    assert {one.error.reason for one in (bad, none, other)} == {"EVENT_INVALID"}
    assert not any(one.error.HasField("retry_after") for one in (bad, none, other))
    assert [one.field for one in bad.error.field_violations] == ["payload.n"]
    assert "declares only seen, any" in other.error.message
    # What it declares now is what counts.
    await worker.send(worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(offerings=[offering("t")])))
    [again] = await tells(worker, event(offer, "e6", "other"))
    assert not again.HasField("error")
    await worker.send(updates(result(offer, {})))
    assert (await node.ended(job_id)).status == "finished"
    assert await told(node, job_id) == ["seen", "any", "other"]


async def test_events_that_cannot_be_declared_are_refused_with_their_catalog(node: Node) -> None:
    worker = await node.worker()
    for events, field in (
        ([worker_pb2.EventType(type="")], "events.0.type"),
        ([SEEN, SEEN], "events.1.type"),
        ([worker_pb2.EventType(type="x", schema=json_payload({"type": "nonsense"}))], "events.0.schema"),
        ([worker_pb2.EventType(type=f"x{n}") for n in range(65)], "events"),
    ):
        await worker.send(
            worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(offerings=[offering("t", events=events)]))
        )
        refused = (await worker.refused()).error
        assert [one.field for one in refused.field_violations] == [f"catalog.offerings.0.{field}"]


@pytest.mark.parametrize("is_holon", [True, False])
async def test_what_others_said_ends_no_link_however_often_it_is_refused(tmp_path: Path, is_holon: bool) -> None:
    async with a_node(admission=admission(tmp_path, '["child"]\nkind = "holon"\ncn = "child"')) as node:
        worker = await comes(node, identity()) if is_holon else await node.worker()
        await node.create()
        offer = await worker.offer()
        bad = [event(offer, f"e{n}", payload=json_payload([n])) for n in range(MAX_REFUSALS)]
        await worker.send(frame(*bad))
        for one in bad:
            ack = await worker.expect("event_acks")
            assert (ack.event_id, ack.error.reason) == (one.event_id, "INVALID_ARGUMENT")
        if is_holon:
            await worker.beat()
        else:
            assert (await end_of(worker))[1] == "TOO_MANY_ERRORS"


@pytest.mark.parametrize(("length", "reason"), [(253, ""), (254, "INVALID_ARGUMENT")])
async def test_who_sent_what_a_holon_passes_on_has_an_id_as_long_as_a_certificate_may_give(
    tmp_path: Path, length: int, reason: str
) -> None:
    async with a_node(admission=admission(tmp_path, '["child"]\nkind = "holon"\ncn = "child"')) as node:
        holon = await comes(node, identity())
        job_id = await node.create()
        offer = await holon.offer()
        [ack] = await tells(holon, event(offer, holon_ids=["below"], origin_worker_id="w" * length))
        assert ack.error.reason == reason
        assert await told(node, job_id) == ([] if reason else ["seen"])
