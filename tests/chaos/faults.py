"""Chaos: what fails in real life, by dice. A fault leaves its target whole again, unless the run is over before."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import orjson

from tests.chaos.life import Life
from tests.chaos.link import Link
from tests.chaos.notes import Notebook
from tests.chaos.services import Service
from tests.chaos.story import FAULT

# Longer than a lease (3 s), so that what was paused or cut off has lost what it had.
LONGEST_S = 5.0
AWAY_S = 1.5
SLOWEST_S = 0.5
# A node checks the dates of its certificates, which are a few minutes old.
SKEWS_S = (-240.0, -30.0, 0.0, 0.0, 30.0, 3_600.0)


@dataclass(frozen=True, slots=True)
class Targets:
    """What can fail.

    Attributes:
        skews: how far each node's wall clock is off, in seconds; a node that is started takes it from here.
    """

    nodes: Sequence[Life]
    workers: Sequence[Life]
    clients: Sequence[Life]
    links: Sequence[Link]
    service: Service
    skews: dict[str, float] = field(default_factory=dict)


Act: TypeAlias = Callable[[], Awaitable[None]]
# Who is its target, what it is called, what it does.
Fault: TypeAlias = tuple[str, str, Act]


class Faults:
    """Lets things fail until cancelled.

    Arguments:
        every_s: seconds between two faults, on average.
        notes: where they are told.

    Attributes:
        counts: how often each kind was done.
    """

    def __init__(self, targets: Targets, dice: random.Random, every_s: float, notes: Notebook) -> None:
        self.counts: Counter[str] = Counter()
        self._targets = targets
        self._dice = dice
        self._every_s = every_s
        self._notes = notes
        self._busy: set[str] = set()
        self._kinds: list[Callable[[], Fault]] = [
            self._node_killed, self._node_killed, self._node_stopped, self._node_paused, self._clock_moved,
            self._worker_killed, self._worker_killed, self._worker_stopped, self._worker_paused, self._worker_paused,
            self._client_killed, self._link_cut, self._link_cut, self._link_slow, self._link_frozen, self._link_deaf,
            self._link_deaf,
        ]  # fmt: skip
        if targets.service.links:
            self._kinds += [self._service_crashed, self._service_paused]

    async def run(self) -> None:
        """One fault after the other, and some at once, each on a target of its own."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self._dice.expovariate(1 / self._every_s))
                # All that is left to chance is drawn here, so that a seed always draws the same.
                target, kind, act = self._dice.choice(self._kinds)()
                if target not in self._busy:
                    self._busy.add(target)
                    group.create_task(self._do(target, kind, act), name=f"{kind} {target}")

    async def _do(self, target: str, kind: str, act: Act) -> None:
        self.counts[kind] += 1
        self._notes.write(FAULT, which=f"{kind}: {target}")
        try:
            await act()
        finally:
            self._busy.discard(target)
        self._notes.write(FAULT, which=f"over: {kind}: {target}")

    # Processes -------------------------------------------------------------------------------------------------------

    def _node_killed(self) -> Fault:
        return self._again(self._dice.choice(self._targets.nodes), "node killed", Life.kill)

    def _node_stopped(self) -> Fault:
        return self._again(self._dice.choice(self._targets.nodes), "node stopped", Life.stop)

    def _node_paused(self) -> Fault:
        return self._paused(self._dice.choice(self._targets.nodes), "node paused")

    def _worker_killed(self) -> Fault:
        return self._again(self._dice.choice(self._targets.workers), "worker killed", Life.kill)

    def _worker_stopped(self) -> Fault:
        return self._again(self._dice.choice(self._targets.workers), "worker stopped", Life.stop)

    def _worker_paused(self) -> Fault:
        return self._paused(self._dice.choice(self._targets.workers), "worker paused")

    def _client_killed(self) -> Fault:
        return self._again(self._dice.choice(self._targets.clients), "client killed", Life.kill)

    def _again(self, life: Life, kind: str, end: Callable[[Life], Awaitable[None]]) -> Fault:
        away = self._dice.random() * AWAY_S

        async def act() -> None:
            await end(life)
            await asyncio.sleep(away)
            await life.start()

        return life.name, kind, act

    def _paused(self, life: Life, kind: str) -> Fault:
        seconds = self._dice.random() * LONGEST_S
        return life.name, kind, lambda: life.pause(seconds)

    def _clock_moved(self) -> Fault:
        life, skew_s = self._dice.choice(self._targets.nodes), self._dice.choice(SKEWS_S)

        async def act() -> None:
            self._targets.skews[life.name] = skew_s
            life.tell(orjson.dumps({"skew_s": skew_s}))

        return life.name, f"clock moved to {skew_s:+g} s", act

    # Connections -----------------------------------------------------------------------------------------------------

    def _link_cut(self) -> Fault:
        link = self._link()

        async def act() -> None:
            link.cut()

        return link.name, "link cut", act

    def _link_slow(self) -> Fault:
        link, delay = self._link(), self._dice.random() * SLOWEST_S

        def slow() -> None:
            link.delay = delay

        return self._for_a_while(link, "link slow", slow, cut=False)

    def _link_frozen(self) -> Fault:
        link = self._link()
        return self._for_a_while(link, "link half-open", link.freeze, cut=self._dice.random() < 0.5)

    def _link_deaf(self) -> Fault:
        """Requests go through, their replies do not, and then the connection is cut."""
        link = self._link()

        def deafen() -> None:
            link.deaf = True

        return self._for_a_while(link, "replies cut", deafen, cut=True)

    def _for_a_while(self, link: Link, kind: str, begin: Callable[[], None], *, cut: bool) -> Fault:
        seconds = self._dice.random() * LONGEST_S

        async def act() -> None:
            begin()
            try:
                await asyncio.sleep(seconds)
            finally:
                if cut:
                    link.cut()
                link.heal()

        return link.name, kind, act

    def _link(self) -> Link:
        return self._dice.choice([*self._targets.links, *self._targets.service.links])

    # The store -------------------------------------------------------------------------------------------------------

    def _service_crashed(self) -> Fault:
        seconds = self._dice.random() * AWAY_S
        return "store", "store crashed", lambda: self._targets.service.crash(seconds)

    def _service_paused(self) -> Fault:
        seconds = self._dice.random() * LONGEST_S
        return "store", "store paused", lambda: self._targets.service.pause(seconds)

