"""Who may do what: clients of one file, at both doors, and the file read again while the node runs."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from holon.client import Client, Update
from holon.context import ActionFactory, ClientConfig
from holon.domain import paths
from holon.domain.blueprint import Blueprint
from holon.errors import (
    FailedPrecondition,
    HolonError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from holon.rxon.v1 import job_pb2, node_pb2
from holon.testing import RunningNode, running_node
from tests.audit_lines import audit
from tests.plaintext import PLAINTEXT
from transports.grpc.node_service import OF_ADMINS

GUARD = 20.0
SHOP = "the-token-of-the-shop-the-token-of-the-shop"
LAB = "the-token-of-the-lab-the-token-of-the-lab"
BOSS = "the-token-of-the-boss-the-token-of-the-boss"
FILE = f"""
[shop]
token = "{SHOP}"
plan = "gold"
region = "eu"
params = {{limit = 5}}

[lab]
token = "{LAB}"

[boss]
token = "{BOSS}"
roles = ["admin"]
"""


def blueprints() -> list[Blueprint]:
    waiting = Blueprint("waiting", api_version="v1", api_endpoint="/jobs/waiting")

    @waiting.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("nobody-has-it", {}, transitions={"success": "end"})

    @waiting.handler(is_end=True)
    async def end() -> None: ...

    asking = Blueprint("asking", api_version="v1", api_endpoint="/jobs/asking")

    @asking.handler(is_start=True)
    async def ask(actions: ActionFactory, client: ClientConfig) -> None:
        client.params["limit"] = 0
        actions.go_to("answer")

    @asking.handler(is_end=True)
    async def answer(client: ClientConfig) -> dict[str, Any]:
        return {"name": client.name, "plan": client.plan, "params": client.params, "all": repr(client)}

    failing = Blueprint("failing", api_version="v1", api_endpoint="/jobs/failing")

    @failing.handler(is_start=True, is_end=True)
    async def fail(initial_data: dict[str, Any]) -> None:
        raise ValueError(initial_data["card"])

    return [waiting, asking, failing]


@dataclass
class Place:
    node: RunningNode
    file: Path
    http: httpx.AsyncClient

    def client(self, token: str) -> Client:
        """A client of the gRPC door; to be entered."""
        return Client(f"grpcs://localhost:{self.node.ports.client}", token, self.node.folder / "ca.pem")

    async def ask(self, token: str, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.http.request(method, path, headers={"x-client-token": token}, **more)

    async def create(self, token: str, blueprint: str = "waiting", **headers: str) -> str:
        path = f"/api/v1/jobs/{blueprint}"
        reply = await self.http.post(path, json={}, headers={"x-client-token": token, **headers})
        assert reply.status_code == 202, reply.text
        return str(reply.json()["job_id"])


@asynccontextmanager
async def a_place(folder: Path, text: str = FILE, **settings: Any) -> AsyncIterator[Place]:
    file = folder / "clients.toml"
    file.touch(0o600)
    file.write_text(text)
    async with (
        running_node(*blueprints(), CLIENTS_CONFIG_PATH=str(file), **settings) as node,
        httpx.AsyncClient(base_url=node.url, trust_env=False, timeout=GUARD, verify=PLAINTEXT) as http,
    ):
        yield Place(node, file, http)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path) as opened:
        yield opened


async def to_the_end(watching: AsyncIterator[Update]) -> list[Update]:
    async with asyncio.timeout(GUARD):
        return [update async for update in watching]


# Whose jobs they are --------------------------------------------------------------------------------------------------


async def test_i5_a_clients_jobs_are_its_own_at_the_http_door(place: Place) -> None:
    job_id = await place.create(SHOP)
    for method, path in (("GET", ""), ("GET", "/history"), ("POST", "/cancel")):
        foreign = await place.ask(LAB, method, f"/api/v1/jobs/{job_id}{path}")
        unknown = await place.ask(LAB, method, f"/api/v1/jobs/0-none{path}")
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.text.replace(job_id, "0-none") == unknown.text
        assert (await place.ask(SHOP, method, f"/api/v1/jobs/{job_id}{path}")).status_code == 200
    own = [(await place.ask(token, "GET", "/api/v1/jobs")).json()["jobs"] for token in (SHOP, LAB, BOSS)]
    assert [[job["id"] for job in jobs] for jobs in own] == [[job_id], [], []]
    await asyncio.gather(*(place.create(token) for token in (LAB, place.node.token)))
    assert len((await place.ask(SHOP, "GET", "/api/v1/jobs")).json()["jobs"]) == 1


async def test_i5_a_clients_jobs_are_its_own_at_the_grpc_door(place: Place) -> None:
    async with place.client(SHOP) as shop, place.client(LAB) as lab:
        job_id = (await shop.create_job("waiting", {})).job_id

        async def watch(client: Client, which: str) -> None:
            async with aclosing(client.watch(which)) as updates:
                async for _ in updates:
                    return

        async def history(client: Client, which: str) -> None:
            await client.history_page(which)

        for call in (Client.get_job, Client.cancel_job, watch, history):
            told = []
            for which in (job_id, "0-none"):
                with pytest.raises(NotFound) as caught:
                    await call(lab, which)
                told.append((caught.value.code, caught.value.message.replace(which, "X")))
            assert told[0] == told[1]
            await call(shop, job_id)
        assert [job.id async for job in shop.list_jobs()] == [job_id]
        assert [job.id async for job in lab.list_jobs()] == []


async def test_the_same_idempotency_key_of_two_clients_is_two(place: Place) -> None:
    key = {"idempotency-key": "order-7"}
    shops, labs = await place.create(SHOP, **key), await place.create(LAB, **key)
    assert shops != labs
    assert (await place.create(SHOP, **key), await place.create(LAB, **key)) == (shops, labs)


async def test_b13_handlers_are_told_of_the_client_as_it_was_when_the_job_was_made_and_never_its_token(
    place: Place,
) -> None:
    async with place.client(SHOP) as shop, place.client(place.node.token) as operator:
        made = await shop.create_job("asking", {})
        result = (await shop.wait_for(made.job_id, timeout=GUARD)).result
        # What the first handler did to it was its own copy.
        assert (result["name"], result["plan"], result["params"]) == ("shop", "gold", {"region": "eu", "limit": 5})
        assert SHOP not in result["all"]
        made = await operator.create_job("asking", {})
        assert (await operator.wait_for(made.job_id, timeout=GUARD)).result["plan"] == "default"


async def test_what_handlers_are_told_of_the_client_outlives_the_node_and_the_file(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/holon.db"
    async with a_place(tmp_path, STORAGE_URI=store) as place, place.client(SHOP) as shop:
        job_id = (await shop.create_job("waiting", {})).job_id
    text = FILE.replace("gold", "free").replace('"eu"', '"us"')

    later = Blueprint("waiting", api_version="v1", api_endpoint="/jobs/waiting")

    @later.handler("start", is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.go_to("end")

    @later.handler(is_end=True)
    async def end(client: ClientConfig) -> dict[str, Any]:
        return {"plan": client.plan, "params": client.params}

    (tmp_path / "clients.toml").write_text(text)
    async with (
        running_node(later, CLIENTS_CONFIG_PATH=str(tmp_path / "clients.toml"), STORAGE_URI=store) as node,
        Client(f"grpcs://localhost:{node.ports.client}", SHOP, node.folder / "ca.pem") as shop,
    ):
        worker = node.new_worker("w1")

        @worker.skill("nobody-has-it")
        def work() -> None: ...

        async with worker:
            job = await shop.wait_for(job_id, timeout=GUARD)
    assert job.result == {"plan": "gold", "params": {"region": "eu", "limit": 5}}


async def test_a19_a_quota_counts_creations_alone_at_both_doors_and_is_each_clients_own(tmp_path: Path) -> None:
    text = FILE.replace('plan = "gold"', "monthly_attempts = 2")
    async with a_place(tmp_path, text) as place, place.client(SHOP) as shop, place.client(LAB) as lab:
        for _ in range(5):
            assert [job async for job in shop.list_jobs()] == []
        wrong = await place.ask(SHOP, "POST", "/api/v1/jobs/waiting", json={"wrong": 1})
        assert wrong.status_code == 400
        key = {"idempotency-key": "order-7"}
        first = await place.create(SHOP, **key)
        assert await place.create(SHOP, **key) == first
        await shop.create_job("waiting", {})
        reply = await place.ask(SHOP, "POST", "/api/v1/jobs/waiting", json={})
        assert (reply.status_code, reply.json()["code"]) == (429, "QUOTA_EXCEEDED")
        assert int(reply.headers["retry-after"]) > 0
        with pytest.raises(ResourceExhausted) as caught:
            await shop.create_job("waiting", {})
        assert caught.value.code == "QUOTA_EXCEEDED"
        assert await place.create(SHOP, **key) == first
        await lab.create_job("waiting", {})
        place.file.write_text(text.replace("= 2", "= 3"))
        await place.node.client.node.reload(["clients"])
        await shop.create_job("waiting", {})


async def test_a_clients_calls_count_for_itself_alone_at_both_doors(tmp_path: Path) -> None:
    async with a_place(tmp_path, RATE_LIMITING_ENABLED=True, RATE_LIMIT_LIMIT=3, RATE_LIMIT_PERIOD=86_400) as place:
        asked = [(await place.ask(SHOP, "GET", "/api/v1/jobs")).status_code for _ in range(4)]
        assert asked == [200, 200, 200, 429]
        assert (await place.ask(LAB, "GET", "/api/v1/jobs")).status_code == 200
        async with place.client(BOSS) as boss, place.client(LAB) as lab:
            for _ in range(3):
                await boss.node.info()
            with pytest.raises(ResourceExhausted) as caught:
                await boss.node.info()
            assert caught.value.code == "RATE_LIMITED"
            await lab.node.info()


# What needs which role ------------------------------------------------------------------------------------------------


async def test_what_is_of_the_node_needs_the_role_of_administrators(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    requests = {
        "ListWorkers": node_pb2.ListWorkersRequest(),
        "GetStats": node_pb2.GetStatsRequest(),
        "ReloadNode": node_pb2.ReloadNodeRequest(),
        "DrainNode": node_pb2.DrainNodeRequest(),
        "DrainWorker": node_pb2.DrainWorkerRequest(worker_id="w1"),
        "AcceptHolon": node_pb2.AcceptHolonRequest(worker_id="w1"),
        "RotateTokens": node_pb2.RotateTokensRequest(secret=node_pb2.TOKEN_SECRET_SIGNING_KEY),
    }
    assert requests.keys() == set(OF_ADMINS)
    async with place.client(SHOP) as shop, place.client(BOSS) as boss:
        for name, request in requests.items():
            call = getattr(shop.node._stub, name)
            with pytest.raises(PermissionDenied) as caught:
                await shop.node._calls.call(call, request)
            assert caught.value.code == "PERMISSION_DENIED"
        assert [one["who"] for one in audit(caplog, "call_refused")] == ["shop"] * len(requests)
        assert [one async for one in boss.node.list_workers()] == []
        assert (await boss.node.stats()).workers_connected == 0
        assert await boss.node.reload() == ("clients", "tls")
        # Blueprints and skills are for every client.
        assert len([one async for one in shop.node.list_blueprints()]) == 3
        assert [one async for one in shop.node.list_skills()] == []


async def test_only_administrators_list_the_jobs_of_others_and_only_by_name(place: Place) -> None:
    job_id = await place.create(SHOP)
    async with place.client(LAB) as lab, place.client(BOSS) as boss:
        asked = job_pb2.ListJobsRequest(owner="shop")
        with pytest.raises(PermissionDenied):
            await lab._calls.call(lab._stub.ListJobs, asked)
        page = await boss._calls.call(boss._stub.ListJobs, asked)
        assert [job.id for job in page.jobs] == [job_id]
        with pytest.raises(NotFound):
            await boss.get_job(job_id)


async def test_an_administrators_list_of_others_jobs_tells_nothing_that_is_in_them(place: Place) -> None:
    async with place.client(SHOP) as shop, place.client(BOSS) as boss:

        async def listed(client: Client, *fields: str) -> list[job_pb2.Job]:
            asked = job_pb2.ListJobsRequest(owner="shop", fields=fields)
            return list((await client._calls.call(client._stub.ListJobs, asked)).jobs)

        for blueprint in ("asking", "failing"):
            await shop.wait_for((await shop.create_job(blueprint, {"card": "4711"})).job_id, timeout=GUARD)
        await shop.create_job("waiting")
        waiting, failed, finished = await listed(shop, "id", "result", "error", "progress_message")
        assert waiting.progress_message
        assert "4711" in failed.error.message
        assert b"gold" in finished.result.data

        shown = await listed(boss)
        assert [(job.id, job.owner) for job in shown] == [(job.id, "shop") for job in (waiting, failed, finished)]
        assert [job.status for job in shown] == ["waiting_for_worker", "quarantined", "finished"]
        for job in shown:
            told = (job.HasField("result"), job.HasField("error"), job.progress_message)
            assert told == (False, False, "")
        for secret in ("result", "error", "progress_message"):
            with pytest.raises(PermissionDenied, match=f"^fields: {secret} of a job is for its owner alone"):
                await listed(boss, "id", secret)
        assert [job.status for job in await listed(boss, "status")] == [job.status for job in shown]
        # Its owner is shown all but the results, unasked.
        assert (await listed(shop))[1].error == failed.error


async def test_admin_routes_refuse_others_before_anything_of_the_body_is_read(place: Place) -> None:
    for path in (paths.RELOAD, paths.RELOAD_WORKERS):
        reply = await place.ask(SHOP, "POST", path, content=b"no json")
        assert (reply.status_code, reply.json()["code"]) == (403, "PERMISSION_DENIED")


async def test_what_is_of_the_node_needs_the_same_role_over_http(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    await place.create(SHOP)
    for path, told in ((paths.WORKERS, "workers"), (paths.DASHBOARD, "jobs")):
        # Before anything of it is read, and whatever else is wrong.
        for query in ("", "?page_size=0"):
            reply = await place.ask(SHOP, "GET", f"{path}{query}")
            assert (reply.status_code, reply.json()["code"]) == (403, "PERMISSION_DENIED")
        reply = await place.ask(BOSS, "GET", path)
        assert (reply.status_code, told in reply.json()) == (200, True)
    assert (await place.ask(BOSS, "GET", paths.DASHBOARD)).json()["jobs"] == {"waiting_for_worker": 1}
    refused = [(one["who"], one["via"], one["on"]) for one in audit(caplog, "call_refused")]
    assert refused == [("shop", "http", f"GET {path}") for path in (paths.WORKERS, paths.DASHBOARD) for _ in range(2)]
    # Blueprints and skills are for every client.
    for path in (paths.BLUEPRINTS, paths.BLUEPRINT_GRAPH.format(name="waiting"), paths.CATALOG):
        assert (await place.ask(LAB, "GET", path)).status_code == 200


# Reading the file again -----------------------------------------------------------------------------------------------


async def test_a_reload_brings_new_tokens_and_takes_old_ones_and_removed_clients_at_once(place: Place) -> None:
    new = "a-new-token-of-the-shop-a-new-token-of-the-shop"
    async with place.client(LAB) as lab, place.client(SHOP) as shop, place.client(BOSS) as boss:
        job_id = (await lab.create_job("waiting", {})).job_id
        async with aclosing(lab.watch(job_id)) as watching:
            await anext(watching)
            text = FILE.replace(SHOP, new).replace(f'[lab]\ntoken = "{LAB}"', "")
            place.file.write_text(text)
            assert await boss.node.reload(["clients"]) == ("clients",)
            with pytest.raises(Unauthenticated) as caught:
                await to_the_end(watching)
            assert caught.value.code == "TOKEN_INVALID"
        for gone in (shop, lab):
            with pytest.raises(Unauthenticated):
                await gone.get_job(job_id)
    assert (await place.ask(SHOP, "GET", "/api/v1/jobs")).status_code == 401
    assert (await place.ask(new, "GET", "/api/v1/jobs")).status_code == 200
    assert (await place.ask(BOSS, "GET", "/api/v1/jobs")).status_code == 200


async def test_a_watch_goes_on_when_only_what_is_said_of_its_client_changes(place: Place) -> None:
    async with place.client(SHOP) as shop:
        job_id = (await shop.create_job("waiting", {})).job_id
        async with aclosing(shop.watch(job_id)) as watching:
            await anext(watching)
            place.file.write_text(FILE.replace("gold", "silver"))
            reply = await place.ask(BOSS, "POST", "/api/v1/admin/reload", json={"targets": ["clients"]})
            assert reply.json() == {"status": "reloaded", "reloaded": ["clients"]}
            await shop.cancel_job(job_id)
            last = (await to_the_end(watching))[-1]
        assert last.job is not None
        assert last.job.status == "cancelled"
        made = await shop.create_job("asking", {})
        assert (await shop.wait_for(made.job_id, timeout=GUARD)).result["plan"] == "silver"


async def test_a_bad_file_changes_nothing_and_is_answered_at_both_doors(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    place.file.write_text(FILE.replace(f'token = "{LAB}"', 'plan = ""'))
    where = f"{place.file} [lab]"
    reply = await place.ask(BOSS, "POST", "/api/v1/admin/reload")
    assert (reply.status_code, reply.json()["code"]) == (409, "CONFIG_INVALID")
    assert [one["field"] for one in reply.json()["details"]] == [f"{where} token", f"{where} plan"]
    async with place.client(BOSS) as boss:
        with pytest.raises(FailedPrecondition) as caught:
            await boss.node.reload()
        assert (caught.value.code, len(caught.value.details)) == ("CONFIG_INVALID", 2)
        with pytest.raises(FailedPrecondition, match="WORKERS_CONFIG_PATH"):
            await boss.node.reload(["workers"])
        with pytest.raises(InvalidArgument, match="'nothing'"):
            await boss.node.reload(["nothing"])
    assert (await place.ask(LAB, "GET", "/api/v1/jobs")).status_code == 200
    figures = (await place.http.get("/_public/metrics")).text
    refusals = re.search(r'^holon_reloads_total\{result="refused"\} (\d+)', figures, re.MULTILINE)
    assert refusals is not None
    # The node may have looked at the file by itself.
    assert int(refusals[1]) >= 2
    asked = [one for one in audit(caplog, "node_reloaded") if one["via"] != "file"]
    told = [(one["via"], one["who"], one["result"], one.get("on")) for one in asked]
    assert told == [
        ("http", "boss", "CONFIG_INVALID", None),
        ("grpc", "boss", "CONFIG_INVALID", None),
        ("grpc", "boss", "NOT_CONFIGURED", "workers"),
        ("grpc", "boss", "INVALID_ARGUMENT", "nothing"),
    ]


@pytest.mark.parametrize("body", [b"[]", b'{"targets": "clients"}', b'{"targets": [1]}', b'{"all": true}', b"{"])
async def test_a_reload_that_cannot_be_read_is_refused(place: Place, body: bytes) -> None:
    reply = await place.ask(BOSS, "POST", "/api/v1/admin/reload", content=body)
    assert reply.status_code == 400


async def test_workers_cannot_be_reloaded_where_the_node_reads_no_file_of_them(place: Place) -> None:
    reply = await place.ask(BOSS, "POST", "/api/v1/admin/reload-workers")
    assert (reply.status_code, reply.json()["code"]) == (409, "NOT_CONFIGURED")


async def test_a03_a_node_without_a_file_has_one_token_the_operators() -> None:
    async with running_node(*blueprints()) as node:
        assert await node.client.node.reload() == ("tls",)
        assert (await node.run("asking", {})).result["name"] == "default"


async def test_g17_a_bad_file_keeps_the_node_from_starting(tmp_path: Path) -> None:
    with pytest.raises(HolonError) as caught:
        async with a_place(tmp_path, text="[shop]\nmonthly_attempts = 'many'"):
            pass
    assert [one.field.rpartition("] ")[2] for one in caught.value.details] == ["token", "monthly_attempts"]


# What is told of it ---------------------------------------------------------------------------------------------------


async def test_cancels_refusals_and_changed_clients_are_told_in_the_audit_log(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job_id = await place.create(SHOP)
    await place.http.post(
        f"/api/v1/jobs/{job_id}/cancel", headers={"x-client-token": SHOP, "traceparent": trace}, json={}
    )
    async with place.client(LAB) as lab, place.client("no-such-token") as stranger:
        for client in (lab, stranger):
            with pytest.raises(HolonError):
                await client.cancel_job(job_id)
    assert (await place.ask("wrong", "GET", f"/api/v1/jobs/{job_id}")).status_code == 401
    by_shop, by_lab = audit(caplog, "job_cancelled")
    assert by_shop.pop("peer").startswith("127.0.0.1:")
    assert by_shop == {
        "act": "job_cancelled",
        "result": "ok",
        "who": "shop",
        "via": "http",
        "on": job_id,
        "trace": trace,
    }
    assert (by_lab["who"], by_lab["result"], by_lab["via"]) == ("lab", "JOB_NOT_FOUND", "grpc")
    refused = [(one["via"], one["on"], "who" in one) for one in audit(caplog, "call_refused")]
    assert refused == [
        ("grpc", "/holon.rxon.v1.JobService/CancelJob", False),
        ("http", f"GET /api/v1/jobs/{job_id}", False),
    ]
    figures = (await place.http.get("/_public/metrics")).text
    assert 'holon_calls_refused_total{door="grpc",reason="TOKEN_INVALID"} 1.0' in figures
    assert 'holon_calls_refused_total{door="http",reason="TOKEN_INVALID"} 1.0' in figures
    place.file.write_text(FILE.replace("[lab]", "[inn]"))
    await place.ask(BOSS, "POST", "/api/v1/admin/reload")
    changed = [audit(caplog, act)[0] for act in ("client_added", "client_removed")]
    assert [(one["act"], one["on"]) for one in changed] == [("client_added", "inn"), ("client_removed", "lab")]
    # As who asked, or as an edit, if the node has seen it by itself.
    assert {(one["via"], one.get("who")) for one in changed} <= {("http", "boss"), ("file", None)}


async def test_what_the_operator_does_at_the_node_itself_is_told_as_the_operators(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    socket = tmp_path / "admin"
    async with a_place(tmp_path, ADMIN_SOCKET=str(socket)) as place, place.client(place.node.token) as default:
        made = await default.create_job("waiting", {})
        async with Client(f"unix:{socket}") as operator:
            await operator.cancel_job(made.job_id)
            await operator.node.reload(["clients"])
            with pytest.raises(NotFound):
                await operator.node.accept_holon("w1")
            await operator.node.rotate_signing_key(revoke=True)
    [rotated] = audit(caplog, "tokens_rotated")
    assert (rotated["who"], rotated["via"], rotated["on"], rotated["revoked"]) == (
        "operator", "admin", "signing-key", True
    )  # fmt: skip
    acts = ("job_cancelled", "node_reloaded", "holon_accepted")
    told = [
        {name: line[name] for name in ("who", "via", "on", "result")} for act in acts for line in audit(caplog, act)
    ]
    assert told == [
        {"who": "operator", "via": "admin", "on": on, "result": result}
        for on, result in ((made.job_id, "ok"), ("clients", "ok"), ("w1", "HOLON_UNKNOWN"))
    ]


async def test_an_edit_of_the_tls_files_is_counted_and_in_the_audit_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    async with a_place(tmp_path) as place:
        (place.node.folder / "ca.pem").chmod(0o666)
        async with asyncio.timeout(GUARD):
            while not audit(caplog, "node_reloaded"):  # noqa: ASYNC110  an edit is seen by looking
                await asyncio.sleep(0.05)
        figures = (await place.http.get("/_public/metrics")).text
    assert 'holon_reloads_total{result="refused"} 1.0' in figures
    assert audit(caplog, "node_reloaded") == [
        {"act": "node_reloaded", "result": "CONFIG_INVALID", "via": "file", "on": "tls"}
    ]
