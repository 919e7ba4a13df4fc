"""The wire: the trace that a program is in, for what it sends; without OpenTelemetry there is none."""

from __future__ import annotations

import sys


def current_trace() -> tuple[tuple[str, str], ...]:
    """The headers of the span that is current here; none where there is no span, or no OpenTelemetry."""
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return tuple(headers.items())
