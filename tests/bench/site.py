"""The bench: one node under load, with its workers, each in a process of its own, and the load's connections."""

from __future__ import annotations

import array
import asyncio
import os
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from holon.security.certificates import KeyPair, issue_server, issue_worker, open_authority
from tests.bench.http_client import Connection
from tests.bench.load import CONNECTIONS, Load, Reports
from tests.bench.process import Child, Usage
from tests.bench.scenarios import Jobs

WORKERS = 2


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the doors and the workers prove themselves with."""

    authority: Path
    server: KeyPair
    workers: tuple[KeyPair, ...]

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """Make them all."""
        authority = open_authority(folder)
        workers = tuple(issue_worker(authority, folder, f"bench-{index}") for index in range(WORKERS))
        return cls(authority.files.certificate, issue_server(authority, folder), workers)


class Site:
    """A node, its workers and a load, while it is entered.

    Arguments:
        module: what runs as the node.
        jobs: what the load makes; None for no load and no workers.
        storage: the node's STORAGE_URI.
        folder: where logs go.
        core: the node's core; None lets it run anywhere.
    """

    def __init__(
        self, module: str, jobs: Jobs | None, storage: str, folder: Path, certificates: Certificates, core: int | None
    ) -> None:
        self._module = module
        self._jobs = jobs
        self._storage = storage
        self._folder = folder
        self._certificates = certificates
        self._core = core
        self._children: list[Child] = []
        self._stack = AsyncExitStack()
        self.connections: list[Connection] = []
        self.load: Load

    async def __aenter__(self) -> Self:
        """Start all of it.

        Raises:
            BenchError: a process did not become ready.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def usage(self) -> tuple[Usage, Usage]:
        """Return what the node used so far, and its workers together."""
        node, *workers = await asyncio.gather(*(child.usage() for child in self._children))
        return node, Usage(sum(one.cpu for one in workers), node.time, sum(one.count for one in workers))

    def resident_kib(self) -> int:
        """Return how much memory the node has, in KiB; raises as `Child.resident_kib`."""
        return self._children[0].resident_kib()

    async def add_idle(self, first: int, count: int) -> None:
        """Connect `count` workers that only send heartbeats, named by numbers from `first` on, in one process.

        Raises:
            BenchError: one could not connect.
        """
        folder = self._certificates.authority.parent
        environment = _environment(NODE_URL=f"grpcs://127.0.0.1:{self._children[0].facts['worker']}")
        arguments = (str(folder), str(first), str(count))
        log = self._folder / f"{self._module}-idle-{first}.log"
        child = Child("tests.bench.idle_workers", arguments, environment, log)
        self._children.append(child)
        await self._stack.enter_async_context(child)

    def errors(self) -> str:
        """Return what the node's log tells of errors."""
        return self._children[0].errors()

    def tails(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(filter(None, (child.tail() for child in self._children)))

    async def _start(self) -> None:
        token = secrets.token_hex(16)
        node = await self._node(token)
        if self._jobs is None:
            return
        for _ in range(CONNECTIONS):
            connection = await Connection.open(node.facts["http"], token)
            self._stack.callback(connection.close)
            self.connections.append(connection)
        self.load = Load(self.connections, self._jobs.path, self._jobs.tasks, self._jobs.result)
        # One after the other: starting is most of their work, on cores that they share.
        for index in range(WORKERS if self._jobs.tasks else 0):
            await self._worker(index, node.facts["worker"])

    async def _node(self, token: str) -> Child:
        certificates = self._certificates
        environment = _environment(
            API_PORT="0",
            GRPC_PORT="0",
            CLIENT_GRPC_PORT="0",
            CLIENT_TOKEN=token,
            STORAGE_URI=self._storage,
            TLS_CA_PATH=str(certificates.authority),
            TLS_CERT_PATH=str(certificates.server.certificate),
            TLS_KEY_PATH=str(certificates.server.key),
        )
        arguments = () if self._core is None else (str(self._core),)
        return await self._reporting(self._module, arguments, environment, self._folder / f"{self._module}.log")

    async def _worker(self, index: int, port: int) -> None:
        pair = self._certificates.workers[index]
        environment = _environment(
            NODE_URL=f"grpcs://127.0.0.1:{port}",
            TLS_CA_PATH=str(self._certificates.authority),
            TLS_CERT_PATH=str(pair.certificate),
            TLS_KEY_PATH=str(pair.key),
        )
        log = self._folder / f"{self._module}-worker-{index}.log"
        await self._reporting("tests.bench.worker", (), environment, log)

    async def _reporting(
        self, module: str, arguments: tuple[str, ...], environment: dict[str, str], log: Path
    ) -> Child:
        """Start a process that is told, before its other arguments, the pipe for the numbers that it echoes."""
        reading, writing = os.pipe()
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: Reports(self._hear), os.fdopen(reading, "rb", 0)
            )
            self._stack.callback(transport.close)
            child = Child(module, (str(writing), *arguments), environment, log, (writing,))
            self._children.append(child)
            return await self._stack.enter_async_context(child)
        finally:
            os.close(writing)

    def _hear(self, numbers: array.array[int]) -> None:
        self.load.hear(numbers)


def _environment(**settings: str) -> dict[str, str]:
    """A process's variables: what it needs to run at all, and its settings; the caller's own settings stay out."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ} | settings
