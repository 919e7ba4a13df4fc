"""Contracts: how much work it is to compare numbers, in steps of ten nanoseconds.

Whole numbers are compared at once. Others are worked with as exact fractions, whose digits grow with the exponent: a
multiple of 1e-300 takes as long as three thousand other checks.
"""

from __future__ import annotations

from typing import Any

# Two of a list are one only after they were compared, which for a few is done each with each.
EACH_UNIQUE = 100
# A number of a value that is extreme counts as so many.
EXTREME_VALUE = 20

_LARGE, _SMALL = 1e30, 1e-30
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
# Of a whole number, another one, and an extreme one.
_TO_BOUND = (10, 50, 1500)
_TO_DIVIDE = (30, 150, 2000)
_TO_EQUAL = (25, 100, 1500)


def is_extreme(value: Any) -> bool:
    """Whether a JSON value is a number with very many digits, written out."""
    return isinstance(value, float) and value != 0 and not _SMALL <= abs(value) <= _LARGE


def to_compare(keyword: str, operand: Any) -> int:
    """The steps that a keyword of a schema takes for what it is compared with, beside those of every keyword."""
    if keyword in _BOUNDS:
        return _one(operand, _TO_BOUND)
    if keyword == "multipleOf":
        return _one(operand, _TO_DIVIDE)
    if keyword in ("const", "enum"):
        return _all(operand)
    return 0


def _one(operand: Any, steps: tuple[int, int, int]) -> int:
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        return 0
    return steps[0] if isinstance(operand, int) else steps[2 if is_extreme(operand) else 1]


def _all(data: Any) -> int:
    if isinstance(data, dict | list):
        return sum(1 + _all(one) for one in (data.values() if isinstance(data, dict) else data))
    return _one(data, _TO_EQUAL)
