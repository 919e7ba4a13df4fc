"""The bench: nodes under load, with their workers, and the load's connections."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from holon.config import StorageURI
from tests.bench.fleet import WORKERS, Certificates, Fleet
from tests.bench.http_client import Connection
from tests.bench.load import CONNECTIONS, Load
from tests.bench.process import Usage
from tests.bench.scenarios import Jobs
from tests.bench.store_use import StoreUse, store_use


class Site:
    """Nodes on one store, their workers and a load, while it is entered.

    Arguments:
        module: what runs as a node.
        jobs: what the load makes; None for no load and no workers.
        storage: the nodes' STORAGE_URI.
        folder: where logs go.
        certificates: as in `Fleet`.
        cores: each node's core; None lets it run anywhere.
        depth: how many holons are below the one of these nodes, in one line; the workers are the lowest one's.
        settings: more settings of these nodes.
    """

    def __init__(
        self,
        module: str,
        jobs: Jobs | None,
        storage: str,
        folder: Path,
        certificates: Certificates | None,
        cores: Sequence[int | None],
        depth: int = 0,
        settings: Mapping[str, str] = {},
    ) -> None:
        self._jobs = jobs
        self._cores = cores
        self._depth = depth
        self._settings = settings
        self._server = StorageURI.parse(storage).server
        self._fleet = Fleet(module, storage, folder, certificates, lambda numbers: self.load.hear(numbers))
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
            await self._fleet.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._fleet.__aexit__(kind, error, trace)

    async def usage(self) -> tuple[Usage, Usage]:
        """Return what the nodes used so far together, and their workers."""
        nodes, workers = await asyncio.gather(
            asyncio.gather(*(node.usage() for node in self._fleet.nodes)),
            asyncio.gather(*(worker.usage() for worker in self._fleet.workers)),
        )
        time = nodes[-1].time
        of_workers = Usage(sum(one.cpu for one in workers), time, sum(one.count for one in workers))
        return Usage(sum(one.cpu for one in nodes), time), of_workers

    async def calls(self) -> int:
        """Return how many calls the nodes counted so far; they are of the module that counts."""
        return sum(one.count for one in await asyncio.gather(*(node.usage() for node in self._fleet.nodes)))

    async def store_use(self) -> StoreUse | None:
        """Return what the store's server did so far; None where there is none."""
        return await store_use(self._server) if self._server else None

    def resident_kib(self) -> int:
        """Return how much memory the first node has, in KiB; raises as `Child.resident_kib`."""
        return self._fleet.nodes[0].resident_kib()

    async def add_idle(self, first: int, count: int) -> None:
        """Connect workers that only send heartbeats; as `Fleet.add_idle`."""
        await self._fleet.add_idle(self._fleet.nodes[0], first, count)

    def errors(self) -> str:
        """Return what the nodes' logs tell of errors."""
        return self._fleet.errors()

    def tails(self) -> str:
        """Return the ends of all logs."""
        return self._fleet.tails()

    async def _start(self) -> None:
        settings = dict(self._settings) | (self._fleet.takes_children() if self._depth else {})
        nodes = [await self._fleet.add_node(core, settings) for core in self._cores]
        if self._jobs is None:
            return
        self.connections += [await self._fleet.connect(nodes[one % len(nodes)]) for one in range(CONNECTIONS)]
        self.load = Load(self.connections, self._jobs.path, self._jobs.tasks, self._jobs.result)
        for _ in range(self._depth):
            nodes = [await self._fleet.add_child(nodes[0])]
        # One after the other: starting is most of their work, on cores that they share.
        for index in range(WORKERS if self._jobs.tasks else 0):
            await self._fleet.add_worker(nodes[index % len(nodes)], self._jobs.held)
