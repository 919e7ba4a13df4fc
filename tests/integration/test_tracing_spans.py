"""Traces where they are on: a collector sees one trace, from the client through the node to the worker."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from holon import Blueprint
from holon.context import ActionFactory
from holon.rxon.v1 import job_pb2, job_pb2_grpc, worker_pb2
from holon.testing import RunningNode, running_node
from tests.integration.cases.site import a_wire, next_offer
from tests.integration.grpc_node import result, update, updates
from tests.integration.trace_collector import Collector, Seen, collecting
from tests.plaintext import PLAINTEXT

WORKER = """
from opentelemetry import trace
from holon.worker import Worker
worker = Worker()
@worker.skill("echo")
def echo(x: int) -> dict:
    with trace.get_tracer("mine").start_as_current_span("inside"):
        return {"x": x}
@worker.skill("broken")
async def broken() -> None:
    with trace.get_tracer("mine").start_as_current_span("trying"):
        raise ValueError("no luck")
worker.run()
"""

traced = Blueprint("traced", api_endpoint="/jobs/traced", api_version="v1")


CURRENT: list[str] = []


@traced.handler(is_start=True)
async def begin(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    CURRENT.append(f"{trace.get_current_span().get_span_context().span_id:016x}")
    params = {"x": 1} if initial_data["skill"] == "echo" else {}
    actions.dispatch_task(initial_data["skill"], params, {"success": "end", "failure": "end"})


@traced.handler(is_end=True)
async def end(initial_data: dict[str, Any]) -> None:
    if initial_data.get("raise"):
        raise ValueError("broken handler")


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    # The choice of a provider is for the whole process and for good; here it is for the nodes of the tests only.
    CURRENT.clear()
    monkeypatch.setattr("opentelemetry.trace.set_tracer_provider", lambda provider: None)
    # A batch is sent after so many milliseconds.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    async with collecting() as running:
        yield running


@asynccontextmanager
async def a_node(collector: Collector, **settings: Any) -> AsyncIterator[RunningNode]:
    settings = {"RETRY_BACKOFF_MIN_SECONDS": 0.05, **settings}
    async with running_node(traced, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, **settings) as node:
        yield node


@asynccontextmanager
async def a_worker(node: RunningNode, collector: Collector) -> AsyncIterator[None]:
    """A worker in a process of its own, which names the collector and sets up nothing itself."""
    pair = node.certificate("worker-1")
    env = {
        **os.environ,
        "NODE_URL": node.worker_url,
        "TLS_CA_PATH": str(node.folder / "ca.pem"),
        "TLS_CERT_PATH": str(pair.certificate),
        "TLS_KEY_PATH": str(pair.key),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, env=env)
    try:
        yield
    finally:
        process.terminate()
        async with asyncio.timeout(30):
            await process.wait()


@asynccontextmanager
async def a_client(collector: Collector) -> AsyncIterator[trace.Tracer]:
    """A client that traces what it does."""
    provider = TracerProvider(resource=Resource.create({"service.name": "client"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(collector.endpoint, insecure=True)))
    yield provider.get_tracer("client")
    await asyncio.to_thread(provider.shutdown)


def headers_of(span: trace.Span) -> dict[str, str]:
    context = span.get_span_context()
    return {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}


async def post(node: RunningNode, data: dict[str, Any], headers: dict[str, str]) -> str:
    async with httpx.AsyncClient(
        trust_env=False, headers={"x-client-token": node.token, **headers}, verify=PLAINTEXT
    ) as client:
        reply = await client.post(f"{node.url}/api/v1/jobs/traced", json={"initial_data": data})
    assert reply.status_code == 202
    return str(reply.json()["job_id"])


async def create(node: RunningNode, data: bytes, headers: dict[str, str]) -> str:
    root = (node.folder / "ca.pem").read_bytes()
    address = f"localhost:{node.ports.client}"
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root)) as channel:
        stub: Any = job_pb2_grpc.JobServiceStub(channel)
        request = job_pb2.CreateJobRequest(blueprint_name="traced")
        request.initial_data.data = data
        answer = await stub.CreateJob(request, metadata=(("x-client-token", node.token), *headers.items()))
    return str(answer.job_id)


def all_of(*names: str) -> Any:
    """Spans of these names have come. Each comes once it is over, perhaps after those within it."""
    return lambda spans: {*names} <= {span.name for span in spans}


def chain(collector: Collector, last: Seen) -> list[tuple[str, str]]:
    """The services and names of a span and all above it, from the top."""
    by_id = {span.span_id: span for span in collector.spans}
    found: list[tuple[str, str]] = []
    one: Seen | None = last
    while one is not None:
        found.append((one.service, one.name))
        one = by_id.get(one.parent)
    return found[::-1]


async def test_a_collector_sees_one_trace_from_a_client_of_http_through_the_node_to_the_worker(
    collector: Collector,
) -> None:
    async with a_node(collector) as node, a_worker(node, collector), a_client(collector) as tracer:
        with tracer.start_as_current_span("asking") as span:
            job_id = await post(node, {"skill": "echo"}, headers_of(span))
        assert (await node.client.wait_for(job_id, timeout=30)).status == "finished"
        await collector.until(all_of("asking", "traced.end", "task echo", "echo", "inside"))
    assert chain(collector, collector.named("inside")) == [
        ("client", "asking"),
        ("holon", "create traced"),
        ("holon", "traced.begin"),
        ("holon", "task echo"),
        ("holon-worker", "echo"),
        ("holon-worker", "inside"),
    ]
    assert chain(collector, collector.named("traced.end"))[:2] == [("client", "asking"), ("holon", "create traced")]
    of_job = [span for span in collector.spans if span.facts.get("holon.job_id") == job_id]
    assert len(of_job) == 5
    assert {span.trace_id for span in of_job} == {collector.named("asking").trace_id}
    assert collector.named("echo").facts["holon.status"] == "success"


async def test_a_unary_call_has_its_span_and_the_job_belongs_to_it(collector: Collector) -> None:
    async with a_node(collector) as node, a_client(collector) as tracer:
        with tracer.start_as_current_span("asking") as span:
            await create(node, b'{"skill": "nobody"}', headers_of(span))
        every = "asking", "/holon.rxon.v1.JobService/CreateJob", "create traced", "traced.begin"
        await collector.until(all_of(*every))
        names = [name for _, name in chain(collector, collector.named("traced.begin"))]
    assert names == [*every]


async def test_the_python_client_says_which_span_it_is_in(collector: Collector) -> None:
    async with a_node(collector) as node, a_client(collector) as tracer:
        with tracer.start_as_current_span("asking"):
            await node.client.create_job("traced", {"skill": "nobody"})
        await collector.until(all_of("asking", "create traced"))
    assert chain(collector, collector.named("create traced"))[0] == ("client", "asking")


async def test_a_job_whose_client_does_not_trace_is_a_trace_of_its_own(collector: Collector) -> None:
    async with a_node(collector) as node:
        await post(node, {"skill": "nobody"}, {})
        await post(node, {"skill": "nobody"}, {})
        await collector.until(lambda spans: [one.name for one in spans].count("traced.begin") == 2)
    assert len({span.trace_id for span in collector.spans}) == 2
    assert [span.span_id for span in collector.spans if span.name == "traced.begin"] == CURRENT
    assert {span.name for span in collector.spans if not span.parent} == {"create traced"}


async def test_a_refused_call_is_refused_as_ever_and_a_stream_has_no_span(collector: Collector) -> None:
    async with a_node(collector) as node:
        async with a_wire(node, "worker-1"):
            pass
        stranger = RunningNode.__new__(RunningNode)
        stranger.__dict__.update(node.__dict__, token="wrong")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await create(stranger, b"{}", {})
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as invalid:
            await create(node, b"{", {})
        assert invalid.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await collector.until(all_of("/holon.rxon.v1.JobService/CreateJob"))
    assert [span.name for span in collector.spans] == ["/holon.rxon.v1.JobService/CreateJob"]


async def test_what_failed_says_why_and_every_attempt_has_its_own_span(collector: Collector) -> None:
    async with a_node(collector, JOB_MAX_RETRIES=1) as node, a_worker(node, collector):
        job_id = await post(node, {"skill": "broken", "raise": True}, {})
        assert (await node.client.wait_for(job_id, timeout=30)).status == "quarantined"
        spans = await collector.until(
            lambda spans: (
                [one.name for one in spans].count("broken") == 2
                and [one.name for one in spans].count("traced.end") == 2
            )
        )
    attempts = [span for span in spans if span.name == "task broken"]
    assert [span.facts["holon.attempt"] for span in attempts] == [1, 2]
    assert {span.failed for span in attempts} == {"TRANSIENT_ERROR"}
    assert {span.parent for span in attempts} == {collector.named("traced.begin").span_id}
    assert sorted(span.parent for span in spans if span.name == "broken") == sorted(one.span_id for one in attempts)
    assert {span.failed for span in spans if span.name == "broken"} == {"TRANSIENT_ERROR: ValueError: no luck"}
    assert chain(collector, next(span for span in spans if span.name == "trying"))[-2:] == [
        ("holon-worker", "broken"),
        ("holon-worker", "trying"),
    ]
    assert {span.failed for span in spans if span.name == "traced.end"} == {"ValueError: broken handler"}


async def test_a_trace_that_its_client_does_not_sample_is_passed_on_and_not_sent(collector: Collector) -> None:
    unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    async with a_node(collector) as node:
        await post(node, {"skill": "t"}, {"traceparent": unsampled})
        async with a_wire(node, "worker-1") as wire:
            offer = await next_offer(wire)
            await wire.send(updates(result(offer)))
            await wire.expect("update_acks")
        await post(node, {"skill": "nobody"}, {})
        await collector.until(all_of("traced.begin"))
    assert offer.trace.traceparent.startswith(unsampled[:36])
    assert offer.trace.traceparent.endswith("-00")
    assert "task t" not in {span.name for span in collector.spans}


async def test_what_a_worker_gives_back_ends_its_span(collector: Collector) -> None:
    async with a_node(collector) as node:
        await post(node, {"skill": "t"}, {})
        async with a_wire(node, "worker-1") as wire:
            offer = await next_offer(wire)
            await wire.send(updates(update(offer, rejected=worker_pb2.TaskRejected(reason="BUSY"))))
            await collector.until(all_of("task t"))
    assert collector.named("task t").facts["holon.status"] == "handed back"


async def test_a_collector_that_is_away_holds_up_nothing(collector: Collector) -> None:
    async with running_node(traced, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as node:
        await post(node, {"skill": "nobody"}, {})
