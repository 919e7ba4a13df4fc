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
    services: Sequence[Service]
    skews: dict[str, float] = field(default_factory=dict)


Act: TypeAlias = Callable[[], Awaitable[None]]
# Who is its target, and what it does.
Fault: TypeAlias = tuple[str, Act]
# What there is, and how often each is chosen.
KINDS = {
    "node killed": 2, "node stopped": 1, "node paused": 1, "clock moved": 1,
    "worker killed": 2, "worker stopped": 1, "worker paused": 2, "client killed": 1,
    "link cut": 2, "link slow": 1, "link half-open": 1, "connections held": 1, "replies cut": 2,
    "service crashed": 2, "service paused": 1,
}  # fmt: skip


class Faults:
    """Lets things fail until cancelled.

    Arguments:
        every_s: seconds between two faults, on average.
        notes: where they are told.
        only: the kinds that there are to be, as `KINDS` names them; empty means all.

    Attributes:
        counts: how often each kind was done.
    """

    def __init__(
        self, targets: Targets, dice: random.Random, every_s: float, notes: Notebook, only: Sequence[str] = ()
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._targets = targets
        self._dice = dice
        self._every_s = every_s
        self._notes = notes
        self._busy: set[str] = set()
        makers: dict[str, Callable[[], Fault]] = {
            "node killed": lambda: self._again(dice.choice(targets.nodes), Life.kill),
            "node stopped": lambda: self._again(dice.choice(targets.nodes), Life.stop),
            "node paused": lambda: self._paused(dice.choice(targets.nodes)),
            "worker killed": lambda: self._again(dice.choice(targets.workers), Life.kill),
            "worker stopped": lambda: self._again(dice.choice(targets.workers), Life.stop),
            "worker paused": lambda: self._paused(dice.choice(targets.workers)),
            "client killed": lambda: self._again(dice.choice(targets.clients), Life.kill),
            "clock moved": self._clock_moved,
            "link cut": self._link_cut,
            "link slow": self._link_slow,
            "link half-open": self._link_frozen,
            "connections held": self._link_held,
            "replies cut": self._link_deaf,
            "service crashed": self._service_crashed,
            "service paused": self._service_paused,
        }
        here = {kind: weight for kind, weight in KINDS.items() if kind in (only or KINDS)}
        self._failing = [service for service in targets.services if service.fails]
        if not self._failing:
            here = {kind: weight for kind, weight in here.items() if not kind.startswith("service")}
        self._links = [*targets.links, *(link for service in targets.services for link in service.links)]
        self._kinds = [(kind, makers[kind]) for kind, weight in here.items() for _ in range(weight)]

    async def run(self) -> None:
        """One fault after the other, and some at once, each on a target of its own."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self._dice.expovariate(1 / self._every_s))
                # All that is left to chance is drawn here, so that a seed always draws the same.
                kind, make = self._dice.choice(self._kinds)
                target, act = make()
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

    def _again(self, life: Life, end: Callable[[Life], Awaitable[None]]) -> Fault:
        away = self._dice.random() * AWAY_S

        async def act() -> None:
            await end(life)
            await asyncio.sleep(away)
            await life.start()

        return life.name, act

    def _paused(self, life: Life) -> Fault:
        seconds = self._dice.random() * LONGEST_S
        return life.name, lambda: life.pause(seconds)

    def _clock_moved(self) -> Fault:
        life, skew_s = self._dice.choice(self._targets.nodes), self._dice.choice(SKEWS_S)

        async def act() -> None:
            self._targets.skews[life.name] = skew_s
            life.tell(orjson.dumps({"skew_s": skew_s}))

        return life.name, act

    # Connections -----------------------------------------------------------------------------------------------------

    def _link_cut(self) -> Fault:
        link = self._link()

        async def act() -> None:
            link.cut()

        return link.name, act

    def _link_slow(self) -> Fault:
        link, delay = self._link(), self._dice.random() * SLOWEST_S

        def slow() -> None:
            link.delay = delay

        return self._for_a_while(link, slow, cut=False)

    def _link_frozen(self) -> Fault:
        link = self._link()
        return self._for_a_while(link, link.freeze, cut=self._dice.random() < 0.5)

    def _link_held(self) -> Fault:
        """What is on its way arrives late, after what was sent on newer connections."""
        link = self._link()
        return self._for_a_while(link, link.hold, cut=False)

    def _link_deaf(self) -> Fault:
        """Requests go through, their replies do not, and then the connection is cut."""
        link = self._link()

        def deafen() -> None:
            link.deaf = True

        return self._for_a_while(link, deafen, cut=True)

    def _for_a_while(self, link: Link, begin: Callable[[], None], *, cut: bool) -> Fault:
        seconds = self._dice.random() * LONGEST_S

        async def act() -> None:
            begin()
            try:
                await asyncio.sleep(seconds)
            finally:
                if cut:
                    link.cut()
                link.heal()

        return link.name, act

    def _link(self) -> Link:
        return self._dice.choice(self._links)

    # What the nodes keep their jobs in -------------------------------------------------------------------------------

    def _service_crashed(self) -> Fault:
        service, seconds = self._dice.choice(self._failing), self._dice.random() * AWAY_S
        return service.name, lambda: service.crash(seconds)

    def _service_paused(self) -> Fault:
        service, seconds = self._dice.choice(self._failing), self._dice.random() * LONGEST_S
        return service.name, lambda: service.pause(seconds)
