"""The worker SDK: real spans, with OpenTelemetry; imported only where the program uses it."""

from __future__ import annotations

import os
from contextvars import Token
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import ProxyTracerProvider, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from holon.rxon.v1 import worker_pb2
from holon.worker.tracing import TaskSpan, Tracing

_PROPAGATOR = TraceContextTextMapPropagator()


class Spans(Tracing):
    """Makes the spans of a worker's tasks, with the program's tracer provider."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("holon.worker")

    def task(self, offer: worker_pb2.TaskOffer) -> TaskSpan:
        headers = {"traceparent": offer.trace.traceparent, "tracestate": offer.trace.tracestate}
        facts: dict[str, str | int] = {
            "holon.job_id": offer.job_id,
            "holon.task_id": offer.task_id,
            "holon.skill": offer.skill,
            "holon.attempt": offer.attempt,
        }
        parent = _PROPAGATOR.extract(headers, Context())
        return _Traced(self._tracer.start_span(offer.skill, parent, SpanKind.CONSUMER, facts))


class _Traced(TaskSpan):
    def __init__(self, span: trace.Span) -> None:
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
        self._span.end()

    def ended(self, result: worker_pb2.TaskResult) -> None:
        self._span.set_attribute("holon.status", result.status)
        if result.HasField("error"):
            self._span.set_status(Status(StatusCode.ERROR, f"{result.error.code}: {result.error.message}"))


def send_to_collector() -> None:
    """Send spans to the collector that OTEL_ variables name, unless the program has chosen a tracer provider itself.

    Raises:
        ImportError: the SDK of OpenTelemetry, or its exporter by gRPC, is not installed.
    """
    if not isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "holon-worker")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
