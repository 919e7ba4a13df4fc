"""Attacks by clients: on others' jobs, on what is for administrators, and around the paths."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.message_factory import GetMessageClass

from holon.client import Client
from holon.domain import paths
from holon.engine import watching
from holon.errors import ResourceExhausted
from holon.rxon.v1 import job_pb2, node_pb2
from holon.storage.history import SqliteHistory
from holon.storage.memory import MemoryStorage
from holon.transports.grpc.node_service import OF_ADMINS
from tests.attack.place import CODE, GUARD, NODES, Place, a_place, outcome
from tests.integration.grpc_node import offering, result, updates

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def a_job(shop: Client) -> str:
    return (await shop.create_job("relay", {"skill": "nobody-has-it"})).job_id


async def routes_of(http: httpx.AsyncClient) -> list[tuple[str, str]]:
    """Every method and path of the HTTP door."""
    described = (await http.get("/_public/openapi.json")).json()["paths"]
    return [(method.upper(), path) for path, methods in described.items() for method in methods]


class Asked:
    """The calls of the store, and of the database of history, that name a job: by their names, in order."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, str]] = []

    def noting(self, name: str, method: Any) -> Any:
        """The same method of a class, noted."""

        def called(place: Any, job_id: str, *arguments: Any, **more: Any) -> Any:
            self._calls.append((name, job_id))
            return method(place, job_id, *arguments, **more)

        return called

    def of(self, job_id: str) -> list[str]:
        """Those of one job since the last look at it."""
        found = [name for name, which in self._calls if which == job_id]
        self._calls = [call for call in self._calls if call[1] != job_id]
        return found


async def refused_by_grpc(place: Place, job_id: str) -> AsyncIterator[tuple[str, str, tuple[Any, ...]]]:
    """What strangers are told of a job by each call that takes a `job_id`: its name, who asks, and the answer.

    Found by what the calls are, so that none is forgotten.
    """
    channel = await place.channel(place.client_port)
    services = (
        job_pb2.DESCRIPTOR.services_by_name["JobService"],
        node_pb2.DESCRIPTOR.services_by_name["NodeService"],
    )
    methods = [one for service in services for one in service.methods if "job_id" in one.input_type.fields_by_name]
    assert len(methods) >= 6
    for method in methods:
        kind = GetMessageClass(method.input_type)
        name = f"/{method.containing_service.full_name}/{method.name}"
        # Without it no job is looked for.
        needed = {"decision": "yes", "name": "paid"}
        more = {field: text for field, text in needed.items() if field in method.input_type.fields_by_name}
        for who in ("lab", "boss"):
            metadata = (("x-client-token", place.tokens[who]),)
            call = channel.unary_stream if method.server_streaming else channel.unary_unary
            started: Any = call(name)(kind(job_id=job_id, **more).SerializeToString(), metadata=metadata)
            code = await started.code()
            assert code in (CODE.NOT_FOUND, CODE.UNIMPLEMENTED), name
            yield name, who, (code, (await started.details() or "").replace(job_id, "X"))


async def refused_by_http(place: Place, job_id: str) -> AsyncIterator[tuple[str, str, tuple[Any, ...]]]:
    """The same by each route of a job."""
    async with place.http("lab") as lab, place.http("boss") as boss:
        routes = [(method, path) for method, path in await routes_of(lab) if "{job_id}" in path]
        assert len(routes) >= 3
        for verb, path in routes:
            needs = {"/_public/": {"decision": "yes"}, "/signals": {"name": "paid"}}
            body = next((one for part, one in needs.items() if part in path), None)
            for who, client in (("lab", lab), ("boss", boss)):
                reply = await client.request(verb, re.sub(r"\{\w+\}", job_id, path), json=body)
                assert reply.status_code == 404, path
                yield f"{verb} {path}", who, (reply.status_code, reply.text.replace(job_id, "X"))


async def test_every_call_that_names_a_job_is_blind_to_others_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by what it takes to answer: with a database of history, and while the owner follows the job."""
    asked = Asked()
    for place_of_jobs in (MemoryStorage, SqliteHistory):
        for name in ("job", "history", "append", "unread", "watch", "unwatch"):
            if method := getattr(place_of_jobs, name, None):
                noted = asked.noting(f"{place_of_jobs.__name__}.{name}", method)
                monkeypatch.setattr(place_of_jobs, name, noted)
    async with (
        a_place(tmp_path, HISTORY_DATABASE_URI=f"sqlite:///{tmp_path}/history.db") as place,
        place.client("shop") as shop,
    ):
        job_id, unknown = await a_job(shop), "0-none"
        async with aclosing(shop.watch(job_id)) as updates:
            await anext(updates)
            asked.of(job_id)
            for calls in (refused_by_grpc, refused_by_http):
                told: dict[tuple[str, str], tuple[tuple[Any, ...], list[str]]] = {}
                for which in (unknown, job_id):
                    async for name, who, answer in calls(place, which):
                        work = asked.of(which)
                        assert work or CODE.UNIMPLEMENTED in answer, name
                        assert told.setdefault((name, who), (answer, work)) == (answer, work), name
        assert not (await shop.get_job(job_id)).terminal


async def test_a_page_token_shows_no_more_than_ones_own(place: Place) -> None:
    async with place.http("shop") as shop, place.http("lab") as lab, place.client("shop") as client:
        own = {await a_job(client) for _ in range(3)}
        first = (await shop.get("/api/v1/jobs?page_size=1")).json()
        taken = await lab.get(f"/api/v1/jobs?page_size=100&page_token={first['next_page_token']}")
        assert taken.status_code == 400
        for forged in ("", "AAAA", "0", "-1", "' OR 1=1 --", "e30=", "{}", "%00"):
            reply = await lab.get("/api/v1/jobs", params={"page_token": forged, "page_size": 1000})
            assert not own & {job["id"] for job in reply.json().get("jobs", ())}, forged
        for parameter in ("owner", "client", "client_name"):
            assert (await lab.get(f"/api/v1/jobs?{parameter}=shop")).status_code == 400


async def test_what_a_worker_did_is_told_to_each_client_of_its_own_jobs_alone(tmp_path: Path) -> None:
    async with (
        a_place(tmp_path, HISTORY_DATABASE_URI=f"sqlite:///{tmp_path}/history.db") as place,
        place.client("shop") as shop,
        place.client("lab") as lab,
        place.client("boss") as boss,
    ):
        worker = await place.worker("busy", offering("busy"))
        made = await shop.create_job("relay", {"skill": "busy"})
        offer = await worker.offer()
        await worker.send(updates(result(offer, {"got": 1})))
        await worker.verdict()
        await shop.wait_for(made.job_id, timeout=GUARD)
        async with asyncio.timeout(GUARD):
            # Lines move to the database of history behind the job.
            while not (told := [event.job_id async for event in shop.node.worker_history("busy")]):
                pass
        assert set(told) == {made.job_id}
        for client in (lab, boss):
            assert [event async for event in client.node.worker_history("busy")] == []


async def test_no_spelling_of_a_path_or_method_opens_what_is_for_administrators(place: Place) -> None:
    path = paths.RELOAD
    spellings = (
        path, f"{path}/", f"/{path}", path.upper(), path.replace("admin", "%61dmin"), f"{path};x=1", f"{path}%00",
        path.replace("/reload", "//reload"), path.replace("reload", "./reload"), path.replace("reload", "x/../reload"),
        f"/_public/..{path}", f"/_public/%2e%2e{path}", f"/api/v1/jobs/..{path.removeprefix('/api/v1')}",
        f"{path}?x-client-token=TOKEN", f"{path}#x", f"https://localhost{path}", f"{path}%20", f"{path}\\",
    )  # fmt: skip
    over = (
        "X-HTTP-Method-Override: POST", f"X-Original-URL: {path}", f"X-Rewrite-URL: {path}", "X-Role: admin",
        "X-Forwarded-User: boss", "X-Client-Name: boss",
    )  # fmt: skip
    headers = "\r\n".join(("Host: x", f"X-Client-Token: {place.tokens['shop']}", *over, "Connection: close"))
    for spelling in spellings:
        for method in ("POST", "GET", "PUT"):
            sent = f"{method} {spelling.replace('TOKEN', place.tokens['boss'])} HTTP/1.1\r\n{headers}\r\n\r\n"
            (answer,) = await place.raw(sent.encode())
            assert answer.status in (400, 403, 404, 405), sent


async def test_the_calls_of_administrators_are_refused_to_every_other_client(place: Place) -> None:
    channel = await place.channel(place.client_port)
    for name in OF_ADMINS:
        metadata = (("x-client-token", place.tokens["shop"]), ("x-role", "admin"))
        assert await outcome(channel, f"{NODES}{name}", metadata=metadata) == (
            CODE.PERMISSION_DENIED,
            "PERMISSION_DENIED",
        )


async def test_nothing_of_the_system_is_behind_what_is_public(place: Place) -> None:
    for path in (
        "/_public/docs/../../../etc/passwd", "/_public/docs/..%2f..%2fetc/passwd", "/_public/docs/%2e%2e/clients.toml",
        "/_public//etc/passwd", "/_public/docs/swagger-ui.css/../../clients.toml", "/_public/docs/\\..\\clients.toml",
        "/_public/../api/v1/jobs", "/_public/%2e%2e/api/v1/jobs", "/_public/docs/swagger-ui.css%00.toml",
        "/_public/dashboard/../../../etc/passwd", "/_public/dashboard/..%2f..%2fetc/passwd",
        "/_public/dashboard/%2e%2e/docs/page.js", "/_public/dashboard/main.js%00.toml", "/_public/dashboard/README.md",
        "/_public/status/../../api/v1/jobs", "//etc/passwd", "/.git/config", "/_public/metrics/..;/api/v1/jobs",
    ):  # fmt: skip
        (answer,) = await place.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.status in (400, 404), path


async def test_a_web_page_of_another_origin_can_do_nothing_with_a_browser(place: Place) -> None:
    """No cookie, query, form or basic authorization stands for a token, and no answer lets another origin read it."""
    boss = place.tokens["boss"]
    async with place.http() as http:
        foreign = {"Origin": "https://evil.example", "Referer": "https://evil.example/"}
        for more in (
            {"Cookie": f"x-client-token={boss}; token={boss}"},
            {"Authorization": f"Bearer {boss}"},
            {"Authorization": f"Basic {boss}"},
            {"X-Worker-Token": boss},
        ):
            reply = await http.post(paths.RELOAD, headers=foreign | more)
            assert reply.status_code == 401, more
            assert not [name for name in reply.headers if name.startswith("access-control-")]
        reply = await http.post("/api/v1/jobs/relay?token=" + boss, data={"X-Client-Token": boss}, headers=foreign)
        assert reply.status_code == 401
        asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-client-token"}
        reply = await http.options("/api/v1/jobs/relay", headers=foreign | asking)
        assert reply.status_code == 405
        for path in ("/_public/status", "/_public/docs", "/_public/dashboard", "/_public/openapi.json"):
            shown = await http.get(path, headers=foreign)
            assert shown.status_code == 200
            assert "set-cookie" not in shown.headers
            assert not [name for name in shown.headers if name.startswith("access-control-")]


async def test_no_header_of_an_answer_comes_from_a_caller(place: Place) -> None:
    async with place.http("shop") as http:
        for path in (
            "/api/v1/jobs/x%0d%0aSet-Cookie:%20a=b",
            "/api/v1/jobs?page_token=%0d%0aSet-Cookie:a",
            "/%0d%0aA:b",
        ):
            reply = await http.get(path)
            assert reply.status_code >= 400
            assert "set-cookie" not in reply.headers
            assert "a" not in reply.headers
        reply = await http.get("/_public/status", headers={"X-Request-ID": "<script>", "Accept": "text/html"})
        assert reply.headers["content-type"] == "application/json"
        assert "<script>" not in repr(reply.headers)


async def test_a_packed_body_is_not_unpacked(place: Place) -> None:
    bomb = gzip.compress(b'{"initial_data":{"a":"' + b"x" * 50_000_000 + b'"}}')
    assert len(bomb) < 100_000
    async with place.http("shop") as http:
        for coding in ("gzip", "deflate", "br", "identity, gzip"):
            reply = await http.post("/api/v1/jobs/relay", content=bomb, headers={"Content-Encoding": coding})
            assert (reply.status_code, reply.json()["code"]) == (400, "INVALID_JSON"), coding


async def test_who_forwards_cannot_say_where_a_call_comes_from(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    forged = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7", "X-Real-IP": "203.0.113.7"}
    async with place.http() as http:
        await http.get("/api/v1/jobs", headers=forged)
    lines = [json.loads(one.getMessage()) for one in caplog.records if one.name == "holon.audit"]
    assert lines
    assert all(line["peer"].startswith("127.0.0.1:") for line in lines)


async def test_what_is_public_names_no_client_worker_or_job(place: Place) -> None:
    async with place.client("shop") as shop, place.http() as http:
        await place.worker("worker-of-a-secret-name", offering("t"))
        job_id = await a_job(shop)
        for path in ("/_public/status", "/_public/metrics", "/_public/openapi.json", "/_public/jwks.json"):
            text = (await http.get(path)).text
            assert not [one for one in ("worker-of-a-secret-name", job_id, "shop", "boss", "gold") if one in text], path


async def test_a_client_that_watches_all_it_can_leaves_as_much_to_the_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHERS", 8)
    async with AsyncExitStack() as open_still, place.client("shop") as shop, place.client("lab") as lab:
        jobs = {client: await a_job(client) for client in (shop, lab)}

        async def watched(client: Client) -> None:
            watch = await open_still.enter_async_context(aclosing(client.watch(jobs[client])))
            await anext(watch)

        for client, most in ((shop, 4), (lab, 2)):
            for _ in range(most):
                await watched(client)
            with pytest.raises(ResourceExhausted) as caught:
                await watched(client)
            assert caught.value.code == "WATCHES_FULL"
        await open_still.aclose()
        await watched(lab)


async def test_figures_that_strangers_ask_for_by_the_hundred_are_looked_up_for_all_of_them_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, go_on, counts = 0, asyncio.Event(), place.storage.counts

    async def slow() -> Any:
        nonlocal looks
        looks += 1
        await go_on.wait()
        return await counts()

    monkeypatch.setattr(place.storage, "counts", slow)
    async with place.http() as http:
        asking = [asyncio.create_task(http.get("/_public/metrics")) for _ in range(50)]
        # Others are answered meanwhile; by then those that have a connection wait for the first look.
        while looks == 0:
            assert (await http.get("/_public/status")).status_code == 200
        for _ in range(10):
            await http.get("/_public/status")
        go_on.set()
        answers = await asyncio.gather(*asking)
    assert {reply.status_code for reply in answers} == {200}
    assert all("holon_store_up 1.0" in reply.text for reply in answers)
    assert looks < len(asking) / 2
