"""The bench: a client's keep-alive connection, lean enough to load a node from a core that it shares with workers."""

from __future__ import annotations

import asyncio
from typing import Any, Self, cast

import httptools
import orjson


class Connection(asyncio.Protocol):
    """One connection; one request at a time.

    Arguments:
        port: of the loopback.
        token: the client token that every request carries.
    """

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._headers = f" HTTP/1.1\r\nhost: 127.0.0.1\r\nx-client-token: {token}\r\n"
        self._heads: dict[str, bytes] = {}
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int, token: str) -> Self:
        """Connect to a port of the loopback."""
        connection = cls(port, token)
        await connection._connect()
        return connection

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)

    def close(self) -> None:
        """Disconnect."""
        if self._transport:
            self._transport.close()

    async def post(self, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and JSON of the answer to a POST of JSON."""
        head = self._heads.get(path)
        if head is None:
            text = f"POST {path}{self._headers}content-type: application/json\r\ncontent-length: "
            head = self._heads[path] = text.encode()
        return await self._exchange(b"%b%d\r\n\r\n%b" % (head, len(body), body))

    async def get(self, path: str) -> tuple[int, Any]:
        """Return status and JSON of the answer to a GET."""
        return await self._exchange(f"GET {path}{self._headers}\r\n".encode())

    async def _exchange(self, request: bytes) -> tuple[int, Any]:
        if self._transport is None or self._transport.is_closing():
            # It was idle for too long, while the other node was under load.
            await self._connect()
        answer = self._answer = asyncio.get_running_loop().create_future()
        assert self._transport is not None
        self._transport.write(request)
        status, body = await answer
        return status, orjson.loads(body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the node closed the connection before it answered"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """A part of a body; the parser calls it."""
        self._body += body

    def on_message_complete(self) -> None:
        """The answer is whole; the parser calls it."""
        body, self._body = self._body, b""
        if self._answer and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), body))
