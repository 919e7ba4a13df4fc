"""Whose jobs they are: clients see and change their own, and handlers are told of their client."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from holon.client import Client
from holon.context import ActionFactory, ClientConfig
from holon.domain.blueprint import Blueprint
from holon.errors import NotFound, ResourceExhausted
from holon.testing import running_node
from tests.integration.access.place import BOSS, FILE, GUARD, LAB, SHOP, Place, a_place


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
        for prefix in (job_id, job_id[:-1]):
            assert await shop.job_ids(prefix) == ((job_id,), False)
            assert await lab.job_ids(prefix) == ((), False)


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
