"""Chaos: what the nodes keep their jobs in, and what of it can fail by itself."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from tests.bench.process import BenchError
from tests.chaos.link import Link
from tests.chaos.postgres import PostgresServer
from tests.redis_server import binaries
from tests.store_file import left

_ANSWERS_S = 20.0


class Service(Protocol):
    """What nodes keep something in, while it is entered.

    Attributes:
        name: for people.
        most_nodes: how many nodes may share it.
        fails: whether it is a process of its own, which can crash and stand still.
        own_time: whether its time is its server's, which nodes know to a few milliseconds, and not its one node's.
        links: what lies between it and each node.
    """

    name: str
    most_nodes: int
    fails: bool
    own_time: bool
    links: list[Link]

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def settings(self, node: int) -> dict[str, str]:
        """The settings by which a node uses it."""
        ...

    async def crash(self, seconds: float) -> None:
        """End its process as `kill -9` does, and start it again after a while."""
        ...

    async def pause(self, seconds: float) -> None:
        """Stop its process for a while."""
        ...

    async def mend(self) -> None:
        """See to it that it runs, wherever a fault was broken off."""
        ...

    def left(self) -> list[str]:
        """What is still in it that must not be, once every job is over and every node has gone."""
        ...


class SqliteFile:
    """A file of one node: no server, and nothing that fails by itself."""

    name = "sqlite"
    most_nodes = 1
    fails = False
    own_time = False

    def __init__(self, path: Path, options: str = "") -> None:
        self._path = path
        self._options = options
        self.links: list[Link] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def settings(self, node: int) -> dict[str, str]:
        return {"STORAGE_URI": f"sqlite:///{self._path}{self._options}"}

    async def crash(self, seconds: float) -> None:
        raise BenchError("a file has no server")

    async def pause(self, seconds: float) -> None:
        raise BenchError("a file has no server")

    async def mend(self) -> None:
        pass

    def left(self) -> list[str]:
        return left(self._path)


class RedisServer:
    """A Redis server with an append-only file, and a link to it for each node."""

    name = "redis"
    fails = True
    own_time = True

    def __init__(self, folder: Path, nodes: int) -> None:
        self.most_nodes = nodes
        self.links = [Link(f"node-{number}->redis", lambda: self._port) for number in range(nodes)]
        self._folder = folder
        self._nodes = AsyncExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.mend()
        for link in self.links:
            await self._nodes.enter_async_context(link)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._nodes.aclose()
        self._kill()

    def settings(self, node: int) -> dict[str, str]:
        return {"STORAGE_URI": f"redis://127.0.0.1:{self.links[node].port}"}

    async def crash(self, seconds: float) -> None:
        self._kill()
        await asyncio.sleep(seconds)
        await self.mend()

    async def pause(self, seconds: float) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)

    async def mend(self) -> None:
        async with asyncio.timeout(_ANSWERS_S):
            while not await self._answers():
                if self._process is None or self._process.poll() is not None:
                    self._start()
                await asyncio.sleep(0.05)

    def left(self) -> list[str]:
        # What it must not hold is told by the nodes' own counts: its keys are the store's own affair.
        return []

    def _start(self) -> None:
        try:
            program = binaries()[0]
        except RuntimeError as error:
            raise BenchError(str(error)) from error
        # With everysec it holds writes back while its disk is busy, and a `kill -9` loses what it has acknowledged.
        files = ("--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always", "--save", "")
        policy = ("--maxmemory-policy", "noeviction")
        with (self._folder / "redis.log").open("ab") as log:
            # At once: a cancel must not leave a server that nobody knows.
            self._process = subprocess.Popen(
                [program, "--port", str(self._port), "--bind", "127.0.0.1", *files, *policy],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            answer = await reader.readline()
        finally:
            writer.close()
        return answer.startswith(b"+PONG")

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def history_of(kind: str, nodes: int) -> list[Service]:
    """Where the history of a run goes, beside the store: `postgres`, or nowhere, when empty.

    Raises:
        BenchError: there is none of that kind.
    """
    if kind not in ("", "postgres"):
        raise BenchError(f"chaos moves history to postgres, not to {kind!r}")
    return [PostgresServer("HISTORY_DATABASE_URI", nodes)] if kind else []


def service_of(uri: str, folder: Path, nodes: int) -> Service:
    """The store of a run.

    Arguments:
        uri: `sqlite://`, `redis://` or `postgresql://`; a file or server of the run's own is made for it, so it names
            nothing else.
        nodes: how many are to share it.
    Raises:
        BenchError: there is none of that kind, or it is not for so many.
    """
    parts = urlsplit(uri)
    service: Service
    if parts.scheme == "sqlite":
        service = SqliteFile(folder / "chaos.db", f"?{parts.query}" if parts.query else "")
    elif parts.scheme == "redis":
        service = RedisServer(folder, nodes)
    elif parts.scheme == "postgresql":
        service = PostgresServer("STORAGE_URI", nodes)
    else:
        raise BenchError(f"chaos runs on sqlite://, redis:// and postgresql://, not on {uri!r}")
    if nodes > service.most_nodes:
        raise BenchError(f"{uri} is for {service.most_nodes} node, not for {nodes}")
    return service
