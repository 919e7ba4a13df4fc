"""The client: one call, from a request to its answer or to the error that it means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from holon.client.failures import error_of
from holon.wire.trace import current_trace

A = TypeVar("A")

Metadata = tuple[tuple[str, str], ...]


class Calls:
    """Makes the unary calls of one client.

    Arguments:
        url: the address, for messages.
        metadata: what goes with every call, beside the trace that the caller is in.
        timeout: seconds that a call may take, its repeats included.
    """

    def __init__(self, url: str, metadata: Metadata, timeout: float) -> None:
        self.url = url
        self.metadata = metadata
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"Calls({self.url})"

    async def call(self, method: Callable[..., Awaitable[A]], request: object) -> A:
        """Call a method.

        Raises:
            HolonError: what the node answered with, or Unreachable when no answer came.
        """
        try:
            return await method(request, timeout=self._timeout, metadata=(*self.metadata, *current_trace()))
        except grpc.aio.AioRpcError as error:
            raise error_of(error, self.url) from error


def timestamp_of(seconds: float | None) -> Timestamp | None:
    """Epoch seconds as a Timestamp, to the microsecond."""
    if seconds is None:
        return None
    micros = round(seconds * 1e6)
    return Timestamp(seconds=micros // 10**6, nanos=micros % 10**6 * 1000)


def duration_of(seconds: float | None) -> Duration | None:
    """Seconds as a Duration."""
    if seconds is None:
        return None
    nanos = round(seconds * 1e9)
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
