"""Telemetry: real spans, with OpenTelemetry. The only module that knows it; imported only where traces are on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_server_interceptor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import ProxyTracerProvider, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from holon.domain.job import Job
from holon.domain.trace import headers_of, trace_of
from holon.domain.value import replace
from holon.ports import Offer
from holon.telemetry.tracing import Span, Tracing

log = logging.getLogger(__name__)

# Attempts whose end is never heard of, because their worker is gone, are given up when so many others came after them.
MOST_ATTEMPTS = 10_000

# How long a node that ends waits for the collector to take the last spans.
FAREWELL_S = 2.0

_OURS = "/holon."
_PROPAGATOR = TraceContextTextMapPropagator()


class _Traced(Span):
    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        super().__init__(_text(span))
        self._span = span
        self._token: Token[Context] | None = None

    def __enter__(self) -> Self:
        self._token = attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            detach(self._token)

    def end(self, error: str = "") -> None:
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class Spans(Tracing):
    """Makes spans and sends them to a collector, while it is entered; leaving sends what is left.

    Arguments:
        endpoint: of the collector, by OTLP over gRPC: `http://host:4317`, or `https://`.
        resource: what the spans say of this node.
    """

    def __init__(self, endpoint: str, resource: Mapping[str, str]) -> None:
        self._endpoint = endpoint
        self._provider = TracerProvider(resource=Resource.create(dict(resource)), shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("holon")
        self._attempts: OrderedDict[str, trace.Span] = OrderedDict()
        self._token: Token[Context] | None = None

    def __repr__(self) -> str:
        return f"Spans(attempts={len(self._attempts)})"

    async def __aenter__(self) -> Self:
        # Handlers that make spans of their own find this provider, unless their program has chosen one.
        if isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
            trace.set_tracer_provider(self._provider)
        # What runs in the node belongs to its jobs, and not to whatever span was current when it was started.
        self._token = attach(Context())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            detach(self._token)
        for span in self._attempts.values():
            span.end()
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()
        # It blocks for as long as the collector is away, and ends soon after the exporter is told to give up.
        threading.Thread(target=self._send_all, args=(loop, sent), name="holon-last-spans", daemon=True).start()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await sent.wait()
        except TimeoutError:
            log.warning("the last spans were lost: %s did not take them within %g s", self._endpoint, FAREWELL_S)
            self._exporter.shutdown(timeout_millis=0)

    def _send_all(self, loop: asyncio.AbstractEventLoop, sent: asyncio.Event) -> None:
        self._provider.shutdown()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(sent.set)

    def interceptors(self) -> Sequence[Any]:
        interceptor = aio_server_interceptor(  # type: ignore[no-untyped-call]  # it has no types
            tracer_provider=self._provider, filter_=lambda call: call.method.startswith(_OURS)
        )
        return (_UnaryOnly(interceptor),)

    def job(self, job_id: str, blueprint: str, given: str) -> Span:
        parent: Context | None = None
        if given:
            named = _context(given)
            current = trace.get_current_span().get_span_context()
            # A call's own span is nearer than what the call came with, if it belongs to it.
            if trace.get_current_span(named).get_span_context().trace_id != current.trace_id:
                parent = named
        facts = {"holon.job_id": job_id, "holon.blueprint": blueprint}
        return _Traced(self._tracer.start_span(f"create {blueprint}", parent, SpanKind.PRODUCER, facts))

    def step(self, job: Job) -> Span:
        facts = {"holon.job_id": job.id, "holon.blueprint": job.blueprint, "holon.state": job.current_state}
        name = f"{job.blueprint}.{job.current_state}"
        return _Traced(self._tracer.start_span(name, _context(job.trace), SpanKind.INTERNAL, facts))

    def offered(self, offers: Sequence[Offer]) -> Sequence[Offer]:
        return [self._offered(offer) if offer.trace else offer for offer in offers]

    def _offered(self, offer: Offer) -> Offer:
        facts: dict[str, str | int] = {
            "holon.job_id": offer.job_id,
            "holon.task_id": offer.task_id,
            "holon.worker_id": offer.worker_id,
            "holon.skill": offer.skill,
            "holon.attempt": offer.attempt,
        }
        span = self._tracer.start_span(f"task {offer.skill}", _context(offer.trace), SpanKind.PRODUCER, facts)
        self._attempts[offer.lease_id] = span
        if len(self._attempts) > MOST_ATTEMPTS:
            self._attempts.popitem(last=False)[1].end()
        return replace(offer, trace=_text(span))

    def ended(self, lease_id: str, status: str, error: str) -> None:
        span = self._attempts.pop(lease_id, None)
        if span is not None:
            span.set_attribute("holon.status", status)
            if error:
                span.set_status(Status(StatusCode.ERROR, error))
            span.end()

    def freed(self, lease_id: str) -> None:
        span = self._attempts.pop(lease_id, None)
        if span is not None:
            span.set_attribute("holon.status", "handed back")
            span.end()


class _UnaryOnly(grpc.aio.ServerInterceptor):
    """Has another interceptor see unary calls only: a span of a stream that lives for hours tells nobody anything."""

    def __init__(self, inner: grpc.aio.ServerInterceptor) -> None:
        self._inner = inner

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler

        async def found(_: grpc.HandlerCallDetails) -> Any:
            return handler

        return await self._inner.intercept_service(found, handler_call_details)


def _context(text: str) -> Context:
    """The context that a trace's headers name; an empty one for no trace."""
    parent, state = headers_of(text)
    return _PROPAGATOR.extract({"traceparent": parent, "tracestate": state}, Context())


def _text(span: trace.Span) -> str:
    """A span's context as headers."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span, Context()))
    return trace_of(carrier.get("traceparent", ""), carrier.get("tracestate", ""))
