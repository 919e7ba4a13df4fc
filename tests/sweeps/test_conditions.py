"""Conditions: whatever is written is one or is refused, and one has an answer for whatever a job holds."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from holon.domain.conditions import condition_of
from holon.errors import BlueprintError

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)
)
JSON = st.recursive(SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.sampled_from("abc"), one))
DATA = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)
FIELDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)
SIGNS = st.sampled_from(["==", "!=", ">", "<", ">=", "<="])
VALUES = st.sampled_from(["'a'", '""', "5", "-0.5", "1e3", "true", "false", "null"])
PIECES = st.sampled_from(["context", ".", "initial_data", "a", "=", "<", "!", " ", "'", '"', "5", "e", "true", "\n"])


@given(written=st.text(max_size=60) | st.lists(PIECES, max_size=12).map("".join))
@example(written="context.initial_data.a==5")
def test_what_is_written_is_a_condition_or_is_refused(written: str) -> None:
    try:
        condition = condition_of(written)
    except BlueprintError:
        return
    assert condition.text == written
    assert condition.holds({}, {}) is False


@given(area=st.sampled_from(["initial_data", "state_history"]), field=FIELDS, sign=SIGNS, value=VALUES, data=DATA)
def test_a_condition_says_yes_or_no_of_whatever_there_is(
    area: str, field: str, sign: str, value: str, data: dict[str, Any]
) -> None:
    if sign not in ("==", "!=") and value in ("true", "false", "null"):
        return
    condition = condition_of(f"context.{area}.{field} {sign} {value}")
    there, empty = (data, {}) if area == "initial_data" else ({}, data)
    assert condition.holds(there, empty) in (True, False)
    assert condition.looked_at(there, empty).startswith(f"`{condition.text}` found ")


@given(one=st.integers() | st.floats(-1e300, 1e300), other=st.integers(-(2**63), 2**64) | st.floats(-1e300, 1e300))
def test_numbers_are_compared_as_numbers(one: float, other: float) -> None:
    def holds(sign: str) -> bool:
        return condition_of(f"context.initial_data.n {sign} {other!r}").holds({"n": one}, {})

    told = [holds(sign) for sign in ("==", "!=", ">", "<", ">=", "<=")]
    assert told == [one == other, one != other, one > other, one < other, one >= other, one <= other]
