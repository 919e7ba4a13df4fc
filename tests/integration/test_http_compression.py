"""Answers over HTTP that are compressed: for whom, how, and which never are."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.engine.job_files import FilesPlace
from holon.transports.http import compression
from tests.blobs import MemoryBlobs
from tests.integration.http_node import AUTH, GUARD, Node, running

LONG = "what is asked " * 200
LARGE = "/_public/openapi.json"
SMALL = "/_public/status"
SCRIPT = "/_public/docs/swagger-ui-bundle.js"


def asking() -> Blueprint:
    blueprint = Blueprint("asking", api_endpoint="/asking", api_version="v1")

    @blueprint.handler(is_start=True)
    async def ask(actions: ActionFactory) -> None:
        actions.await_human_approval("chat", LONG, {"yes": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


@pytest.fixture
async def node(tmp_path: Any) -> AsyncIterator[Node]:
    async with running(more=[asking()], files=FilesPlace(MemoryBlobs(), tmp_path, "h")) as it:
        yield it


async def raw(
    node: Node, path: str, *accepts: str, method: str = "GET", headers: dict[str, str] = AUTH
) -> tuple[httpx.Response, bytes]:
    """An answer with its body as it came over the wire."""
    sent = [*headers.items(), *(("Accept-Encoding", one) for one in accepts)]
    request = httpx.Request(method, node.client.base_url.join(path), headers=sent)
    reply = await node.client.send(request, stream=True)
    try:
        return reply, b"".join([piece async for piece in reply.aiter_raw()])
    finally:
        await reply.aclose()


@pytest.mark.parametrize(
    "accepts",
    [
        ["gzip"],
        ["GZip"],
        ["x-gzip"],
        ["br, gzip;q=0.8"],
        ["br", "gzip"],
        ["deflate , gzip ; q=0.001"],
        ["*"],
        ["gzip;q=0.5, identity;q=0.5"],
        ["*;q=0, gzip"],
        ["identity;q=0, *;q=0.1"],
        [",, gzip;Q=1.000,"],
    ],
)
async def test_a_client_that_takes_gzip_gets_it(node: Node, accepts: list[str]) -> None:
    reply, body = await raw(node, LARGE, *accepts)
    assert (reply.headers["content-encoding"], reply.headers["vary"]) == ("gzip", "accept-encoding")
    assert int(reply.headers["content-length"]) == len(body)
    _, plain = await raw(node, LARGE)
    assert gzip.decompress(body) == plain
    assert len(body) < len(plain) / 5


@pytest.mark.parametrize(
    "accepts",
    [
        [],
        [""],
        ["identity"],
        ["br, deflate"],
        ["gzip;q=0"],
        ["gzip;q=0.000"],
        ["*;q=0"],
        ["*, gzip;q=0"],
        ["gzip;q=0.5, identity"],
        ["gzip;q=0.4, *;q=0.5"],
        # No weights, so no elements.
        ["gzip;q=2"],
        ["gzip;q=0.0001"],
        ["gzip;level=1"],
        ["gzip gzip"],
    ],
)
async def test_a_client_that_does_not_or_rather_has_plain_bytes_gets_them(node: Node, accepts: list[str]) -> None:
    reply, body = await raw(node, LARGE, *accepts)
    assert "content-encoding" not in reply.headers
    # A cache on the way may have both.
    assert reply.headers["vary"] == "accept-encoding"
    assert body.startswith(b'{"openapi"')


async def test_a_short_answer_is_compressed_only_for_who_takes_nothing_else(node: Node) -> None:
    reply, body = await raw(node, SMALL, "gzip")
    assert (body, "vary" in reply.headers) == (b'{"status":"ok"}', False)
    reply, body = await raw(node, SMALL, "gzip, identity;q=0")
    assert (gzip.decompress(body), reply.headers["content-encoding"]) == (b'{"status":"ok"}', "gzip")


@pytest.mark.parametrize("accepts", ["gzip", "identity"])
@pytest.mark.parametrize("path", [LARGE, SCRIPT, SMALL])
async def test_a_head_says_of_the_body_what_its_get_does(node: Node, path: str, accepts: str) -> None:
    whole, body = await raw(node, path, accepts)
    head, nothing = await raw(node, path, accepts, method="HEAD")
    assert (nothing, head.status_code) == (b"", 200)
    about = ("content-length", "content-encoding", "content-type", "vary")
    assert {name: head.headers.get(name) for name in about} == {name: whole.headers.get(name) for name in about}
    assert int(head.headers["content-length"]) == len(body)


async def test_what_a_client_reads_of_its_jobs_is_compressed(node: Node) -> None:
    for _ in range(5):
        await node.created()
    reply, body = await raw(node, "/api/v1/jobs", "gzip")
    assert (reply.headers["content-encoding"], reply.headers["cache-control"]) == ("gzip", "no-store")
    assert len(httpx.Response(200, content=gzip.decompress(body)).json()["jobs"]) == 5
    refused = await node.client.post("/api/v1/jobs/waiting", json={f"{n}" * 128: n for n in range(10)}, headers=AUTH)
    assert (refused.status_code, refused.headers["content-encoding"]) == (400, "gzip")


async def test_an_answer_with_a_secret_of_the_node_is_never_compressed(node: Node) -> None:
    job_id = await node.created("/api/v1/asking")
    async with asyncio.timeout(GUARD):
        while (await node.client.get(f"/api/v1/jobs/{job_id}", headers=AUTH)).json()["approval"] is None:
            pass
    reply, body = await raw(node, f"/api/v1/jobs/{job_id}", "gzip")
    job = httpx.Response(200, content=body).json()
    assert job["approval"]["approval_token"]
    assert len(body) > len(LONG)
    assert "content-encoding" not in reply.headers
    # The same job in a list, where no token is.
    listed, _ = await raw(node, "/api/v1/jobs", "gzip")
    assert listed.headers["content-encoding"] == "gzip"
    name = "/".join(["n" * 195] * 5)
    reply, body = await raw(node, f"/api/v1/jobs/{job_id}/files/upload?filename={name}", "gzip")
    assert len(body) > compression.LEAST_BYTES
    assert "url" in httpx.Response(200, content=body).json()
    assert "content-encoding" not in reply.headers


async def test_much_is_compressed_beside_the_loop_and_what_never_changes_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, bool]] = []
    compress = compression._gzip

    def noted(body: bytes, level: int) -> bytes:
        made.append((len(body), threading.current_thread() is threading.main_thread()))
        return compress(body, level)

    monkeypatch.setattr(compression, "_gzip", noted)
    for _ in range(2):
        _, body = await raw(node, SCRIPT, "gzip")
        assert len(body) > 100_000
    ((size, on_loop),) = made
    assert (size > 1_000_000, on_loop) == (True, False)
    made.clear()
    data = {"n": 1, "note": "x" * 50_000}
    job = await node.ended(await node.created("/api/v1/jobs/doubling", data))
    made.clear()
    await raw(node, f"/api/v1/jobs/{job['id']}?fields=id,initial_data", "gzip")
    ((size, on_loop),) = made
    assert (size > 50_000, on_loop) == (True, False)
