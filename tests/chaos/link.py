"""Chaos: a TCP link that can be slow, half-open or cut, as real ones are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from types import TracebackType
from typing import Self

CHUNK = 64 * 1024


def _never() -> bool:
    return False


class Link:
    """Carries connections from a port of its own to another, while it is entered.

    Arguments:
        name: who talks to whom.
        upstream: the port on the loopback to connect to; None while nobody is there.

    Attributes:
        delay: seconds that each piece of data is held up, each way.
        deaf: whether what comes back is dropped: requests arrive, and their replies do not.
        tears: says of each piece that comes back whether its connection ends in the middle of it.
    """

    def __init__(self, name: str, upstream: Callable[[], int | None]) -> None:
        self.name = name
        self.delay = 0.0
        self.deaf = False
        self.tears: Callable[[], bool] = _never
        self._upstream = upstream
        self._frozen = False
        # Whether each connection carries anything now, by its ends.
        self._open: dict[tuple[asyncio.StreamWriter, asyncio.StreamWriter], asyncio.Event] = {}
        # How many are carried, or about to be.
        self._carried = 0
        self._server: asyncio.Server

    def __repr__(self) -> str:
        return f"Link({self.name}, open={len(self._open)})"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.heal()
        # One that was just accepted begins to be carried; then all are aborted, also who connects, until none is left.
        await asyncio.sleep(0)
        while self._carried:
            self.cut()
            await asyncio.sleep(0)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where to connect."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        """End every connection at once, without a word."""
        for end in chain(*self._open):
            end.transport.abort()

    def freeze(self) -> None:
        """Carry nothing, and close nothing, until `heal`: neither side learns even that the other has gone."""
        self._frozen = True
        self.hold()

    def hold(self) -> None:
        """The same for the connections that there are; those that are opened meanwhile are carried."""
        for flows in self._open.values():
            flows.clear()

    def heal(self) -> None:
        """Carry everything as it comes."""
        self.delay, self.deaf, self.tears, self._frozen = 0.0, False, _never, False
        for flows in self._open.values():
            flows.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._carried += 1
        try:
            port = self._upstream()
            with suppress(OSError):
                if port is not None:
                    there, back = await asyncio.open_connection("127.0.0.1", port)
                    await self._both(reader, writer, there, back)
        finally:
            self._carried -= 1
            writer.transport.abort()

    async def _both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        ends, flows = (writer, back), asyncio.Event()
        if not self._frozen:
            flows.set()
        self._open[ends] = flows
        pumps = {
            asyncio.create_task(self._pump(reader, back, flows)),
            asyncio.create_task(self._pump(there, writer, flows, back=True)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._open[ends]
            for end in ends:
                end.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, flows: asyncio.Event, *, back: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await flows.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                if back and self.deaf:
                    continue
                torn = back and self.tears()
                sink.write(data[: len(data) // 2] if torn else data)
                await sink.drain()
                if torn:
                    return
        await flows.wait()
