"""A node that three clients may use, and the file that says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from holon.client import Client, Update
from holon.context import ActionFactory, ClientConfig
from holon.domain.blueprint import Blueprint
from holon.testing import RunningNode, running_node
from tests.plaintext import PLAINTEXT

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

    approving = Blueprint("approving", api_version="v1", api_endpoint="/jobs/approving")

    @approving.handler(is_start=True)
    async def approve(actions: ActionFactory) -> None:
        actions.await_human_approval("chat", "a secret of the shop", {"yes": "decided"})

    @approving.handler(is_end=True)
    async def decided() -> None: ...

    return [waiting, asking, failing, approving]


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


async def to_the_end(watching: AsyncIterator[Update]) -> list[Update]:
    async with asyncio.timeout(GUARD):
        return [update async for update in watching]
