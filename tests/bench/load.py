"""The bench: the client's side. It makes jobs, bounds how many wait, and checks what became of each."""

from __future__ import annotations

import array
import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.bench.http_client import Connection
from tests.bench.process import BenchError

CONNECTIONS = 64
MAX_JOBS = 300_000
_PAGE = 1000
_PATIENCE_SECONDS = 60.0
_ENDED = frozenset({"finished", "failed", "cancelled", "quarantined"})


@dataclass(slots=True)
class Job:
    """One job that was made.

    Attributes:
        number: what it was made with, and what its workers must echo.
        left: how many of its tasks were not echoed yet.
        sent: when its POST was sent, in epoch seconds.
        finished: when the node says that it finished, in epoch seconds; 0 as long as that was not asked.
    """

    number: int
    left: int
    sent: float
    id: str = ""
    finished: float = 0.0


class Reports(asyncio.Protocol):
    """The end of a pipe: hands on the numbers that a worker echoed, or the node where a job has no task."""

    def __init__(self, hear: Callable[[array.array[int]], None]) -> None:
        self._hear = hear
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) - len(data) % 4
        self._rest = data[whole:]
        self._hear(array.array("I", data[:whole]))


class Load:
    """Jobs of one kind at one node.

    Arguments:
        connections: to the node; each carries one request at a time.
        path: where jobs are created.
        tasks: how many tasks each job has.
        result: what a job must end with, by its number.
        most: after so many jobs the load ends by itself.

    Attributes:
        full: set once so many jobs were made that the load ends by itself.
    """

    def __init__(
        self,
        connections: list[Connection],
        path: str,
        tasks: int,
        result: Callable[[int], dict[str, Any]],
        most: int = MAX_JOBS,
    ) -> None:
        self.full = asyncio.Event()
        self._connections = connections
        self._path = path
        self._tasks = tasks
        self._result = result
        self._most = most
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._under_way: dict[int, Job] = {}
        self._slots = asyncio.Semaphore(0)
        self._quiet = asyncio.Event()

    def hear(self, numbers: array.array[int]) -> None:
        """These numbers were echoed."""
        for number in numbers:
            job = self._under_way.get(number)
            if job is None:
                continue
            job.left -= 1
            if job.left <= 0:
                del self._under_way[number]
                self._slots.release()
        if not self._under_way:
            self._quiet.set()

    @asynccontextmanager
    async def closed(self, outstanding: int) -> AsyncIterator[None]:
        """Keep so many jobs not wholly echoed while this is entered, over at most `CONNECTIONS` requests at a time."""
        self._slots = asyncio.Semaphore(outstanding)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for connection in self._connections:
                group.create_task(self._lane(connection, stop))
            try:
                yield
            finally:
                stop.set()
                for _ in self._connections:
                    self._slots.release()

    async def observe(self, connection: Connection) -> float:
        """Make one job with a POST that waits for its end; return the seconds until that was answered."""
        began = time.perf_counter()
        await self._create(connection, "?wait=30&fields=id", 200, "id")
        return time.perf_counter() - began

    async def verified(self) -> list[Job]:
        """Wait until every job made since the last call has ended, and return them.

        Raises:
            BenchError: one did not end, did not finish, or not with its own echo.
        """
        jobs, self._jobs = self._jobs, {}
        left = {job.id: job for job in jobs.values()}
        deadline = time.monotonic() + _PATIENCE_SECONDS
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while self._under_way:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            raise BenchError(f"{len(self._under_way)} jobs were never echoed, or not by all of their tasks") from None
        while await self._settle(left):
            if time.monotonic() > deadline:
                some = ", ".join(itertools.islice(left, 3))
                raise BenchError(f"{len(left)} jobs did not end within {_PATIENCE_SECONDS:g} s, such as {some}")
            await asyncio.sleep(0.05)
        return list(jobs.values())

    async def _lane(self, connection: Connection, stop: asyncio.Event) -> None:
        while True:
            await self._slots.acquire()
            if stop.is_set():
                return
            if (await self._create(connection)).number >= self._most:
                self.full.set()
                return

    async def _create(self, connection: Connection, query: str = "", good: int = 202, name: str = "job_id") -> Job:
        number = next(self._numbers)
        # Known before it is sent: a worker may be quicker than the answer.
        job = self._jobs[number] = self._under_way[number] = Job(number, self._tasks, time.time())
        status, answer = await connection.post(self._path + query, b'{"initial_data":{"n":%d}}' % number)
        if status != good:
            raise BenchError(f"POST {self._path}{query} was answered {status}: {answer}")
        job.id = answer[name]
        return job

    async def _settle(self, left: dict[str, Job]) -> bool:
        """Check what has ended of `left`, and take it out; return whether any is left."""
        unseen = set(left)
        page = ""
        while unseen:
            query = f"page_size={_PAGE}&fields=id,status,result,error,finished_at{page}"
            status, listing = await self._connections[0].get(f"/api/v1/jobs?{query}")
            if status != 200:
                raise BenchError(f"the list of jobs was answered {status}: {listing}")
            for shown in listing["jobs"]:
                if shown["id"] in unseen:
                    unseen.remove(shown["id"])
                    self._check(left, shown)
            if not listing["next_page_token"]:
                break
            page = f"&page_token={listing['next_page_token']}"
        return bool(left)

    def _check(self, left: dict[str, Job], shown: dict[str, Any]) -> None:
        if shown["status"] not in _ENDED:
            return
        job = left.pop(shown["id"])
        if shown["status"] != "finished" or shown["result"] != self._result(job.number):
            raise BenchError(f"job {job.id} was made with {job.number} and ended as {shown}")
        job.finished = shown["finished_at"]
