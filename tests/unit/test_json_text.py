"""JSON text as stores keep it: what no reader could read back is refused, and it is said where it stands."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from holon.errors import InvalidArgument
from holon.stores.json_text import from_json, to_json


@dataclass
class Weighed:
    """What handlers may leave in their history."""

    name: str
    weights: tuple[Any, ...]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (math.nan, "value is nan"),
        ({"a": None, "b": math.inf}, "value.b is inf"),
        ([None, {"deep": [1, "x", True, -math.inf]}], "value[1].deep[3] is -inf"),
        (OrderedDict(a=(0.5, math.nan)), "value.a[1] is nan"),
        ({"a": Weighed("one", (1.5, math.nan))}, "value.a.weights[1] is nan"),
    ],
)
def test_a_number_that_is_none_is_refused_wherever_it_stands(value: Any, where: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        to_json(value)
    assert refused.value.code == "NOT_JSON"
    assert where in refused.value.message


def in_itself() -> list[Any]:
    value: list[Any] = []
    value += [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": "x", "b": [1, b"x"]}, "not JSON: state_history.b[1] is a bytes, which JSON cannot hold"),
        ({"a": {"b": {1, 2}}}, "not JSON: state_history.a.b is a set, which JSON cannot hold"),
        ({"a": {"b": {b"x"}}}, "not JSON: state_history.a.b[0] is a bytes, which JSON cannot hold"),
        ({"a": 2**70}, "not JSON: state_history.a is an integer of over 64 bits"),
        ({"a": {1: 2}}, "not JSON: state_history.a has the key 1; keys are text"),
        ({"a": "\ud800"}, "not JSON: state_history.a is a text that cannot be written as UTF-8"),
        (
            {"a": Weighed("one", (object(),))},
            "not JSON: state_history.a.weights[0] is a object, which JSON cannot hold",
        ),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC), "b": b"x"}, "not JSON: state_history.b is a bytes"),
        ({"a": Weighed}, "not JSON: state_history.a is a type, which JSON cannot hold"),
        (in_itself(), "not JSON: state_history: Recursion limit reached"),
    ],
)
def test_what_no_encoder_writes_is_refused_and_it_is_said_where_it_stands(value: Any, said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        to_json(value, "state_history")
    assert refused.value.code == "NOT_JSON"
    assert said in refused.value.message


@pytest.mark.parametrize(
    "value", [None, [None, 0.5], {"a": None, "b": {"c": [None, "null", 1, True]}}, {"a": [{}, [], None]}]
)
def test_nothing_is_no_number_and_is_kept(value: Any) -> None:
    assert from_json(to_json(value)) == value


def test_what_is_nothing_in_a_class_of_data_is_kept() -> None:
    assert from_json(to_json(Weighed("one", (None,)))) == {"name": "one", "weights": [None]}
