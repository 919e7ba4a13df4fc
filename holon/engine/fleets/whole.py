"""Fleets: the workers of all nodes together, as operators see and drain them at any of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from holon.domain.fleet import SkillView, WorkerView
from holon.engine.fleet import Fleet
from holon.engine.fleets.drained import DrainedWorkers
from holon.engine.fleets.drains import Drains
from holon.engine.fleets.elsewhere import Elsewhere, Roll
from holon.engine.offered import together


class Listed(Protocol):
    """A worker in a list: what the list goes by, and a way to see it."""

    @property
    def worker_id(self) -> str: ...

    @property
    def since(self) -> int: ...

    @property
    def weight(self) -> int: ...

    def view(self) -> WorkerView: ...


class WholeFleet:
    """Shows the workers of this node, and those of the others as these told of them last."""

    def __init__(self, fleet: Fleet, elsewhere: Elsewhere, drained: DrainedWorkers, drains: Drains) -> None:
        self._fleet = fleet
        self._elsewhere = elsewhere
        self._drained = drained
        self._drains = drains
        # What the skills below were made of.
        self._made_of: tuple[Sequence[SkillView], Sequence[Roll]] = ((), ())
        self._skills: Sequence[SkillView] = ()

    def __repr__(self) -> str:
        return f"WholeFleet({self._fleet!r}, {self._elsewhere!r})"

    def workers(self, skill: str = "") -> list[Listed]:
        """The workers, all or those that offer a skill, by id; one that has moved is where it came last."""
        here: list[Listed] = list(self._fleet.workers(skill))
        found = {one.worker_id: one for one in here}
        for roll in self._elsewhere.rolls:
            for row in roll.workers(skill):
                known = found.get(row.worker_id)
                if known is None or known.since < row.since:
                    found[row.worker_id] = row
        return [found[worker_id] for worker_id in sorted(found)]

    def skills(self) -> Sequence[SkillView]:
        """What they offer, in the order of lists."""
        here, rolls = self._fleet.skills(), self._elsewhere.rolls
        if not rolls:
            return here
        if self._made_of[0] is not here or self._made_of[1] is not rolls:
            self._skills = together([here, *(roll.skills for roll in rolls)])
            self._made_of = here, rolls
        return self._skills

    async def drain(self, worker_id: str, *, undo: bool, reason: str) -> WorkerView:
        """Give a worker no more tasks until it starts again, or take that back, at the node that it is connected to.

        Raises:
            NotFound: (WORKER_NOT_FOUND) no worker of this id is connected.
            Unavailable: (NODE_AWAY) it is connected to another node, which has not answered; (STORE_UNAVAILABLE) the
                store is away.
        """
        here, there = self._fleet.find(worker_id), self._elsewhere.find(worker_id)
        if there is None or (here is not None and here.since >= there.since):
            return await self._drained.change(worker_id, undo=undo, reason=reason)
        now = await self._drains.ask(there.node_id, worker_id, undo=undo, reason=reason)
        return replace(there.view(), draining=now.draining, credits=now.credits, held=now.held)
