"""A blueprint with one task, and a worker that echoes, for the tests of the Python client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from holon import Blueprint
from holon.client import Client, Update
from holon.context import ActionFactory
from holon.testing import RunningNode

GUARD = 60.0


def echo() -> Blueprint:
    """Asks a worker for an echo, and ends."""
    blueprint = Blueprint("echo", api_endpoint="/echo", api_version="v1")

    @blueprint.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task("echo", initial_data, transitions={"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


@asynccontextmanager
async def working(node: RunningNode) -> AsyncIterator[None]:
    """A worker of the node, ready."""
    worker = node.new_worker("w1")

    @worker.skill("echo")
    def answer(n: int = 0) -> dict[str, int]:
        return {"n": n}

    async with worker:
        await worker.ready()
        yield


async def told(client: Client, job_id: str, after: int | None = None) -> list[Update]:
    """All that a watch tells."""
    async with asyncio.timeout(GUARD):
        return [update async for update in client.watch(job_id, after=after)]


@asynccontextmanager
async def served(*handlers: grpc.GenericRpcHandler) -> AsyncIterator[Client]:
    """A client of a node that is these handlers alone."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Client(f"grpc://127.0.0.1:{port}", timeout=GUARD) as client:
            yield client
    finally:
        await server.stop(None)
