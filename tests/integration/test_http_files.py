"""The routes of files of jobs: what clients list, store and fetch, of their own jobs alone, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from holon.domain.client import ADMIN
from holon.engine.job_files import FilesPlace
from holon.errors import FailedPrecondition, HolonError, PermissionDenied, Unavailable
from holon.security.clients import sole
from holon.transports.http import files as file_routes
from holon.transports.http.door import HttpSettings
from tests.blobs import MemoryBlobs
from tests.integration.http_node import AUTH, Node, running

NAMES = ["a.txt", "grüße & co/1 +?#%.png", "pages/1.png", "pages/2.png"]


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
async def node(blobs: MemoryBlobs, tmp_path: Path) -> AsyncIterator[Node]:
    async with running(HttpSettings(port=0, max_body=100), files=FilesPlace(blobs, tmp_path, "h")) as it:
        yield it


def at(job_id: str, what: str = "") -> str:
    return f"/api/v1/jobs/{job_id}/files{what}"


async def put(node: Node, job_id: str, name: str, content: bytes = b"x", **headers: str) -> httpx.Response:
    path = at(job_id, f"/content/{quote(name)}")
    return await node.client.put(path, content=content, headers=AUTH | headers)


async def cancelled(node: Node, job_id: str) -> None:
    assert (await node.client.post(f"/api/v1/jobs/{job_id}/cancel", headers=AUTH)).status_code == 200
    await node.ended(job_id)


def refused(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["code"]


async def test_a_file_is_stored_as_it_comes_over_the_limit_of_other_bodies_and_listed(
    node: Node, blobs: MemoryBlobs
) -> None:
    job_id = await node.created()

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(50):
            yield bytes([number]) * 10_000

    whole = b"".join([piece async for piece in pieces()])
    for content in (whole, pieces()):
        path = at(job_id, "/content/pages/1.png")
        reply = await node.client.put(path, content=content, headers=AUTH)
        assert reply.json() == {"status": "uploaded", "s3_uri": f"s3://payloads/jobs/{job_id}/pages/1.png"}
        assert blobs.files == {f".holon/jobs/h/{job_id}": b"", f"jobs/{job_id}/pages/1.png": whole}
    assert (await put(node, job_id, "empty", b"")).status_code == 200
    listed = await node.client.get(at(job_id), headers=AUTH)
    assert listed.json() == {
        "files": [{"name": "empty", "size": 0}, {"name": "pages/1.png", "size": 500_000}],
        "next_page_token": "",
    }


async def test_a_download_leads_to_a_url_of_a_minute_and_an_upload_gets_one_of_as_long_as_is_asked_for(
    node: Node, blobs: MemoryBlobs
) -> None:
    job_id = await node.created()
    await put(node, job_id, NAMES[1])
    reply = await node.client.get(at(job_id, f"/download/{quote(NAMES[1])}"), headers=AUTH)
    url = f"https://s3.test/payloads/jobs/{job_id}/{NAMES[1]}?method=GET&seconds=60&signature=secret"
    assert (reply.status_code, reply.json(), reply.headers["cache-control"]) == (302, {"url": url}, "no-store")
    for given, seconds in (("", 3600), ("&expires_in=5", 5)):
        reply = await node.client.get(at(job_id, f"/upload?filename=in/b{given}"), headers=AUTH)
        url = f"https://s3.test/payloads/jobs/{job_id}/in/b?method=PUT&seconds={seconds}&signature=secret"
        assert reply.json() == {"url": url, "expires_in": seconds, "method": "PUT"}
        assert reply.headers["cache-control"] == "no-store"
    # What comes by it is found again.
    assert f".holon/jobs/h/{job_id}" in blobs.files


async def test_lists_come_in_pages_in_the_order_of_the_names(node: Node) -> None:
    job_id = await node.created()
    for name in reversed(NAMES):
        assert (await put(node, job_id, name)).status_code == 200
    found, token = [], ""
    while True:
        page = (await node.client.get(at(job_id, f"?page_size=2&page_token={token}"), headers=AUTH)).json()
        assert len(page["files"]) <= 2
        found += [one["name"] for one in page["files"]]
        if not (token := page["next_page_token"]):
            break
    assert found == NAMES
    bad = await node.client.get(at(job_id), params={"page_token": "?"}, headers=AUTH)
    assert refused(bad) == (400, "INVALID_ARGUMENT")


async def everything(node: Node, job_id: str, auth: dict[str, str] = AUTH) -> list[httpx.Response]:
    """Each of the routes."""
    return [
        await node.client.get(at(job_id), headers=auth),
        await node.client.get(at(job_id, "/upload?filename=a.txt"), headers=auth),
        await node.client.put(at(job_id, "/content/a.txt"), content=b"x", headers=auth),
        await node.client.get(at(job_id, "/download/a.txt"), headers=auth),
    ]


async def test_no_route_is_for_strangers_and_administrators_see_what_they_see_elsewhere(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await node.created()
    for reply in await everything(node, job_id, {}):
        assert refused(reply) == (401, "TOKEN_INVALID")
    reads, read = list[str](), node.engine.store.job

    async def noted(job_id: str) -> Any:
        reads.append(job_id)
        return await read(job_id)

    monkeypatch.setattr(node.engine.store, "job", noted)
    for reply in await everything(node, "0-unknown"):
        assert refused(reply) == (404, "JOB_NOT_FOUND")
    own = node.clients.admit(AUTH["X-Client-Token"])
    monkeypatch.setattr(own, "client", own.client.__class__("another"))
    for reply in await everything(node, job_id):
        assert refused(reply) == (404, "JOB_NOT_FOUND")
    # What is another's is looked for as often as what is nobody's.
    assert reads.count(job_id) == reads.count("0-unknown") > 0
    monkeypatch.setattr(own, "client", own.client.__class__("another", roles=frozenset({ADMIN})))
    seen = (await node.client.get(f"/api/v1/jobs/{job_id}", headers=AUTH)).status_code == 200
    for reply in await everything(node, job_id):
        assert (reply.status_code < 400) == seen


@pytest.mark.parametrize("name", ["a//b", "x" * 256, "a\\b", "a\x01b", "folder/", "x/" * 600 + "x"])
async def test_names_that_are_none_are_refused_by_the_rules_of_handlers(
    node: Node, blobs: MemoryBlobs, name: str
) -> None:
    job_id = await node.created()
    replies = [
        await put(node, job_id, name),
        await node.client.get(at(job_id, f"/download/{quote(name)}"), headers=AUTH),
        await node.client.get(at(job_id, "/upload"), params={"filename": name}, headers=AUTH),
    ]
    assert [refused(reply) for reply in replies] == [(400, "FILE_NAME_INVALID")] * 3
    assert blobs.files == {}


async def test_a_name_that_is_no_utf_8_is_refused_and_stored_under_no_other(node: Node, blobs: MemoryBlobs) -> None:
    job_id = await node.created()
    for name in ("a%ff", "%C3", "a%ED%A0%80"):
        replies = [
            await node.client.put(at(job_id, f"/content/{name}"), content=b"x", headers=AUTH),
            await node.client.get(at(job_id, f"/download/{name}"), headers=AUTH),
            await node.client.get(at(job_id, f"/upload?filename={name}"), headers=AUTH),
        ]
        assert [refused(reply) for reply in replies] == [(400, "INVALID_ARGUMENT")] * 3
        assert all("is not UTF-8" in reply.json()["error"] for reply in replies)
    assert blobs.files == {}
    assert (await put(node, job_id, "\N{SNOWMAN}\ufffd")).status_code == 200


@pytest.mark.parametrize("name", ["../../0-2/x", "/etc/passwd", "s3://payloads/jobs/0-2/x", ""])
async def test_no_name_of_an_upload_leads_out_of_the_job(node: Node, name: str) -> None:
    reply = await node.client.get(at(await node.created(), "/upload"), params={"filename": name}, headers=AUTH)
    assert refused(reply) == (400, "FILE_NAME_INVALID")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "filename"),
        ("?filename=a&expires_in=0", "expires_in"),
        ("?filename=a&expires_in=604801", "expires_in"),
        ("?filename=a&expires_in=soon", "expires_in"),
        ("?filename=a&more=1", "more"),
    ],
)
async def test_what_an_upload_lacks_or_cannot_have_is_named(node: Node, query: str, field: str) -> None:
    reply = await node.client.get(at(await node.created(), f"/upload{query}"), headers=AUTH)
    assert refused(reply) == (400, "INVALID_ARGUMENT")
    assert [detail["field"] for detail in reply.json()["details"]] == [field]


async def test_a_file_that_is_not_there_is_not_found_and_an_encoded_slash_is_no_path(node: Node) -> None:
    job_id = await node.created()
    reply = await node.client.get(at(job_id, "/download/none"), headers=AUTH)
    assert refused(reply) == (404, "FILE_NOT_FOUND")
    for path in ("/content/", "/content", "/content/a%2Fb"):
        reply = await node.client.put(at(job_id, path), content=b"x", headers=AUTH)
        assert refused(reply) == (404, "ROUTE_NOT_FOUND")
    assert refused(await node.client.get(at(job_id, "/content/a"), headers=AUTH)) == (405, "METHOD_NOT_ALLOWED")


async def test_what_is_too_large_or_encoded_is_refused_and_nothing_of_it_stored(
    node: Node, blobs: MemoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_routes, "MAX_FILE_BYTES", 1000)
    job_id = await node.created()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        yield b"x"

    assert (await put(node, job_id, "a", b"x" * 1000)).status_code == 200
    for content in (b"x" * 1001, pieces()):
        reply = await node.client.put(at(job_id, "/content/b"), content=content, headers=AUTH)
        assert refused(reply) == (413, "FILE_TOO_LARGE")
    assert refused(await put(node, job_id, "b", b"x", **{"Content-Encoding": "gzip"})) == (400, "INVALID_ARGUMENT")
    assert f"jobs/{job_id}/b" not in blobs.files


async def test_a_client_that_goes_away_leaves_nothing(
    node: Node, blobs: MemoryBlobs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "holon.audit")
    job_id = await node.created()
    reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
    head = f"PUT {at(job_id, '/content/a')} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
    writer.write(head.encode() + f"X-Client-Token: {AUTH['X-Client-Token']}\r\n\r\nhalf".encode())
    writer.write_eof()
    await reader.read()
    writer.close()
    (told,) = [record.audit for record in caplog.records if "file_stored" in record.message]  # type: ignore[attr-defined]
    assert (told["result"], told["on"], told["file"]) == ("left", job_id, "a")
    assert f"jobs/{job_id}/a" not in blobs.files


async def test_no_client_takes_all_the_places_for_uploads(blobs: MemoryBlobs, tmp_path: Path) -> None:
    async with running(files=FilesPlace(blobs, tmp_path, "h", uploads=3)) as node:
        job_id = await node.created()
        go_on = asyncio.Event()
        begun = asyncio.Semaphore(0)

        async def pieces() -> AsyncIterator[bytes]:
            yield b"x"
            begun.release()
            await go_on.wait()

        path = at(job_id, "/content/a")
        under_way = [asyncio.create_task(node.client.put(path, content=pieces(), headers=AUTH)) for _ in range(2)]
        for _ in under_way:
            await begun.acquire()
        # The two are those that it may have, as soon as the node has heard of both.
        async with asyncio.timeout(60):
            while (reply := await put(node, job_id, "b")).status_code == 200:
                pass
        assert refused(reply) == (429, "UPLOADS_FULL")
        assert reply.headers["retry-after"] == "5"
        go_on.set()
        assert [one.status_code for one in await asyncio.gather(*under_way)] == [200, 200]
        assert (await put(node, job_id, "b")).status_code == 200


async def test_an_upload_ends_when_the_clients_token_is_taken_back(node: Node, blobs: MemoryBlobs) -> None:
    job_id = await node.created()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        await blobs.begun.wait()
        node.clients.replace(sole("another-token-of-the-clients"))
        yield b"y"

    reply = await node.client.put(at(job_id, "/content/a"), content=pieces(), headers=AUTH)
    assert refused(reply) == (401, "TOKEN_INVALID")
    assert f"jobs/{job_id}/a" not in blobs.files


async def test_the_files_of_a_job_that_is_over_are_gone_with_it(node: Node, blobs: MemoryBlobs) -> None:
    job_id = await node.created()
    await put(node, job_id, "a.txt")
    await cancelled(node, job_id)
    for reply in await everything(node, job_id):
        assert refused(reply) == (409, "FILES_GONE")


async def test_a_file_whose_job_ends_while_it_is_stored_is_deleted_again(
    node: Node, blobs: MemoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await node.created()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        await blobs.begun.wait()
        await cancelled(node, job_id)
        yield b"y"

    reply = await node.client.put(at(job_id, "/content/a"), content=pieces(), headers=AUTH)
    assert refused(reply) == (409, "FILES_GONE")
    async with asyncio.timeout(60):
        while blobs.files:  # noqa: ASYNC110  nothing tells that it was cleared away
            await asyncio.sleep(0)


async def test_files_that_are_kept_can_be_fetched_after_the_end_of_their_job(
    blobs: MemoryBlobs, tmp_path: Path
) -> None:
    async with running(files=FilesPlace(blobs, tmp_path, "h", at_once=False)) as node:
        job_id = await node.created()
        await put(node, job_id, "a.txt")
        await cancelled(node, job_id)
        assert [reply.status_code for reply in await everything(node, job_id)] == [200, 200, 200, 302]


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("away", code="FILES_UNAVAILABLE"),
        PermissionDenied("refused", code="FILES_DENIED"),
        FailedPrecondition("no bucket", code="FILES_NO_BUCKET"),
    ],
)
async def test_what_is_the_matter_with_s3_is_the_nodes_trouble(
    node: Node, blobs: MemoryBlobs, error: HolonError
) -> None:
    job_id = await node.created()
    blobs.refusing = error
    for reply in await everything(node, job_id):
        assert refused(reply) == (503, "FILES_UNAVAILABLE")
        assert reply.headers["retry-after"]


async def test_a_node_without_s3_says_so_and_its_document_has_no_such_routes(tmp_path: Path) -> None:
    def told(document: dict[str, Any]) -> list[str]:
        return sorted(path for path in document["paths"] if "/files" in path)

    async with running() as node:
        for reply in await everything(node, await node.created()):
            assert refused(reply) == (501, "FILES_OFF")
        assert told((await node.client.get("/_public/openapi.json")).json()) == []
    async with running(files=FilesPlace(MemoryBlobs(), tmp_path, "h")) as node:
        assert told((await node.client.get("/_public/openapi.json")).json()) == [
            "/api/v1/jobs/{job_id}/files",
            "/api/v1/jobs/{job_id}/files/content/{filename}",
            "/api/v1/jobs/{job_id}/files/download/{filename}",
            "/api/v1/jobs/{job_id}/files/upload",
        ]
