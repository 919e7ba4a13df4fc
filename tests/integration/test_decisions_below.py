"""What a job below asks a person is decided at the root: the worker door of that, with a child frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from holon.domain.client import Client
from holon.engine import ways_down
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.security.clients import Entry, sole
from holon.security.tokens import digest_of
from tests.integration.admission import admission
from tests.integration.grpc_node import (
    CLIENT,
    CLIENT_TOKEN,
    ENDED,
    Node,
    Wire,
    a_node,
    fields_of,
    json_payload,
    reason_of,
    result,
    updates,
)
from tests.integration.hostile_trees.trees import BELOW, STRANGER, child, working
from tests.integration.test_worker_events import event, tells

QUESTION = "job-below-3"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    entries = (*sole(CLIENT_TOKEN), Entry(Client("stranger"), frozenset({digest_of(STRANGER)})))
    async with a_node(
        admission=admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"'), entries=entries
    ) as node:
        yield node


def told(offer: worker_pb2.TaskOffer, kind: str = "requested", **more: Any) -> worker_pb2.Event:
    """What the child tells of a question of a job two levels below it."""
    said = {"approval_id": QUESTION, "message": "Go on?", "decisions": ["yes", "no"], **more}
    path = {"holon_ids": ["lowest", BELOW], "job_ids": ["top-below", "job-below"]}
    return event(offer, f"e-{kind}", f"approval_{kind}", payload=json_payload(said), **path)


async def asking(node: Node, wire: Wire) -> tuple[str, worker_pb2.TaskOffer]:
    """A job below which somebody is asked."""
    job_id, offer = await working(node, wire)
    (ack,) = await tells(wire, told(offer))
    assert not ack.HasField("error")
    await in_history(node, job_id, "requested")
    return job_id, offer


async def in_history(node: Node, job_id: str, kind: str) -> job_pb2.HistoryEvent:
    while True:
        for line in await node.history(job_id):
            if line.event_type == f"worker_event:approval_{kind}":
                return line
        await asyncio.sleep(0.005)


def decide(node: Node, job_id: str, metadata: Any = CLIENT, **more: Any) -> asyncio.Task[Any]:
    fields = {"job_id": job_id, "approval_id": QUESTION, "decision": "yes", **more}
    request = job_pb2.ResolveApprovalRequest(**fields)
    kind = job_pb2.ResolveApprovalResponse.FromString
    return asyncio.create_task(node.call("ResolveApproval", request, kind, metadata))


async def refused(call: asyncio.Task[Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(ENDED) as error:
        await call
    return error.value.code(), reason_of(error.value)


async def replies(wire: Wire, request: worker_pb2.ResolveRequest, error: types_pb2.Error | None = None) -> None:
    done = None if error is not None else types_pb2.Payload()
    reply = worker_pb2.CommandReply(command_id=request.command_id, result=done, error=error)
    await wire.send(worker_pb2.SessionRequest(command_replies=worker_pb2.CommandReplies(replies=[reply])))


async def test_a_decision_goes_down_to_the_task_that_asks_by_the_way_that_the_question_came(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await asking(node, wire)
    line = await in_history(node, job_id, "requested")
    assert json.loads(line.context_snapshot.data)["payload"]["message"] == "Go on?"
    call = decide(node, job_id, data=json_payload({"n": 1}), comment="fine")
    asked = await wire.expect("resolve_request")
    assert (asked.task_id, asked.lease_id) == (offer.task_id, offer.lease_id)
    assert (list(asked.job_ids), list(asked.holon_ids)) == (["top-below", "job-below"], ["lowest", BELOW])
    assert (asked.kind, asked.name, asked.approval_id) == (worker_pb2.RESOLVE_KIND_APPROVAL, "yes", QUESTION)
    assert (json.loads(asked.payload.data), asked.comment, asked.decided_by) == ({"n": 1}, "fine", "default")
    assert asked.decided_at.ToMilliseconds() > 0
    # Of an answer to nothing nothing comes, and the own question of the job is none.
    await replies(wire, worker_pb2.ResolveRequest(command_id="nobody-sent-this"))
    await replies(wire, asked)
    job = (await call).job
    assert (job.id, job.status, job.HasField("approval")) == (job_id, "waiting_for_worker", False)


async def test_what_the_child_says_is_what_who_decides_is_told(node: Node) -> None:
    wire = await child(node)
    job_id, _ = await asking(node, wire)
    wrong = types_pb2.Error(code=3, reason="INVALID_ARGUMENT", message="decision is bad")
    wrong.field_violations.add(field="decision", reason="is bad; use yes or no")
    call = decide(node, job_id)
    await replies(wire, await wire.expect("resolve_request"), wrong)
    with pytest.raises(ENDED, match=f"holon {BELOW}: decision is bad") as error:
        await call
    assert (error.value.code(), fields_of(error.value)) == (grpc.StatusCode.INVALID_ARGUMENT, ["decision"])
    for said, heard in (
        ((9, "APPROVAL_NOT_OPEN"), (grpc.StatusCode.FAILED_PRECONDITION, "APPROVAL_NOT_OPEN")),
        ((6, "REQUEST_ID_REUSED"), (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")),
        ((14, "HOLON_AWAY"), (grpc.StatusCode.UNAVAILABLE, "HOLON_AWAY")),
        # Nobody's right to decide here is the child's to judge, and its troubles are not the client's.
        ((16, "TOKEN_INVALID"), (grpc.StatusCode.UNAVAILABLE, "HOLON_AWAY")),
        ((13, "INTERNAL"), (grpc.StatusCode.UNAVAILABLE, "HOLON_AWAY")),
        ((9, "no code"), (grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION")),
    ):
        call = decide(node, job_id)
        await replies(wire, await wire.expect("resolve_request"), types_pb2.Error(code=said[0], reason=said[1]))
        assert await refused(call) == heard


async def test_who_does_not_own_the_job_is_told_of_none_and_the_child_hears_nothing(node: Node) -> None:
    wire = await child(node)
    job_id, _ = await asking(node, wire)
    stranger = (("x-client-token", STRANGER),)
    assert await refused(decide(node, job_id, stranger)) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
    # Nor by another job of the owner's, behind which nobody asks this; nor a question that nobody asked.
    other, _ = await working(node, wire)
    closed = (grpc.StatusCode.FAILED_PRECONDITION, "APPROVAL_NOT_OPEN")
    assert await refused(decide(node, other)) == closed
    assert await refused(decide(node, job_id, approval_id="job-below-4")) == closed
    await wire.beat()


async def test_a_repeat_has_the_same_name_and_is_answered_from_the_history_once_that_is_told(node: Node) -> None:
    wire = await child(node)
    job_id, offer = await asking(node, wire)
    names = []
    for request_id in ("r1", "r1", "r2", "", ""):
        call = decide(node, job_id, request_id=request_id)
        asked = await wire.expect("resolve_request")
        names.append(asked.command_id)
        await replies(wire, asked)
        await call
    assert names[0] == names[1]
    assert len(set(names)) == 4
    await tells(wire, told(offer, "resolved", decision="yes", request_id=names[0]))
    await in_history(node, job_id, "resolved")
    await wire.send(updates(result(offer)))
    await wire.verdict()
    await node.ended(job_id)
    # All of it is over, and nobody is asked.
    assert (await decide(node, job_id, request_id="r1")).job.status == "finished"
    reused = (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert await refused(decide(node, job_id, request_id="r1", decision="no")) == reused
    closed = (grpc.StatusCode.FAILED_PRECONDITION, "APPROVAL_NOT_OPEN")
    assert await refused(decide(node, job_id, request_id="r3")) == closed
    assert await refused(decide(node, job_id)) == closed


async def test_a_decision_that_is_on_its_way_is_not_sent_twice_at_a_time(node: Node) -> None:
    wire = await child(node)
    job_id, _ = await asking(node, wire)
    first = decide(node, job_id, request_id="r1")
    asked = await wire.expect("resolve_request")
    pending = (grpc.StatusCode.UNAVAILABLE, "APPROVAL_PENDING")
    assert await refused(decide(node, job_id, request_id="r1")) == pending
    # The stream is replaced meanwhile: what was sent on the one before is answered on the next.
    second = await child(node)
    await replies(second, asked)
    await first


async def test_a_child_that_is_away_or_silent_is_to_be_tried_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways_down, "_ANSWER_S", 0.05)
    monkeypatch.setattr(ways_down, "_LEVEL_S", 0.0)
    away = (grpc.StatusCode.UNAVAILABLE, "HOLON_AWAY")
    wire = await child(node)
    job_id, offer = await asking(node, wire)
    silent = decide(node, job_id)
    asked = await wire.expect("resolve_request")
    assert await refused(silent) == away
    # What comes too late is passed over.
    await replies(wire, asked)
    await wire.beat()
    await wire.close()
    await node.until(lambda: node.engine.trees.link("child") is None)
    with pytest.raises(ENDED, match="'child' is not linked to this node now; retry when it is back") as error:
        await decide(node, job_id)
    assert (error.value.code(), reason_of(error.value)) == away
    held = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
    back = await child(node, resume=worker_pb2.Resume(leases=[held]))
    monkeypatch.undo()
    call = decide(node, job_id)
    await replies(back, await back.expect("resolve_request"))
    await call


async def test_a_child_that_does_not_list_the_capability_is_sent_nothing(node: Node) -> None:
    wire = await child(node, answers=False)
    job_id, _ = await asking(node, wire)
    assert await refused(decide(node, job_id)) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    await wire.beat()


async def test_more_than_the_child_reads_is_refused_and_its_session_goes_on(node: Node) -> None:
    wire = await child(node, max_message_bytes=70_000)
    job_id, _ = await asking(node, wire)
    large = decide(node, job_id, data=json_payload({"text": "x" * 80_000}))
    assert await refused(large) == (grpc.StatusCode.INVALID_ARGUMENT, "PAYLOAD_TOO_LARGE")
    await wire.beat()


async def test_a_worker_that_is_no_holon_cannot_tell_of_questions(node: Node) -> None:
    job_id = await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    for kind in ("approval_requested", "approval_resolved", "approval_timed_out"):
        (ack,) = await tells(worker, event(offer, kind, kind))
        assert "only a holon may send" in ack.error.message
    assert not any("approval" in line.event_type for line in await node.history(job_id))
    # Nor may it answer for one.
    await worker.send(worker_pb2.SessionRequest(command_replies=worker_pb2.CommandReplies()))
    assert (await worker.refused()).error.reason == "UNKNOWN_MESSAGE"
