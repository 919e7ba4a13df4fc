"""Chaos: a PostgreSQL that nodes keep their jobs in, or move their history to."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.bench.process import BenchError
from tests.chaos.link import Link
from tests.history.postgres import Server, serving


class PostgresServer:
    """A PostgreSQL server. Nodes reach it by its socket, so that no link can fail.

    Arguments:
        setting: the setting of nodes that names it.
        nodes: how many nodes may share it.
    """

    name = "postgres"
    fails = True
    own_time = False

    def __init__(self, setting: str, nodes: int) -> None:
        self.most_nodes = nodes
        self._setting = setting
        self.links: list[Link] = []
        self._opened = ExitStack()
        self._server: Server
        self._uri = ""

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.to_thread(self._opened.enter_context, serving())
        except AssertionError as error:
            raise BenchError(str(error)) from error
        self._uri = await asyncio.to_thread(self._server.database)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._opened.close)

    def settings(self, node: int) -> dict[str, str]:
        return {self._setting: self._uri}

    async def crash(self, seconds: float) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.sleep(seconds)
        await self.mend()

    async def pause(self, seconds: float) -> None:
        with self._server.silent():
            await asyncio.sleep(seconds)

    async def mend(self) -> None:
        await asyncio.to_thread(self._server.start)

    def left(self) -> list[str]:
        # It keeps what there was; what nodes tell of it is checked.
        return []
