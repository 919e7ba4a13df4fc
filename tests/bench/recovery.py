"""The bench: a node, and then a worker, is killed with work in its hands; how soon that goes on at another."""

from __future__ import annotations

import array
import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from holon.config import Config
from holon.core.owner import TAKE_OVER_S
from tests.bench.blueprints import HOLDS, echo, work
from tests.bench.fleet import Certificates, Fleet
from tests.bench.http_client import Connection
from tests.bench.process import BenchError

HELD = 20
# So long what is killed has held it: a lease begins when the store hears of it, which is up to a second later.
_HOLD_SECONDS = 2.0
_PATIENCE_SECONDS = 60.0
_NODE = "tests.bench.node"


@dataclass(frozen=True, slots=True)
class Recovery:
    """How soon work went on, in seconds from the SIGKILL until all of it had begun again elsewhere.

    Attributes:
        node: of the jobs whose handlers a killed node ran.
        take_over: after which silence of a node others take its jobs.
        worker: of the tasks that a killed worker held.
        lease: how long a lease of a worker is.
    """

    node: float
    take_over: float
    worker: float
    lease: float


async def recovery(storage: str, folder: Path, certificates: Certificates, settings: Mapping[str, str]) -> Recovery:
    """Measure it once, with two nodes and two workers.

    Arguments:
        storage: a store for several nodes.
        settings: the nodes', where they are not the defaults.
    Raises:
        BenchError: it did not go on, or a process that lived on logged an error.
    """
    config = Config(settings)
    lease = config.TASK_LEASE_SECONDS
    seen = _Seen()
    async with Fleet(_NODE, storage, folder, certificates, seen.hear) as fleet:
        try:
            victim = await fleet.add_node(settings={**settings, HOLDS: "1"})
            other = await fleet.add_node(settings=settings)
            async with seen.again(await fleet.connect(victim), str(work.path), TAKE_OVER_S) as node:
                await victim.kill()
            door = await fleet.connect(other)
            holding = await fleet.add_worker(other, settings={HOLDS: "1"})
            async with seen.again(door, str(echo.path), lease) as worker:
                await fleet.add_worker(other)
                await holding.kill()
            for job in seen.jobs:
                await _finished(door, job)
        except (BenchError, OSError, TimeoutError) as error:
            raise BenchError(f"{str(error) or 'it did not go on'}\n{fleet.tails()}".strip()) from error
        if logged := other.errors():
            raise BenchError(f"all was done, but the node logged these:\n{logged}")
    return Recovery(node.seconds, TAKE_OVER_S, worker.seconds, lease)


class _Took:
    """How many seconds something took, once it is over."""

    seconds: float


class _Seen:
    """How often the work of each number was begun.

    Attributes:
        jobs: all that were made.
    """

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self._begun: Counter[int] = Counter()
        self._more = asyncio.Event()

    def hear(self, numbers: array.array[int]) -> None:
        """These were begun."""
        self._begun.update(numbers)
        self._more.set()

    @asynccontextmanager
    async def again(self, connection: Connection, path: str, bound: float) -> AsyncIterator[_Took]:
        """Make jobs and wait until they are held; who enters kills their holder, and then they must begin again.

        Arguments:
            bound: within how many seconds that is promised, or a little more.
        """
        numbers = range(len(self.jobs) + 1, len(self.jobs) + 1 + HELD)
        for number in numbers:
            status, answer = await connection.post(path, b'{"initial_data":{"n":%d}}' % number)
            if status != 202:
                raise BenchError(f"POST {path} was answered {status}: {answer}")
            self.jobs.append(answer["job_id"])
        await self._until(numbers, 1, _PATIENCE_SECONDS)
        await asyncio.sleep(_HOLD_SECONDS)
        took = _Took()
        yield took
        killed = time.monotonic()
        await self._until(numbers, 2, bound + _PATIENCE_SECONDS)
        took.seconds = time.monotonic() - killed

    async def _until(self, numbers: range, times: int, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while any(self._begun[number] < times for number in numbers):
                self._more.clear()
                await self._more.wait()


async def _finished(connection: Connection, job: str) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            _, shown = await connection.get(f"/api/v1/jobs/{job}")
            if shown["finished_at"] is not None:
                break
            await asyncio.sleep(0.05)
    if shown["status"] != "finished":
        raise BenchError(f"job {job} ended as {shown}")
