"""What a job below waits for is sent from the root: the worker door of that, with a child frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from holon.engine import ways_down
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.security.clients import sole
from tests.integration.admission import admission
from tests.integration.grpc_node import (
    CLIENT_TOKEN,
    ENDED,
    Node,
    Wire,
    a_node,
    json_payload,
    reason_of,
    result,
    updates,
)
from tests.integration.holons_below import comes, identity
from tests.integration.hostile_trees.trees import BELOW, child, working
from tests.integration.test_decisions_below import refused, replies
from tests.integration.test_worker_events import event, tells

WAITS = "job-below"
NOT_AWAITED = (grpc.StatusCode.FAILED_PRECONDITION, "SIGNAL_NOT_AWAITED")
AWAY = (grpc.StatusCode.UNAVAILABLE, "HOLON_AWAY")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    workers = admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"')
    async with a_node(admission=workers, entries=(*sole(CLIENT_TOKEN),)) as node:
        yield node


def told(offer: worker_pb2.TaskOffer, kind: str = "awaited", **said: Any) -> worker_pb2.Event:
    """What the child tells of a wait of a job two levels below it."""
    path = {"holon_ids": ["lowest", BELOW], "job_ids": ["top-below", WAITS]}
    return event(offer, f"e-{kind}", f"signal_{kind}", payload=json_payload(said), **path)


async def waiting(node: Node, wire: Wire) -> tuple[str, worker_pb2.TaskOffer]:
    """A job below which one waits for a signal."""
    job_id, offer = await working(node, wire)
    await knows(node, job_id, wire, told(offer, names=["paid"]))
    return job_id, offer


async def knows(node: Node, job_id: str, wire: Wire, one: worker_pb2.Event) -> None:
    """The child tells of something, and it stands in the history of the job above."""
    (ack,) = await tells(wire, one)
    assert not ack.HasField("error")
    while f"worker_event:{one.type}" not in [line.event_type for line in await node.history(job_id)]:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def send(node: Node, job_id: str, **more: Any) -> asyncio.Task[Any]:
    request = job_pb2.SendSignalRequest(**{"job_id": job_id, "to_job_id": WAITS, "name": "paid", **more})
    return asyncio.create_task(node.call("SendSignal", request, job_pb2.SendSignalResponse.FromString))


async def test_a_signal_goes_down_by_the_way_that_the_wait_was_told_under_one_name_for_each_request(
    node: Node,
) -> None:
    wire = await child(node)
    job_id, offer = await waiting(node, wire)
    names = []
    for request_id in ("r1", "r1", "r2", "", ""):
        call = send(node, job_id, data=json_payload({"n": 1}), request_id=request_id)
        asked = await wire.expect("resolve_request")
        names.append(asked.command_id)
        await replies(wire, asked)
        job = (await call).job
        assert (job.id, job.status, job.kept_signals) == (job_id, "waiting_for_worker", 0)
    assert (asked.task_id, asked.lease_id) == (offer.task_id, offer.lease_id)
    assert (list(asked.job_ids), list(asked.holon_ids)) == (["top-below", WAITS], ["lowest", BELOW])
    assert (asked.kind, asked.name, asked.approval_id) == (worker_pb2.RESOLVE_KIND_SIGNAL, "paid", "")
    assert (json.loads(asked.payload.data), asked.decided_by) == ({"n": 1}, "default")
    assert asked.decided_at.ToMilliseconds() > 0
    assert names[0] == names[1]
    assert len(set(names)) == 4


async def test_a_repeat_is_answered_from_the_history_once_it_was_told_that_the_signal_came(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await waiting(node, wire)
    call = send(node, job_id, request_id="r1")
    asked = await wire.expect("resolve_request")
    await replies(wire, asked)
    await call
    await knows(node, job_id, wire, told(offer, "received", name="paid", request_id=asked.command_id))
    # The child is not asked again, and no task has to be there.
    assert (await send(node, job_id, request_id="r1")).job.status == "waiting_for_worker"
    await wire.send(updates(result(offer)))
    await wire.verdict()
    await node.ended(job_id)
    assert (await send(node, job_id, request_id="r1")).job.status == "finished"
    reused = (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert await refused(send(node, job_id, request_id="r1", name="refused")) == reused
    for request_id in ("r2", ""):
        assert await refused(send(node, job_id, request_id=request_id)) == NOT_AWAITED


async def test_who_has_told_of_no_wait_gets_no_signal(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await working(node, wire)
    # Another waits, which is on the way to it at most; and a wait is told, that has none.
    await knows(node, job_id, wire, event(offer, "e-1", "signal_awaited", job_ids=["top-below"], holon_ids=[BELOW]))
    (ack,) = await tells(wire, event(offer, "e-2", "signal_awaited"))
    assert not ack.HasField("error")
    for to in (WAITS, "top", "x" * 5_000):
        assert await refused(send(node, job_id, to_job_id=to)) == NOT_AWAITED
    await wire.beat()


async def test_what_a_sibling_tells_of_a_wait_neither_gets_its_signal_nor_counts_as_its_word(node: Node) -> None:
    # It has room for one task, and the child gets the other.
    sibling = await comes(node, identity("beside"), "child-2", "i2")
    job_id = await node.create("spread", branches=2)
    beside = await sibling.offer()
    wire = await child(node)
    offer = await wire.offer()
    await knows(node, job_id, wire, told(offer, names=["paid"]))
    for more in ({}, {"kind": "received"}):
        (ack,) = await tells(sibling, told(beside, **more, name="paid", request_id="c1"))
        assert not ack.HasField("error")
    call = send(node, job_id, request_id="r1")
    asked = await wire.expect("resolve_request")
    assert asked.task_id == offer.task_id
    await replies(wire, asked)
    await call
    # Nor when it knows by what name the signal goes.
    (ack,) = await tells(sibling, told(beside, "received", name="other", request_id=asked.command_id))
    assert not ack.HasField("error")
    call = send(node, job_id, request_id="r1")
    await replies(wire, await wire.expect("resolve_request"))
    await call


async def test_what_the_child_says_is_what_who_sends_is_told(node: Node) -> None:
    wire = await child(node)
    job_id, _ = await waiting(node, wire)
    for (code, reason), heard in (
        ((9, "JOB_TERMINATED"), (grpc.StatusCode.FAILED_PRECONDITION, "JOB_TERMINATED")),
        ((9, "SIGNAL_NOT_AWAITED"), NOT_AWAITED),
        ((6, "REQUEST_ID_REUSED"), (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")),
        ((8, "SIGNALS_FULL"), (grpc.StatusCode.RESOURCE_EXHAUSTED, "SIGNALS_FULL")),
        # An older release takes none.
        ((12, "UNIMPLEMENTED"), (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")),
        ((13, "INTERNAL"), AWAY),
    ):
        call = send(node, job_id)
        await replies(wire, await wire.expect("resolve_request"), types_pb2.Error(code=code, reason=reason))
        assert await refused(call) == heard
    await wire.beat()


async def test_a_child_that_is_silent_or_gone_is_to_be_tried_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = await child(node)
    job_id, offer = await waiting(node, wire)
    # While one is on its way, its repeat is not sent.
    first = send(node, job_id, request_id="r1")
    asked = await wire.expect("resolve_request")
    assert await refused(send(node, job_id, request_id="r1")) == AWAY
    await replies(wire, asked)
    await first
    monkeypatch.setattr(ways_down, "_ANSWER_S", 0.05)
    monkeypatch.setattr(ways_down, "_LEVEL_S", 0.0)
    silent = send(node, job_id, request_id="r2")
    asked = await wire.expect("resolve_request")
    assert await refused(silent) == AWAY
    await wire.close()
    await node.until(lambda: node.engine.trees.link("child") is None)
    with pytest.raises(ENDED, match="'child' is not linked to this node now; retry when it is back") as error:
        await send(node, job_id, request_id="r2")
    assert (error.value.code(), reason_of(error.value)) == AWAY
    monkeypatch.undo()
    held = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
    back = await child(node, resume=worker_pb2.Resume(leases=[held]))
    call = send(node, job_id, request_id="r2")
    again = await back.expect("resolve_request")
    assert again.command_id == asked.command_id
    await replies(back, again)
    await call


async def test_a_child_that_does_not_list_the_capability_is_sent_nothing(node: Node) -> None:
    wire = await child(node, answers=False)
    job_id, _ = await waiting(node, wire)
    with pytest.raises(ENDED, match="accepts no signals from above") as error:
        await send(node, job_id)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    await wire.beat()


async def test_a_worker_that_is_no_holon_cannot_tell_of_waits(node: Node) -> None:
    await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    for kind in ("awaited", "received", "timed_out"):
        (ack,) = await tells(worker, event(offer, kind, f"signal_{kind}"))
        assert "only a holon may send" in ack.error.message
