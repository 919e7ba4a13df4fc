"""The HTTP door: what it refuses, by which status, and in which words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holon.errors import StoreUnavailable
from tests.integration.http_node import AUTH, GUARD, LIMIT, TOKEN, Node, running


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running() as it:
        yield it


async def test_a_call_without_a_token_and_one_with_another_are_refused_each_in_its_words(node: Node) -> None:
    missing = await node.client.post("/api/v1/jobs/doubling", json={"initial_data": {"n": 1}})
    assert missing.status_code == 401
    assert missing.json() == {"error": "Missing X-Client-Token header", "code": "TOKEN_INVALID", "details": []}
    wrong = await node.client.post("/api/v1/jobs/doubling", json={}, headers={"X-Client-Token": "wrong"})
    assert wrong.status_code == 401
    assert wrong.json()["error"] == "Unauthorized: Invalid token"
    assert (await node.client.get("/api/v1/jobs", headers=AUTH)).json()["jobs"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/jobs"),
        ("GET", "/api/v1/jobs/x"),
        ("GET", "/api/v1/jobs/x/history"),
        ("POST", "/api/v1/jobs/x/cancel"),
        ("POST", "/api/plain"),
    ],
)
async def test_every_route_but_the_public_ones_wants_the_token(node: Node, method: str, path: str) -> None:
    assert (await node.client.request(method, path)).status_code == 401


async def test_a_door_without_a_token_refuses_every_call_and_says_what_to_set() -> None:
    async with running(token="") as node:
        reply = await node.client.post("/api/v1/jobs/doubling", json={}, headers=AUTH)
        assert reply.status_code == 401
        assert "CLIENT_TOKEN" in reply.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Client-Token", TOKEN), ("X-Client-Token", TOKEN)],
        [("X-Client-Token", TOKEN), ("X-Client-Token", "other")],
        [("X-Client-Token", TOKEN), ("Authorization", f"Bearer {TOKEN}")],
    ],
)
async def test_two_tokens_in_one_request_are_refused(node: Node, headers: list[tuple[str, str]]) -> None:
    reply = await node.client.get("/api/v1/jobs", headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "TOKEN_INVALID")


async def test_the_status_is_public(node: Node) -> None:
    reply = await node.client.get("/_public/status")
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Invalid JSON body: the body is empty; send an object, such as {}"),
        (b"{", "Invalid JSON body"),
        (b"[]", "Invalid JSON body: the body must be an object"),
        (b"null", "Invalid JSON body: the body must be an object"),
        (b'{"initial_data": {"n": NaN}}', "Invalid JSON body"),
        (b'{"initial_data": {"n": Infinity}}', "Invalid JSON body"),
        (b'{"initial_data": {"n": 1e999}}', "Invalid JSON body"),
        (b'{"initial_data": {"n": 18446744073709551616}}', "18446744073709551616 does not fit into 64 bits"),
        (b'{"initial_data": {"n": ' + b"9" * 300 + b"}}", "does not fit into 64 bits"),
        (b'{"initial_data": {"n": 1, "note": "\xff"}}', "Invalid JSON body: the body is not UTF-8 from byte 35 on"),
        ('{"initial_data": {"n": 1}}'.encode("utf-16"), "Invalid JSON body: the body is not UTF-8 from byte 0 on"),
        (b'{"initial_data": {"n": 1, "note": "\\ud800"}}', "Invalid JSON body"),
        (b'{"a": ' * 2000 + b"1" + b"}" * 2000, "Invalid JSON body"),
        (b'{"initial_data": ' + b'{"a": ' * 65 + b"1" + b"}" * 66, "initial_data: nested deeper than 64"),
        (b'{"initial_data": {"n": 1}, "initial_data": {"n": 2}}', "the body has the field 'initial_data' twice"),
        (b'{"initial_data": {"n": 1}, "initial\\u005fdata": {"n": 2}}', "the body has the field 'initial_data' twice"),
        (b'{"initial_dat": {}}', "unknown field 'initial_dat'"),
        (b'{"initial_data": {"n": 1}, "webhook": "http://x"}', "unknown field 'webhook'"),
        (b'{"initial_data": []}', "initial_data is a list"),
        (b'{"initial_data": 1}', "initial_data is a number, but must be a JSON object"),
        (b'{"initial_data": 1.5}', "initial_data is a number"),
        (b'{"initial_data": "n"}', "initial_data is a text"),
        (b'{"initial_data": true}', "initial_data is true or false"),
        (b'{"initial_data": {"n": 1}, "dispatch_timeout": "5"}', "dispatch_timeout must be a number"),
        (b'{"initial_data": {"n": 1}, "dispatch_timeout": true}', "dispatch_timeout must be a number"),
        (b'{"initial_data": {"n": 1}, "result_timeout": 0}', "result_timeout must be a number"),
        (b'{"initial_data": {"n": 1}, "result_timeout": [[1]]}', "result_timeout must be a number"),
        (b'{"initial_data": {"n": 1}, "allowed_skills": "t"}', "allowed_skills is a text; give a list"),
        (b'{"initial_data": {"n": 1}, "allowed_skills": true}', "allowed_skills is true or false; give a list"),
        (b'{"initial_data": {"n": 1}, "allowed_skills": {}}', "allowed_skills is an object; give a list"),
        (b'{"initial_data": {"n": 1}, "allowed_skills": [1]}', "allowed_skills has an invalid skill name"),
        (b'{"initial_data": {"n": 1}, "budget": -1}', "budget is -1; give a whole number"),
        (b'{"initial_data": {"n": 1}, "budget": 1.5}', "budget is 1.5; give a whole number"),
        (b'{"initial_data": {"n": 1}, "budget": true}', "budget is true; give a whole number"),
        (b'{"initial_data": {"n": 1}, "budget": [null, "1"]}', 'budget is [null, "1"]; give a whole number'),
    ],
)
async def test_a_bad_body_is_refused_and_the_fault_is_named(node: Node, body: bytes, says: str) -> None:
    reply = await node.client.post("/api/v1/jobs/doubling", content=body, headers=AUTH)
    assert reply.status_code == 400
    assert says in reply.json()["error"]
    assert reply.json().keys() == {"error", "code", "details"}
    assert (await node.client.get("/api/v1/jobs", headers=AUTH)).json()["jobs"] == []


@pytest.mark.parametrize(
    ("data", "field"),
    [({}, "n"), ({"n": "x"}, "n"), ({"n": 1.5}, "n"), ({"n": 1, "extra": 1}, "extra"), ({"n": None}, "n")],
)
async def test_data_outside_the_contract_is_refused_by_field_and_makes_no_job(
    node: Node, data: dict[str, Any], field: str
) -> None:
    reply = await node.client.post("/api/v1/jobs/doubling", json={"initial_data": data}, headers=AUTH)
    assert reply.status_code == 400
    assert reply.json()["code"] == "INPUT_INVALID"
    assert reply.json()["error"].startswith("Input validation failed for blueprint 'doubling'")
    assert any(field in detail["field"] + detail["reason"] for detail in reply.json()["details"])
    assert (await node.client.get("/api/v1/jobs", headers=AUTH)).json()["jobs"] == []


@pytest.mark.parametrize(
    "data", [{}, {"n": 2**64 - 1}, {"n": -(2**63)}, {"text": '\\u0069 "initial_data"'}, {"a\0": "\0"}]
)
async def test_what_only_looks_suspicious_is_taken_as_it_is(node: Node, data: dict[str, Any]) -> None:
    body = json.dumps({"initial_data": data})
    assert (await node.client.post("/api/v1/jobs/waiting", content=body, headers=AUTH)).status_code == 202


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_refused_and_the_connection_closed(node: Node, announced: bool) -> None:
    body = json.dumps({"initial_data": {"note": "x" * LIMIT}}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    content = body if announced else chunks()
    reply = await node.client.post("/api/v1/jobs/waiting", content=content, headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert str(LIMIT) in reply.json()["error"]
    assert reply.headers["connection"] == "close"


async def test_a_body_of_several_chunks_is_read_to_its_end(node: Node) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for part in (b'{"initial_data"', b': {"n": 4}', b"}"):
            yield part

    reply = await node.client.post("/api/v1/jobs/doubling", content=chunks(), headers=AUTH)
    assert (await node.ended(reply.json()["job_id"]))["result"] == {"twice": 8}


async def test_the_same_idempotency_key_answers_with_the_same_job(node: Node) -> None:
    headers = AUTH | {"Idempotency-Key": "order-7"}
    replies = [
        await node.client.post("/api/v1/jobs/doubling", content=body, headers=headers)
        for body in ('{"initial_data": {"n": 1, "note": "a"}}', '{"initial_data":{"note":"a","n":1}}')
    ]
    assert [reply.status_code for reply in replies] == [202, 202]
    assert replies[0].json() == replies[1].json()
    other = await node.client.post("/api/v1/jobs/doubling", json={"initial_data": {"n": 2}}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "REQUEST_ID_REUSED")


@pytest.mark.parametrize("keys", [["a", "a"], ["x" * 129], ["tab\there"], [""]])
async def test_a_bad_idempotency_key_is_refused(node: Node, keys: list[str]) -> None:
    headers = [*AUTH.items(), *(("Idempotency-Key", key) for key in keys)]
    body = {"initial_data": {"n": 1}}
    for path, sent in (("/api/v1/jobs/doubling", body), (f"/api/v1/jobs/{await node.created()}/cancel", {})):
        reply = await node.client.post(path, json=sent, headers=headers)
        assert reply.status_code == 400
        assert "Idempotency-Key" in reply.json()["error"]


async def test_a_blueprint_without_an_endpoint_has_no_route(node: Node) -> None:
    for path in ("/hidden", "/api/hidden", "/api/v1/jobs/hidden"):
        assert (await node.client.post(path, json={}, headers=AUTH)).status_code in (404, 405)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/v1/jobs/",
        "/api/v1/jobs/a/",
        "/api/v1/jobs/a/b",
        "/api/v1/jobs/a/b/c",
        "/api/v1/jobs/a/history/",
        "/_public",
    ],
)
async def test_an_unknown_path_is_not_found_in_the_shape_of_all_errors(node: Node, path: str) -> None:
    reply = await node.client.get(path, headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (404, "ROUTE_NOT_FOUND")
    assert reply.json().keys() == {"error", "code", "details"}


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("GET", "/api/v2/jobs/a", "/api/v1/jobs/a"),
        ("GET", "/api/jobs/a/history", "/api/v1/jobs/a/history"),
        ("POST", "/api/v2/jobs/a/cancel", "/api/v1/jobs/a/cancel"),
        ("GET", "/api/v2/blueprints", "/api/v1/blueprints"),
        ("POST", "/api/v2/jobs/doubling", "/api/v1/jobs/doubling"),
        ("POST", "/api/v2/jobs/a", ""),
        ("GET", "/api/v2/nothing", ""),
        ("GET", "/api/v1/v1/jobs", ""),
    ],
)
async def test_a_call_of_another_version_is_told_what_path_it_is_meant_for(
    node: Node, method: str, path: str, meant: str
) -> None:
    reply = await node.client.request(method, path, headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (404, "ROUTE_NOT_FOUND")
    own = f"all routes of the node are under /api/v1; use {meant!r}" if meant else "docs/http.md lists the routes"
    assert reply.json()["error"] == f"no route has the path {path!r}; {own}"


async def test_a_status_in_the_place_of_a_jobs_id_is_told_to_be_one(node: Node) -> None:
    reply = await node.client.get("/api/v1/jobs/quarantined", headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (404, "JOB_NOT_FOUND")
    assert "'quarantined' is a status" in reply.json()["error"]
    assert "?status=quarantined" in reply.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/v1/jobs", "GET, HEAD"),
        ("POST", "/_public/status", "GET, HEAD"),
        ("DELETE", "/api/v1/jobs/x", "GET, HEAD"),
        ("GET", "/api/v1/jobs/x/cancel", "POST"),
        ("PUT", "/api/v1/jobs/doubling", "POST"),
        ("HEAD", "/api/v1/jobs/doubling", "POST"),
        ("GET", "/api/v1/jobs/doubling", "POST"),
        ("GET", "/api/plain", "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(node: Node, method: str, path: str, allowed: str) -> None:
    reply = await node.client.request(method, path, headers=AUTH)
    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)
    if method != "HEAD":
        assert reply.json()["code"] == "METHOD_NOT_ALLOWED"


async def test_a_job_of_a_misspelt_blueprint_is_refused_with_what_is_the_matter(node: Node) -> None:
    reply = await node.client.post("/api/v1/jobs/misspelt", json={"initial_data": {}}, headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "; use GET, HEAD; no blueprint has this path, see `holon blueprints list`" in reply.json()["error"]
    reply = await node.client.post("/api/v1/jobs/dubling", json={"initial_data": {}}, headers=AUTH)
    assert reply.json()["error"].endswith("no blueprint has this path (did you mean '/api/v1/jobs/doubling'?)")
    reply = await node.client.put("/api/v1/jobs/misspelt", headers=AUTH)
    assert "blueprint" not in reply.json()["error"]


async def test_the_head_of_an_answer_can_be_had_without_its_body(node: Node) -> None:
    assert (await node.client.head("/api/v1/jobs")).status_code == 401
    for path in ("/_public/status", "/_public/docs", "/api/v1/jobs"):
        whole = await node.client.get(path, headers=AUTH)
        head = await node.client.head(path, headers=AUTH)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(whole.content))


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 400), ("br, gzip", 400), ("identity", 202)])
async def test_a_body_that_is_compressed_is_refused_and_said_to_be(node: Node, encoding: str, status: int) -> None:
    headers = [*AUTH.items(), ("Content-Encoding", encoding), ("Content-Encoding", "Identity")]
    reply = await node.client.post("/api/v1/jobs/waiting", content=b"{}", headers=headers)
    assert reply.status_code == status
    if status == 400:
        assert reply.json()["error"].startswith(f"the body has Content-Encoding {encoding!r}; send it unencoded")


async def test_a_request_needs_exactly_one_host(node: Node) -> None:
    for hosts in ("", "Host: a\r\nHost: b\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
        writer.write(f"GET /_public/status HTTP/1.1\r\n{hosts}\r\n".encode())
        assert b" 400 " in await reader.readline()
        writer.close()


async def test_a_refused_body_is_never_taken_for_the_next_request(node: Node) -> None:
    inner = b"GET /_public/status HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"POST /api/v1/jobs/doubling HTTP/1.1\r\nHost: x\r\nContent-Length: {LIMIT + 1}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
    writer.write(f"{head}X-Client-Token: {TOKEN}\r\n\r\n".encode() + inner)
    writer.write_eof()
    everything = await asyncio.wait_for(reader.read(), GUARD)
    assert everything.count(b"HTTP/1.1 ") == 1
    assert b"413" in everything.splitlines()[0]
    writer.close()


async def test_a_fault_of_ours_is_logged_and_not_told(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: str) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(node.engine.store, "job", broken)
    reply = await node.client.get("/api/v1/jobs/x", headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (500, "INTERNAL")
    assert "swordfish" not in reply.text
    assert "swordfish" in caplog.text


async def test_a_store_that_is_away_is_503_with_a_time_to_come_back(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: str) -> None:
        raise StoreUnavailable("the store does not answer", retry_after=2.5)

    monkeypatch.setattr(node.engine.store, "job", away)
    reply = await node.client.get("/api/v1/jobs/x", headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (503, "STORE_UNAVAILABLE")
    assert reply.headers["retry-after"] == "3"


async def test_an_answer_says_its_time_and_not_what_made_it(node: Node) -> None:
    reply = await node.client.get("/_public/status")
    assert "server" not in reply.headers
    assert reply.headers["date"].endswith(" GMT")
    assert reply.headers["content-type"] == "application/json"


async def test_who_sends_far_too_much_gets_to_read_why_it_was_refused(node: Node) -> None:
    size = 20 * LIMIT
    head = (
        f"POST /api/v1/jobs/doubling HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\nX-Client-Token: {TOKEN}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
    writer.write(head.encode())
    for _ in range(20):
        writer.write(b"x" * LIMIT)
        await writer.drain()
    answer = await asyncio.wait_for(reader.read(), GUARD)
    assert b"PAYLOAD_TOO_LARGE" in answer
    writer.close()
