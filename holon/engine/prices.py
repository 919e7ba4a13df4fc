"""What the workers of this node declare that a task of a skill costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from holon.domain.costs import Cost
from holon.engine.session import Session

# Of so many skills it is remembered.
MOST_SKILLS = 1_000


def capped(max_cost: Cost, skill: str, budget: int, price: Callable[[str, int], Cost]) -> int:
    """What an attempt of a task may cost in a job with a budget: what it says, else what is declared, else all of it.

    Arguments:
        price: see `Prices.of`.
    """
    if max_cost is not None:
        return max_cost
    declared = price(skill, budget)
    return budget if declared is None else declared


class Prices:
    """The declared prices, by skill, until somebody comes, goes, or offers other things.

    A step may ask for thousands of tasks.
    """

    def __init__(self) -> None:
        # The least and the dearest; nothing where there is none.
        self._known: dict[str, tuple[int, ...]] = {}

    def __repr__(self) -> str:
        return f"Prices({len(self._known)})"

    def changed(self) -> None:
        """They are to be looked up again."""
        self._known.clear()

    def of(self, skill: str, within: int, sessions: Iterable[Session]) -> Cost:
        """What a task of a skill may cost under a limit: the dearest price, or the limit where only some are beyond it.

        Where all are beyond it, it is the least of those. None: nobody declares one.
        """
        prices = self._known.get(skill)
        if prices is None:
            if len(self._known) >= MOST_SKILLS:
                self._known.clear()
            declared = [one.prices[skill] for one in sessions if skill in one.prices]
            prices = self._known[skill] = (min(declared), max(declared)) if declared else ()
        return max(prices[0], min(prices[-1], within)) if prices else None
