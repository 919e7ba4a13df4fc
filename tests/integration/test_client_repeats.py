"""The client: which calls are repeated while the node is away, and which are not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from holon.client import Client, channel
from holon.errors import HolonError, Unavailable, Unreachable
from holon.rxon.v1 import job_pb2, node_pb2
from holon.testing import running_node
from tests.chaos.link import Link
from tests.integration.client_site import GUARD, echo, served


class Flaky:
    """A service that fails its first calls, after it has noted them."""

    def __init__(self, failures: int, code: grpc.StatusCode) -> None:
        self.left = failures
        self.code = code
        self.request_ids: list[str] = []

    async def create(self, request: Any, context: Any) -> job_pb2.CreateJobResponse:
        self.request_ids.append(request.request_id)
        self.left -= 1
        if self.left >= 0:
            await context.abort(self.code, "on purpose")
        return job_pb2.CreateJobResponse(job_id="j1")

    async def cancel(self, request: Any, context: Any) -> job_pb2.CancelJobResponse:
        self.request_ids.append(request.request_id)
        self.left -= 1
        if self.left >= 0:
            await context.abort(self.code, "on purpose")
        return job_pb2.CancelJobResponse(job=job_pb2.Job(id=request.job_id))


@asynccontextmanager
async def flaky(service: Flaky) -> AsyncIterator[Client]:
    create = grpc.unary_unary_rpc_method_handler(
        service.create, job_pb2.CreateJobRequest.FromString, job_pb2.CreateJobResponse.SerializeToString
    )
    cancel = grpc.unary_unary_rpc_method_handler(
        service.cancel, job_pb2.CancelJobRequest.FromString, job_pb2.CancelJobResponse.SerializeToString
    )
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"CreateJob": create, "CancelJob": cancel}
    async with served(grpc.method_handlers_generic_handler("holon.rxon.v1.JobService", handlers)) as client:
        yield client


class FirstAway(grpc.GenericRpcHandler):
    """A node of empty answers that fails the first call of each method, after it has noted it."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.requests: list[bytes] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = details.method.rpartition("/")[2]

        async def answer(request: bytes, context: Any) -> bytes:
            self.called.append(method)
            self.requests.append(request)
            if self.called.count(method) == 1:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "on purpose")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


async def all_of(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


READS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "GetJob": lambda client: client.get_job("x"),
    "ListJobs": lambda client: all_of(client.list_jobs()),
    "ListJobIds": lambda client: client.job_ids("x"),
    "GetJobHistory": lambda client: all_of(client.history("x")),
    "GetJobTree": lambda client: all_of(client.tree("x")),
    "GetNode": lambda client: client.node.info(),
    "GetStats": lambda client: client.node.stats(),
    "ListBlueprints": lambda client: all_of(client.node.list_blueprints()),
    "GetBlueprint": lambda client: client.node.get_blueprint("x"),
    "ListWorkers": lambda client: all_of(client.node.list_workers()),
    "GetWorkerHistory": lambda client: all_of(client.node.worker_history("w")),
    "GetWebhookSecret": lambda client: client.node.webhook_secret(),
    "ListSkills": lambda client: all_of(client.node.list_skills()),
}


async def test_every_read_is_repeated_while_the_node_is_away() -> None:
    services = (job_pb2.DESCRIPTOR.services_by_name["JobService"], node_pb2.DESCRIPTOR.services_by_name["NodeService"])
    methods = [method.name for service in services for method in service.methods]
    assert sorted(READS) == sorted(name for name in methods if name.startswith(("Get", "List")))
    node = FirstAway()
    async with served(node) as client:
        for name, read in READS.items():
            await read(client)
            assert node.called[-2:] == [name, name]


async def test_decisions_and_signals_are_repeated_while_the_node_is_away_each_under_one_request_id() -> None:
    node = FirstAway()
    async with served(node) as client:
        await client.resolve_approval("x", "yes")
        await client.send_signal("x", "paid")
    assert node.called == ["ResolveApproval"] * 2 + ["SendSignal"] * 2
    decisions = [job_pb2.ResolveApprovalRequest.FromString(one).request_id for one in node.requests[:2]]
    signals = [job_pb2.SendSignalRequest.FromString(one).request_id for one in node.requests[2:]]
    assert [len(set(ids)) for ids in (decisions, signals)] == [1, 1]
    assert all((*decisions, *signals))


# A node that ends resets the calls under way, which looks like a cancel.
@pytest.mark.parametrize("size", [0, 1_000_000])
@pytest.mark.parametrize("away", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_a_creation_is_repeated_under_one_request_id_while_the_node_is_away(
    away: grpc.StatusCode, size: int
) -> None:
    service = Flaky(2, away)
    async with flaky(service) as client:
        assert (await client.create_job("x", {"text": "x" * size})).job_id == "j1"
    assert len(service.request_ids) == 3
    assert len(set(service.request_ids)) == 1
    assert service.request_ids[0]


@pytest.mark.parametrize("away", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_a_cancel_is_repeated_under_one_request_id_and_the_next_is_another(away: grpc.StatusCode) -> None:
    service = Flaky(2, away)
    async with flaky(service) as client:
        assert (await client.cancel_job("j1")).id == "j1"
        assert (await client.cancel_job("j1")).id == "j1"
        assert (await client.cancel_job("j1", request_id="mine")).id == "j1"
    first, *repeats, second, third = service.request_ids
    assert repeats == [first] * 2
    assert len({"", first, second, third}) == 4
    assert third == "mine"


@pytest.mark.parametrize("away", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_a_call_that_never_gets_its_answer_found_nobody(away: grpc.StatusCode) -> None:
    async with flaky(Flaky(1_000, away)) as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
            await client.create_job("x")


async def test_what_the_node_refused_is_not_repeated() -> None:
    service = Flaky(1, grpc.StatusCode.INTERNAL)
    async with flaky(service) as client:
        with pytest.raises(HolonError, match="on purpose"):
            await client.create_job("x")
    assert len(service.request_ids) == 1


async def test_a_method_that_is_not_there_says_so() -> None:
    async with flaky(Flaky(0, grpc.StatusCode.OK)) as client:
        with pytest.raises(HolonError) as caught:
            await client.get_job("x")
    assert not isinstance(caught.value, Unavailable | Unreachable)


async def test_a_call_on_a_line_that_has_gone_dead_is_repeated_on_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PING_MS", 200)
    monkeypatch.setattr(channel, "PONG_MS", 200)
    async with running_node(echo()) as node, Link("client", lambda: node.ports.client) as link:
        ca = node.folder / "ca.pem"
        async with Client(f"grpcs://localhost:{link.port}", node.token, ca, timeout=GUARD) as client:
            first = await client.node.info()
            # Neither side is told.
            link.hold()
            assert (await client.node.info()).node_id == first.node_id
