"""Nodes on one Redis show one fleet: whichever is asked knows the workers of all, and drains them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import pytest

from holon.client import WorkerInfo
from holon.domain.fleet import Catalog, Machine, Skill
from holon.domain.matching import ANY_CONTRACT, Offering
from holon.engine.dispatcher import Dispatcher
from holon.engine.fleet import Fleet
from holon.engine.fleets import drains, hearing, pages, telling
from holon.engine.fleets.telling import Telling
from holon.engine.session import Session
from holon.errors import NotFound, Unavailable
from holon.ports import StoreSettings
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage.redis import RedisStorage
from holon.telemetry.events import Telemetry
from holon.testing import RunningNode, running_node
from tests.integration.cases.site import (
    GUARD,
    LOOK_S,
    a_wire,
    create,
    ended,
    fan_out,
    http,
    next_offer,
    one_task,
    seen,
    waits,
)
from tests.integration.grpc_node import json_payload, offering, result, updates
from tests.log_watch import LogWatch
from tests.redis_server import RedisServer

Pair: TypeAlias = tuple[RunningNode, RunningNode]
NOTHING: Any = None
TEXT = json_payload({"type": "object", "properties": {"q": {"type": "string"}}})


@pytest.fixture(autouse=True)
def told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has changed is told as soon as it has: pauses are for large fleets."""
    monkeypatch.setattr(telling, "PAUSE_S", 0.02)
    monkeypatch.setattr(hearing, "PAUSE_S", 0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def uri(server: RedisServer) -> str:
    return server.uri(server.database())


@pytest.fixture
async def pair(uri: str) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(running_node(one_task(), fan_out(), STORAGE_URI=uri, INSTANCE_ID=name))
            for name in ("a", "b")
        ]
        yield nodes[0], nodes[1]


async def listed(node: RunningNode, so: Callable[[list[WorkerInfo]], object]) -> list[WorkerInfo]:
    """The workers, once they look so at this node."""
    async with asyncio.timeout(GUARD):
        while not so(found := [one async for one in node.client.node.list_workers()]):  # noqa: ASYNC110  nothing tells a client
            await asyncio.sleep(LOOK_S)
    return found


async def are(node: RunningNode, *workers: str) -> list[WorkerInfo]:
    """The workers, once they are these."""
    return await listed(node, lambda found: [one.worker_id for one in found] == list(workers))


@asynccontextmanager
async def ghost(uri: str, *worker_ids: str, skills: Sequence[Skill] = (Skill("t"),)) -> AsyncIterator[Fleet]:
    """A node that has told of such workers; it does nothing else, and tells of no end."""
    async with RedisStorage(uri, StoreSettings("ghost")) as store:
        fleet = Fleet(Dispatcher(NOTHING, Telemetry()), store.now, "ghost")
        for worker_id in worker_ids:
            offers = {Offering(one.name): ANY_CONTRACT for one in skills}
            session = Session(worker_id, f"session of {worker_id}", 1, offers, NOTHING)
            fleet.joined(session, "sdk", {}, Catalog(tuple(skills), (Machine(properties={"ram_gb": 8}),)))
        running = asyncio.create_task(Telling(store, fleet, "ghost").run())
        try:
            yield fleet
        finally:
            running.cancel()
            await asyncio.wait([running])


# Lists -----------------------------------------------------------------------------------------------------------


async def test_each_node_lists_the_workers_of_all_with_the_node_that_each_is_at(pair: Pair) -> None:
    first, second = pair
    machine = types_pb2.Resources(properties=json_payload({"ram_gb": 64}))
    async with (
        a_wire(first, "w2", offering("u"), credits=3),
        a_wire(second, "w1", offering("t"), offering("u"), labels={"zone": "z"}, instance_id="process-1"),
    ):
        for node in pair:
            one, two = await are(node, "w1", "w2")
            assert (one.node_id, one.skills, one.labels, one.instance_id) == (
                "b",
                ("t", "u"),
                {"zone": "z"},
                "process-1",
            )
            assert (two.node_id, two.credits, two.connected, two.reputation) == ("a", 3, True, 1.0)
            assert [one.worker_id async for one in node.client.node.list_workers(skill="t")] == ["w1"]
            assert [one async for one in node.client.node.list_workers(connected=False)] == []
        async with http(first) as door:
            page = (await door.get("/api/v1/workers", params={"page_size": 1})).json()
            assert [(one["worker_id"], one["node_id"]) for one in page["workers"]] == [("w1", "b")]
            token = page["next_page_token"]
            rest = (await door.get("/api/v1/workers", params={"page_size": 1, "page_token": token})).json()
            assert [(one["worker_id"], one["node_id"]) for one in rest["workers"]] == [("w2", "a")]
        async with a_wire(second, "w3") as wire:
            # It says of its machines what it did not say before.
            catalog = worker_pb2.Catalog(sequence=1, offerings=[offering("v")])
            catalog.profiles.add(profile_id="p", resources=machine)
            catalog.hot_skills.append("v")
            await wire.beat(1, load=worker_pb2.WorkerLoad(cpu_percent=50))
            await wire.send(worker_pb2.SessionRequest(catalog=catalog))
            found = await listed(
                first, lambda found: [one.skills for one in found if one.worker_id == "w3"] == [("v",)]
            )
            assert found[-1].resources == ({"devices": [], "properties": {"ram_gb": 64}},)
            assert found[-1].hot_skills == ("v",)
            assert found[-1].load is not None
            assert found[-1].load.cpu_percent == 50
        await are(first, "w1", "w2")


async def test_the_catalog_counts_the_workers_of_all_nodes(pair: Pair) -> None:
    first, second = pair
    dear, cheap = offering("t", input_schema=TEXT, price=7), offering("t", input_schema=TEXT, price=5)
    async with (
        a_wire(first, "w1", dear, offering("here")),
        a_wire(second, "w2", cheap),
        a_wire(second, "w3", offering("t", version="2"), offering("there")),
    ):
        for node in pair:
            await are(node, "w1", "w2", "w3")
            told = [one async for one in node.client.node.list_skills()]
            assert [(one.name, one.version, one.provider_count, one.lowest_price) for one in told] == [
                ("here", "", 1, None),
                ("t", "", 2, 5),
                ("t", "2", 1, None),
                ("there", "", 1, None),
            ]
            assert told[1].input_schema == {"type": "object", "properties": {"q": {"type": "string"}}}
            assert told[1].average_reputation == 1.0


async def test_a_worker_that_moves_is_listed_once_where_it_is_now(pair: Pair) -> None:
    first, second = pair
    async with a_wire(first, "w1", instance_id="process"):
        await are(second, "w1")
        async with a_wire(second, "w1", instance_id="process"):
            for node in pair:
                await listed(node, lambda found: [one.node_id for one in found] == ["b"])


async def test_the_workers_of_a_node_that_died_are_gone_once_what_it_told_has_run_out(
    pair: Pair, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "GOOD_MS", 500)
    monkeypatch.setattr(hearing, "LOOK_EVERY_S", 0.2)
    async with ghost(uri, "w1", "w2"):
        assert {one.node_id for one in await are(pair[0], "w1", "w2")} == {"ghost"}
    await are(pair[0])


async def test_a_node_that_starts_knows_the_workers_of_the_others_and_one_that_ends_takes_its_own_along(
    uri: str,
) -> None:
    async with running_node(one_task(), STORAGE_URI=uri, INSTANCE_ID="a") as first, ghost(uri, "w1"):
        await are(first, "w1")
        async with running_node(one_task(), STORAGE_URI=uri, INSTANCE_ID="b") as second, a_wire(second, "w2"):
            assert "w1" in [one.worker_id async for one in second.client.node.list_workers()]
            await are(first, "w1", "w2")
        await are(first, "w1")


async def test_what_a_node_tells_that_cannot_be_read_keeps_nobody_from_being_listed(pair: Pair, uri: str) -> None:
    async with RedisStorage(uri, StoreSettings("other")) as store, a_wire(pair[1], "w1"):
        with LogWatch("reported about its workers cannot be read", "holon.engine") as said:
            for node, head in (("newer", b"\xc1"), ("torn", b"\x92\x01\x02")):
                await store.put_document(telling.HEADS, node, head, version=0)
                await store.put_document(telling.PAGES, telling.page_key(node, 1), b"torn", version=0)
            await asyncio.wait_for(said.seen.wait(), GUARD)
        await are(pair[0], "w1")
        async with ghost(uri, "w2"):
            await are(pair[0], "w1", "w2")


# Bounds ----------------------------------------------------------------------------------------------------------


async def test_of_more_workers_than_can_be_told_the_rest_is_left_out_and_the_log_says_so_once(
    pair: Pair, uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pages, "ROOM", 2_000)
    monkeypatch.setattr(pages, "MOST_PAGES", 4)
    names = [f"w{number:03}" for number in range(100)]
    async with ghost(uri, *names) as fleet:
        with LogWatch("too much to share it", "holon.engine") as said:
            found = await listed(pair[0], len)
            await asyncio.wait_for(said.seen.wait(), GUARD)
        assert 20 < len(found) < 100
        fleet.drain(fleet.present(found[0].worker_id), "to be told again")
        await listed(pair[0], lambda found: found[0].draining)
        assert {one.worker_id for one in found} < set(names)
    assert sum("too much to share it" in one.getMessage() for one in caplog.records) == 1


# What waits ------------------------------------------------------------------------------------------------------


async def test_what_waits_at_one_node_counts_the_workers_of_the_others(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pair
    async with a_wire(second, "w1", offering(input_schema=TEXT), credits=1) as wire:
        await are(first, "w1")
        many = await create(first, "fan_out", {"tasks": [{"task_type": "t", "params": {"q": "x"}}] * 2})
        offer = await next_offer(wire)
        # That there is no room for others is nothing to speak of, while some are being done.
        assert (await waits(first, many, "waiting_for_parallel")).progress_message == ""
        waiting = await create(first, "one_task", {"q": "y"})
        for node in pair:
            await seen(
                node, waiting, lambda job: job.progress_message == "waiting: every worker with skill 't' is busy"
            )
        unfit = await create(first, "one_task", {"q": 1})
        refused = "waiting: no worker connected to any node with skill 't' accepts these params"
        await seen(first, unfit, lambda job: job.progress_message == refused)
        assert not [one for one in caplog.records if one.getMessage().startswith("tasks wait: ")]
        await first.client.node.drain_worker("w1")
        draining = "waiting: every worker with skill 't' is draining"
        await seen(first, waiting, lambda job: job.progress_message == draining)
        await first.client.node.drain_worker("w1", undo=True)
        await wire.send(updates(result(offer)))
        for _ in range(2):
            await wire.send(updates(result(await next_offer(wire))))
        assert [(await ended(first, job_id)).status for job_id in (many, waiting)] == ["finished"] * 2
    unknown = "no worker connected to any node offers skill 't'"
    await are(first)
    with LogWatch(f"tasks wait: {unknown}", "holon.engine") as said:
        nobody = await create(first, "one_task", {"q": "x"})
        await asyncio.wait_for(said.seen.wait(), GUARD)
    await seen(first, nobody, lambda job: job.progress_message == f"waiting: {unknown}")


async def test_what_no_machine_has_is_said_of_the_machines_of_all_nodes(uri: str) -> None:
    large = one_task(name="large", resource_requirements={"resources": {"ram_gb": 64}})
    async with running_node(large, STORAGE_URI=uri, INSTANCE_ID="a") as node, ghost(uri, "w1"):
        await are(node, "w1")
        job_id = await create(node, "large", {})
        lacks = "required hardware: the closest machine lacks ram_gb 64"
        job = await seen(node, job_id, lambda job: lacks in job.progress_message)
        assert job.progress_message.startswith("waiting: no worker connected to any node with skill 't'")


# Draining --------------------------------------------------------------------------------------------------------


async def test_a_worker_is_drained_through_any_node_and_so_is_that_taken_back(pair: Pair) -> None:
    first, second = pair
    async with a_wire(second, "w1") as wire:
        await are(first, "w1")
        drained = await first.client.node.drain_worker("w1", reason="a new disk")
        assert (drained.node_id, drained.draining, drained.skills) == ("b", True, ("t",))
        # It is in force: what comes now waits.
        assert [one.draining async for one in second.client.node.list_workers()] == [True]
        job_id = await create(first, "one_task", {})
        await listed(first, lambda found: found[0].draining)
        assert not (await first.client.node.drain_worker("w1", undo=True)).draining
        assert (await next_offer(wire)).job_id == job_id
        with pytest.raises(NotFound) as unknown:
            await first.client.node.drain_worker("nobody")
        assert unknown.value.code == "WORKER_NOT_FOUND"


async def test_a_drained_worker_stays_so_at_another_node_until_that_is_taken_back_or_it_starts_again(
    pair: Pair,
) -> None:
    first, second = pair
    draining = "waiting: every worker with skill 't' is draining"
    async with a_wire(second, "w1", instance_id="process"):
        await are(first, "w1")
        await first.client.node.drain_worker("w1")
        async with a_wire(first, "w1", instance_id="process") as wire:
            await listed(second, lambda found: [(one.node_id, one.draining) for one in found] == [("a", True)])
            job_id = await create(second, "one_task", {})
            await seen(second, job_id, lambda job: job.progress_message == draining)
            assert not (await second.client.node.drain_worker("w1", undo=True)).draining
            offer = await next_offer(wire)
            assert offer.job_id == job_id
            await wire.send(updates(result(offer)))
            await ended(second, job_id)
            await second.client.node.drain_worker("w1")
    async with a_wire(second, "w1", instance_id="another") as wire:
        job_id = await create(first, "one_task", {})
        assert (await next_offer(wire)).job_id == job_id


async def test_a_node_that_does_not_answer_drains_nobody_and_is_named(
    pair: Pair, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drains, "ANSWER_S", 0.2)
    monkeypatch.setattr(drains, "RETRY_S", 0.05)
    async with ghost(uri, "w1"):
        await are(pair[0], "w1")
        with pytest.raises(Unavailable, match="connected to node 'ghost', which did not answer") as away:
            await pair[0].client.node.drain_worker("w1")
    assert (away.value.code, away.value.retry_after) == ("NODE_AWAY", 0.05)
