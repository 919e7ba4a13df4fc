"""HTTP/2 frame by frame, over TLS: what no client library would ever send."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from tests.integration.grpc_node import Node, authority, worker_files

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8
FRAME_BYTES = 16_384


class Connection:
    """One connection to a door.

    Arguments:
        window: how many bytes of each stream it takes in; it never takes more.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int) -> None:
        self._reader = reader
        self._writer = writer
        self._next = 1
        # What the other side has room for: on each stream that has begun, on a new one, and on the connection.
        self._rooms: dict[int, int] = {}
        self._new_room = self._room = 65_535
        self.send(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window), before=PREFACE)

    @classmethod
    async def open(cls, port: int, ca: bytes, own: tuple[str, str] | None = None, window: int = 65_535) -> Self:
        """Connect and shake hands; `own` are the files of a certificate and its key."""
        context = ssl.create_default_context(cadata=ca.decode())
        context.set_alpn_protocols(["h2"])
        if own is not None:
            context.load_cert_chain(*own)
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost"), window)

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"", *, before: bytes = b"") -> None:
        """Send a frame."""
        length = struct.pack(">I", len(payload))[1:]
        self._writer.write(before + length + struct.pack(">BBI", kind, flags, stream) + payload)

    def call(
        self,
        path: str,
        metadata: Sequence[tuple[str, str]] = (),
        *,
        message: bytes | None = None,
        ends_headers: bool = True,
    ) -> int:
        """Begin a call; answers with its stream. Its message, when there is one, ends what is said."""
        stream, self._next = self._next, self._next + 2
        self._rooms[stream] = self._new_room
        headers = [
            (":method", "POST"), (":scheme", "https"), (":path", path), (":authority", "localhost"),
            ("te", "trailers"), ("content-type", "application/grpc"), *metadata,
        ]  # fmt: skip
        flags = END_HEADERS if ends_headers else 0
        self.send(HEADERS, flags, stream, b"".join(_literal(name, value) for name, value in headers))
        if message is not None:
            self.send(DATA, END_STREAM, stream, b"\0" + struct.pack(">I", len(message)) + message)
        return stream

    def begin(self, path: str, metadata: Sequence[tuple[str, str]], size: int) -> int:
        """Begin a call, and the message of so many bytes that is poured into it; answers with its stream."""
        stream = self.call(path, metadata)
        self.send(DATA, 0, stream, b"\0" + struct.pack(">I", size))
        self._rooms[stream] -= 5
        self._room -= 5
        return stream

    def pour(self, stream: int, most: int) -> int:
        """Send bytes on a stream, as many as there is room for; answers with how many."""
        sent = 0
        while (size := min(most - sent, FRAME_BYTES, self._rooms[stream], self._room)) > 0:
            self.send(DATA, 0, stream, b"x" * size)
            self._rooms[stream] -= size
            self._room -= size
            sent += size
        return sent

    async def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame of the other side: kind, flags, stream, payload."""
        head = await self._reader.readexactly(9)
        payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        if kind == SETTINGS and not flags & ACK:
            self._set(dict(struct.unpack(">HI", payload[at : at + 6]) for at in range(0, len(payload), 6)))
            self.send(SETTINGS, ACK, 0)
        elif kind == WINDOW_UPDATE and not stream:
            self._room += int.from_bytes(payload, "big")
        elif kind == WINDOW_UPDATE:
            self._rooms[stream] += int.from_bytes(payload, "big")
        return kind, flags, stream, payload

    def _set(self, settings: dict[int, int]) -> None:
        more = settings.get(INITIAL_WINDOW_SIZE, self._new_room) - self._new_room
        self._new_room += more
        for stream in self._rooms:
            self._rooms[stream] += more

    async def until(self, *kinds: int) -> tuple[int, int, int, bytes]:
        """The next frame of one of these kinds."""
        while True:
            frame = await self.frame()
            if frame[0] in kinds:
                return frame

    async def drained(self) -> None:
        """What was sent is on its way."""
        await self._writer.drain()

    def close(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()


def _literal(name: str, value: str) -> bytes:
    """A header that is in no table: HPACK's literal without indexing, with a new name."""
    return b"\0" + _string(name.encode()) + _string(value.encode())


def _string(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, length = len(text) - 127, b"\x7f"
    while rest >= 128:
        length += bytes([rest % 128 | 128])
        rest //= 128
    return length + bytes([rest]) + text


@asynccontextmanager
async def connection(node: Node, worker_id: str | None = None, window: int = 65_535) -> AsyncIterator[Connection]:
    """A connection to the worker door as a worker, or to the client door."""
    ca = authority("ours").files.certificate.read_bytes()
    if worker_id is None:
        opened = await Connection.open(node.clients.port, ca, window=window)
    else:
        own = worker_files(worker_id)
        opened = await Connection.open(node.workers.port, ca, (str(own.certificate), str(own.key)), window)
    try:
        yield opened
    finally:
        opened.close()
