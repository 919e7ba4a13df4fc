"""Sets in hints: what no set can hold is refused where it is declared, and not at each call."""

from __future__ import annotations

from dataclasses import dataclass
from types import GenericAlias
from typing import Annotated, Any, Literal, TypedDict

import pydantic
import pytest

from holon.domain.blueprint import Blueprint
from holon.domain.schema import build, schema_of
from holon.errors import BlueprintError, InvalidArgument
from holon.worker.skill import skill_of


@dataclass
class Point:
    x: int


@dataclass(frozen=True)
class Place:
    x: int


@dataclass
class Node:
    next: set[Node]


@dataclass
class Keeper:
    tags: frozenset[dict[str, int]]


class Keys(TypedDict):
    x: int


class Line(pydantic.BaseModel):
    x: int


@pytest.mark.parametrize(
    "item",
    [
        dict, dict[str, int], list[int], set[int], tuple[list[int], ...], tuple[int, dict[str, int]], dict | None,
        Annotated[list[int], "n"], Point, Keys, Line, {"type": ["string", "array"]},
    ],
)  # fmt: skip
def test_a_set_of_what_has_no_hash_is_refused_with_what_to_use_instead(item: Any) -> None:
    for made in (set, frozenset):
        with pytest.raises(InvalidArgument, match=r"use a list, or a frozen dataclass") as refused:
            schema_of(made[item])
        assert refused.value.code == "SCHEMA_INVALID"


def test_a_class_that_holds_a_set_of_itself_is_refused_where_it_has_no_hash() -> None:
    with pytest.raises(InvalidArgument, match=r"a set cannot hold the type hint .*Node'>"):
        schema_of(Node)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (set, [1]),
        (set[Any], ["a"]),
        (set[int | None], [1, None]),
        (set[Place], [{"x": 1}]),
        (set[frozenset[int]], [[1]]),
        (set[tuple[int, ...]], [[1, 2]]),
        (set[tuple[int, str]], [[1, "a"]]),
        (frozenset[Literal["a"]], ["a"]),
        (GenericAlias(set, ({"enum": [1, 2]},)), [1]),
    ],
)
def test_a_set_of_what_has_a_hash_is_built(hint: Any, value: Any) -> None:
    schema_of(hint)
    assert len(build(hint, value)) == len(value)


def test_it_is_refused_at_the_decorator_of_a_skill_and_of_a_handler() -> None:
    def work(tags: set[dict[str, int]]) -> None: ...

    with pytest.raises(
        InvalidArgument, match=r"argument 'tags' of .*work: a set cannot hold the type hint dict\[str, int\]"
    ):
        skill_of(work)

    one = Blueprint("one")

    @one.handler(is_start=True)
    async def start(initial_data: Keeper) -> None: ...

    with pytest.raises(
        BlueprintError, match=r"start \(.*\): initial_data: a set cannot hold the type hint dict\[str, int\]"
    ):
        _ = one.input_schema
