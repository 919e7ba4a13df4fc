"""A collector of traces, as OpenTelemetry's own: it takes spans by OTLP over gRPC, and keeps them to be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

GUARD = 30.0


@dataclass(frozen=True)
class Seen:
    """One span that came in; ids are hexadecimal, `parent` is empty where there is none."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: int
    failed: str
    facts: dict[str, Any] = field(default_factory=dict)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what comes in; `endpoint` is where that is."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[Seen] = []
        self._more = asyncio.Event()

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  the service's own name
        for of_resource in request.resource_spans:
            service = _facts(of_resource.resource.attributes)["service.name"]
            for of_scope in of_resource.scope_spans:
                self.spans += [_seen(service, span) for span in of_scope.spans]
        self._more.set()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def until(self, wanted: Callable[[list[Seen]], bool]) -> list[Seen]:
        """All spans, once what is wanted is among them."""
        async with asyncio.timeout(GUARD):
            while not wanted(self.spans):
                self._more.clear()
                await self._more.wait()
        return self.spans

    def named(self, name: str) -> Seen:
        """The only span of this name."""
        [span] = [span for span in self.spans if span.name == name]
        return span


def _seen(service: str, span: Any) -> Seen:
    return Seen(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.status.message if span.status.code == 2 else "",
        _facts(span.attributes),
    )


def _facts(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that listens on the loopback until the end."""
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    collector.endpoint = f"http://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        await server.stop(0)
