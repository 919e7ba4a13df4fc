"""The bench: nodes on one store and their workers, each in a process of its own, certificates included."""

from __future__ import annotations

import array
import asyncio
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from holon.security.certificates import KeyPair, issue_server, issue_worker, open_authority
from tests.bench.http_client import Connection
from tests.bench.load import Reports
from tests.bench.process import BenchError, Child
from tests.bench.scenarios import HELD

WORKERS = 2
_CHILD = "bench-child"


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the doors and the workers prove themselves with, and each holon to its parent."""

    authority: Path
    server: KeyPair
    workers: tuple[KeyPair, ...]
    child: KeyPair

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """Make them all."""
        authority = open_authority(folder)
        workers = tuple(issue_worker(authority, folder, f"bench-{index}") for index in range(WORKERS))
        child = issue_worker(authority, folder, _CHILD)
        return cls(authority.files.certificate, issue_server(authority, folder), workers, child)


class Fleet:
    """Processes that are started one by one, and end when it is left.

    Arguments:
        module: what runs as a node.
        storage: the nodes' STORAGE_URI.
        folder: where logs go.
        certificates: None: nodes and workers speak plaintext, and workers show a token.
        hear: is told the numbers that workers echo, and nodes where a job has no task.

    Attributes:
        nodes, workers: those that were started, in that order.
    """

    def __init__(
        self,
        module: str,
        storage: str,
        folder: Path,
        certificates: Certificates | None,
        hear: Callable[[array.array[int]], None],
    ) -> None:
        self.nodes: list[Child] = []
        self.workers: list[Child] = []
        self._module = module
        self._storage = storage
        self._folder = folder
        self._certificates = certificates
        self._hear = hear
        self._token = secrets.token_hex(16)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Nothing runs yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def add_node(self, core: int | None = None, settings: Mapping[str, str] = {}) -> Child:
        """Start a node.

        Arguments:
            core: the core that it keeps to; None lets it run anywhere.
            settings: more of them.
        Raises:
            BenchError: it did not become ready.
        """
        certificates, number = self._certificates, len(self.nodes)
        environment = _environment(
            API_PORT="0",
            GRPC_PORT="0",
            CLIENT_GRPC_PORT="0",
            CLIENT_TOKEN=self._token,
            STORAGE_URI=self._storage,
            INSTANCE_ID=f"bench-{number}",
            **(
                {"GLOBAL_WORKER_TOKEN": self._token}
                if certificates is None
                else _tls(certificates.authority, certificates.server)
            ),
        )
        arguments = () if core is None else (str(core),)
        return await self._reporting(
            self._module,
            arguments,
            environment | dict(settings),
            self._log(str(number)),
            self.nodes,
        )

    async def add_child(self, parent: Child) -> Child:
        """Start a holon that serves the one of `parent`, with a SQLite store of its own; raises as `add_node`."""
        assert self._certificates is not None
        own, number = self._certificates.child, len(self.nodes)
        return await self.add_node(
            settings={
                "STORAGE_URI": f"sqlite:///{self._folder}/below-{number}.db",
                "PARENT_URL": f"grpcs://127.0.0.1:{parent.facts['worker']}",
                "PARENT_TLS_CERT_PATH": str(own.certificate),
                "PARENT_TLS_KEY_PATH": str(own.key),
                "PARENT_TLS_CA_PATH": str(self._certificates.authority),
                **self.takes_children(),
            }
        )

    def takes_children(self) -> dict[str, str]:
        """The settings of a node that takes holons as workers."""
        path = self._folder / "workers.toml"
        path.write_text(f'[{_CHILD}]\nkind = "holon"\ncn = "{_CHILD}"\n')
        return {"WORKERS_CONFIG_PATH": str(path)}

    async def add_worker(self, node: Child, held: int = HELD, settings: Mapping[str, str] = {}) -> Child:
        """Start a worker of a node, which holds so many tasks at most; raises as `add_node`."""
        index = len(self.workers)
        certificates, address = self._certificates, f"127.0.0.1:{node.facts['worker']}"
        environment = (
            _environment(NODE_URL=f"grpc://{address}", WORKER_TOKEN=self._token, WORKER_ID=f"bench-{index}")
            if certificates is None
            else _environment(
                NODE_URL=f"grpcs://{address}", **_tls(certificates.authority, certificates.workers[index])
            )
        )
        log = self._log(f"worker-{index}")
        return await self._reporting(
            "tests.bench.worker", (str(held),), environment | dict(settings), log, self.workers
        )

    async def add_idle(self, node: Child, first: int, count: int) -> None:
        """Connect `count` workers that only send heartbeats, named by numbers from `first` on, in one process.

        Raises:
            BenchError: one could not connect.
        """
        if self._certificates is None:
            raise BenchError("idle workers are told from one another by their certificates")
        folder = self._certificates.authority.parent
        environment = _environment(NODE_URL=f"grpcs://127.0.0.1:{node.facts['worker']}")
        log = self._log(f"idle-{first}")
        child = Child("tests.bench.idle_workers", (str(folder), str(first), str(count)), environment, log)
        self.workers.append(child)
        await self._stack.enter_async_context(child)

    async def connect(self, node: Child) -> Connection:
        """Open a connection to a node's HTTP door, which ends with the fleet."""
        connection = await Connection.open(node.facts["http"], self._token)
        self._stack.callback(connection.close)
        return connection

    def errors(self) -> str:
        """Return what the nodes' logs tell of errors."""
        return "\n".join(filter(None, (node.errors() for node in self.nodes)))

    def tails(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(filter(None, (child.tail() for child in (*self.nodes, *self.workers))))

    def _log(self, of: str) -> Path:
        return self._folder / f"{self._module}{'-plaintext' if self._certificates is None else ''}-{of}.log"

    async def _reporting(
        self, module: str, arguments: tuple[str, ...], environment: dict[str, str], log: Path, among: list[Child]
    ) -> Child:
        """Start a process that is told, before its other arguments, the pipe for the numbers that it echoes."""
        reading, writing = os.pipe()
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: Reports(self._hear), os.fdopen(reading, "rb", 0)
            )
            self._stack.callback(transport.close)
            child = Child(module, (str(writing), *arguments), environment, log, (writing,))
            among.append(child)
            return await self._stack.enter_async_context(child)
        finally:
            os.close(writing)


def _tls(authority: Path, own: KeyPair) -> dict[str, str]:
    return {"TLS_CA_PATH": str(authority), "TLS_CERT_PATH": str(own.certificate), "TLS_KEY_PATH": str(own.key)}


def _environment(**settings: str) -> dict[str, str]:
    """A process's variables: what it needs to run at all, and its settings; the caller's own settings stay out."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ} | settings
