"""Traces where the node makes none: what a client named goes with its job, unchanged, to whoever works for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.rxon.v1 import job_pb2, job_pb2_grpc, types_pb2
from holon.testing import RunningNode, running_node
from tests.integration.cases.site import a_wire, next_offer
from tests.integration.grpc_node import result, updates

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STATE = "vendor=1,other=2"
PATH = "/api/v1/jobs/two_tasks"

two_tasks = Blueprint("two_tasks", api_endpoint="/jobs/two_tasks", api_version="v1")


@two_tasks.handler(is_start=True)
async def begin(actions: ActionFactory) -> None:
    actions.dispatch_task("t", {}, {"success": "then"})


@two_tasks.handler
async def then(actions: ActionFactory) -> None:
    actions.dispatch_parallel([{"type": "t", "params": {}}], "end")


@two_tasks.handler(is_end=True)
async def end() -> None:
    """It is over."""


@pytest.fixture(params=["memory", "sqlite"])
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningNode]:
    uri = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'holon.db'}?synchronous=NORMAL"}[request.param]
    async with running_node(two_tasks, STORAGE_URI=uri) as running:
        yield running


async def post(node: RunningNode, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        reply = await client.post(f"{node.url}{PATH}", json={}, headers={"x-client-token": node.token, **headers})
    assert reply.status_code == 202


async def call(node: RunningNode, metadata: tuple[tuple[str, str], ...] = (), **fields: Any) -> None:
    root = (node.folder / "ca.pem").read_bytes()
    address = f"localhost:{node.ports.client}"
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root)) as channel:
        stub: Any = job_pb2_grpc.JobServiceStub(channel)
        request = job_pb2.CreateJobRequest(blueprint_name="two_tasks", **fields)
        await stub.CreateJob(request, metadata=(("x-client-token", node.token), *metadata))


async def offered_trace(node: RunningNode) -> tuple[str, str]:
    async with a_wire(node, "worker-1") as wire:
        trace = (await next_offer(wire)).trace
    return trace.traceparent, trace.tracestate


async def test_the_trace_of_an_http_request_reaches_the_worker(node: RunningNode) -> None:
    await post(node, {"traceparent": PARENT, "tracestate": STATE})
    assert await offered_trace(node) == (PARENT, STATE)


async def test_the_trace_of_a_grpc_call_reaches_the_worker(node: RunningNode) -> None:
    await call(node, (("traceparent", PARENT), ("tracestate", STATE)))
    assert await offered_trace(node) == (PARENT, STATE)


async def test_a_trace_in_the_request_counts_more_than_the_calls(node: RunningNode) -> None:
    other = PARENT.replace("0af7", "1bf8")
    await call(node, (("traceparent", other),), trace=types_pb2.TraceContext(traceparent=PARENT, tracestate=STATE))
    assert await offered_trace(node) == (PARENT, STATE)


@pytest.mark.parametrize("headers", [{}, {"traceparent": "nonsense"}, {"tracestate": STATE}])
async def test_a_job_without_a_trace_has_none(node: RunningNode, headers: dict[str, str]) -> None:
    await post(node, headers)
    assert await offered_trace(node) == ("", "")


async def test_every_task_of_a_job_has_its_trace(node: RunningNode) -> None:
    await post(node, {"traceparent": PARENT})
    async with a_wire(node, "worker-1") as wire:
        first = await next_offer(wire)
        await wire.send(updates(result(first)))
        branch = await next_offer(wire)
    assert first.task_id != branch.task_id
    assert [first.trace.traceparent, branch.trace.traceparent] == [PARENT, PARENT]


def test_nothing_of_opentelemetry_is_imported_where_traces_are_off() -> None:
    program = (
        "import asyncio, sys, holon.cli.serve, holon.node, holon.client, holon.worker.worker\n"
        "from holon.telemetry.tracing import tracing_to\n"
        "from holon.worker.tracing import tracing_here\n"
        "async def main():\n"
        "    async with tracing_to('', {}): tracing_here()\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"
