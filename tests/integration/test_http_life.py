"""The HTTP door: how it opens, drains and stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from holon.errors import ConfigError
from holon.transports.http.door import HttpSettings
from tests.integration.http_node import AUTH, GUARD, Node, running


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running() as it:
        yield it


async def test_a_draining_door_takes_no_new_jobs_and_still_shows_the_old(node: Node) -> None:
    job_id = await node.created()
    node.door.drain()
    refused = await node.client.post("/api/v1/jobs/waiting", json={}, headers=AUTH)
    assert (refused.status_code, refused.json()["code"]) == (503, "DRAINING")
    assert refused.headers["connection"] == "close"
    assert int(refused.headers["retry-after"]) >= 1
    shown = await node.client.get(f"/api/v1/jobs/{job_id}", headers=AUTH)
    assert (shown.status_code, shown.headers["connection"]) == (200, "close")
    status = await node.client.get("/_public/status")
    assert (status.status_code, status.json()) == (503, {"status": "draining"})


async def test_stopping_waits_for_what_is_under_way(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()
    job_id = await node.created()
    read = node.engine.store.job

    async def slow(job_id: str) -> object:
        reading.set()
        await go_on.wait()
        return await read(job_id)

    monkeypatch.setattr(node.engine.store, "job", slow)
    asking = asyncio.create_task(node.client.get(f"/api/v1/jobs/{job_id}", headers=AUTH))
    await reading.wait()
    stopping = asyncio.create_task(node.door.stop(GUARD))
    # It has begun by then: it stops listening before it waits for anything.
    await asyncio.sleep(0)
    go_on.set()
    assert (await asking).status_code == 200
    await stopping
    with pytest.raises(httpx.ConnectError):
        await node.client.get("/_public/status")


async def test_stopping_ends_what_outlives_the_grace(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reading = asyncio.Event()

    async def never(_: str) -> None:
        reading.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(node.engine.store, "job", never)
    asking = asyncio.create_task(node.client.get("/api/v1/jobs/x", headers=AUTH))
    await reading.wait()
    await node.door.stop(0.01)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await asking
    assert caplog.records == []


async def test_a_port_in_use_is_an_error_that_names_its_setting(node: Node) -> None:
    with pytest.raises(ConfigError, match=f"API_PORT: 127.0.0.1:{node.door.port} is in use"):
        async with running(HttpSettings(port=node.door.port)):
            pass


async def test_a_port_is_shared_where_that_is_asked_for() -> None:
    async with (
        running(HttpSettings(port=0, reuse_port=True)) as first,
        running(HttpSettings(port=first.door.port, reuse_port=True)) as second,
    ):
        assert second.door.port == first.door.port


async def test_a_host_that_is_none_names_its_setting() -> None:
    with pytest.raises(ConfigError, match=r"API_HOST: this machine does not know the host no\.such\.host\.invalid"):
        async with running(HttpSettings(host="no.such.host.invalid", port=0)):
            pass
    # Of the documentation's addresses: no machine has it.
    with pytest.raises(ConfigError, match=r"API_HOST: this machine does not have the address 192\.0\.2\.1; use one"):
        async with running(HttpSettings(host="192.0.2.1", port=0, behind_proxy=True)):
            pass


async def test_every_address_of_a_name_is_listened_on_at_the_same_port() -> None:
    async with running(HttpSettings(host="localhost", port=0)) as node:
        reply = await node.client.get(f"http://localhost:{node.door.port}/_public/status")
        assert reply.status_code == 200
