"""The static check of statuses: what blueprints go on by, beside what the skills of connected workers declare."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable

from holon.domain import integrity
from holon.domain.blueprint import Blueprint
from holon.engine.dispatcher import Dispatcher

log = logging.getLogger(__name__)


class StatusCheck:
    """Warns of each status that no known offering of its skill declares: once, until one does.

    Known are the offerings of the workers that are connected now, to this node and to those that tell it of theirs.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        # By skill, the tasks that blueprints go on from by statuses of their own, each with its blueprint's name.
        self._tasks: dict[str, list[tuple[str, integrity.BranchingTask]]] = defaultdict(list)
        # By skill, the statuses that were warned of: each with its blueprint's name and its place.
        self._said: dict[str, set[tuple[str, str, str]]] = {}

    def __repr__(self) -> str:
        return f"StatusCheck(skills={len(self._tasks)})"

    def watch(self, blueprints: Iterable[Blueprint]) -> None:
        """Check these blueprints, in place of those of an earlier call."""
        self._tasks.clear()
        for blueprint in blueprints:
            for task in integrity.branching_tasks(blueprint):
                self._tasks[task.skill].append((blueprint.name, task))
        self._said = {skill: said for skill, said in self._said.items() if skill in self._tasks}
        self.look()

    def look(self, skills: Collection[str] | None = None) -> None:
        """Compare again what is known.

        Arguments:
            skills: those of which others are offered than before; None: of any.
        """
        for skill in self._tasks if skills is None else self._tasks.keys() & skills:
            declared = self._dispatcher.statuses(skill)
            found = {
                (name, task.place, status): problem.message
                for name, task in self._tasks[skill]
                for status, problem in integrity.unknown_statuses(task, declared).items()
            }
            for one in sorted(found.keys() - self._said.get(skill, set())):
                log.warning("blueprint %s: %s", one[0], found[one])
            self._said[skill] = set(found)
