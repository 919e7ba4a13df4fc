"""What a child's job asks a person goes up to its parent, and the decision that comes down is taken once."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from holon.clock import SystemClock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.events import HistoryEvent
from holon.domain.tree import Disclose
from holon.engine.approvals import Deciding
from holon.rxon.v1 import worker_pb2
from holon.storage import MemoryStorage
from holon.uplink import owner_of
from tests.integration.a_child import PARENT, STORE, Child, a_child, offered
from tests.integration.scripted_node import GUARD, Certificates, ScriptedNode, Stream, keep
from tests.integration.uplink.test_events import TAKES

pytestmark = pytest.mark.usefixtures("soon")


def asking(**more: Any) -> Blueprint:
    """Asks, and once more after `again`; returns what came with the decision."""
    made = Blueprint("asking")
    ways = {"yes": "end", "no": "bad", "again": "start", **({"timeout": "end"} if more else {})}

    @made.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.await_human_approval("chat", "Go on?", ways, **more)

    @made.handler(is_end=True)
    async def end(state_history: dict[str, Any]) -> dict[str, Any]:
        return state_history

    @made.handler(is_end=True, outcome="failed")
    async def bad() -> None: ...

    return made


def _events(stream: Stream) -> list[worker_pb2.Event]:
    return [one for frame in stream.came for one in frame.events.events]


async def told(stream: Stream, count: int) -> list[worker_pb2.Event]:
    """All events that the parent was told, which are so many, and takes."""
    async with asyncio.timeout(GUARD):
        while len(came := _events(stream)) < count:  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.005)
    acks = [worker_pb2.EventAck(event_id=one.event_id) for one in came]
    await stream.send(update_acks=worker_pb2.UpdateAcks(events=acks))
    return came


async def asked(stream: Stream, task_id: str = "t1", count: int = 1) -> worker_pb2.Event:
    """A task is given, and its job asks."""
    await offered(stream, task_id, "asking", {})
    return (await told(stream, count))[-1]


def decision(event: worker_pb2.Event, **more: Any) -> worker_pb2.ResolveRequest:
    """A decision on what an event tells of, as a parent sends it."""
    fields = {
        "command_id": "c1",
        "task_id": event.task_id,
        "lease_id": event.lease_id,
        "job_ids": event.job_ids,
        "holon_ids": event.holon_ids,
        "kind": worker_pb2.RESOLVE_KIND_APPROVAL,
        "name": "yes",
        "decided_by": "ann",
        "approval_id": said(event)["approval_id"],
        **more,
    }
    return worker_pb2.ResolveRequest(**fields)


def said(event: worker_pb2.Event) -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads(event.payload.data)
    return told


async def reply(stream: Stream, request: worker_pb2.ResolveRequest) -> worker_pb2.CommandReply:
    await stream.send(resolve_request=request)
    (answer,) = (await stream.message("command_replies")).command_replies.replies
    assert answer.command_id == request.command_id
    return answer


async def refusal(stream: Stream, request: worker_pb2.ResolveRequest) -> str:
    return (await reply(stream, request)).error.reason


async def history(child: Child, job_id: str) -> list[HistoryEvent]:
    return [line for _, line in (await child.engine.jobs.history(owner_of(PARENT), job_id, 1_000, ""))[0]]


async def test_a_question_goes_up_and_its_job_goes_on_by_the_decision_with_what_came_with_it(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [asking()]) as child:
        stream = await child.linked(**TAKES)
        event = await asked(stream)
        (job,) = await child.jobs()
        question = f"{job.job.id}-0"
        assert (event.type, list(event.job_ids), len(event.holon_ids)) == ("approval_requested", [job.job.id], 1)
        assert said(event) == {
            "approval_id": question,
            "message": "Go on?",
            "integration": "chat",
            "decisions": ["yes", "no", "again"],
        }
        request = decision(event, comment="fine")
        request.payload.data = b'{"n": 1}'
        request.decided_at.FromMilliseconds(1_700_000_000_500)
        answer = await reply(stream, request)
        assert (answer.WhichOneof("outcome"), answer.result.WhichOneof("content")) == ("result", None)
        _, resolved = await told(stream, 2)
        known = {"approval_id": question, "decision": "yes", "by": "ann", "comment": "fine", "request_id": "c1"}
        assert (resolved.type, said(resolved)) == ("approval_resolved", known)
        result = (await stream.result()).result
        assert (result.status, orjson.loads(result.data.data)) == ("success", {"n": 1})
        [line] = [one for one in await history(child, job.job.id) if one.type == "approval_resolved"]
        assert line.details == known | {"parent_holon_id": PARENT, "decided_at": 1_700_000_000.5}


async def test_a_decision_counts_once_however_often_it_comes_and_another_on_the_same_is_refused(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [asking()]) as child:
        stream = await child.linked(**TAKES)
        event = await asked(stream)
        again = decision(event, name="again")
        for _ in range(3):
            assert (await reply(stream, again)).HasField("result")
        *_, second = await told(stream, 3)
        assert (second.type, said(second)["approval_id"]) == ("approval_requested", f"{event.job_ids[0]}-1")
        assert await refusal(stream, decision(event, command_id="c2")) == "APPROVAL_NOT_OPEN"
        assert await refusal(stream, decision(event)) == "REQUEST_ID_REUSED"
        assert (await reply(stream, decision(second, command_id="c3"))).HasField("result")
        await told(stream, 4)
        assert (await stream.result()).result.status == "success"
        # Of a job that is over too.
        assert await refusal(stream, decision(second, command_id="c4")) == "APPROVAL_NOT_OPEN"
        assert (await reply(stream, decision(second, command_id="c3"))).HasField("result")


async def test_what_may_be_decided_is_checked_here_and_only_for_the_parents_task_under_its_lease(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [asking()]) as child:
        stream = await child.linked(**TAKES)
        event, other = await asked(stream), await asked(stream, "t2", 2)
        wrong = (await reply(stream, decision(event, name="perhaps"))).error
        assert (wrong.code, wrong.reason, wrong.field_violations[0].field) == (3, "INVALID_ARGUMENT", "decision")
        assert "use yes or no or again" in wrong.message
        listed = decision(event)
        listed.payload.data = b"[1]"
        for request, reason in (
            (decision(event, lease_id="another"), "TASK_NOT_HELD"),
            (decision(event, task_id="never"), "TASK_NOT_HELD"),
            (decision(event, job_ids=other.job_ids), "APPROVAL_NOT_OPEN"),
            (decision(event, job_ids=[]), "APPROVAL_NOT_OPEN"),
            # The question of another task, by the way of this one.
            (decision(event, approval_id=said(other)["approval_id"]), "APPROVAL_NOT_OPEN"),
            (decision(event, approval_id=""), "INVALID_ARGUMENT"),
            (decision(event, holon_ids=["another"]), "INVALID_ARGUMENT"),
            (decision(event, command_id="no id!"), "INVALID_ARGUMENT"),
            (decision(event, comment="x" * 5_000), "INVALID_ARGUMENT"),
            (decision(event, kind=0), "UNIMPLEMENTED"),
            (listed, "INVALID_ARGUMENT"),
        ):
            command_id = request.command_id
            await stream.send(resolve_request=request)
            (answer,) = (await stream.message("command_replies")).command_replies.replies
            assert (answer.command_id, answer.error.reason) == (command_id, reason), request
        assert [one.job.status for one in await child.jobs()] == ["waiting_for_human"] * 2
        assert (await reply(stream, decision(other))).HasField("result")
        await told(stream, 3)
        assert (await stream.result()).task_id == "t2"


async def test_another_parent_decides_nothing_for_the_one_before(certificates: Certificates) -> None:
    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        async with a_child(certificates, [asking()], store=store, parent=parent) as child:
            event = await asked(await child.linked(**TAKES))
            await child.holarchy.accept("")
        async with a_child(certificates, [asking()], store=store, parent=parent) as child:
            stream = await child.linked(holon_id="another-parent", **TAKES)
            assert await refusal(stream, decision(event)) == "TASK_NOT_HELD"


async def test_who_discloses_nothing_tells_of_no_questions(certificates: Certificates) -> None:
    async with a_child(certificates, [asking()], disclose=Disclose.NONE) as child:
        stream = await child.linked(**TAKES)
        await offered(stream, "t1", "asking", {})
        async with asyncio.timeout(GUARD):
            while not [one for one in await child.jobs() if one.job.waiting]:  # noqa: ASYNC110  it looks from outside
                await asyncio.sleep(0.005)
        (job,) = await child.jobs()
        await child.engine.jobs.approvals.resolve(owner_of(PARENT), job.job.id, Deciding("yes"))
        assert (await stream.result()).HasField("result")
        # Of one lease all is told in order.
        assert "events" not in stream.order


async def test_that_nobody_decided_in_time_goes_up_too(certificates: Certificates) -> None:
    async with a_child(certificates, [asking(timeout_seconds=0.05)]) as child:
        stream = await child.linked(**TAKES)
        await offered(stream, "t1", "asking", {})
        question, over = await told(stream, 2)
        assert said(question)["expires_at"] > 1_700_000_000
        assert (over.type, said(over)) == ("approval_timed_out", {"approval_id": said(question)["approval_id"]})
        assert (await stream.result()).result.status == "success"
        assert await refusal(stream, decision(question)) == "APPROVAL_NOT_OPEN"


async def test_a_question_is_told_again_after_a_restart_and_decided_then(certificates: Certificates) -> None:
    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        async with a_child(certificates, [asking()], store=store, parent=parent) as child:
            event = await asked(await child.linked(**TAKES))
        async with a_child(certificates, [asking()], store=store, parent=parent) as child:
            stream = await child.linked(leases=keep("t1"), **TAKES)
            assert await told(stream, 1) == [event]
            assert (await reply(stream, decision(event))).HasField("result")
            await told(stream, 2)
            assert (await stream.result()).result.status == "success"
