"""The worker SDK: a span for each task, current while its handler runs, where the program uses OpenTelemetry.

It counts as used when the program has imported it, or has installed it and names a collector in
OTEL_EXPORTER_OTLP_ENDPOINT; only then is anything of it imported.
"""

from __future__ import annotations

import logging
import os
import sys
from types import TracebackType
from typing import Self

from holon.errors import ConfigError
from holon.rxon.v1 import worker_pb2

_log = logging.getLogger("holon.worker")

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class TaskSpan:
    """The span of one task, current while it is entered; this one is nowhere seen."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It is over."""

    def ended(self, result: worker_pb2.TaskResult) -> None:
        """Note how the task ended."""


_NONE = TaskSpan()


class Tracing:
    """Makes the spans of a worker's tasks; off."""

    def task(self, offer: worker_pb2.TaskOffer) -> TaskSpan:  # noqa: ARG002  the shape of those that are on
        """The span of a task whose handler begins."""
        return _NONE


def tracing_here() -> Tracing:
    """The tracing of this program: by its own tracer provider, else by one that sends to the collector it names.

    Raises:
        ConfigError: OpenTelemetry cannot be used as its own variables say.
    """
    named = os.environ.get(ENDPOINT, "")
    if "opentelemetry.trace" not in sys.modules and not named:
        return Tracing()
    try:
        from holon.worker.spans import Spans, send_to_collector

        if named:
            send_to_collector()
    except ImportError as error:
        _log.warning("%s is set, but %s is not installed, so there are no traces", ENDPOINT, error.name)
        return Tracing()
    except Exception as error:
        # It reads variables of its own, some of them as it is imported, and raises whatever comes of that.
        raise ConfigError(f"OpenTelemetry cannot be set up; check its OTEL_ variables: {error}") from error
    return Spans()
