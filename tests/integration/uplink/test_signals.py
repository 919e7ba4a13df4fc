"""What a child's job waits for goes up to its parent, and the signal that comes down counts once."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from holon.clock import SystemClock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.tree import Disclose
from holon.engine.signals import Sending
from holon.rxon.v1 import worker_pb2
from holon.storage import MemoryStorage
from holon.uplink import owner_of
from tests.integration.a_child import PARENT, STORE, Child, a_child, offered
from tests.integration.scripted_node import GUARD, Certificates, ScriptedNode, Stream, keep
from tests.integration.uplink.test_decisions import history, refusal, reply, said, told
from tests.integration.uplink.test_events import TAKES

pytestmark = pytest.mark.usefixtures("soon")


def counting(*, wanted: int = 2, **more: Any) -> Blueprint:
    """Waits for `tick` so many times, then for `go`; returns what came with `go`, and how often it ticked."""
    made = Blueprint("counting")
    late = {"timeout": "end"} if more else {}

    @made.handler(is_start=True)
    async def start(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["ticks"] = state_history.get("ticks", -1) + 1
        actions.await_signal({"tick": "start"} | late if state_history["ticks"] < wanted else {"go": "end"}, **more)

    @made.handler(is_end=True)
    async def end(state_history: dict[str, Any]) -> dict[str, Any]:
        return state_history

    return made


async def awaited(stream: Stream, task_id: str = "t1", count: int = 1) -> worker_pb2.Event:
    """A task is given, and its job waits."""
    await offered(stream, task_id, "counting", {})
    return (await told(stream, count))[-1]


def signal(event: worker_pb2.Event, name: str = "tick", data: bytes = b"", **more: Any) -> worker_pb2.ResolveRequest:
    """A signal for who told this event, as a parent sends it."""
    fields = {
        "command_id": "c1",
        "task_id": event.task_id,
        "lease_id": event.lease_id,
        "job_ids": event.job_ids,
        "holon_ids": event.holon_ids,
        "kind": worker_pb2.RESOLVE_KIND_SIGNAL,
        "name": name,
        "decided_by": "ann",
        **more,
    }
    request = worker_pb2.ResolveRequest(**fields)
    if data:
        request.payload.data = data
    return request


async def kept(child: Child, job_id: str, count: int) -> None:
    """Wait until a job keeps so many signals."""
    async with asyncio.timeout(GUARD):
        while count not in [len(one.job.signals) for one in await child.jobs() if one.job.id == job_id]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_wait_goes_up_and_its_job_goes_on_by_the_signal_with_what_came_with_it(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [counting(wanted=0)]) as child:
        stream = await child.linked(**TAKES)
        event = await awaited(stream)
        (job,) = await child.jobs()
        assert (event.type, list(event.job_ids), len(event.holon_ids)) == ("signal_awaited", [job.job.id], 1)
        assert said(event) == {"names": ["go"]}
        request = signal(event, "go", b'{"n": 1}')
        request.decided_at.FromMilliseconds(1_700_000_000_500)
        answer = await reply(stream, request)
        assert (answer.WhichOneof("outcome"), answer.result.WhichOneof("content")) == ("result", None)
        _, received = await told(stream, 2)
        known = {"name": "go", "by": "ann", "request_id": "c1"}
        assert (received.type, said(received)) == ("signal_received", known)
        result = (await stream.result()).result
        assert (result.status, orjson.loads(result.data.data)) == ("success", {"ticks": 0, "n": 1})
        [line] = [one for one in await history(child, job.job.id) if one.type == "signal_received"]
        assert line.details == known | {"parent_holon_id": PARENT, "sent_at": 1_700_000_000.5}


async def test_a_signal_counts_once_however_often_it_comes_also_after_a_restart_and_once_its_job_is_over(
    certificates: Certificates,
) -> None:
    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        async with a_child(certificates, [counting()], store=store, parent=parent) as child:
            stream = await child.linked(**TAKES)
            event = await awaited(stream)
            for _ in range(3):
                assert (await reply(stream, signal(event))).HasField("result")
            # It waits for the next.
            await told(stream, 3)
        async with a_child(certificates, [counting()], store=store, parent=parent) as child:
            stream = await child.linked(leases=keep("t1"), **TAKES)
            assert (await told(stream, 3))[0] == event
            assert (await reply(stream, signal(event))).HasField("result")
            assert await refusal(stream, signal(event, "tock")) == "REQUEST_ID_REUSED"
            # What it does not wait for it keeps, and takes once it does.
            assert (await reply(stream, signal(event, "go", command_id="c2"))).HasField("result")
            await kept(child, event.job_ids[0], 1)
            assert (await reply(stream, signal(event, command_id="c3"))).HasField("result")
            await told(stream, 5)
            result = (await stream.result()).result
            assert orjson.loads(result.data.data)["ticks"] == 2
            assert (await reply(stream, signal(event, command_id="c3"))).HasField("result")
            assert await refusal(stream, signal(event, command_id="c4")) == "JOB_TERMINATED"


async def test_what_is_no_signal_for_a_task_of_the_parents_is_refused_and_the_link_and_the_wait_stay(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [counting(wanted=1)]) as child:
        stream = await child.linked(**TAKES)
        event, other = await awaited(stream), await awaited(stream, "t2", 2)
        for request, reason in (
            (signal(event, lease_id="another"), "TASK_NOT_HELD"),
            (signal(event, task_id="never"), "TASK_NOT_HELD"),
            (signal(event, job_ids=[]), "SIGNAL_NOT_AWAITED"),
            (signal(event, job_ids=other.job_ids), "SIGNAL_NOT_AWAITED"),
            # The job of another task, by the way of this one.
            (signal(event, job_ids=[*event.job_ids, *other.job_ids]), "SIGNAL_NOT_AWAITED"),
            (signal(event, job_ids=[*event.job_ids, ""]), "INVALID_ARGUMENT"),
            (signal(event, job_ids=[*event.job_ids, "x" * 100_000]), "INVALID_ARGUMENT"),
            (signal(event, holon_ids=["another"]), "INVALID_ARGUMENT"),
            (signal(event, command_id="no id!"), "INVALID_ARGUMENT"),
            *((signal(event, name), "INVALID_ARGUMENT") for name in ("", "a\nb", "x" * 129)),
            *((signal(event, data=data), "INVALID_ARGUMENT") for data in (b"[1]", b'"x"')),
            *((signal(event, data=data), "NOT_JSON") for data in (b"{", b"\xff")),
            (signal(event, data=b'{"x":"%s"}' % (b"y" * 70_000)), "LIMIT_EXCEEDED"),
        ):
            command_id = request.command_id
            await stream.send(resolve_request=request)
            (answer,) = (await stream.message("command_replies")).command_replies.replies
            assert (answer.command_id, answer.error.reason) == (command_id, reason), str(request)[:500]
        assert [(one.job.status, one.job.signals) for one in await child.jobs()] == [("waiting_for_signal", ())] * 2
        assert (await reply(stream, signal(other))).HasField("result")
        assert said((await told(stream, 4))[-1]) == {"names": ["go"]}


async def test_a_job_that_keeps_as_many_as_it_can_says_so_to_the_parent(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [counting()]) as child:
        stream = await child.linked(**TAKES)
        event = await awaited(stream)
        for n in range(64):
            assert (await reply(stream, signal(event, "go", command_id=f"k{n}"))).HasField("result")
        await kept(child, event.job_ids[0], 64)
        error = (await reply(stream, signal(event, "go", command_id="k64"))).error
        assert (error.code, error.reason, error.HasField("retry_after")) == (8, "SIGNALS_FULL", True)
        assert (await reply(stream, signal(event, "go", command_id="k7"))).HasField("result")


async def test_who_discloses_nothing_tells_of_no_waits(certificates: Certificates) -> None:
    async with a_child(certificates, [counting(wanted=0)], disclose=Disclose.NONE) as child:
        stream = await child.linked(**TAKES)
        await offered(stream, "t1", "counting", {})
        async with asyncio.timeout(GUARD):
            while not [one for one in await child.jobs() if one.job.waiting]:  # noqa: ASYNC110  it looks from outside
                await asyncio.sleep(0.005)
        (job,) = await child.jobs()
        await child.engine.jobs.signals.send(owner_of(PARENT), job.job.id, Sending("go"))
        assert (await stream.result()).HasField("result")
        # Of one lease all is told in order.
        assert "events" not in stream.order


async def test_that_none_came_in_time_goes_up_too(certificates: Certificates) -> None:
    async with a_child(certificates, [counting(timeout_seconds=0.05)]) as child:
        stream = await child.linked(**TAKES)
        await offered(stream, "t1", "counting", {})
        waits, over = await told(stream, 2)
        assert said(waits)["expires_at"] > 1_700_000_000
        assert (over.type, said(over)) == ("signal_timed_out", {"names": ["tick"]})
        assert (await stream.result()).result.status == "success"
        assert await refusal(stream, signal(waits)) == "JOB_TERMINATED"
