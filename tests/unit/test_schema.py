"""What a type hint promises: the JSON schema of the value, and the typed value itself."""

from __future__ import annotations

import enum
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, TypedDict

import pydantic
import pytest

from holon.domain.schema import arguments_schema, build, fits, hint_of, schema_of
from holon.engine.contracts import Contracts
from holon.errors import InvalidArgument


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass(frozen=True)
class Shape:
    corners: list[Point]
    colour: Colour
    label: str | None
    tags: set[str] = field(default_factory=set)
    size: tuple[int, int] = (1, 1)
    origin: Point | None = None


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


class Address(TypedDict):
    street: str
    number: NotRequired[int]
    note: str | None


class Partial(TypedDict, total=False):
    street: str


class Line(pydantic.BaseModel):
    sku: str
    amount: int = pydantic.Field(ge=1)


class Invoice(pydantic.BaseModel):
    lines: list[Line]


@dataclass
class Parcel:
    invoice: Invoice
    other: Invoice | None = None


@dataclass
class Cat:
    kind: Literal["cat"]
    name: str


@dataclass
class Dog:
    kind: Literal["dog"]
    name: str


@dataclass
class Near:
    n: int


@dataclass
class Far:
    n: int


@dataclass
class Positive:
    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError("n must be positive")


UserId = NewType("UserId", str)
WRITTEN: Any = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "additionalProperties": False}
REFERRING: Any = {"$defs": {"n": {"type": "integer"}}, "type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (Any, None),
        (object, None),
        (Any | None, None),
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (None, {"type": "null"}),
        (Optional[int], {"type": ["integer", "null"]}),  # noqa: UP045
        (int | str, {"type": ["integer", "string"]}),
        (dict, {"type": "object"}),
        (dict[str, Any], {"type": "object"}),
        (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            dict[Literal["a"], int],
            {"type": "object", "propertyNames": {"enum": ["a"]}, "additionalProperties": {"type": "integer"}},
        ),
        (list, {"type": "array"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [{"type": "integer"}, {"type": "string"}]},
        ),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (WRITTEN, WRITTEN),
        (REFERRING, REFERRING),
        (list[WRITTEN], {"type": "array", "items": WRITTEN}),
        (Colour, {"enum": ["red", "blue"]}),
        (Annotated[int, "a note"], {"type": "integer"}),
        (UserId, {"type": "string"}),
        (
            Annotated[int | None, "a note"] | str,
            {"anyOf": [{"type": ["integer", "null"]}, {"type": "string"}]},
        ),
        (list[int] | None, {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}),
    ],
)
def test_a_hint_says_what_json_it_allows(hint: Any, schema: Any) -> None:
    assert schema_of(hint) == schema


def test_a_dataclass_is_closed_and_requires_what_has_no_default_and_is_not_optional() -> None:
    schema = schema_of(Shape)
    assert schema is not None
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["corners", "colour"]
    assert schema["properties"]["corners"]["items"]["required"] == ["x"]


def test_a_typed_dict_is_closed_and_requires_what_is_not_marked_otherwise() -> None:
    schema = schema_of(Address)
    assert schema is not None
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["street"]
    assert list(schema["properties"]) == ["street", "number", "note"]
    assert "required" not in (schema_of(Partial) or {})


def test_a_class_that_contains_itself_refers_to_itself() -> None:
    contracts = Contracts()
    contract = contracts.add(schema_of(Tree))
    assert contracts.accepts(contract, {"value": 1, "children": [{"value": 2, "children": [{"value": 3}]}]})
    assert not contracts.accepts(contract, {"value": 1, "children": [{"value": 2, "children": [{"value": "x"}]}]})
    assert build(Tree, {"value": 1, "children": [{"value": 2}]}) == Tree(1, [Tree(2)])


def test_a_pydantic_model_says_its_own_schema_even_inside_another_class() -> None:
    contracts = Contracts()
    for hint, wrap in ((Invoice, lambda value: value), (Parcel, lambda value: {"invoice": value, "other": value})):
        contract = contracts.add(schema_of(hint))
        assert contracts.accepts(contract, wrap({"lines": [{"sku": "a", "amount": 1}]}))
        assert not contracts.accepts(contract, wrap({"lines": [{"sku": "a", "amount": 0}]}))


def test_two_classes_of_one_name_keep_their_own_definitions() -> None:
    line: Any = pydantic.create_model("Line", n=(int, ...))
    other: Any = pydantic.create_model("Invoice", lines=(list[line], ...))
    schema = schema_of(tuple[Invoice, other])
    contracts = Contracts()
    contract = contracts.add(schema)
    assert contracts.accepts(contract, [{"lines": [{"sku": "a", "amount": 1}]}, {"lines": [{"n": 1}]}])
    assert not contracts.accepts(contract, [{"lines": [{"n": 1}]}, {"lines": [{"n": 1}]}])


@pytest.mark.parametrize(
    "hint",
    [
        bytes,
        complex,
        datetime,
        dict[int, str],
        list[bytes],
        Literal[b"x"],
        "text",
        typing.TypeVar("T"),
        {"a": 1},
        {},
        {"type": 5},
        {"type": [[]]},
        {"type": int},
        {"const": float("nan")},
        list[REFERRING],
    ],
)
def test_what_json_cannot_hold_is_refused_with_a_reason(hint: Any) -> None:
    with pytest.raises(InvalidArgument) as error:
        schema_of(hint)
    assert error.value.code == "SCHEMA_INVALID"


class Alias:
    """As `type Json = list[Json]` makes one, where Python knows that."""

    def __init__(self) -> None:
        self.__value__ = list[self]  # type: ignore[valid-type]


def test_an_alias_that_holds_itself_is_refused_and_not_looked_into_for_ever() -> None:
    with pytest.raises(InvalidArgument, match="contains itself, which only a dataclass or a TypedDict may") as error:
        schema_of(dict[str, Alias()])  # type: ignore[misc]
    assert error.value.code == "SCHEMA_INVALID"


def test_a_dataclass_is_built_with_everything_inside_it() -> None:
    given = {
        "corners": [{"x": 1}, {"x": 2, "y": 3}],
        "colour": "blue",
        "tags": ["a", "b"],
        "size": [3, 4],
        "origin": {"x": 0},
    }
    made = build(Shape, given)
    assert made == Shape([Point(1), Point(2, 3.0)], Colour.BLUE, None, {"a", "b"}, (3, 4), Point(0))
    assert isinstance(made.corners[1].y, float)


def test_of_a_schema_that_is_written_out_the_value_is_kept_as_it_is() -> None:
    value = {"n": 1, "other": [2.0]}
    assert build(WRITTEN, value) is value
    # What more it asks for, who has a validator looks at.
    assert fits(WRITTEN, value)
    assert not fits(WRITTEN, [value])
    assert fits({"type": ["array", "null"]}, None)
    assert fits({"enum": [1]}, 1)


def test_a_typed_dict_is_built_as_a_dict_and_optional_keys_left_out_become_none() -> None:
    assert build(Address, {"street": "Elm"}) == {"street": "Elm", "note": None}


def test_a_whole_number_written_with_a_point_is_built_as_an_integer() -> None:
    value = build(Point, {"x": 3.0})
    assert value.x == 3
    assert isinstance(value.x, int)


def test_a_union_is_built_as_the_member_that_fits() -> None:
    assert build(Cat | Dog, {"kind": "dog", "name": "Rex"}) == Dog("dog", "Rex")
    assert build(list[Point | str], [{"x": 1}, "here"]) == [Point(1), "here"]
    assert build(bool | int, True) is True
    assert isinstance(build(float | int, 3), int)
    assert isinstance(build(Near | Far, {"n": 1}), Near)
    assert isinstance(build(Far | Near, {"n": 1}), Far)
    assert build(Invoice | None, None) is None


def test_a_pydantic_model_is_built_by_its_own_validation() -> None:
    assert build(Parcel, {"invoice": {"lines": []}}) == Parcel(Invoice(lines=[]))


def test_plain_hints_leave_the_value_as_it_is() -> None:
    value = {"a": [1]}
    assert build(Any, value) is value
    assert build(dict[str, Any], value) == value


@pytest.mark.parametrize(("hint", "value"), [(Positive, {"n": 0}), (Point, {}), (Invoice, {"lines": 1}), (Point, [1])])
def test_a_value_that_its_class_refuses_is_an_invalid_argument(hint: Any, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"cannot become {hint.__name__}") as error:
        build(hint, value)
    assert error.value.code == "INPUT_INVALID"


def test_arguments_become_properties_required_without_a_default_and_others_stay_allowed() -> None:
    def skill(params: dict[str, Any], path: str, depth: int = 1, *, tree: Tree, anything, **rest: int) -> None: ...  # type: ignore[no-untyped-def]

    schema = arguments_schema(skill, frozenset({"params"}))
    assert list(schema["properties"]) == ["path", "depth", "tree", "anything"]
    assert schema["properties"]["anything"] == {}
    assert schema["required"] == ["path", "tree", "anything"]
    contracts = Contracts()
    contract = contracts.add(schema)
    value = {"path": "p", "tree": {"value": 1, "children": [{"value": 2}]}, "anything": None, "more": 1}
    assert contracts.accepts(contract, value)
    assert not contracts.accepts(contract, value | {"depth": "deep"})


def test_no_arguments_are_an_open_object() -> None:
    def skill(params: dict[str, Any]) -> None: ...

    assert arguments_schema(skill, frozenset({"params"})) == {"type": "object"}


def test_an_argument_that_cannot_be_given_is_refused_by_its_name() -> None:
    def positional(a: int, /) -> None: ...

    def binary(blob: bytes) -> None: ...

    for function, name in ((positional, "a"), (binary, "blob")):
        with pytest.raises(InvalidArgument, match=f"argument '{name}' of .*{function.__name__}"):
            arguments_schema(function, frozenset())


def test_a_hint_is_read_without_the_others_and_may_name_what_the_function_closes_over() -> None:
    @dataclass
    class Local:
        n: int

    def function(a: Local, b: Nowhere) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return Local

    assert hint_of(function, "a") is Local
    assert hint_of(function, "c") is Any
    with pytest.raises(InvalidArgument, match=r"'b'.*Nowhere"):
        hint_of(function, "b")


def test_a_value_fits_a_hint_as_its_schema_says() -> None:
    assert fits(list[Point], [{"x": 1}])
    assert fits(dict[str, Any], {"anything": [None]})
    assert not fits(list[Point], [{"x": "1"}])
    assert not fits(int, True)
    assert fits(Any, object())
