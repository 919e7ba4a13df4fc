"""Traces that are off, or cannot be on."""

from __future__ import annotations

import logging
import sys

import pytest
from opentelemetry import trace

from holon.config import Config
from holon.domain.job import Job
from holon.domain.task import RetryPolicy
from holon.errors import ConfigError
from holon.ports import Offer
from holon.rxon.v1 import worker_pb2
from holon.telemetry.tracing import Tracing, tracing_to
from holon.wire.trace import current_trace
from holon.worker.tracing import ENDPOINT, TaskSpan, tracing_here
from holon.worker.tracing import Tracing as WorkerTracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OFFER = Offer("w1", "s1", "t1", "l1", "j1", "s", "", "", b"", 0, 1, 1, None, None, RetryPolicy(), PARENT)


async def test_off_a_job_belongs_to_the_trace_that_was_named_and_its_offers_are_as_they_were() -> None:
    async with tracing_to("", {}) as tracing:
        assert type(tracing) is Tracing
        assert tracing.job("0-a", "bp", PARENT).trace == PARENT
        with tracing.step(Job("0-a", "bp", "ann", {}, "start", trace=PARENT)) as span:
            assert span.trace == ""
        offers = [OFFER]
        assert tracing.offered(offers) is offers


async def test_a_collector_without_the_libraries_is_refused_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "holon.telemetry.spans", None)
    with pytest.raises(ConfigError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set.*pip install 'holon-node\[telemetry\]'"):
        async with tracing_to("http://127.0.0.1:4317", {}):
            pass


def test_a_worker_without_the_libraries_says_so_and_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4317")
    monkeypatch.setitem(sys.modules, "holon.worker.spans", None)
    with caplog.at_level(logging.WARNING):
        tracing = tracing_here()
    assert type(tracing) is WorkerTracing
    assert "there are no traces" in caplog.text
    with tracing.task(worker_pb2.TaskOffer()) as span:
        span.ended(worker_pb2.TaskResult())
    assert type(span) is TaskSpan


async def test_variables_that_opentelemetry_cannot_use_are_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    with pytest.raises(ConfigError, match=r"check its OTEL_ variables: .*soon"):
        async with tracing_to("http://127.0.0.1:4317", {}):
            pass
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4317")
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    with pytest.raises(ConfigError, match=r"check its OTEL_ variables: .*soon"):
        tracing_here()


def test_a_program_without_opentelemetry_names_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    assert current_trace() == ()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:4317", "https://collector.example:4317/", "http://[::1]:4317"])
def test_a_collectors_address_is_taken(endpoint: str) -> None:
    Config({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}).check()


@pytest.mark.parametrize("endpoint", ["collector:4317", "grpc://x:1", "http://", "http://a b", "http://x/v1/traces"])
def test_what_is_no_collectors_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        Config({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}).check()
