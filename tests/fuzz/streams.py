"""A worker's stream without a network: what grpc gives a handler, played by the test."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from holon.rxon.v1 import worker_pb2

Request = worker_pb2.SessionRequest
Response = worker_pb2.SessionResponse


class Stream:
    """The node's view of one call. A test puts in what the worker says, and sees what the node does.

    Attributes:
        heard: called with each message of the node.
        ended: the status that the node gave the call; None while it is open, OK when its handler returned.
    """

    def __init__(self, heard: Callable[[Response], None] = lambda _: None) -> None:
        self.heard = heard
        self.ended: grpc.StatusCode | None = None
        self._inbox: deque[bytes | None] = deque()
        self._came = asyncio.Event()
        self._reads = asyncio.Event()
        self._reads.set()
        self._gone = False

    # What the worker does ----------------------------------------------------------------------------------------

    def say(self, frame: Request | bytes) -> None:
        """Send a message."""
        self._inbox.append(frame if isinstance(frame, bytes) else frame.SerializeToString())
        self._came.set()

    def half_close(self) -> None:
        """Say nothing more."""
        self._inbox.append(None)
        self._came.set()

    def vanish(self) -> None:
        """The connection is lost."""
        self._gone = True
        self._came.set()
        self._reads.set()

    def stop_reading(self) -> None:
        """Let the node's messages wait."""
        self._reads.clear()

    def read_on(self) -> None:
        """Read them again."""
        self._reads.set()

    @property
    def unheard(self) -> int:
        """How many messages the node has not read yet."""
        return len(self._inbox)

    # What the node does, as with any call ------------------------------------------------------------------------

    async def read(self) -> Any:
        while not self._inbox:
            if self._gone:
                raise grpc.aio.UsageError("the connection is lost")
            self._came.clear()
            await self._came.wait()
        if self._inbox[0] is None:
            return grpc.aio.EOF
        return self._inbox.popleft()

    async def write(self, raw: bytes) -> None:
        await self._reads.wait()
        if self._gone:
            raise grpc.aio.UsageError("the connection is lost")
        self.heard(Response.FromString(raw))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        if self._gone:
            raise grpc.aio.UsageError("the connection is lost")
        self.ended = code
        raise grpc.aio.AbortError(details)

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}
