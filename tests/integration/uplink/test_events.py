"""Events of tasks of a child, as it passes them on to its parent: each once, in order, before the result."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from holon.clock import SystemClock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.events import Occurred
from holon.domain.fleet import Skill
from holon.domain.tree import Disclose
from holon.ports import Offer
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage import MemoryStorage
from holon.worker.events import MOST_OF_LEASE
from tests.integration.a_child import STORE, Leaf, a_child, offered
from tests.integration.grpc_node import Node
from tests.integration.scripted_node import GUARD, Certificates, ScriptedNode, Stream, keep
from tests.integration.uplink.blueprints import DONE, blueprints
from tests.integration.uplink.children import child_of

pytestmark = pytest.mark.usefixtures("soon")

# What a parent lists that takes events.
TAKES: Any = {"capabilities": [types_pb2.CAPABILITY_HOLON, types_pb2.CAPABILITY_EVENTS]}


async def happens(leaf: Leaf, offer: Offer, kind: str, payload: bytes = b'{"n":1}', **more: Any) -> None:
    """A worker of the child's tells of something."""
    occurred = Occurred(offer.task_id, offer.lease_id, f"e-{kind}", kind, payload, 1_000, **more)
    assert await leaf._engine.workers.occurred(leaf.member, [occurred]) == {f"e-{kind}": None}


async def events(stream: Stream, count: int) -> list[worker_pb2.Event]:
    """The next events that the parent is told, and takes."""
    told: list[worker_pb2.Event] = []
    async with asyncio.timeout(GUARD):
        while len(told) < count:
            told += (await stream.message("events")).events.events
    await acknowledge(stream, told)
    return told


async def acknowledge(stream: Stream, told: list[worker_pb2.Event]) -> None:
    acks = [worker_pb2.EventAck(event_id=one.event_id) for one in told]
    await stream.send(update_acks=worker_pb2.UpdateAcks(events=acks))


async def test_events_go_up_under_the_parents_lease_with_the_line_of_holons_and_jobs(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "leaf", Skill("leaf")) as leaf:
        stream = await child.linked(**TAKES)
        await offered(stream, "t1", "work", {})
        offer = await leaf.given()
        await happens(leaf, offer, "seen")
        [event] = await events(stream, 1)
        assert (event.task_id, event.lease_id, event.type) == ("t1", "t1-lease", "seen")
        assert (orjson.loads(event.payload.data), event.time.ToMilliseconds()) == ({"n": 1}, 1_000)
        assert (len(event.holon_ids), list(event.job_ids)) == (1, [offer.job_id])
        assert event.origin_worker_id == ""
        await leaf.ends(offer, DONE)
        assert (await stream.result()).HasField("result")


async def test_what_a_holon_below_passed_on_has_all_of_the_line(certificates: Certificates) -> None:
    async with (
        a_child(certificates, blueprints(), disclose=Disclose.FULL) as child,
        Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
    ):
        stream = await child.linked(**TAKES)
        await offered(stream, "t1", "work", {})
        offer = await leaf.given()
        await happens(leaf, offer, "seen", holon_ids=("lowest",), job_ids=("its",), origin_worker_id="deep")
        await happens(leaf, offer, "own")
        below, own = await events(stream, 2)
        assert below.holon_ids[0] == "lowest"
        assert len(below.holon_ids) == 2
        assert list(below.job_ids) == [offer.job_id, "its"]
        assert (below.origin_worker_id, own.origin_worker_id) == ("deep", "leaf")


async def test_who_discloses_nothing_tells_of_no_events(certificates: Certificates) -> None:
    async with (
        a_child(certificates, blueprints(), disclose=Disclose.NONE) as child,
        Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
    ):
        stream = await child.linked(**TAKES)
        await offered(stream, "t1", "work", {})
        offer = await leaf.given()
        await happens(leaf, offer, "secret")
        await leaf.ends(offer, DONE)
        assert (await stream.result()).HasField("result")
        # Of one lease all is told in order.
        assert "events" not in stream.order


async def test_a_child_that_starts_again_tells_again_of_what_it_told_and_under_the_same_ids(
    certificates: Certificates,
) -> None:
    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        async with (
            a_child(certificates, blueprints(), store=store, parent=parent) as child,
            Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
        ):
            stream = await child.linked(**TAKES)
            await offered(stream, "t1", "work", {})
            offer = await leaf.given()
            for kind in ("one", "two"):
                await happens(leaf, offer, kind)
            before = await events(stream, 2)
        async with a_child(certificates, blueprints(), store=store, parent=parent) as child:
            stream = await child.linked(leases=keep("t1"), **TAKES)
            assert await events(stream, 2) == before


def above() -> Blueprint:
    """Has the child work, and reviews what is odd."""
    above = Blueprint("above", "/above")

    @above.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("work", {}, {"success": "end"}, event_transitions={"odd": "review"})

    @above.handler(is_end=True)
    async def end() -> None: ...

    @above.handler(is_end=True)
    async def review(n: int) -> dict[str, int]:
        return {"reviewed": n}

    return above


async def test_a_job_above_goes_on_by_what_happened_below(parent: Node) -> None:
    parent.engine.blueprints.register(above())
    async with child_of(parent, "child-1", blueprints()) as child, Leaf(child, "leaf", Skill("leaf")) as leaf:
        job_id = await parent.create("above")
        offer = await leaf.given()
        await happens(leaf, offer, "odd")
        job = await parent.ended(job_id)
        assert (job.status, orjson.loads(job.result.data)) == ("finished", {"reviewed": 1})
        async with asyncio.timeout(GUARD):
            # The work below ends with its task.
            assert (await leaf.stops.get()).lease.task_id == offer.task_id
        [line] = [one for one in await parent.history(job_id) if one.event_type == "worker_event:odd"]
        details = orjson.loads(line.context_snapshot.data)
        assert (line.worker_id, details["job_ids"], len(details["holon_ids"])) == ("child-1", [offer.job_id], 1)


async def test_of_what_is_too_large_as_it_is_written_on_the_way_up_all_but_the_payload_goes_up(parent: Node) -> None:
    parent.engine.blueprints.register(above())
    worker_id = f"spiffe://example.org/{'w' * 232}"
    async with (
        child_of(parent, "child-1", blueprints(), disclose=Disclose.FULL) as child,
        Leaf(child, worker_id, Skill("leaf")) as leaf,
    ):
        job_id = await parent.create("above")
        offer = await leaf.given()
        await happens(leaf, offer, "long", b'{"n":[%b]}' % b",".join([b"1e15"] * 13_000))
        await happens(leaf, offer, "short")
        await leaf.ends(offer, DONE)
        await parent.ended(job_id)
        lines = [one for one in await parent.history(job_id) if one.event_type.startswith("worker_event:")]
        long, short = [orjson.loads(one.context_snapshot.data) for one in lines]
        assert long["payload"] == {"payload_left_out": "247007 bytes of JSON, over the limit of 65536"}
        assert short["payload"] == {"n": 1}
        assert [one["origin_worker_id"] for one in (long, short)] == [worker_id] * 2


async def test_what_a_blueprint_of_the_child_sends_goes_up_as_what_a_worker_does(certificates: Certificates) -> None:
    telling = Blueprint("telling")

    @telling.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.send_event("paid", {"amount": 3})
        actions.send_event("counted", 7)
        actions.go_to("end")

    @telling.handler(is_end=True)
    async def end() -> None: ...

    async with a_child(certificates, [telling]) as child:
        stream = await child.linked(**TAKES)
        await offered(stream, "t1", "telling", {})
        paid, counted = await events(stream, 2)
        assert [(one.type, orjson.loads(one.payload.data)) for one in (paid, counted)] == [
            ("paid", {"amount": 3}),
            ("counted", {"value": 7}),
        ]
        assert (await stream.result()).result.status == "success"
        told = [one.HasField("result") for frame in stream.came for one in frame.task_updates.updates]
        assert told[-1:] == [True]


RUNS, EACH = 3, 100


async def test_a_child_that_tells_all_of_a_job_anew_has_few_events_without_an_answer(
    certificates: Certificates,
) -> None:
    telling = Blueprint("telling")

    @telling.handler(is_start=True)
    async def start(state_history: dict[str, Any], actions: ActionFactory) -> None:
        for _ in range(EACH):
            actions.send_event("said")
        state_history["runs"] = state_history.get("runs", 0) + 1
        actions.go_to("start" if state_history["runs"] < RUNS else "rest")

    @telling.handler
    async def rest(actions: ActionFactory) -> None:
        actions.await_human_approval("chat", "Enough?", {"yes": "end"})

    @telling.handler(is_end=True)
    async def end() -> None: ...

    async with MemoryStorage(STORE, SystemClock()) as store, ScriptedNode(certificates) as parent:
        async with a_child(certificates, [telling], store=store, parent=parent) as child:
            stream = await child.linked(**TAKES)
            await offered(stream, "t1", "telling", {})
            before = await events(stream, 1)
            while len(before) < RUNS * EACH + 1:
                before += await events(stream, 1)
        async with a_child(certificates, [telling], store=store, parent=parent) as child:
            stream = await child.linked(leases=keep("t1"), **TAKES)
            again = list((await stream.message("events")).events.events)
            unanswered = child.uplink._link.reports.events  # type: ignore[union-attr]
            assert repr(unanswered) == f"Events(unacknowledged={MOST_OF_LEASE})"
            await acknowledge(stream, again)
            while len(again) < len(before):
                again += await events(stream, 1)
            assert again == before
