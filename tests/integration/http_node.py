"""A node of one door: real HTTP over loopback, the engine over the store in memory, or another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from holon.clock import Clock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.engine.core import Engine, EngineSettings
from holon.engine.holarchy import Holarchy
from holon.engine.job_files import FilesPlace
from holon.engine.overview import Overview
from holon.engine.reloading import Reloading
from holon.ports import Storage, StoreSettings
from holon.security.clients import Clients, sole
from holon.security.tls_files import TlsFiles
from holon.storage.memory import MemoryStorage
from holon.transports.http.app import Metrics
from holon.transports.http.door import HttpDoor, HttpSettings
from holon.transports.http.keys import Keys
from holon.wire.trees import read_summary
from tests.plaintext import PLAINTEXT

TOKEN = "the-token-of-the-clients"
AUTH = {"X-Client-Token": TOKEN}
GUARD = 60.0
LIMIT = 100_000
STORE = StoreSettings(node_id="n1")


@dataclass
class Input:
    n: int
    note: str = ""


def blueprints() -> list[Blueprint]:
    doubling = Blueprint("doubling", api_endpoint="/jobs/doubling", api_version="v1")

    @doubling.handler(is_start=True)
    async def start(initial_data: Input, actions: ActionFactory) -> None:
        actions.go_to("done")

    @doubling.handler(is_end=True)
    async def done(initial_data: Input) -> dict[str, int]:
        return {"twice": 2 * initial_data.n}

    waiting = Blueprint("waiting", api_endpoint="/jobs/waiting", api_version="v1")

    @waiting.handler(is_start=True)
    async def ask(actions: ActionFactory) -> None:
        actions.dispatch_task("nobody-has-this", {}, transitions={"success": "end"})

    @waiting.handler(is_end=True)
    async def end() -> None: ...

    plain = Blueprint("plain", api_endpoint="/plain")

    @plain.handler(is_start=True, is_end=True, outcome="failed")
    async def only() -> dict[str, bool]:
        return {"tried": True}

    hidden = Blueprint("hidden", api_version="v1")

    @hidden.handler(is_start=True, is_end=True)
    async def alone() -> None: ...

    return [doubling, waiting, plain, hidden]


@dataclass
class Node:
    engine: Engine
    door: HttpDoor
    client: httpx.AsyncClient
    clients: Clients
    reloading: Reloading
    overview: Overview

    async def ended(self, job_id: str) -> dict[str, Any]:
        reply = await self.client.get(f"/api/v1/jobs/{job_id}?wait=30", headers=AUTH, timeout=GUARD)
        job: dict[str, Any] = reply.json()
        assert job["finished_at"] is not None
        return job

    async def created(self, path: str = "/api/v1/jobs/waiting", data: object = None) -> str:
        reply = await self.client.post(path, json={"initial_data": data or {}}, headers=AUTH)
        assert reply.status_code == 202, reply.text
        return str(reply.json()["job_id"])


@asynccontextmanager
async def running(
    settings: HttpSettings | None = None,
    token: str = TOKEN,
    metrics: Metrics | None = None,
    more: Iterable[Blueprint] = (),
    tls: TlsFiles | None = None,
    keys: Keys | None = None,
    store: Storage | None = None,
    clock: Clock | None = None,
    files: FilesPlace | None = None,
) -> AsyncIterator[Node]:
    async with AsyncExitStack() as stack:
        if store is None:
            store = await stack.enter_async_context(MemoryStorage(STORE))
        engine = Engine(store, STORE, EngineSettings(), files=files, read_told=read_summary)
        engine.blueprints.register_all([*blueprints(), *more])
        loops = asyncio.create_task(engine.run())
        settings = settings or HttpSettings(port=0, max_body=LIMIT)
        clients, reloading = Clients(sole(token)), Reloading()
        overview = Overview(
            engine, "n1", "1.2.3", lambda _grace, _reason: None, reloading.reload, Holarchy(engine.store, "h", 8)
        )
        try:
            async with (
                HttpDoor(
                    engine.jobs,
                    engine.watching,
                    engine.trees,
                    engine.blueprints,
                    overview,
                    settings,
                    clients,
                    metrics,
                    tls,
                    clock,
                    keys=keys,
                    files=engine.client_files,
                ) as door,
                httpx.AsyncClient(
                    base_url=f"{'https' if tls else 'http'}://127.0.0.1:{door.port}",
                    trust_env=False,
                    timeout=GUARD,
                    verify=PLAINTEXT,
                ) as client,
            ):
                yield Node(engine, door, client, clients, reloading, overview)
        finally:
            loops.cancel()
            await asyncio.gather(loops, return_exceptions=True)


async def until(node: Node, what: str) -> None:
    """Wait until the door says this of itself."""
    async with asyncio.timeout(GUARD):
        while what not in repr(node.door):  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0)
