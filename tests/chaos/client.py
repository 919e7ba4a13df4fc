"""Chaos: a client as a process. It repeats what it could not be sure of, and writes down what it was told."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import Any, TypeVar

from holon.client import Client, CreatedJob
from holon.errors import FailedPrecondition, ResourceExhausted, Unavailable, Unreachable
from tests.bench.control import obey, say
from tests.chaos.notes import Notebook, read

# Calls are given up early, so that they are repeated while their first is still under way.
PATIENCE_S = 2.0
AGAIN_S = 0.3
AWAY = (Unavailable, Unreachable, ResourceExhausted)
BLUEPRINTS = ("one", "chain", "fan", "alone", "think", "lost")
WEIGHTS = (10, 4, 2, 2, 2, 1)
# A task's time, in seconds: most are short, some outlast a lease.
SHORTEST_S, LONGEST_S = 0.02, 0.4
LONG_S = 4.0
CANCELLED = 0.1
WATCHED = 0.5
REPEATED = 0.2

T = TypeVar("T")


class Teller:
    """Makes jobs and follows some of them, through whichever node answers.

    Arguments:
        nodes: a client of each.
        per_s: jobs made each second.
        long: the share of them whose tasks outlast a lease.
        most: jobs told of at once, at most.
    """

    def __init__(
        self,
        nodes: list[Client],
        name: str,
        folder: Path,
        dice: random.Random,
        per_s: float,
        long: float,
        most: int = 100,
    ) -> None:
        self._nodes = nodes
        self._dice = dice
        self._per_s = per_s
        self._long = long
        self._room = asyncio.Semaphore(most)
        before = read(folder / f"{name}.notes")
        self._notes = Notebook(folder, name)
        self._name = name
        accepted = {note.facts["request"] for note in before if note.what == "accepted"}
        asked = [note.facts for note in before if note.what == "asked"]
        self._unsure = [facts for facts in asked if facts["request"] not in accepted]
        self._numbers = itertools.count(len(asked))

    async def run(self) -> None:
        """Settle what an earlier process left open, then make jobs, until cancelled; what was begun is dropped."""
        async with asyncio.TaskGroup() as group:
            for facts in self._unsure:
                group.create_task(self._story(facts["request"], facts["blueprint"], facts["data"]))
            while True:
                await self._room.acquire()
                group.create_task(self._new()).add_done_callback(lambda _: self._room.release())
                await asyncio.sleep(self._dice.expovariate(self._per_s))

    async def _new(self) -> None:
        dice, n = self._dice, next(self._numbers)
        request, blueprint = f"{self._name}-{n}", dice.choices(BLUEPRINTS, WEIGHTS)[0]
        seconds = LONG_S if dice.random() < self._long else dice.uniform(SHORTEST_S, LONGEST_S)
        data = {"n": n, "seconds": seconds}
        self._notes.write("asked", request=request, blueprint=blueprint, data=data)
        await self._story(request, blueprint, data)

    async def _story(self, request: str, blueprint: str, data: dict[str, Any]) -> None:
        job = await self._made(request, blueprint, data)
        if self._dice.random() < REPEATED:
            await self._made(request, blueprint, data)
        if self._dice.random() < CANCELLED:
            await self._cancel(job)
        if self._dice.random() < WATCHED:
            await self._follow(job)

    async def _made(self, request: str, blueprint: str, data: dict[str, Any]) -> str:
        timeout = 2.0 if blueprint == "lost" else None

        async def create(node: Client) -> CreatedJob:
            return await node.create_job(blueprint, data, request_id=request, dispatch_timeout=timeout)

        made = await self._sure(create)
        self._notes.write("accepted", request=request, job=made.job_id, existing=made.existing)
        return made.job_id

    async def _cancel(self, job: str) -> None:
        await asyncio.sleep(self._dice.random())
        self._notes.write("cancelled", job=job)
        with suppress(FailedPrecondition):
            await self._sure(lambda node: node.cancel_job(job))

    async def _follow(self, job: str) -> None:
        after = 0
        while True:
            with suppress(*AWAY):
                async with aclosing(self._dice.choice(self._nodes).watch(job, after=after, patience=1.0)) as updates:
                    async for update in updates:
                        if update.event is not None:
                            self._notes.write(
                                "told", job=job, sequence=update.event.sequence, type=update.event.event_type
                            )
                            after = update.sequence
                        elif update.job is not None and update.job.terminal:
                            self._notes.write("ended", job=job, status=update.job.status)
                            return
            await asyncio.sleep(self._dice.random() * AGAIN_S)

    async def _sure(self, call: Callable[[Client], Awaitable[T]]) -> T:
        """Call one node or another until one of them answers."""
        while True:
            try:
                return await call(self._dice.choice(self._nodes))
            except AWAY:
                await asyncio.sleep(self._dice.random() * AGAIN_S)


def _end(telling: asyncio.Task[None]) -> None:
    telling.cancel()


async def main() -> None:
    """Tell stories to the nodes that the environment names, until a signal or the end of the parent."""
    name, folder = os.environ["CHAOS_NAME"], Path(os.environ["CHAOS_FOLDER"])
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                Client(url, os.environ["CLIENT_TOKEN"], os.environ["TLS_CA_PATH"], timeout=PATIENCE_S)
            )
            for url in os.environ["CHAOS_NODES"].split(",")
        ]
        dice = random.Random(os.environ["CHAOS_SEED"])
        rate, long = float(os.environ["CHAOS_RATE"]), float(os.environ["CHAOS_LONG"])
        telling = asyncio.create_task(Teller(nodes, name, folder, dice, rate, long).run())
        say(ready=True)
        control = asyncio.create_task(obey(lambda: _end(telling)))
        with suppress(asyncio.CancelledError):
            await telling
        control.cancel()


if __name__ == "__main__":
    asyncio.run(main())
