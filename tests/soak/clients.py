"""The soak: clients who create jobs, wait for them, cancel them, and go away in the middle of it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

from holon.client import Client, Job
from holon.errors import FailedPrecondition, HolonError, NotFound
from tests.soak.blueprints import BRANCHES

GUARD_S = 120.0
# A job may end so through no fault of the node's: its workers were lost too often.
LOST = "WORKER_LOST"

Story: TypeAlias = "Callable[[Clients, int], Awaitable[str]]"


class SoakError(Exception):
    """Expected: something came out that must not; the message says what."""


class Clients:
    """Many clients over one connection, at a bounded rate.

    Arguments:
        per_s: stories begun each second.
        most: stories told at once, at most.

    Attributes:
        ends: how the stories ended, counted.
        wrong: what must not have happened.
    """

    def __init__(self, client: Client, dice: random.Random, per_s: float, most: int = 400) -> None:
        self.client = client
        self.dice = dice
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._per_s = per_s
        self._room = asyncio.Semaphore(most)
        self._numbers = itertools.count()
        self._telling: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Begin stories until cancelled; they go on after that."""
        while True:
            await self._room.acquire()
            task = asyncio.create_task(self._tell(next(self._numbers)))
            self._telling.add(task)
            task.add_done_callback(self._told)
            await asyncio.sleep(self.dice.expovariate(self._per_s))

    async def finish(self) -> None:
        """Wait until every story has its end."""
        if self._telling:
            await asyncio.wait(self._telling)

    def _told(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        self._room.release()

    async def _tell(self, number: int) -> None:
        story = self.dice.choices(STORIES, WEIGHTS)[0]
        try:
            self.ends[await story(self, number)] += 1
        except (HolonError, SoakError, TimeoutError) as error:
            self.wrong.append(f"{story.__name__} {number}: {error!r}")

    async def ended(self, job_id: str, right: object = None) -> str:
        """How a job ended, which must be with this result if it finished."""
        job = await self.client.wait_for(job_id, timeout=GUARD_S)
        if job.status == "finished" and right is not None and job.result != right:
            raise SoakError(f"job {job_id} finished with {job.result}, not with {right}")
        return _end(job)

    async def finished(self, job_id: str, right: object) -> str:
        """The same of a job that must finish, unless its workers were lost."""
        end = await self.ended(job_id, right)
        if end != "finished" and not end.endswith(LOST):
            raise SoakError(f"job {job_id} is {end}")
        return end


def _end(job: Job) -> str:
    return job.status if job.error is None else f"{job.status} {job.error.code}"


async def one(clients: Clients, number: int) -> str:
    """One task, and its echo."""
    job = await clients.client.create_job("one", {"n": number})
    return await clients.finished(job.job_id, {"echo": number})


async def many(clients: Clients, number: int) -> str:
    """A fan-out."""
    job = await clients.client.create_job("many", {"n": number})
    return await clients.finished(job.job_id, {"echo": number, "branches": BRANCHES})


async def alone(clients: Clients, number: int) -> str:
    """No task."""
    job = await clients.client.create_job("alone", {"n": number})
    return await clients.finished(job.job_id, {"echo": number})


async def bait(clients: Clients, number: int) -> str:
    """A job of hostile workers: it ends in some way."""
    job = await clients.client.create_job("bait", {"n": number})
    return "bait " + (await clients.ended(job.job_id))


async def lost(clients: Clients, number: int) -> str:
    """Nobody can do it, and it may not wait for long."""
    job = await clients.client.create_job("lost", {"n": number}, dispatch_timeout=0.5 + clients.dice.random())
    if (end := await clients.ended(job.job_id)) != "failed DISPATCH_TIMEOUT":
        raise SoakError(f"job {job.job_id} is {end}")
    return end


async def cancelled(clients: Clients, number: int) -> str:
    """Cancelled at some time; it is that, or was over before."""
    job = await clients.client.create_job(clients.dice.choice(("one", "many", "lost", "lost")), {"n": number})
    await asyncio.sleep(clients.dice.random())
    with suppress(FailedPrecondition):
        await clients.client.cancel_job(job.job_id)
    end = await clients.ended(job.job_id)
    if end not in ("cancelled CANCELLED", "finished") and not end.endswith(LOST):
        raise SoakError(f"job {job.job_id}, which was cancelled, is {end}")
    return end


async def interrupted(clients: Clients, number: int) -> str:
    """The client goes away while it creates, and comes back with the same request id."""
    request_id = f"request-{number}-{clients.dice.randrange(10**12)}"
    creating = asyncio.create_task(clients.client.create_job("one", {"n": number}, request_id=request_id))
    await asyncio.sleep(clients.dice.random() * 0.004)
    creating.cancel()
    await asyncio.wait([creating])
    job = await clients.client.create_job("one", {"n": number}, request_id=request_id)
    return await clients.finished(job.job_id, {"echo": number})


async def abandoned(clients: Clients, number: int) -> str:
    """The client stops watching, and asks again later."""
    job = await clients.client.create_job("one", {"n": number})
    for _ in range(clients.dice.randrange(1, 6)):
        with suppress(TimeoutError):
            await clients.client.wait_for(job.job_id, timeout=clients.dice.random() * 0.05)
    return await clients.finished(job.job_id, {"echo": number})


async def nosy(clients: Clients, number: int) -> str:
    """Asks for what is not there, and reads lists."""
    with suppress(NotFound):
        await clients.client.get_job("0-" + "x" * (number % 300))
    await clients.client.list_page(page_size=50)
    return "looked"


STORIES: tuple[Story, ...] = (one, many, alone, bait, lost, cancelled, interrupted, abandoned, nosy)
WEIGHTS = (8, 1, 3, 3, 1, 3, 3, 2, 1)
