"""Chaos of holons: lets happen what a seed drew; each fault leaves its target whole again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.chaos.holons.family import Family
from tests.chaos.holons.fate import Fault
from tests.chaos.life import Life
from tests.chaos.notes import Notebook
from tests.chaos.story import FAULT


class Failing:
    """Does it.

    Attributes:
        counts: how often each kind was done.
    """

    def __init__(self, family: Family) -> None:
        self.counts: Counter[str] = Counter()
        self._family = family
        self._notes = Notebook(family.folder, "chaos")
        self._kinds: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "killed": lambda fault: self._again(fault, Life.kill),
            "stopped": lambda fault: self._again(fault, Life.stop),
            "leaf killed": lambda fault: self._again(fault, Life.kill),
            "paused": lambda fault: family.lives[fault.target].pause(fault.seconds),
            "link away": self._away,
            "link frozen": self._frozen,
            "link dropped": self._dropped,
        }

    async def run(self) -> None:
        """All that is drawn; returns when the last is over."""
        async with asyncio.TaskGroup() as group:
            for fault in self._family.fate.faults:
                group.create_task(self._do(fault), name=f"{fault.kind} {fault.target}")

    async def _do(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        self.counts[fault.kind] += 1
        facts = {"target": fault.target, "kind": fault.kind}
        self._notes.write(FAULT, which=f"{fault.kind}: {fault.target} for {fault.seconds:.2f} s", **facts)
        await self._kinds[fault.kind](fault)
        self._notes.write(FAULT, which=f"over: {fault.kind}: {fault.target}", over=True, **facts)

    async def _again(self, fault: Fault, end: Callable[[Life], Awaitable[None]]) -> None:
        life = self._family.lives[fault.target]
        await end(life)
        await asyncio.sleep(fault.seconds)
        await life.start()

    async def _away(self, fault: Fault) -> None:
        """Its connections end, and nobody can connect."""
        self._family.away.add(fault.target)
        self._family.links[fault.target].cut()
        await asyncio.sleep(fault.seconds)
        self._family.away.discard(fault.target)

    async def _frozen(self, fault: Fault) -> None:
        """Nothing is carried, and then all of it arrives late."""
        link = self._family.links[fault.target]
        link.freeze()
        await asyncio.sleep(fault.seconds)
        link.heal()

    async def _dropped(self, fault: Fault) -> None:
        """Nothing is carried, and what was on its way is lost."""
        link = self._family.links[fault.target]
        link.freeze()
        await asyncio.sleep(fault.seconds)
        link.cut()
        link.heal()
