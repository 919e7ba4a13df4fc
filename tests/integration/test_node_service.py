"""NodeService: what operators see of a node, how they drain it, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import node_pb2, types_pb2
from tests.integration.grpc_node import (
    Node,
    fields_of,
    hello,
    offering,
    reason_of,
)
from tests.integration.node_calls import CODE, METHODS, ask, finish, refused, workers

# The node --------------------------------------------------------------------------------------------------------


async def test_a_node_says_who_it_is(node: Node) -> None:
    told = (await ask(node, "GetNode", b"", node_pb2.GetNodeResponse.FromString)).node
    assert (told.node_id, told.version, told.draining) == ("node-1", "1.2.3", False)
    assert set(told.capabilities) == {
        types_pb2.CAPABILITY_RESUME,
        types_pb2.CAPABILITY_CANCEL,
        types_pb2.CAPABILITY_REAUTHENTICATE,
        types_pb2.CAPABILITY_HOLON,
        types_pb2.CAPABILITY_EVENTS,
    }
    assert told.started_at.ToMilliseconds() <= told.node_time.ToMilliseconds()
    node.engine.workers.drain_all(0)
    assert (await ask(node, "GetNode", b"", node_pb2.GetNodeResponse.FromString)).node.draining


async def test_its_figures_are_those_of_now(node: Node) -> None:
    worker = await node.worker(credits=1)
    for _ in range(3):
        await node.create()
    await finish(worker, await worker.offer())
    await worker.offer()
    stats = await ask(node, "GetStats", b"", node_pb2.GetStatsResponse.FromString)
    assert {one.status: one.count for one in stats.jobs} == {"waiting_for_worker": 2}
    assert (stats.tasks_queued, stats.tasks_leased) == (1, 1)
    assert (stats.workers_connected, stats.sessions) == (1, 1)
    assert stats.as_of.seconds
    assert stats.HasField("uptime")


async def test_a_drain_of_the_node_is_begun_with_its_grace_and_reason(node: Node) -> None:
    await ask(node, "DrainNode", node_pb2.DrainNodeRequest(reason="an update"))
    await ask(node, "DrainNode", node_pb2.DrainNodeRequest(grace=Duration(seconds=2)))
    assert node.drains == [(None, "an update"), (2.0, "")]
    for grace in (Duration(seconds=-1), Duration(seconds=2, nanos=-1)):
        error = await refused(node, "DrainNode", node_pb2.DrainNodeRequest(grace=grace))
        assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, ["grace"])


# Blueprints ------------------------------------------------------------------------------------------------------


async def test_blueprints_are_listed_by_name_in_pages(node: Node) -> None:
    names: list[str] = []
    token = ""
    while True:
        request = node_pb2.ListBlueprintsRequest(page_size=1, page_token=token)
        page = await ask(node, "ListBlueprints", request, node_pb2.ListBlueprintsResponse.FromString)
        assert len(page.blueprints) == 1
        assert not page.blueprints[0].HasField("graph")
        names.append(page.blueprints[0].name)
        token = page.next_page_token
        if not token:
            break
    assert names == ["relay", "spread"]


async def test_a_blueprint_is_read_with_its_contract_and_its_graph(node: Node) -> None:
    request = node_pb2.GetBlueprintRequest(name="relay")
    relay = (await ask(node, "GetBlueprint", request, node_pb2.GetBlueprintResponse.FromString)).blueprint
    assert (relay.api_endpoint, relay.api_version) == ("/api/v1/relay", "v1")
    assert json.loads(relay.input_schema.data)["type"] == "object"
    states = [(state.name, state.kind, state.outcome) for state in relay.graph.states]
    assert states == [
        ("start", node_pb2.BLUEPRINT_STATE_KIND_START, ""),
        ("end", node_pb2.BLUEPRINT_STATE_KIND_END, "finished"),
        ("broken", node_pb2.BLUEPRINT_STATE_KIND_END, "failed"),
    ]
    edges = {(edge.source, edge.target, edge.label) for edge in relay.graph.edges}
    assert edges == {("start", "end", "success"), ("start", "broken", "failure")}
    assert relay.graph.dot.startswith('digraph "relay" {')


async def test_an_unknown_blueprint_is_not_found(node: Node) -> None:
    error = await refused(node, "GetBlueprint", node_pb2.GetBlueprintRequest(name="nothing"))
    assert (error.code(), reason_of(error)) == (CODE.NOT_FOUND, "BLUEPRINT_NOT_FOUND")


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [0, 7])
async def test_a_secret_that_is_none_is_refused_with_those_that_there_are(node: Node, secret: int) -> None:
    error = await refused(node, "RotateTokens", b"\x08%c" % secret)
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, ["secret"])
    known = "TOKEN_SECRET_SIGNING_KEY (1), TOKEN_SECRET_REFRESH (2)"
    assert error.details() == f"secret is {secret}; use one of {known}"


@pytest.mark.parametrize("method", METHODS)
async def test_every_call_needs_the_token(node: Node, method: str) -> None:
    assert reason_of(await refused(node, method, b"", metadata=())) == "TOKEN_INVALID"
    assert node.drains == []


@pytest.mark.parametrize("method", METHODS[:-1])
async def test_a_malformed_request_is_refused_with_a_reason(node: Node, method: str) -> None:
    error = await refused(node, method, b"\xff\xff\xff")
    assert (error.code(), reason_of(error)) == (CODE.INVALID_ARGUMENT, "MALFORMED_FRAME")


@pytest.mark.parametrize("method", ["ListBlueprints", "ListWorkers", "ListSkills"])
@pytest.mark.parametrize(
    ("page", "field"), [((1001, ""), "page_size"), ((-1, ""), "page_size"), ((0, "?"), "page_token")]
)
async def test_a_page_that_cannot_be_is_refused_by_name(
    node: Node, method: str, page: tuple[int, str], field: str
) -> None:
    request = getattr(node_pb2, f"{method}Request")(page_size=page[0], page_token=page[1])
    error = await refused(node, method, request)
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"labels": {"k": "x" * 257}}, "labels"),
        ({"price": -1}, "catalog.offerings.0.price"),
        ({"properties": b"[]"}, "catalog.profiles.0.resources.properties"),
        ({"properties": b""}, "catalog.profiles.0.resources.properties"),
        ({"input_schema": types_pb2.Payload(data=b"")}, "catalog.offerings.0.input_schema"),
        ({"properties": b"{" + b" " * 65_536 + b"}"}, "catalog.profiles.0.resources"),
        ({"properties": b'{"p":[' + b",".join([b"1e15"] * 4_000) + b"]}"}, "catalog.profiles.0.resources"),
        ({"description": "x" * 4_097}, "catalog.offerings.0.description"),
        ({"statuses": ["s"] * 65}, "catalog.offerings.0.statuses"),
        ({"statuses": ["s" * 129]}, "catalog.offerings.0.statuses"),
        ({"statuses": [""]}, "catalog.offerings.0.statuses"),
    ],
)
async def test_what_a_worker_cannot_say_of_itself_is_refused_by_name(
    node: Node, more: dict[str, Any], field: str
) -> None:
    wire = await node.stream("w1")
    labels, properties = more.pop("labels", None), more.pop("properties", None)
    hi = hello(offering("t", **more), labels=labels)
    if properties is not None:
        hi.hello.catalog.profiles.add().resources.properties.data = properties
    await wire.send(hi)
    error = await wire.end()
    assert (reason_of(error), fields_of(error)) == ("HELLO_INVALID", [field])


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("hot_skills", ["t"] * 1_001),
        ("hot_skills", ["x" * 129]),
        ("cached", [str(n) for n in range(1_001)]),
        ("cached", ["x" * 257]),
    ],
)
async def test_of_what_a_worker_has_loaded_too_much_is_refused(node: Node, field: str, names: list[str]) -> None:
    wire = await node.stream("w1")
    hi = hello(offering("t"))
    getattr(hi.hello.catalog, field).extend(names)
    await wire.send(hi)
    error = await wire.end()
    assert (reason_of(error), fields_of(error)) == ("HELLO_INVALID", [f"catalog.{field}"])


async def test_what_just_fits_is_taken(node: Node) -> None:
    wire = await node.stream("w1")
    hi = hello(offering("t", description="x" * 4_096, statuses=[f"{n:0128}" for n in range(64)]))
    properties = json.dumps({"p": "x" * (65_536 - 30)}).encode()
    hi.hello.catalog.profiles.add().resources.properties.data = properties
    await wire.send(hi)
    await wire.expect("welcome")
    [worker] = await workers(node)
    assert len(worker.resources[0].properties.data) == len(properties) - 1
