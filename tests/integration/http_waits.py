"""Waits for jobs at the HTTP door: when they begin and end, and clients of them that are like no other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from holon.domain.client import Client
from holon.engine.feeds import Seen
from tests.integration.http_node import AUTH, GUARD, TOKEN, Node


class Waits:
    """Says when a wait has begun, and when it is over, whatever ended it."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.over = asyncio.Event(), asyncio.Event()
        first, self._until_over = node.engine.watching._first, node.engine.watching.until_over

        async def noted_first(*asked: object) -> object:
            seen = await first(*asked)  # type: ignore[arg-type]
            self.begun.set()
            return seen

        async def noted(client: Client, job_id: str, *, expected: bool = False) -> Seen | None:
            if expected:
                # It waits at once: nothing is read first.
                asyncio.get_running_loop().call_soon(self.begun.set)
            try:
                return await self._until_over(client, job_id, expected=expected)
            finally:
                self.over.set()

        monkeypatch.setattr(node.engine.watching, "_first", noted_first)
        monkeypatch.setattr(node.engine.watching, "until_over", noted)


def asking(node: Node, job_id: str, query: str) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(node.client.get(f"/api/v1/jobs/{job_id}?{query}", headers=AUTH, timeout=GUARD))


class Raw:
    """A connection on which bytes are sent as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    @classmethod
    async def to(cls, node: Node) -> Raw:
        return cls(*await asyncio.open_connection("127.0.0.1", node.door.port))

    def ask(self, path: str, body: bytes = b"", length: int | None = None) -> None:
        self.writer.write(
            f"GET {path} HTTP/1.1\r\nhost: x\r\nx-client-token: {TOKEN}\r\n"
            f"content-length: {len(body) if length is None else length}\r\n\r\n".encode()
            + body
        )

    async def answer(self) -> tuple[int, Any]:
        async with asyncio.timeout(GUARD):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            return int(head[9:12]), json.loads(await self._reader.readexactly(length))


LONG = f"wait={10 * GUARD:g}&fields=status"
WAITING = {"status": "waiting_for_worker"}
