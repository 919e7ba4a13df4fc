"""Rate limits: who calls too often is told until when, and nobody else notices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from holon.client import JobRequest
from holon.clock import ManualClock
from holon.errors import InvalidArgument, ResourceExhausted
from holon.rxon.v1 import job_pb2
from holon.storage.memory import MemoryStorage
from holon.testing import RunningNode, running_node
from tests.integration.cases.site import http, one_task
from tests.integration.grpc_node import (
    ENDED,
    details_of,
    reason_of,
)

JOBS = "/api/v1/jobs"
CODE = grpc.StatusCode
BLOCKED = "orchestrator_ratelimit_blocked_total"


@asynccontextmanager
async def limited(limit: int = 3, **settings: Any) -> AsyncIterator[tuple[RunningNode, ManualClock]]:
    """A node whose windows are as long as the test likes: its store's clock is the test's."""
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    settings = {"RATE_LIMITING_ENABLED": True, "RATE_LIMIT_LIMIT": limit, "RATE_LIMIT_PERIOD": 60.0, **settings}
    async with running_node(one_task(), storage=storage, **settings) as node:
        clock.advance(-clock.now_ms() % 60_000)
        yield node, clock


async def figure(node: RunningNode, name: str) -> float:
    async with http(node) as door:
        text = (await door.get("/_public/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name}{{"))


async def call_grpc(node: RunningNode, token: str | None = None) -> None:
    secure = grpc.ssl_channel_credentials((node.folder / "ca.pem").read_bytes())
    async with grpc.aio.secure_channel(f"localhost:{node.ports.client}", secure) as channel:
        method: Any = channel.unary_unary("/holon.rxon.v1.JobService/ListJobs")
        await method(job_pb2.ListJobsRequest().SerializeToString(), metadata=(("x-client-token", token or node.token),))


async def test_a_client_over_its_limit_is_told_when_it_may_call_again() -> None:
    async with limited() as (node, clock), http(node) as door:
        clock.advance(20_500)
        assert [(await door.get(JOBS)).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = await door.get(JOBS)
        assert refused.json() == {"error": "Too Many Requests", "code": "RATE_LIMITED", "details": []}
        assert refused.headers["retry-after"] == "40"
        clock.advance(39_500)
        assert (await door.get(JOBS)).status_code == 200
        assert await figure(node, BLOCKED) == 2
        assert f'{BLOCKED}{{identifier="client",path="http"}} 2.0' in (await door.get("/_public/metrics")).text


async def test_a_batch_counts_as_its_jobs() -> None:
    async with limited(10) as (node, clock):

        async def batch(count: int) -> int:
            return len(await node.client.create_jobs([JobRequest("one_task")] * count))

        assert await batch(6) == 6
        with pytest.raises(ResourceExhausted, match="the limit is 10 in 60 s, and only 3 are left") as refused:
            await batch(5)
        assert (refused.value.code, refused.value.retry_after) == ("RATE_LIMITED", 60.0)
        # What was refused made nothing, and took no room but that of its call.
        assert await batch(3) == 3
        with pytest.raises(ResourceExhausted, match="they are used up"):
            await batch(1)
        assert await figure(node, BLOCKED) == 2
        clock.advance(60_000)
        # No period has room for more than its limit, however long the client waits.
        with pytest.raises(InvalidArgument, match=r"RATE_LIMIT_LIMIT.*smaller batches"):
            await batch(11)
        assert await batch(9) == 9
        clock.advance(60_000)
        assert len([job async for job in node.client.list_jobs()]) == 6 + 3 + 9


async def test_no_other_path_method_or_spelling_gets_around_it() -> None:
    async with limited(1) as (node, _), http(node, **{"x-cLiEnT-tOkEn": node.token}) as door:
        assert (await door.get(JOBS)).status_code == 200
        for method, path in (
            ("GET", f"{JOBS}?limit=1"),
            ("GET", f"{JOBS}/0-nothing"),
            ("GET", f"{JOBS}/0-other/history"),
            ("POST", f"{JOBS}/0-nothing/cancel"),
            ("POST", f"{JOBS}/one_task"),
        ):
            assert (await door.request(method, path)).status_code == 429, path
        async with http(node) as other:
            assert (await other.get(JOBS)).status_code == 429


async def test_both_doors_of_clients_count_together() -> None:
    async with limited(2) as (node, clock), http(node) as door:
        assert (await door.get(JOBS)).status_code == 200
        await call_grpc(node)
        assert (await door.get(JOBS)).status_code == 429
        clock.advance(15_000)
        with pytest.raises(ENDED) as refused:
            await call_grpc(node)
        error = refused.value
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in details_of(error))
        assert retry.retry_delay.seconds == 45


async def test_what_is_public_and_who_is_nobody_is_not_counted() -> None:
    async with limited(1) as (node, _), http(node) as door, http(node, **{"X-Client-Token": "wrong"}) as stranger:
        for _ in range(3):
            assert (await door.get("/_public/status")).status_code == 200
            assert (await stranger.get(JOBS)).status_code == 401
            with pytest.raises(ENDED):
                await call_grpc(node, "wrong")
        assert (await door.get(JOBS)).status_code == 200
        secure = grpc.ssl_channel_credentials((node.folder / "ca.pem").read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{node.ports.client}", secure) as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert health_pb2.HealthCheckResponse.FromString(await check(b"")).status == 1


async def test_without_the_setting_nobody_is_counted() -> None:
    async with limited(1, RATE_LIMITING_ENABLED=False) as (node, _), http(node) as door:
        assert [(await door.get(JOBS)).status_code for _ in range(5)] == [200] * 5
