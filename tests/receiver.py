"""A receiver of webhooks: an HTTP server on the loopback that keeps what it was told, and answers as it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

GUARD = 60.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Told:
    """One request."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


Answering: TypeAlias = Callable[[Told], Awaitable[bytes | None]]


def status(number: int, *headers: str) -> bytes:
    """An answer without a body."""
    lines = "".join(f"{one}\r\n" for one in headers)
    return f"HTTP/1.1 {number} Said\r\ncontent-length: 0\r\n{lines}\r\n".encode()


@dataclass
class Receiver:
    """What was told, in order. It answers what `answers` has next, and 200 once that is used up.

    `answering` answers instead where it is set; None: it says nothing more, and stays.
    """

    port: int = 0
    told: list[Told] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    answering: Answering | None = None
    connections: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ended?key=secret-of-the-path"

    async def has(self, count: int) -> list[Told]:
        """All that was told, once it is so much."""
        async with asyncio.timeout(GUARD), self.changed:
            await self.changed.wait_for(lambda: len(self.told) >= count)
            return list(self.told)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *fields = head.split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in fields)}
                told = Told(line, headers, await reader.readexactly(int(headers["content-length"])))
                async with self.changed:
                    self.told.append(told)
                    self.changed.notify_all()
                answer: bytes | None
                if self.answering is not None:
                    answer = await self.answering(told)
                else:
                    answer = self.answers.pop(0) if self.answers else OK
                if answer is None:
                    await asyncio.Event().wait()
                    return
                writer.write(answer)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(
    tls: ssl.SSLContext | None = None, answering: Answering | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    it = Receiver(answering=answering)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await it._serve(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
