"""The worker door: the messages of one stream as they come and go, and since when that has been so."""

from __future__ import annotations

import asyncio
import math
from typing import TypeAlias

import grpc.aio
from google.protobuf.message import DecodeError

from holon.errors import HolonError, InvalidArgument, Unavailable
from holon.rxon.v1 import worker_pb2
from holon.telemetry.metrics import StreamMetrics

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class Frames:
    """Reads and writes a call's messages.

    Attributes:
        heard: when the last one came, on the loop's clock.
        writing: since when the one that is being sent waits for its worker to read; infinite when none is.
    """

    def __init__(self, context: Context, metrics: StreamMetrics) -> None:
        self._context = context
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()
        self.writing = math.inf

    def __repr__(self) -> str:
        return f"Frames(heard={self.heard:.3f}, writing={self.writing:.3f})"

    async def hello(self, within: float) -> worker_pb2.Hello:
        """The first message, which has to come within so many seconds; raises InvalidArgument for any other."""
        try:
            async with asyncio.timeout(within):
                raw = await self._read()
        except TimeoutError:
            raise _expected_hello(f"no message arrived within {within:g} s") from None
        if raw is None:
            raise _expected_hello("the worker closed the stream without a message")
        try:
            frame = worker_pb2.SessionRequest.FromString(raw)
        except DecodeError as error:
            raise _expected_hello("the first message is malformed") from error
        if not frame.HasField("hello"):
            raise _expected_hello(
                f"the first message is {frame.WhichOneof('message') or 'empty or of an unknown kind'}"
            )
        return frame.hello

    async def read(self) -> bytes | None:
        """The next message; None when the worker has closed its side, or is gone: here the two look the same.

        Raises:
            Unavailable: (STREAM_LOST) the call is over.
        """
        raw = await self._read()
        if raw is not None:
            self.heard = self._loop.time()
            self._metrics.received.add()
        return raw

    async def write(self, frame: bytes) -> None:
        """Send a message, once the worker has room for it; raises as `read`."""
        self.writing = self._loop.time()
        try:
            await self._context.write(frame)
            self._metrics.sent.add()
        except grpc.aio.BaseError as error:
            raise _lost() from error
        self.writing = math.inf

    def forgive(self, since: float) -> None:
        """This process stood still: what it did not hear or send before then is not the worker's fault."""
        self.heard, self.writing = max(self.heard, since), max(self.writing, since)

    async def _read(self) -> bytes | None:
        try:
            raw: object = await self._context.read()
        except grpc.aio.BaseError as error:
            raise _lost() from error
        return raw if isinstance(raw, bytes) else None


def _expected_hello(reason: str) -> HolonError:
    return InvalidArgument(f"the first message of a stream must be Hello: {reason}", code="HELLO_EXPECTED")


def _lost() -> HolonError:
    return Unavailable("the connection of this stream is lost", code="STREAM_LOST")
