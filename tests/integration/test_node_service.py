"""NodeService: what operators see of a node and its workers, and how they drain both."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.domain.fleet import Skill
from holon.engine import offered
from holon.rxon.v1 import node_pb2, types_pb2, worker_pb2
from tests.integration.grpc_node import (
    CLIENT,
    DRAIN,
    ENDED,
    GUARD,
    Node,
    Wire,
    fields_of,
    hello,
    json_payload,
    offering,
    reason_of,
    result,
    updates,
)

CODE = grpc.StatusCode
NODES = "/holon.rxon.v1.NodeService/"
METHODS = (
    "GetNode", "ListBlueprints", "GetBlueprint", "ListWorkers", "GetWorkerHistory", "ListSkills", "GetStats",
    "DrainNode", "DrainWorker", "ReloadNode", "AcceptHolon", "RotateTokens",
)  # fmt: skip


async def ask(
    node: Node, method: str, request: Any, kind: Callable[[bytes], Any] = bytes, metadata: Any = CLIENT
) -> Any:
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    call: Any = node.channel.unary_unary
    return kind(await call(NODES + method)(raw, metadata=metadata, timeout=GUARD))


async def refused(node: Node, method: str, request: Any, **more: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(ENDED) as error:
        await ask(node, method, request, **more)
    return error.value


async def workers(node: Node, **more: Any) -> list[node_pb2.WorkerInfo]:
    request = node_pb2.ListWorkersRequest(**more)
    return list((await ask(node, "ListWorkers", request, node_pb2.ListWorkersResponse.FromString)).workers)


async def skills(node: Node, **more: Any) -> list[node_pb2.Skill]:
    request = node_pb2.ListSkillsRequest(**more)
    return list((await ask(node, "ListSkills", request, node_pb2.ListSkillsResponse.FromString)).skills)


async def drain(node: Node, worker_id: str, **more: Any) -> node_pb2.WorkerInfo:
    request = node_pb2.DrainWorkerRequest(worker_id=worker_id, **more)
    answer = await ask(node, "DrainWorker", request, node_pb2.DrainWorkerResponse.FromString)
    worker: node_pb2.WorkerInfo = answer.worker
    return worker


async def finish(worker: Wire, offer: worker_pb2.TaskOffer) -> None:
    await worker.send(updates(result(offer, {"done": True})))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


# The node --------------------------------------------------------------------------------------------------------


async def test_a_node_says_who_it_is(node: Node) -> None:
    told = (await ask(node, "GetNode", b"", node_pb2.GetNodeResponse.FromString)).node
    assert (told.node_id, told.version, told.draining) == ("node-1", "1.2.3", False)
    assert set(told.capabilities) == {
        types_pb2.CAPABILITY_RESUME,
        types_pb2.CAPABILITY_CANCEL,
        types_pb2.CAPABILITY_REAUTHENTICATE,
        types_pb2.CAPABILITY_HOLON,
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


# Workers and skills ----------------------------------------------------------------------------------------------


async def test_a_worker_is_listed_with_all_that_it_says_of_itself(node: Node) -> None:
    gpu = types_pb2.Device(type="gpu", model="T4", id="0", properties=types_pb2.Payload(data=b'{"vram_gb":16}'))
    machine = types_pb2.Resources(devices=[gpu], properties=types_pb2.Payload(data=b'{"cpu_cores":8}'))
    wire = await node.stream("w1")
    hi = hello(
        offering("t"),
        offering("u"),
        instance_id="process-7",
        credits=3,
        sdk=worker_pb2.SdkInfo(name="sdk", version="1.0", runtime="go 1.22"),
        labels={"zone": "a"},
    )
    hi.hello.catalog.profiles.add(profile_id="p", resources=machine)
    await wire.send(hi)
    await wire.expect("welcome")
    await node.create()
    await wire.offer()
    [worker] = await workers(node)
    assert (worker.worker_id, worker.kind, worker.instance_id) == ("w1", node_pb2.WORKER_KIND_WORKER, "process-7")
    assert (worker.connected, worker.draining, worker.node_id) == (True, False, "node-1")
    assert (worker.credits, worker.held, list(worker.skills)) == (3, 1, ["t", "u"])
    assert (worker.sdk, dict(worker.labels)) == ("sdk 1.0 go 1.22", {"zone": "a"})
    assert list(worker.resources) == [machine]
    assert not worker.HasField("reputation")
    await wire.beat()
    [later] = await workers(node)
    assert later.connected_at == worker.connected_at
    assert later.last_seen_at.ToMilliseconds() >= worker.last_seen_at.ToMilliseconds() > 0


async def test_workers_are_listed_by_id_in_pages_by_skill_and_while_they_are_connected(node: Node) -> None:
    wires = {name: await node.worker(name, offering(skill)) for name, skill in (("w2", "t"), ("w1", "u"), ("w3", "t"))}
    assert [one.worker_id for one in await workers(node)] == ["w1", "w2", "w3"]
    assert [one.worker_id for one in await workers(node, skill="t")] == ["w2", "w3"]
    assert len(await workers(node, connected=True)) == 3
    assert await workers(node, connected=False) == []
    first = await ask(
        node, "ListWorkers", node_pb2.ListWorkersRequest(page_size=2), node_pb2.ListWorkersResponse.FromString
    )
    assert [one.worker_id for one in first.workers] == ["w1", "w2"]
    assert [one.worker_id for one in await workers(node, page_size=2, page_token=first.next_page_token)] == ["w3"]
    await wires["w2"].send(DRAIN)
    await wires["w2"].close()
    await node.until(lambda: len(node.engine.fleet) == 2)
    assert [one.worker_id for one in await workers(node)] == ["w1", "w3"]


async def test_a_skill_is_listed_once_for_each_contract_with_who_provides_it_and_its_lowest_price(node: Node) -> None:
    schema = json_payload({"type": "object", "required": ["n"]})
    same = json_payload({"required": ["n"], "type": "object"})
    await node.worker("w1", offering("t", input_schema=schema, price=7, description="does t"), offering("u"))
    await node.worker("w2", offering("t", input_schema=same, price=5, description="does t"))
    await node.worker("w3", offering("t", version="2", statuses=["unsure"]))
    told = await skills(node)
    assert [(one.name, one.version, one.provider_count) for one in told] == [("t", "", 2), ("t", "2", 1), ("u", "", 1)]
    first, second, third = told
    assert (first.lowest_price, first.description) == (5, "does t")
    assert json.loads(first.input_schema.data) == {"type": "object", "required": ["n"]}
    assert list(second.statuses) == ["unsure"]
    assert not third.HasField("lowest_price")
    assert not third.HasField("input_schema")
    page = await ask(
        node, "ListSkills", node_pb2.ListSkillsRequest(page_size=1), node_pb2.ListSkillsResponse.FromString
    )
    assert [one.version for one in await skills(node, page_token=page.next_page_token)] == ["2", ""]


async def test_what_tells_a_skill_apart_is_worked_out_once_however_often_it_is_listed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked_out: list[str] = []
    plain = offered.contract_text

    def counted(skill: Skill) -> bytes:
        worked_out.append(skill.name)
        return plain(skill)

    monkeypatch.setattr(offered, "contract_text", counted)
    schema = json_payload({"type": "object", "required": ["n"]})
    await node.worker("w1", *(offering(f"s{n}", input_schema=schema) for n in range(20)))
    token = ""
    for size in (1, 7, 0):
        request = node_pb2.ListSkillsRequest(page_size=size, page_token=token)
        page = await ask(node, "ListSkills", request, node_pb2.ListSkillsResponse.FromString)
        token = page.next_page_token
    assert [one.name for one in page.skills] == sorted(f"s{n}" for n in range(20))[8:]
    # Somebody else comes, and goes.
    other = await node.worker("w2", offering("s3", input_schema=schema))
    assert [one.provider_count for one in await skills(node) if one.name == "s3"] == [2]
    await other.send(DRAIN)
    await other.close()
    await node.until(lambda: len(node.engine.fleet) == 1)
    assert [one.provider_count for one in await skills(node) if one.name == "s3"] == [1]
    assert sorted(worked_out) == sorted([*(f"s{n}" for n in range(20)), "s3"])


async def test_a_new_catalog_replaces_what_is_listed(node: Node) -> None:
    worker = await node.worker("w1", offering("t"))
    catalog = worker_pb2.Catalog(sequence=1, offerings=[offering("v")])
    await worker.send(worker_pb2.SessionRequest(catalog=catalog))
    await node.until(lambda: [one.skill.name for one in node.engine.fleet.skills()] == ["v"])
    assert [one.name for one in await skills(node)] == ["v"]


async def join_large(node: Node, worker_id: str) -> None:
    """A worker that says of its machines as much as it may, with their numbers written out."""
    wire = await node.stream(worker_id)
    hi = hello(offering("t"), labels={"zone": worker_id})
    for n in range(32):
        properties = json_payload({f"p{n}": "x" * 65_000})
        hi.hello.catalog.profiles.add(resources=types_pb2.Resources(properties=properties))
    await wire.send(hi)
    await wire.expect("welcome")


async def test_pages_of_workers_end_before_they_do_not_fit_into_an_answer_and_a_drain_is_answered(node: Node) -> None:
    names = ["w1", "w2", "w3"]
    for name in names:
        await join_large(node, name)
    await node.worker("good-1", offering("good"))
    seen, token = [], ""
    for wanted in (["good-1", "w1"], ["w2"], ["w3"]):
        request = node_pb2.ListWorkersRequest(page_token=token)
        page = await ask(node, "ListWorkers", request, node_pb2.ListWorkersResponse.FromString)
        assert [one.worker_id for one in page.workers] == wanted
        seen += page.workers
        token = page.next_page_token
    assert not token
    assert [len(one.resources) for one in seen] == [0, 32, 32, 32]
    drained = await drain(node, "w1")
    assert (drained.draining, dict(drained.labels), len(drained.resources)) == (True, {"zone": "w1"}, 0)


async def test_pages_of_skills_end_before_they_do_not_fit_into_an_answer(node: Node) -> None:
    for worker in range(2):
        large = [json_payload({"minProperties": n, "description": "x" * 60_000}) for n in range(30)]
        offers = [offering(f"s{worker}{n:02}", input_schema=one, output_schema=one) for n, one in enumerate(large)]
        await node.worker(f"w{worker + 1}", *offers)
    names, pages, token = [], 0, ""
    while token or not pages:
        request = node_pb2.ListSkillsRequest(page_token=token, page_size=1_000)
        page = await ask(node, "ListSkills", request, node_pb2.ListSkillsResponse.FromString)
        assert page.ByteSize() <= 3 * 2**20
        names += [one.name for one in page.skills]
        pages, token = pages + 1, page.next_page_token
    assert (names, pages) == ([f"s{worker}{n:02}" for worker in range(2) for n in range(30)], 3)


# Draining a worker -----------------------------------------------------------------------------------------------


async def test_a_drained_worker_ends_what_it_holds_and_gets_nothing_new_until_that_is_taken_back(node: Node) -> None:
    worker = await node.worker(credits=10)
    await node.create()
    offer = await worker.offer()
    drained = await drain(node, "w1", reason="a new disk")
    assert (drained.draining, drained.held, drained.connected) == (True, 1, True)
    job_id = await node.create()
    await finish(worker, offer)
    assert (await node.job(job_id)).progress_message == "waiting: every worker with skill 't' is draining"
    await worker.beat()
    assert not (await drain(node, "w1", undo=True)).draining
    offer = await worker.offer()
    assert offer.job_id == job_id
    await finish(worker, offer)
    assert (await node.ended(job_id)).status == "finished"


async def test_a_drain_outlives_a_reconnect_of_the_same_process_and_not_its_restart(node: Node) -> None:
    await node.worker(instance_id="process-1")
    await drain(node, "w1")
    again = await node.worker(instance_id="process-1")
    [seen] = await workers(node)
    assert seen.draining
    job_id = await node.create()
    await again.beat()
    restarted = await node.worker(instance_id="process-2")
    assert (await restarted.offer()).job_id == job_id
    [seen] = await workers(node)
    assert not seen.draining


async def test_a_drain_of_a_worker_that_left_can_be_taken_back(node: Node) -> None:
    worker = await node.worker(instance_id="process-1")
    await drain(node, "w1")
    await worker.send(DRAIN)
    await worker.close()
    await node.until(lambda: not len(node.engine.fleet))
    gone = await drain(node, "w1", undo=True)
    assert (gone.worker_id, gone.connected, gone.node_id) == ("w1", False, "")
    await node.worker(instance_id="process-1")
    [back] = await workers(node)
    assert not back.draining


async def test_a_worker_that_leaves_by_itself_is_not_held_back(node: Node) -> None:
    worker = await node.worker()
    await worker.send(DRAIN)
    await worker.beat()
    [leaving] = await workers(node)
    assert leaving.draining
    assert (await drain(node, "w1", undo=True)).draining


async def test_an_unknown_worker_is_not_found(node: Node) -> None:
    for undo in (False, True):
        error = await refused(node, "DrainWorker", node_pb2.DrainWorkerRequest(worker_id="nobody", undo=undo))
        assert (error.code(), reason_of(error)) == (CODE.NOT_FOUND, "WORKER_NOT_FOUND")


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [0, 7])
async def test_a_secret_that_is_none_is_refused_with_those_that_there_are(node: Node, secret: int) -> None:
    error = await refused(node, "RotateTokens", b"\x08%c" % secret)
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, ["secret"])
    known = "TOKEN_SECRET_SIGNING_KEY (1), TOKEN_SECRET_REFRESH (2)"
    assert error.details() == f"secret is {secret}; there are {known}"


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


async def test_what_just_fits_is_taken(node: Node) -> None:
    wire = await node.stream("w1")
    hi = hello(offering("t", description="x" * 4_096, statuses=[f"{n:0128}" for n in range(64)]))
    properties = json.dumps({"p": "x" * (65_536 - 30)}).encode()
    hi.hello.catalog.profiles.add().resources.properties.data = properties
    await wire.send(hi)
    await wire.expect("welcome")
    [worker] = await workers(node)
    assert len(worker.resources[0].properties.data) == len(properties) - 1
