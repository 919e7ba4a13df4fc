"""The HTTP door: what a node tells of itself: as the gRPC door does, of blueprints, workers, skills and figures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import orjson
import pytest

from holon.client import Client
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.transports.http.door import HttpDoor, HttpSettings
from tests.integration import grpc_node
from tests.integration.admission import admission
from tests.integration.grpc_node import CLIENT_TOKEN, GUARD, Wire, a_node, authority, hello, json_payload, offering
from tests.integration.http_node import AUTH, Node, running
from tests.plaintext import PLAINTEXT

BLUEPRINTS, WORKERS = "/api/v1/blueprints", "/api/v1/workers"
CATALOG, DASHBOARD = f"{WORKERS}/catalog", "/api/v1/dashboard"
GRAPH = f"{BLUEPRINTS}/doubling/graph"
LISTS = {BLUEPRINTS: "blueprints", WORKERS: "workers", CATALOG: "skills"}


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running() as it:
        yield it


@dataclass
class Doors:
    """A node with all of its doors; `grpc` and `http` are clients of it."""

    node: grpc_node.Node
    grpc: Client
    http: httpx.AsyncClient

    async def told(self, path: str) -> Any:
        reply = await self.http.get(path)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def names(self, path: str, name: str) -> list[str]:
        return [one[name] for one in (await self.told(path))[LISTS[path.partition("?")[0]]]]

    async def joins(self, worker_id: str, *offerings: worker_pb2.Offering, **more: Any) -> Wire:
        return await self.node.worker(worker_id, *offerings, **more)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Doors]:
    async with a_node(admission=admission(folder, '["child*"]\nkind = "holon"\ncn = "child*"')) as node:
        engine, overview, settings = node.engine, node.overview, HttpSettings(port=0)
        trusted = authority("ours").files.certificate
        async with (
            HttpDoor(
                engine.jobs, engine.watching, engine.trees, engine.blueprints, overview, settings, node.known
            ) as door,
            Client(f"grpcs://localhost:{node.clients.port}", CLIENT_TOKEN, trusted) as client,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{door.port}",
                headers={"X-Client-Token": CLIENT_TOKEN},
                trust_env=False,
                timeout=GUARD,
                verify=PLAINTEXT,
            ) as http,
        ):
            yield Doors(node, client, http)


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with opened(tmp_path) as doors:
        yield doors


async def a_full_house(doors: Doors) -> None:
    """Workers that say of themselves all that can be said; one is a holon, and one holds a task of two."""
    gpu = types_pb2.Device(type="gpu", model="T4", id="0", properties=types_pb2.Payload(data=b'{"vram_gb":16}'))
    machine = types_pb2.Resources(devices=[gpu], properties=types_pb2.Payload(data=b'{"cpu_cores":8}'))
    schema = json_payload({"type": "object", "required": ["n"]})
    wire = await doors.node.stream("w1")
    hi = hello(
        offering(
            "t",
            input_schema=schema,
            output_schema=schema,
            price=7,
            description="does t",
            statuses=["unsure"],
            events=[worker_pb2.EventType(type="seen", schema=schema), worker_pb2.EventType(type="any")],
        ),
        offering("u", version="2"),
        instance_id="process-7",
        credits=1,
        labels={"zone": "a"},
        sdk=worker_pb2.SdkInfo(name="sdk", version="1.0", runtime="go 1.22"),
    )
    hi.hello.catalog.profiles.add(profile_id="p", resources=machine)
    hi.hello.catalog.hot_skills.append("t")
    hi.hello.catalog.cached.extend(["phi", "llama"])
    await wire.send(hi)
    await wire.expect("welcome")
    device = worker_pb2.DeviceLoad(device_id="0", percent=97.5)
    await wire.beat(load=worker_pb2.WorkerLoad(cpu_percent=12.5, memory_used_bytes=3, devices=[device]))
    who = worker_pb2.HolonIdentity(holon_id="below", uplink_epoch=1, label="Harbour")
    await doors.joins("child", offering("v"), instance_id="process-8", holon_identity=who)
    for _ in range(2):
        await doors.node.create(n=1)
    await wire.offer()


# What is told ----------------------------------------------------------------------------------------------------


async def test_both_doors_tell_the_same_in_the_shapes_that_the_document_has(doors: Doors) -> None:
    await a_full_house(doors)
    it = await doors.told("/_public/openapi.json")
    client = doors.grpc.node
    blueprints = [asdict(one) async for one in client.list_blueprints()]
    for one in blueprints:
        # What no blueprint says yet, and what lists leave out.
        assert (one.pop("description"), one.pop("graph")) == ("", None)
    expected = {
        BLUEPRINTS: ("BlueprintPage", {"blueprints": blueprints, "next_page_token": ""}),
        WORKERS: (
            "WorkerPage",
            {"workers": [asdict(one) async for one in client.list_workers()], "next_page_token": ""},
        ),
        CATALOG: ("SkillPage", {"skills": [asdict(one) async for one in client.list_skills()], "next_page_token": ""}),
        DASHBOARD: ("Figures", asdict(await client.stats())),
    }
    for path, (shape, value) in expected.items():
        told = await doors.told(path)
        jsonschema_rs.Draft202012Validator({**it, "$ref": f"#/components/schemas/{shape}"}).validate(told)
        value = orjson.loads(orjson.dumps(value))
        if path == DASHBOARD:
            # They were asked one after the other.
            for figure in ("uptime", "as_of"):
                assert 0 < value.pop(figure) <= told.pop(figure)
        assert told == value, path
        for one in told.get(LISTS.get(path, ""), ()):
            assert list(one) == list(it["components"]["schemas"][shape.removesuffix("Page")]["properties"])


async def test_a_worker_is_shown_with_all_that_it_says_of_itself(doors: Doors) -> None:
    await a_full_house(doors)
    child, worker = (await doors.told(WORKERS))["workers"]
    assert 1_700_000_000 < worker.pop("connected_at") <= worker.pop("last_seen_at") < 5_000_000_000
    assert worker == {
        "worker_id": "w1",
        "kind": "worker",
        "holon_id": "",
        "instance_id": "process-7",
        "connected": True,
        "draining": False,
        "node_id": "node-1",
        "credits": 1,
        "held": 1,
        "skills": ["t", "u"],
        "labels": {"zone": "a"},
        "sdk": "sdk 1.0 go 1.22",
        "resources": [
            {
                "devices": [{"type": "gpu", "model": "T4", "id": "0", "properties": {"vram_gb": 16}}],
                "properties": {"cpu_cores": 8},
            }
        ],
        "reputation": 1.0,
        "reputations": [],
        "load": {
            "cpu_percent": 12.5,
            "memory_used_bytes": 3,
            "memory_total_bytes": None,
            "devices": [{"device_id": "0", "percent": 97.5, "memory_used_bytes": None}],
        },
        "hot_skills": ["t"],
        "cached": ["llama", "phi"],
        "prices": {"t": 7},
        "warnings": [],
    }
    assert child["load"] is None
    assert (child["worker_id"], child["kind"], child["holon_id"]) == ("child", "holon", "below")
    assert child["labels"] == {"holon": "Harbour"}


async def test_a_skill_is_shown_with_its_contract_and_who_provides_it(doors: Doors) -> None:
    await a_full_house(doors)
    await doors.joins("w2", offering("u", version="2", price=3))
    schema = {"type": "object", "required": ["n"]}
    skills = (await doors.told(CATALOG))["skills"]
    assert skills[0] == {
        "name": "t",
        "type": "",
        "version": "",
        "description": "does t",
        "input_schema": schema,
        "output_schema": schema,
        "statuses": ["unsure"],
        "provider_count": 1,
        "lowest_price": 7,
        "average_reputation": 1.0,
        "events": [{"type": "seen", "schema": schema}, {"type": "any", "schema": None}],
    }
    assert [(one["name"], one["version"], one["provider_count"], one["lowest_price"]) for one in skills[1:]] == [
        ("u", "2", 2, 3),
        ("v", "", 1, None),
    ]


async def test_the_figures_are_those_of_now(doors: Doors) -> None:
    assert (await doors.told(DASHBOARD))["jobs"] == {}
    await a_full_house(doors)
    figures = await doors.told(DASHBOARD)
    assert figures.pop("uptime") > 0
    assert 1_700_000_000 < figures.pop("as_of") < 5_000_000_000
    assert figures == {
        "jobs": {"waiting_for_worker": 2},
        "tasks_queued": 1,
        "tasks_leased": 1,
        "workers_connected": 2,
        "sessions": 2,
    }


async def test_a_graph_is_the_text_that_the_other_door_has(doors: Doors) -> None:
    reply = await doors.http.get(f"{BLUEPRINTS}/relay/graph")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/vnd.graphviz; charset=utf-8")
    graph = (await doors.grpc.node.get_blueprint("relay")).graph
    assert graph is not None
    assert reply.text == graph.dot
    assert reply.text.startswith('digraph "relay" {\n')
    head = await doors.http.head(f"{BLUEPRINTS}/relay/graph")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(reply.content)))


async def test_a_blueprint_without_a_path_is_listed_too_and_has_a_graph(node: Node) -> None:
    found = (await node.client.get(BLUEPRINTS, headers=AUTH)).json()["blueprints"]
    assert [(one["name"], one["api_endpoint"], one["api_version"]) for one in found] == [
        ("doubling", "/api/v1/jobs/doubling", "v1"),
        ("hidden", None, None),
        ("plain", "/api/plain", None),
        ("waiting", "/api/v1/jobs/waiting", "v1"),
    ]
    assert found[0]["input_schema"]["required"] == ["n"]
    assert found[1]["input_schema"] is None
    assert (await node.client.get(f"{BLUEPRINTS}/hidden/graph", headers=AUTH)).text == (
        'digraph "hidden" {\n  rankdir=LR;\n  "alone" [shape=oval];\n}\n'
    )


# Pages -----------------------------------------------------------------------------------------------------------


async def test_lists_are_turned_by_token_to_their_end(doors: Doors) -> None:
    for name in ("w2", "w1", "w3"):
        await doors.joins(name, offering("t"), offering(f"only {name}", version="1.0", type="ä"))
    for path, key, expected in (
        (WORKERS, "worker_id", ["w1", "w2", "w3"]),
        (CATALOG, "name", ["only w1", "only w2", "only w3", "t"]),
        (BLUEPRINTS, "name", ["relay", "spread"]),
    ):
        for size in ("page_size", "limit"):
            seen: list[str] = []
            token = ""
            while token or not seen:
                page = await doors.told(f"{path}?{size}=1&page_token={token}")
                assert page.keys() == {LISTS[path], "next_page_token"}
                (one,) = page[LISTS[path]]
                seen.append(one[key])
                token = page["next_page_token"]
            assert seen == expected


async def test_workers_are_listed_by_skill_and_while_they_are_connected(doors: Doors) -> None:
    for name, skill in (("w1", "t"), ("w2", "u"), ("w3", "t")):
        await doors.joins(name, offering(skill))
    assert await doors.names(f"{WORKERS}?skill=t", "worker_id") == ["w1", "w3"]
    assert await doors.names(f"{WORKERS}?skill=", "worker_id") == ["w1", "w2", "w3"]
    assert await doors.names(f"{WORKERS}?connected=true&skill=u", "worker_id") == ["w2"]
    assert await doors.names(f"{WORKERS}?connected=false", "worker_id") == []


# What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("page_size=0", "page_size", "must be a whole number from 1 to 1000, not '0'"),
        ("page_size=1001", "page_size", "must be a whole number from 1 to 1000, not '1001'"),
        ("limit=x", "limit", "must be a whole number from 1 to 1000, not 'x'"),
        ("limit=1&page_size=1", "limit", "is another name for page_size; use only one of them"),
        ("page_token=a", "page_token", "does not belong to this list; start without it"),
        ("page_token=ab==", "page_token", "does not belong to this list; start without it"),
        ("page_token=%C3%A4bc", "page_token", "does not belong to this list; start without it"),
        (
            f"page_token={'AAAA' * 1_025}",
            "page_token",
            "does not belong to this list; start without it",
        ),
        ("offset=1", "offset", "is not supported; use page_token "),
        ("page_size=1&page_size=1", "page_size", "is given twice"),
    ],
)
async def test_a_page_that_cannot_be_is_refused_by_name(
    node: Node, path: str, query: str, field: str, says: str
) -> None:
    reply = await node.client.get(f"{path}?{query}", headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (400, "INVALID_ARGUMENT")
    (detail,) = reply.json()["details"]
    assert detail["field"] == field
    assert detail["reason"].startswith(says)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"{WORKERS}?connected=1", "connected"),
        (f"{WORKERS}?connected=", "connected"),
        (f"{BLUEPRINTS}?skill=t", "skill"),
        (f"{CATALOG}?skill=t", "skill"),
        (f"{GRAPH}?page_size=1", "page_size"),
        (f"{DASHBOARD}?status=failed", "status"),
    ],
)
async def test_a_parameter_that_is_none_is_refused_by_name(node: Node, path: str, field: str) -> None:
    reply = await node.client.get(path, headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert [detail["field"] for detail in reply.json()["details"]] == [field]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{BLUEPRINTS}/nothing/graph", "BLUEPRINT_NOT_FOUND"),
        (f"{BLUEPRINTS}/%2e%2e/graph", "BLUEPRINT_NOT_FOUND"),
        (f"{BLUEPRINTS}/%C3%BF/graph", "BLUEPRINT_NOT_FOUND"),
        (f"{BLUEPRINTS}//graph", "ROUTE_NOT_FOUND"),
        (f"{BLUEPRINTS}/a/b/graph", "ROUTE_NOT_FOUND"),
        (f"{BLUEPRINTS}/doubling", "ROUTE_NOT_FOUND"),
        (f"{BLUEPRINTS}/doubling/graph/", "ROUTE_NOT_FOUND"),
        (f"{BLUEPRINTS}/", "ROUTE_NOT_FOUND"),
        (f"{WORKERS}/w1", "ROUTE_NOT_FOUND"),
        (f"{DASHBOARD}/x", "ROUTE_NOT_FOUND"),
    ],
)
async def test_what_is_not_there_is_not_found(node: Node, path: str, code: str) -> None:
    reply = await node.client.get(path, headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (404, code)


@pytest.mark.parametrize("path", [*LISTS, GRAPH, DASHBOARD])
async def test_they_are_read_with_a_token_and_never_written(node: Node, path: str) -> None:
    assert (await node.client.get(path)).json()["code"] == "TOKEN_INVALID"
    for method in ("POST", "PUT", "DELETE"):
        reply = await node.client.request(method, path, headers=AUTH)
        assert (reply.status_code, reply.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
        assert reply.headers["allow"] == "GET, HEAD"
        assert "blueprints list" not in reply.json()["error"]
