"""HTTP by the byte: what is sent as it is, and what comes back taken apart."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

GUARD = 10.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str | None:
        """The code of a refusal, in the one shape that all have; None for another answer."""
        if self.status < 400:
            return None
        assert self.body.keys() == {"error", "code", "details"}, self.body
        return str(self.body["code"])


async def exchange(port: int, *sent: bytes) -> list[Answer]:
    """Send these pieces over a connection of their own, say that it was all, and return what was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
        writer.write_eof()
        return answers(await asyncio.wait_for(reader.read(), GUARD))
    finally:
        writer.close()


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
        size = int(headers["content-length"])
        body, got = got[:size], got[size:]
        found.append(Answer(int(status), headers, json.loads(body)))
    return found
