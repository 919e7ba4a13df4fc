"""HTTP by the byte: what is sent as it is, and what comes back taken apart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any

GUARD = 60.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str | None:
        """The code of a refusal, in the one shape that all have; None for another answer."""
        if self.status < 400 or self.body is None:
            return None
        assert self.body.keys() == {"error", "code", "details"}, self.body
        return str(self.body["code"])


async def exchange(port: int, *sent: bytes) -> list[Answer]:
    """Send these pieces over a connection of their own, say that it was all, and return what was answered.

    A door that ends the connection before it has all of them may reset it: then it is what had come by then.
    """
    loop, got = asyncio.get_running_loop(), b""
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        async with asyncio.timeout(GUARD):
            with contextlib.suppress(OSError):
                for part in sent:
                    await loop.sock_sendall(connection, part)
                    await asyncio.sleep(0)
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while more := await loop.sock_recv(connection, 2**16):
                    got += more
    return answers(got)


def answers(got: bytes) -> list[Answer]:
    """The answers, all of them with a body of JSON and its length."""
    found = []
    while got:
        head, end, got = got.partition(b"\r\n\r\n")
        assert end, head
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if status == "100":
            continue
        # The answer to HEAD has a length, and no body.
        size = 0 if not got or got.startswith(b"HTTP/1.1 ") else int(headers["content-length"])
        body, got = got[:size], got[size:]
        found.append(Answer(int(status), headers, json.loads(body) if body else None))
    return found
