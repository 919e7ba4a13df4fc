"""The OpenAPI document: true to every route, shape and error of the HTTP door."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import httpx
import jsonschema_rs
import pydantic
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holon.domain import paths
from holon.domain.blueprint import Blueprint
from holon.engine import shared_reloading
from holon.engine.contracts import Contracts
from holon.errors import BlueprintError, StoreUnavailable
from holon.security.sts.exchange import PublicKey
from holon.storage.memory import MemoryStorage
from holon.testing import running_node
from holon.transports.http.contracts import as_components
from holon.transports.http.door import HttpSettings
from holon.transports.http.refusals import CODES, STATUSES, status_of
from holon.transports.http.shapes import JOB_STATUSES
from tests.integration.http_node import AUTH, GUARD, LIMIT, Node, running
from tests.plaintext import PLAINTEXT

KEY = Ed25519PrivateKey.generate().public_key()
PAGE = (Path(__file__).parents[2] / "docs/http.md").read_text(encoding="utf-8")


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async def metrics() -> tuple[bytes, str]:
        return b"jobs 1\n", "text/plain; version=0.0.4; charset=utf-8"

    async with running(metrics=metrics, keys=lambda: [PublicKey("k", KEY, None, None)]) as it:
        yield it


async def document(node: Node) -> dict[str, Any]:
    reply = await node.client.get("/_public/openapi.json")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    it: dict[str, Any] = reply.json()
    return it


def validator(document: dict[str, Any], name: str) -> jsonschema_rs.Draft202012Validator:
    """What checks a value by a schema of the document, whose references lead through all of it."""
    return jsonschema_rs.Draft202012Validator({**document, "$ref": f"#/components/schemas/{name}"})


async def test_every_route_is_in_it_and_nothing_else(node: Node) -> None:
    paths = (await document(node))["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == {
        ("POST", "/api/v1/jobs/doubling"),
        ("POST", "/api/v1/jobs/waiting"),
        ("POST", "/api/plain"),
        ("GET", "/api/v1/jobs"),
        ("GET", "/api/v1/jobs/{job_id}"),
        ("GET", "/api/v1/jobs/{job_id}/history"),
        ("GET", "/api/v1/jobs/{job_id}/tree"),
        ("POST", "/api/v1/jobs/{job_id}/cancel"),
        ("POST", "/api/v1/jobs/{job_id}/signals"),
        ("GET", "/api/v1/blueprints"),
        ("GET", "/api/v1/blueprints/{name}/graph"),
        ("GET", "/api/v1/workers"),
        ("GET", "/api/v1/workers/catalog"),
        ("GET", "/api/v1/dashboard"),
        ("POST", "/api/v1/admin/reload"),
        ("POST", "/api/v1/admin/reload-workers"),
        ("POST", "/_public/webhooks/approval/{job_id}"),
        ("GET", "/_public/status"),
        ("GET", "/_public/metrics"),
        ("GET", "/_public/jwks.json"),
        ("GET", "/_public/openapi.json"),
        ("GET", "/_public/docs"),
        ("GET", "/_public/docs/page.js"),
        ("GET", "/_public/docs/swagger-ui.css"),
        ("GET", "/_public/docs/swagger-ui-bundle.js"),
        ("GET", "/_public/dashboard"),
        ("GET", "/_public/dashboard/{part}"),
    }
    names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(set(names)) == len(names)


async def test_what_needs_the_token_says_so(node: Node) -> None:
    it = await document(node)
    assert it["components"]["securitySchemes"] == {
        "ClientToken": {"type": "apiKey", "in": "header", "name": "X-Client-Token"}
    }
    for path, methods in it["paths"].items():
        for method, operation in methods.items():
            asked = await node.client.request(method, path.format(job_id="x", name="x", part="main.js"))
            security = operation.get("security", it["security"])
            if "approval" in path:
                # What stands in the place of the token is in the body.
                asked = await node.client.request(method, path.format(job_id="x"), json={"decision": "yes"})
                assert (security, asked.status_code) == ([{"ClientToken": []}, {}], 401)
                continue
            assert security == ([{"ClientToken": []}] if asked.status_code == 401 else []), path


async def test_what_is_public_answers_as_it_tells(node: Node) -> None:
    for path, methods in (await document(node))["paths"].items():
        if path.startswith("/_public/") and "approval" not in path:
            (named,) = [one["schema"]["enum"] for one in methods["get"].get("parameters", ())] or [[""]]
            told = set()
            for name in named:
                reply = await node.client.get(path.format(part=name))
                assert reply.status_code == 200, path
                told.add(reply.headers["content-type"].partition(";")[0])
            assert methods["get"]["responses"]["200"]["content"].keys() == told, path


async def test_a_creation_tells_its_input(node: Node) -> None:
    it = await document(node)
    body = it["paths"]["/api/v1/jobs/doubling"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert body["required"]
    terms = {
        "dispatch_timeout",
        "result_timeout",
        "allowed_skills",
        "budget",
        "webhook_url",
        "priority",
        "max_transitions",
    }
    assert schema["properties"].keys() == {"initial_data", *terms}
    told = schema["properties"]["webhook_url"]
    assert (told["type"], told["default"]) == (["string", "null"], None)
    for url, fits in (
        ("https://hooks.example.com:8443/a?b=%20", True),
        ("http://example.com", False),
        ("https://1", False),
    ):
        assert bool(re.search(told["pattern"], url)) == fits
    assert (schema["required"], schema["additionalProperties"]) == (["initial_data"], False)
    assert schema["properties"]["initial_data"]["$ref"] == "#/components/schemas/doubling.initial_data"
    contract = it["components"]["schemas"]["doubling.initial_data"]
    assert contract["properties"]["note"] == {"type": "string"}
    assert (contract["required"], contract["additionalProperties"]) == (["n"], False)
    free = it["paths"]["/api/v1/jobs/waiting"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "required" not in free


async def test_jobs_lists_and_histories_have_the_shape_that_it_tells(node: Node) -> None:
    it = await document(node)
    failed = await node.ended(await node.created("/api/plain"))
    finished = await node.ended(await node.created("/api/v1/jobs/doubling", {"n": 1}))
    fields = list(it["components"]["schemas"]["Job"]["properties"])
    by_name = {"initial_data", "state_history"}
    for job in (failed, finished, (await node.client.get(f"/api/v1/jobs/{await node.created()}", headers=AUTH)).json()):
        assert list(job) == [name for name in fields if name not in by_name]
        whole = (await node.client.get(f"/api/v1/jobs/{job['id']}?fields={','.join(fields)}", headers=AUTH)).json()
        assert (list(whole), {name: whole[name] for name in job}) == (fields, job)
        validator(it, "Job").validate(whole)
        history = (await node.client.get(f"/api/v1/jobs/{job['id']}/history", headers=AUTH)).json()
        validator(it, "EventPage").validate(history)
        assert list(history["events"][0]) == list(it["components"]["schemas"]["Event"]["properties"])
    validator(it, "JobPage").validate((await node.client.get("/api/v1/jobs", headers=AUTH)).json())


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "/api/v1/jobs/doubling", {"content": b"{"}),
        ("POST", "/api/v1/jobs/doubling", {"json": {"n": 1}}),
        ("POST", "/api/v1/jobs/doubling", {"json": {"initial_data": {}}}),
        ("POST", "/api/v1/jobs/doubling?x=1", {"json": {"initial_data": {"n": 1}}}),
        ("POST", "/api/v1/jobs/waiting", {"content": b"x" * (LIMIT + 1)}),
        ("GET", "/api/v1/jobs?page_size=0", {}),
        ("GET", "/api/v1/jobs/none", {}),
        ("GET", "/api/v1/jobs/none/history", {}),
        ("POST", "/api/v1/jobs/none/cancel", {}),
        ("POST", "/_public/webhooks/approval/none", {"json": {"decision": "yes"}}),
        ("POST", "/api/v1/jobs/none/cancel", {"json": {"why": 1}}),
        ("GET", "/api/v1/blueprints?page_size=0", {}),
        ("GET", "/api/v1/blueprints/none/graph", {}),
        ("GET", "/api/v1/workers?connected=perhaps", {}),
        ("GET", "/api/v1/workers/catalog?page_token=!", {}),
        ("GET", "/api/v1/dashboard?x=1", {}),
    ],
)
async def test_a_refusal_is_one_that_it_tells_of(node: Node, method: str, path: str, sent: dict[str, Any]) -> None:
    it = await document(node)
    reply = await node.client.request(method, path, headers=AUTH, **sent)
    validator(it, "Error").validate(reply.json())
    named = "{name}" if "blueprints" in path else "{job_id}"
    told = it["paths"][path.partition("?")[0].replace("none", named)][method.lower()]["responses"]
    assert f"`{reply.json()['code']}`" in told[str(reply.status_code)]["description"]
    unauthorised = await node.client.request(method, path, **sent)
    assert f"`{unauthorised.json()['code']}`" in told[str(unauthorised.status_code)]["description"]


class DeafStore(MemoryStorage):
    """A store that takes nothing that is to be told of a reload."""

    async def put_document(self, kind: str, *arguments: Any, **more: Any) -> int | None:
        if kind == shared_reloading.KIND:
            raise StoreUnavailable("the store is away")
        return await super().put_document(kind, *arguments, **more)


async def test_a_reload_that_other_nodes_cannot_be_told_of_is_refused_as_it_tells(tmp_path: Path) -> None:
    workers = tmp_path / "workers.toml"
    workers.touch(0o600)
    workers.write_text("[w1]\n")
    async with (
        running_node(storage=DeafStore(), WORKERS_CONFIG_PATH=str(workers)) as node,
        httpx.AsyncClient(base_url=node.url, trust_env=False, timeout=GUARD, verify=PLAINTEXT) as http,
    ):
        paths = (await http.get("/_public/openapi.json")).json()["paths"]
        for path in ("/api/v1/admin/reload", "/api/v1/admin/reload-workers"):
            reply = await http.post(path, headers={"X-Client-Token": node.token})
            assert (reply.status_code, reply.json()["code"]) == (503, "STORE_UNAVAILABLE")
            assert "`STORE_UNAVAILABLE`" in paths[path]["post"]["responses"]["503"]["description"]


def test_its_codes_are_those_of_the_page_at_the_same_statuses() -> None:
    rows = re.findall(r"^\| `\w+` \| (\d{3})[^|]*\| `\w+` \| (.+) \|$", PAGE, re.MULTILINE)
    on_page = {(int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    for code, (what, _) in CODES.items():
        if isinstance(what, int):
            assert f"`{code}`" in PAGE
        else:
            assert (status_of(code), code) in on_page
            assert what in dict(STATUSES)


async def test_a_node_that_keeps_it_to_itself_has_no_such_routes() -> None:
    async with running(HttpSettings(port=0, docs=False)) as node:
        for path in ("openapi.json", "docs", "docs/page.js"):
            reply = await node.client.get(f"/_public/{path}")
            assert (reply.status_code, reply.json()["code"]) == (404, "ROUTE_NOT_FOUND")


@dataclass
class Line:
    text: str
    tags: set[str]
    more: list[Line] | None = None


class Totals(TypedDict):
    counts: dict[str, int]
    rest: dict[str, Any]


class Order(pydantic.BaseModel):
    """An order, as its author describes it."""

    size: Literal["s", "m"] = "s"
    count: int = pydantic.Field(description="how many", ge=1)
    of: Order | None = None
    anything: Any = None


CONTRACTS: list[tuple[Any, list[Any]]] = [
    (Line, [{"text": "a", "tags": ["b"], "more": [{"text": "c", "tags": []}]}, {"text": "a", "tags": [1]}, {}]),
    (Totals, [{"counts": {"a": 1}, "rest": {"b": [{}, 1.5, None]}}, {"counts": {"a": "1"}, "rest": {}}, []]),
    (Order, [{"count": 1, "of": {"count": 2, "size": "m"}}, {"count": 0}, {"count": 1, "of": {"count": "x"}}]),
    (dict[str, int] | None, [{"a": 1}, None, {"a": "b"}, 1]),
]


@pytest.mark.parametrize(("hint", "values"), CONTRACTS)
def test_a_contract_means_the_same_in_the_document(hint: Any, values: list[Any]) -> None:
    blueprint = Blueprint("b")

    async def start(initial_data: Any) -> None: ...

    start.__annotations__["initial_data"] = hint
    blueprint.handler(is_start=True)(start)
    contract = blueprint.input_schema
    assert contract is not None
    contracts = Contracts()
    known = contracts.add(contract)
    told = validator({"components": {"schemas": as_components(contract, "b.x")}}, "b.x")
    verdicts = [contracts.accepts(known, value) for value in values]
    assert True in verdicts
    assert False in verdicts
    assert [told.is_valid(value) for value in values] == verdicts


def test_only_what_refers_is_moved() -> None:
    contract = {
        "$id": "https://example.org/x",
        "properties": {"$ref": {"const": {"$ref": "#/data"}}, "enum": {"$ref": "#/$defs/a"}, "const": {"$ref": "#"}},
        "$defs": {"a": {"type": ["integer", "null"], "minimum": 3}, "b": {"enum": [1, "$ref"]}},
    }
    assert as_components(contract, "c") == {
        "c": {
            "properties": {
                "$ref": {"const": {"$ref": "#/data"}},
                "enum": {"$ref": "#/components/schemas/c.a"},
                "const": {"$ref": "#/components/schemas/c"},
            },
        },
        "c.a": {"type": ["integer", "null"], "minimum": 3, "maximum": 2**64 - 1},
        "c.b": {"enum": [1, "$ref"]},
    }


def test_a_definition_whose_name_no_component_may_have_stays_where_it_is() -> None:
    contract = {"title": "A", "$ref": "#/$defs/List[int]", "$defs": {"List[int]": {"type": "array"}}}
    assert as_components(contract, "c") == {
        "c": {"$ref": "#/components/schemas/c/$defs/List[int]", "$defs": {"List[int]": {"type": "array"}}}
    }


async def test_statuses_are_open_and_any_json_is_the_empty_schema(node: Node) -> None:
    it = await document(node)
    status = it["components"]["schemas"]["Job"]["properties"]["status"]
    assert status.keys() == {"type", "description"}
    assert all(f"`{known}`" in status["description"] for known in JOB_STATUSES)
    assert it["components"]["schemas"]["Job"]["properties"]["terminal"]["type"] == "boolean"
    assert "Anything" not in it["components"]["schemas"]
    assert it["components"]["schemas"]["Job"]["properties"]["initial_data"]["additionalProperties"] == {}
    data = it["paths"]["/api/v1/jobs/waiting"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert data["properties"]["initial_data"]["additionalProperties"] == {}


@pytest.mark.parametrize(
    ("endpoint", "version"),
    [
        ("/jobs", "v1"),
        ("/v1/jobs", None),
        ("/jobs/x/cancel", "v1"),
        ("/jobs/x/history", "v1"),
        ("/v1/jobs/x/cancel", None),
        ("/blueprints", "v1"),
        ("/blueprints/x/graph", "v1"),
        ("/workers", "v1"),
        ("/v1/workers/catalog", None),
        ("/jobs/x/files", "v1"),
        ("/jobs/x/files/upload", "v1"),
        ("/jobs/x/files/content/in/y", "v1"),
        ("/v1/jobs/x/files/download/y", None),
        ("/dashboard", "v1"),
    ],
)
async def test_a_blueprint_in_the_place_of_a_route_of_the_node_keeps_it_from_starting(
    endpoint: str, version: str | None
) -> None:
    with pytest.raises(BlueprintError, match=r"blueprint 'mine': its path /api/v1/\S+ is used by the node itself"):
        async with running(more=[_blueprint(endpoint, version)]):
            pass


async def test_every_route_of_the_node_is_one_that_no_blueprint_may_have(node: Node) -> None:
    own = {path for path in (await document(node))["paths"] if path.startswith("/api/")}
    own -= {blueprint.path for blueprint in node.engine.blueprints}
    # A job is looked at there, never posted to.
    own.remove(paths.JOB)
    assert own
    assert all(paths.is_nodes_own(path.format(job_id="x", name="x", part="main.js")) for path in own)


@pytest.mark.parametrize(
    ("endpoint", "version"),
    [
        ("/jobs/x", "v1"),
        ("/jobs/x/y", "v1"),
        ("/jobs", "v2"),
        ("/workers", "v2"),
        ("/workers/x", "v1"),
        ("/jobs/x/files/y", "v1"),
    ],
)
async def test_a_blueprint_beside_the_routes_of_the_node_has_its_own(endpoint: str, version: str | None) -> None:
    async with running(more=[_blueprint(endpoint, version)]) as node:
        reply = await node.client.post(f"/api/{version}{endpoint}", json={}, headers=AUTH)
        assert reply.status_code == 202
        other = await node.client.get(f"/api/{version}{endpoint}", headers=AUTH)
        assert (other.status_code, other.headers["allow"]) == (405, "POST")


def _blueprint(endpoint: str, version: str | None) -> Blueprint:
    mine = Blueprint("mine", endpoint, version)

    @mine.handler(is_start=True, is_end=True)
    async def only() -> None: ...

    return mine
