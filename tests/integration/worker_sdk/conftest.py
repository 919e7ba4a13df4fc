"""A scripted node, and a worker with a few skills that serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holon.worker import Result, Worker
from tests.integration.scripted_node import Certificates, Gate, ScriptedNode, worker_for


@pytest.fixture
async def node(certificates: Certificates) -> AsyncIterator[ScriptedNode]:
    async with ScriptedNode(certificates) as node:
        yield node


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def worker(certificates: Certificates, node: ScriptedNode, gate: Gate) -> Worker:
    worker = worker_for(certificates, node, max_concurrent=3)

    @worker.skill
    def double(n: int) -> dict[str, int]:
        return {"n": 2 * n}

    @worker.skill
    def held(n: int = 0) -> dict[str, int]:
        gate.pass_through()
        return {"n": n}

    @worker.skill
    async def endless() -> None:
        await asyncio.Event().wait()

    @worker.skill
    def big(size: int) -> Result:
        return Result(data={"text": "x" * size}, cost=3)

    return worker
