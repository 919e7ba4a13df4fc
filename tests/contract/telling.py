"""The model's nodes that tell ends: some fall silent with what they hold, and each end must be told once in the end."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.contract.world import World

HOOKS = ("", "https://ann.example/ended")
HOLD = 7_000


class Telling:
    """Takes and settles ends at random.

    Arguments:
        chance: decides.
        lost: whether something goes wrong that does so this often.

    Attributes:
        told: the jobs whose ends were told.
    """

    def __init__(self, world: World, chance: random.Random, lost: Callable[[float], bool]) -> None:
        self.told: set[str] = set()
        self._world = world
        self._random = chance
        self._lost = lost
        self._held: dict[str, int] = {}

    async def act(self) -> None:
        """Take some, and say of some that are held what became of them."""
        await self._take(self._random.randint(1, 4))
        said: dict[str, list[str]] = {"told": [], "again": [], "nothing": []}
        for job in self._held:
            said[self._random.choice(list(said))].append(job)
        told, again = said["told"], [(job, 3_000) for job in said["again"]]
        self._held = {job: until for job, until in self._held.items() if job in said["nothing"]}
        for _ in range(2 if self._lost(0.2) else 1):
            await self._world.storage.settle_ends(told, again)
        self.told.update(told)

    async def _take(self, limit: int) -> int | None:
        if self._lost(0.2):
            await self._world.storage.take_ends(limit, HOLD)
        ends = await self._world.storage.take_ends(limit, HOLD)
        now = self._world.now
        for record in ends.jobs:
            job = record.job.id
            assert record.job.webhook, f"{job}: nobody is to be told of it"
            assert record.job.status.terminal, f"{job}: it is not over"
            assert job not in self.told, f"{job}: it was told already"
            assert self._held.get(job, 0) <= now, f"{job}: somebody has it"
            self._held[job] = now + HOLD
        return ends.next_due

    def killed(self) -> None:
        """The nodes that held something are gone."""
        self._held.clear()

    async def finish(self) -> None:
        """Tell all that is left."""
        for _ in range(1_000):
            due = await self._take(10)
            await self._world.storage.settle_ends(list(self._held))
            self.told.update(self._held)
            self._held.clear()
            if due is None:
                return
            self._world.clock.advance(max(0, due - self._world.now))
        raise AssertionError("there is always one more end to tell")
