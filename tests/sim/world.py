"""The simulator: two nodes on one store, their workers and clients, everything that goes wrong, and what must hold."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar
from unittest import mock

from holon.domain.client import DEFAULT, Client
from holon.domain.job import Status
from holon.engine.core import Engine
from holon.engine.requests import Creating
from holon.errors import HolonError, Unavailable
from holon.ports import JobRecord
from holon.stores.memory import MemoryRows
from tests.sim.loop import VirtualLoop
from tests.sim.node import Lost, Node, SimClock
from tests.sim.store import Chances, Server
from tests.sim.worker import Worker

T = TypeVar("T")

ME = Client(DEFAULT)
NODES = ("a", "b")
CLIENTS, JOBS = 3, 6
SHARDS = 4
# So long everything fails, and so long all jobs may then take to end (seconds).
STORM_S, CALM_S = 40.0, 90.0
# So long a run may take, whatever happens (seconds).
LONGEST_S = 400.0

Lines = tuple[tuple[int, str, int], ...]


@dataclass
class Seen:
    """What clients were told.

    Attributes:
        asked: by request id, the number that a job was created with.
        made: by request id, the job that a node said it had made.
        lines: by job, the longest history that was read.
        cancelled: jobs that a client cancelled, answered or not.
    """

    asked: dict[str, int] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    lines: dict[str, Lines] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


class World:
    """One run of the simulation.

    Arguments:
        seed: decides everything that happens.
        failovers: whether the store loses its last moments at times; then no node dies or stands still, for only who
            lives can write again what was lost.
    """

    def __init__(self, seed: int, *, failovers: bool = False) -> None:
        self.dice = random.Random(seed)
        self.failovers = failovers
        self.seen = Seen()
        self.counts: dict[str, int] = {}
        self.loop = VirtualLoop()
        self._seed = seed

    def run(self) -> list[str]:
        """Run it; answers with all that must not be."""
        with _virtual(self.loop, self._seed):
            try:
                return self.loop.run_until_complete(asyncio.wait_for(self._run(), LONGEST_S))
            except TimeoutError:
                return [f"I6: it has not ended after {LONGEST_S:.0f} s"]
            finally:
                self._end()

    def _end(self) -> None:
        """Throw everything away. What runs then, as the `finally` of what was killed, is of no account."""
        self.loop.end()
        logging.disable()
        try:
            with mock.patch.object(sys, "unraisablehook"):
                self.nodes.clear()
                self.workers.clear()
                del self.server
                gc.collect()
        finally:
            logging.disable(logging.NOTSET)

    async def _run(self) -> list[str]:
        outside = copy_context()
        self.server = Server(MemoryRows(SHARDS, SimClock(self.loop, 0)), self.dice)
        self.nodes = [Node(name, self.server, self.dice, outside) for name in NODES]
        self.workers = [Worker(f"w{number}", self.nodes, self.dice, outside) for number in range(3)]
        self.failed: list[BaseException] = []
        forever = [self._start(one) for one in (*(n.supervise() for n in self.nodes), *(w.run() for w in self.workers))]
        assert forever
        clients = [self._start(self._client(number)) for number in range(CLIENTS)]
        storm, reading = self._start(self._storm()), self._start(self._read_on())
        await asyncio.wait([storm, *clients])
        reading.cancel()
        try:
            async with asyncio.timeout(CALM_S):
                while not await self._all_ended():  # noqa: ASYNC110  as a client would
                    await asyncio.sleep(1.0)
        except TimeoutError:
            self.seen.wrong.append(f"I6: after {CALM_S:.0f} s of calm, not all jobs have ended")
        await self._check()
        of_workers = [what for one in self.workers for what in one.wrong]
        return [*self.seen.wrong, *self.server.wrong, *of_workers, *map(repr, self.failed)]

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        task.add_done_callback(self._failed)
        return task

    def _failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed.append(error)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # What goes wrong ---------------------------------------------------------------------------------------------

    async def _storm(self) -> None:
        dice, server = self.dice, self.server
        await asyncio.sleep(1.0)
        server.chances = Chances(lost=dice.choice((0.0, 0.02, 0.1)), late=dice.choice((0.0, 0.05)), twice=0.05)
        ends = self.loop.time() + STORM_S
        while self.loop.time() < ends:
            await asyncio.sleep(dice.expovariate(0.4))
            node = dice.choice(self.nodes)
            if self.failovers:
                server.replicate()
                await asyncio.sleep(dice.uniform(0.0, 1.0))
                server.fail_over()
                self._count("failover")
                continue
            kind = dice.choice(("kill", "freeze", "freeze", "cut", "down"))
            self._count(kind)
            if kind == "kill":
                node.kill()
            elif kind == "freeze":
                await node.freeze(dice.choice((0.5, 3.0, 14.0)))
            elif kind == "cut" and node.engine is not None:
                node.rows.cut_until = self.loop.time() + dice.choice((0.3, 2.0, 15.0))
            elif kind == "down":
                server.down_until = self.loop.time() + dice.choice((0.3, 2.0, 15.0))
        server.chances = Chances()

    # What clients do ---------------------------------------------------------------------------------------------

    async def _client(self, number: int) -> None:
        dice = self.dice
        for index in range(JOBS):
            await asyncio.sleep(dice.expovariate(0.2))
            request = f"{number}.{index}"
            self.seen.asked[request] = n = dice.randrange(1_000)
            creating = Creating("relay", {"n": n}, request_id=request)
            job_id = await self._create(creating)
            if self.seen.made.setdefault(request, job_id) != job_id:
                self.seen.wrong.append(f"I2: request {request} made two jobs")
            # A repeat, as after a lost answer.
            if dice.random() < 0.3 and await self._create(creating) != job_id:
                self.seen.wrong.append(f"I2: the repeat of {request} made another job")
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(dice.uniform(0.1, 4.0))
                await self._look(job_id)
            if dice.random() < 0.15:
                await self._cancel(job_id)

    async def _create(self, creating: Creating) -> str:
        return (await self._answered(lambda engine: engine.jobs.create(ME, creating))).job_id

    async def _job(self, job_id: str) -> JobRecord:
        return await self._answered(lambda engine: engine.jobs.get(ME, job_id))

    async def _cancel(self, job_id: str) -> None:
        self.seen.cancelled.add(job_id)
        with suppress(HolonError, Lost):
            await self.dice.choice(self.nodes).ask(lambda engine: engine.jobs.cancel(ME, job_id))

    async def _read_on(self) -> None:
        """Look at one job after the other, at many at a time."""
        async with asyncio.TaskGroup() as looks:
            while True:
                await asyncio.sleep(self.dice.expovariate(4.0))
                if self.seen.made:
                    looks.create_task(self._look(self.dice.choice([*self.seen.made.values()])))

    async def _answered(self, call: Callable[[Engine], Awaitable[T]]) -> T:
        """The answer of a node that has one, at last."""
        while True:
            with suppress(Unavailable, Lost):
                return await self.dice.choice(self.nodes).ask(call)
            await asyncio.sleep(self.dice.uniform(0.1, 0.6))

    async def _look(self, job_id: str) -> None:
        """Read a job's history; it must go on from what was read before."""
        before = self.seen.lines.get(job_id, ())
        try:
            # Longer than a node stands still: what it answers then must not be of before.
            lines = await self.dice.choice(self.nodes).ask(lambda e: _lines(e, job_id), 20.0)
        except Lost:
            return
        except HolonError as error:
            if error.code == "NOT_FOUND":
                self.seen.wrong.append(f"I1: job {job_id} was accepted, and is not there")
            return
        if self.failovers and len(lines) < len(before) and before[: len(lines)] == lines:
            # Until the owner has written again what a failover lost, the store shows what was before.
            return
        if lines[: len(before)] != before:
            self.seen.wrong.append(f"what was read of job {job_id} is not what is read now: {before} and {lines}")
        elif len(lines) > len(self.seen.lines.get(job_id, ())):
            self.seen.lines[job_id] = lines

    # What must hold ----------------------------------------------------------------------------------------------

    async def _all_ended(self) -> bool:
        for job_id in self.seen.made.values():
            try:
                record = await self._job(job_id)
            except HolonError:
                return False
            if not record.job.status.terminal:
                return False
        return True

    async def _check(self) -> None:
        wrong = self.seen.wrong
        for request, job_id in self.seen.made.items():
            await self._look(job_id)
            try:
                record = await self._job(job_id)
            except HolonError as error:
                wrong.append(f"I1: job {job_id} was accepted, and cannot be read: {error}")
                continue
            status = record.job.status
            if status is Status.FINISHED:
                if record.job.result != {"n": self.seen.asked[request] + 1}:
                    wrong.append(f"I3: job {job_id} ended with {record.job.result}")
            elif status is not Status.CANCELLED or job_id not in self.seen.cancelled:
                wrong.append(f"I1: job {job_id} ended as {status}: {record.job.error}")
            lines = self.seen.lines.get(job_id, ())
            times = [at for _, _, at in lines]
            if times != sorted(times):
                wrong.append(f"I9: time goes back in the history of job {job_id}: {lines}")
            kinds = [kind for _, kind, _ in lines]
            if kinds.count("task_finished") > 2:
                wrong.append(f"I3: job {job_id} has {kinds.count('task_finished')} results: {lines}")


async def _lines(engine: Engine, job_id: str) -> Lines:
    page, _ = await engine.jobs.history(ME, job_id, 1_000)
    return tuple((number, event.type, event.time) for number, event in page)


@contextmanager
def _virtual(loop: VirtualLoop, seed: int) -> Iterator[None]:
    """The time and the dice of the process are those of the simulation."""
    state = random.getstate()
    random.seed(seed)
    with mock.patch.object(time, "monotonic", loop.time):
        yield
    random.setstate(state)
