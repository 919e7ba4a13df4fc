"""What the workers of this node declare that a task of a skill costs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from holon.domain.costs import Cost
from holon.engine.session import Session

# Of so many skills it is remembered.
MOST_SKILLS = 1_000


class Prices:
    """The declared prices, by skill, until somebody comes, goes, or offers other things.

    A step may ask for thousands of tasks.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[int]] = {}

    def __repr__(self) -> str:
        return f"Prices({len(self._known)})"

    def changed(self) -> None:
        """They are to be looked up again."""
        self._known.clear()

    def of(self, skill: str, within: int, sessions: Iterable[Session]) -> Cost:
        """The dearest that is declared of a skill within a limit; where all are beyond it, the least of those.

        None: nobody declares one.
        """
        prices = self._known.get(skill)
        if prices is None:
            if len(self._known) >= MOST_SKILLS:
                self._known.clear()
            prices = self._known[skill] = sorted({one.prices[skill] for one in sessions if skill in one.prices})
        if not prices:
            return None
        at = bisect_right(prices, within)
        return prices[at - 1] if at else prices[0]
