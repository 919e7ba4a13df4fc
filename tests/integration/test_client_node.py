"""The node as operators see it through the Python client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from holon.client import EdgeInfo
from holon.errors import Unavailable, Unreachable
from holon.testing import RunningNode, running_node
from tests.integration.client_site import GUARD, echo, working


@pytest.fixture
async def node() -> AsyncIterator[RunningNode]:
    async with running_node(echo()) as node:
        yield node


async def test_the_node_tells_who_it_is_what_it_runs_and_who_works_for_it(node: RunningNode) -> None:
    async with working(node):
        info = await node.client.node.info()
        assert (info.node_id, info.draining) == (node.config.INSTANCE_ID, False)
        assert [one.name async for one in node.client.node.list_blueprints()] == ["echo"]
        blueprint = await node.client.node.get_blueprint("echo")
        assert (blueprint.api_endpoint, blueprint.api_version) == ("/api/v1/echo", "v1")
        assert blueprint.graph is not None
        assert blueprint.graph.edges == (EdgeInfo("start", "end", "success"),)
        assert [state.kind for state in blueprint.graph.states] == ["start", "end"]
        [worker] = [one async for one in node.client.node.list_workers(skill="echo")]
        assert (worker.worker_id, worker.kind, worker.skills, worker.connected) == ("w1", "worker", ("echo",), True)
        assert worker.sdk.startswith("holon")
        [skill] = [one async for one in node.client.node.list_skills()]
        assert (skill.name, skill.provider_count) == ("echo", 1)
        assert skill.input_schema["properties"]["n"] == {"type": "integer"}
        stats = await node.client.node.stats()
        assert (stats.jobs, stats.workers_connected) == ({}, 1)
        assert stats.uptime > 0
        assert (await node.client.node.drain_worker("w1")).draining
        assert not (await node.client.node.drain_worker("w1", undo=True)).draining


async def test_a_drained_node_takes_nothing_new_waits_for_what_runs_and_ends_itself() -> None:
    async with running_node(echo(), SHUTDOWN_GRACE_SECONDS=30) as node:
        worker = node.new_worker("w1")
        began, may_end = asyncio.Event(), asyncio.Event()

        @worker.skill("echo")
        async def slow() -> None:
            loop.call_soon_threadsafe(began.set)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(may_end.wait(), loop))

        loop = asyncio.get_running_loop()
        async with worker, asyncio.timeout(GUARD):
            await node.client.create_job("echo")
            await began.wait()
            await node.client.node.drain(reason="a test")
            await node.client.node.drain(reason="a repeat does not hurry it")
            while not (await node.client.node.info()).draining:
                pass
            with pytest.raises(Unavailable) as refused:
                await node.client.create_job("echo")
            assert refused.value.code == "DRAINING"
            assert (await node.client.node.stats()).tasks_leased == 1
            may_end.set()
        with pytest.raises((Unreachable, Unavailable)):
            await forever(node.client.node.info)


async def forever(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(GUARD):
        while True:
            await call()
