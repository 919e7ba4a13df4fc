"""The bench: the scenarios. One more is one more entry in the table, and its blueprint."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.bench.blueprints import BRANCHES, echo, fan_out, straight
from tests.bench.process import BenchError
from tests.bench.store_use import StoreUse

if TYPE_CHECKING:
    from tests.bench.site import Site

IDLE_WORKERS = "idle-workers"
RECOVERY = "recovery"
DELEGATE = "delegate"
_WARM_UP_SECONDS = 0.5
_RATE = 20.0
# As many as are at work at any time, in both workers together; of a fan-out there are five times as many.
HELD = 100
_HELD_OF_MANY = 200

Drive: TypeAlias = "Callable[[Site, float], Awaitable[Figures]]"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one stretch of load gave.

    Attributes:
        seconds: how long it was.
        jobs: how many finished in it.
        latencies: seconds from a job's POST to its end.
        node_cpu, workers_cpu, load_cpu: the CPU seconds that each side used in it.
        store: what the store's server did in it; None where it has none.
    """

    seconds: float
    jobs: int
    latencies: tuple[float, ...]
    node_cpu: float
    workers_cpu: float
    load_cpu: float
    store: StoreUse | None = None

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.seconds + other.seconds,
            self.jobs + other.jobs,
            self.latencies + other.latencies,
            self.node_cpu + other.node_cpu,
            self.workers_cpu + other.workers_cpu,
            self.load_cpu + other.load_cpu,
            None if self.store is None or other.store is None else self.store + other.store,
        )


@dataclass(frozen=True, slots=True)
class Jobs:
    """One kind of load.

    Attributes:
        path: where its jobs are created.
        tasks: how many tasks a job has; without any it needs no workers.
        result: what a job must end with, by its number.
        drive: loads a site for so many seconds.
        held: how many tasks each worker holds at most.
    """

    path: str
    tasks: int
    result: Callable[[int], dict[str, Any]]
    drive: Drive
    held: int = HELD


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is measured.

    Attributes:
        about: one line for people.
        seconds: for how long, unless told.
        jobs: the load; None where nothing but workers is there.
    """

    about: str
    seconds: float
    jobs: Jobs | None


def _closed(outstanding: int) -> Drive:
    """As fast as it goes, with so many jobs at any time that workers have not wholly echoed.

    Only what happens between two looks at the clocks counts, in the middle of the load: neither its rise nor its fall.
    """

    async def drive(site: Site, seconds: float) -> Figures:
        async with site.load.closed(outstanding):
            await asyncio.sleep(min(_WARM_UP_SECONDS, seconds / 2))
            before, workers_before = await site.usage()
            load_before, store_before = _own_cpu(), await site.store_use()
            try:
                await asyncio.wait_for(site.load.full.wait(), seconds)
            except TimeoutError:
                pass
            after, workers_after = await site.usage()
            load_after, store_after = _own_cpu(), await site.store_use()
        jobs = await site.load.verified()
        latencies = tuple(job.finished - job.sent for job in jobs if before.time <= job.sent < after.time)
        ended = sum(before.time <= job.finished < after.time for job in jobs)
        if not (ended and latencies):
            raise BenchError(f"no job finished within {seconds:g} s; give more --seconds")
        return Figures(
            after.time - before.time,
            ended,
            latencies,
            after.cpu - before.cpu,
            workers_after.cpu - workers_before.cpu,
            load_after - load_before,
            _between(store_before, store_after),
        )

    return drive


async def _paced(site: Site, seconds: float) -> Figures:
    """A steady few jobs a second, each begun at its time whatever became of the others."""
    free = asyncio.Queue[Any]()
    for connection in site.connections:
        free.put_nowait(connection)

    async def one() -> float:
        connection = await free.get()
        try:
            return await site.load.observe(connection)
        finally:
            free.put_nowait(connection)

    loop = asyncio.get_running_loop()
    # The first jobs find nothing warm.
    await asyncio.gather(*(one() for _ in range(10)))
    before, workers_before = await site.usage()
    load_before, store_before = _own_cpu(), await site.store_use()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        running = []
        for index in range(1, max(1, round(seconds * _RATE)) + 1):
            running.append(group.create_task(one()))
            await asyncio.sleep(began + index / _RATE - loop.time())
    after, workers_after = await site.usage()
    load_after, store_after = _own_cpu(), await site.store_use()
    await site.load.verified()
    latencies = tuple(task.result() for task in running)
    return Figures(
        after.time - before.time,
        len(latencies),
        latencies,
        after.cpu - before.cpu,
        workers_after.cpu - workers_before.cpu,
        load_after - load_before,
        _between(store_before, store_after),
    )


def _steady_and_full(outstanding: int) -> Drive:
    """Latencies at a steady few jobs a second; rate and CPU as fast as it goes."""
    full = _closed(outstanding)

    async def drive(site: Site, seconds: float) -> Figures:
        steady = await _paced(site, seconds / 2)
        return replace(await full(site, seconds / 2), latencies=steady.latencies)

    return drive


def _between(before: StoreUse | None, after: StoreUse | None) -> StoreUse | None:
    return None if before is None or after is None else after - before


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _echoed(number: int) -> dict[str, Any]:
    return {"echo": number}


SCENARIOS = {
    "one-task": Scenario(
        "one task a job, as fast as it goes, 200 jobs that no worker has answered yet",
        5.0,
        Jobs(str(echo.path), 1, _echoed, _closed(200)),
    ),
    "no-worker": Scenario(
        "two states and no task a job, as fast as it goes, 200 jobs that the node has not run yet",
        5.0,
        Jobs(str(straight(lambda _: None).path), 0, _echoed, _closed(200)),
    ),
    "fan-out": Scenario(
        f"{BRANCHES} tasks a job, as fast as it goes, 10 jobs not wholly answered yet",
        5.0,
        Jobs(
            str(fan_out.path),
            BRANCHES,
            lambda number: {"echo": number, "branches": BRANCHES},
            _closed(10),
            _HELD_OF_MANY,
        ),
    ),
    "latency": Scenario(f"one task a job, {_RATE:g} jobs a second", 5.0, Jobs(str(echo.path), 1, _echoed, _paced)),
    DELEGATE: Scenario(
        f"one task a job, done by a holon below: {_RATE:g} jobs a second, then as fast as it goes",
        10.0,
        Jobs(str(echo.path), 1, _echoed, _steady_and_full(200)),
    ),
    RECOVERY: Scenario(
        "a node, and then a worker, gets a SIGKILL: how soon what it had goes on at another of two nodes",
        0.0,
        None,
    ),
    IDLE_WORKERS: Scenario("no job at all, and many workers that only send heartbeats", 10.0, None),
}
