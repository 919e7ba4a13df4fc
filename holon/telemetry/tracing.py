"""Telemetry: the traces of jobs, as the engine sees them. Here they are off: what a client named is passed on.

`holon.telemetry.spans` makes real spans, with OpenTelemetry; only the composition root knows which of the two it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from holon.domain.job import Job
from holon.errors import ConfigError
from holon.ports import Offer


class Span:
    """Something that is traced, and current while it is entered; this one is nowhere seen.

    Attributes:
        trace: what is caused by it belongs to this trace; empty: to none of its own.
    """

    __slots__ = ("trace",)

    def __init__(self, trace: str = "") -> None:
        self.trace = trace

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaving does not end it: what was begun and is void is never ended, and so never shown."""

    def end(self, error: str = "") -> None:
        """It is over; `error` says why it failed."""


_NONE = Span()


class Tracing:
    """Traces of jobs, steps and tasks; off."""

    def interceptors(self) -> Sequence[Any]:
        """What the gRPC doors of clients put into each call's way, after who calls is known."""
        return ()

    def job(self, job_id: str, blueprint: str, given: str) -> Span:  # noqa: ARG002  the shape of those that are on
        """A job is being created. `given` is the trace that its client named; see `holon.domain.trace`."""
        return Span(given) if given else _NONE

    def step(self, job: Job) -> Span:  # noqa: ARG002  likewise
        """The handler of a job's state begins; its tasks belong to the span's trace."""
        return _NONE

    def offered(self, offers: Sequence[Offer]) -> Sequence[Offer]:
        """These go to their workers now: as they are to be sent."""
        return offers

    def ended(self, lease_id: str, status: str, error: str) -> None:
        """The attempt under this lease has ended. `error` is the code of its failure, or why it was not applied."""

    def freed(self, lease_id: str) -> None:
        """No session holds this lease any more."""


@asynccontextmanager
async def tracing_to(endpoint: str, resource: Mapping[str, str]) -> AsyncIterator[Tracing]:
    """Traces, sent to this collector until the end; off, and nothing imported, where there is none.

    Arguments:
        endpoint: the collector; see `holon.telemetry.spans.Spans`.
        resource: what the spans say of this node.
    Raises:
        ConfigError: the libraries are not installed, or cannot be used as their own variables say.
    """
    if not endpoint:
        yield Tracing()
        return
    try:
        from holon.telemetry.spans import Spans

        spans = Spans(endpoint, resource)
    except ImportError as error:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but {error.name} is not installed; pip install "
            "'holon-node[telemetry]'"
        ) from error
    except Exception as error:
        # It reads variables of its own, some of them as it is imported, and raises whatever comes of that.
        raise ConfigError(f"OpenTelemetry cannot be set up; check its OTEL_ variables: {error}") from error
    async with spans as tracing:
        yield tracing
