"""The domain: what work costs, in millionths of the cost unit; what it may cost only becomes less on the way down."""

from __future__ import annotations

from typing import Any, TypeAlias

from holon.domain.json_words import quoted
from holon.errors import InvalidArgument, Violation

# A cost, or the most that something may cost; None: nobody says, or whatever it costs.
Cost: TypeAlias = int | None

# Every program can tell two costs of up to this much apart.
MOST_COST = 2**53 - 1
# Of what is no cost, in the message.
_SHOWN = 64


def costing(field: str, cost: Any, *, code: str = InvalidArgument.code) -> Cost:
    """A cost as somebody gave it; None: they did not.

    Arguments:
        field: whose value it is, for the message.
        cost: in JSON a whole number may be written with a point.
        code: of the error.
    Raises:
        InvalidArgument: (code) it is no whole number from 0 to `MOST_COST`.
    """
    if type(cost) is float and cost.is_integer():
        cost = int(cost)
    if cost is None or (type(cost) is int and 0 <= cost <= MOST_COST):
        return cost
    reason = f"is {quoted(cost, _SHOWN)}; give a whole number from 0 to {MOST_COST}, in millionths of the cost unit"
    raise InvalidArgument(f"{field} {reason}", code=code, details=[Violation(field, reason)])


def least(one: Cost, other: Cost) -> Cost:
    """The most that something may cost where two have a word in it."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def total(one: Cost, other: Cost) -> Cost:
    """Both together, as far as that can be told."""
    if one is None or other is None:
        return other if one is None else one
    return min(one + other, MOST_COST)
