"""The domain: which of several workers with room gets a task. All of it is a preference: who has room gets it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from holon.domain.costs import Cost


class Candidate(NamedTuple):
    """A worker that can do a task, and has room for it.

    Arguments:
        price: what the task costs there; None: it does not say.
        held: how many tasks it has.
        business: what part of its credits these are.
        hot: whether it says that the skill is loaded.
        cached: whether it says that it has what the task hints at.
        place: its place in the turn of who can do it; whoever gets a task goes to the end.
        reputation: 0 to 1.
    """

    price: Cost
    held: int
    business: float
    hot: bool
    cached: bool
    place: int
    reputation: float = 1.0


DispatchStrategy: TypeAlias = Literal[
    "default", "round_robin", "least_connections", "cheapest", "best_value", "overflow"
]
# Whose is the least gets it.
Rank: TypeAlias = tuple[float, ...]


def _default(one: Candidate, soft_limit: int) -> Rank:  # noqa: ARG001  the shape of a strategy
    return not one.hot, not one.cached, one.business, -one.reputation


def _round_robin(one: Candidate, soft_limit: int) -> Rank:  # noqa: ARG001
    return (one.place,)


def _least_connections(one: Candidate, soft_limit: int) -> Rank:  # noqa: ARG001
    return one.held, one.business


def _cheapest(one: Candidate, soft_limit: int) -> Rank:  # noqa: ARG001
    return _price(one), one.business


def _best_value(one: Candidate, soft_limit: int) -> Rank:  # noqa: ARG001
    return _price(one) / one.reputation if one.reputation else math.inf, one.business


def _overflow(one: Candidate, soft_limit: int) -> Rank:
    return (False, _price(one), one.held) if one.held < soft_limit else (True, one.held, _price(one))


def _price(one: Candidate) -> float:
    return math.inf if one.price is None else one.price


DEFAULT: DispatchStrategy = "default"
STRATEGIES: Mapping[str, Callable[[Candidate, int], Rank]] = {
    DEFAULT: _default,
    "round_robin": _round_robin,
    "least_connections": _least_connections,
    "cheapest": _cheapest,
    "best_value": _best_value,
    "overflow": _overflow,
}


def rank(strategy: str, one: Candidate, soft_limit: int) -> Rank:
    """Where a worker stands among those that could get a task.

    Arguments:
        strategy: one of STRATEGIES; empty is the default one.
        soft_limit: how many tasks a worker should have at most before dearer ones get some, where that is asked for.
    """
    return STRATEGIES[strategy or DEFAULT](one, soft_limit)
