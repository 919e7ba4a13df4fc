"""Shapes: what a type hint says about a JSON value, as nodes that write a schema and build the typed value."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from holon.errors import InvalidArgument

SCHEMA_INVALID = "SCHEMA_INVALID"


@dataclass(slots=True)
class Definitions:
    """The `$defs` of one schema while it is written: only what refers to itself ends up there."""

    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    open: set[Record] = field(default_factory=set)
    names: dict[object, str] = field(default_factory=dict)

    def name(self, owner: object, wish: str) -> str:
        """A name in `$defs` that is `owner`'s alone."""
        if owner not in self.names:
            taken = set(self.names.values())
            name, number = wish, 2
            while name in taken:
                name, number = f"{wish}_{number}", number + 1
            self.names[owner] = name
        return self.names[owner]


class Shape(Protocol):
    """One node of a hint."""

    def schema(self, definitions: Definitions, /) -> dict[str, Any]:
        """The JSON schema (draft 2020-12) of this node."""

    def accepts(self, value: Any, /) -> bool:
        """Whether the JSON value has this shape; chooses among the members of a union."""

    def build(self, value: Any, /) -> Any:
        """The typed value for a JSON value of this shape."""


class Anything:
    """Any JSON value, kept as it is."""

    def schema(self, _: Definitions) -> dict[str, Any]:
        return {}

    def accepts(self, _: Any) -> bool:
        return True

    def build(self, value: Any) -> Any:
        return value


def _is_integer(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


SCALARS: Mapping[type, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    str: ("string", lambda value: isinstance(value, str), str),
    bool: ("boolean", lambda value: isinstance(value, bool), bool),
    int: ("integer", _is_integer, int),
    float: ("number", _is_number, float),
    type(None): ("null", lambda value: value is None, lambda _: None),
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A string, boolean, integer, number or null."""

    kind: type

    def schema(self, _: Definitions) -> dict[str, Any]:
        return {"type": SCALARS[self.kind][0]}

    def accepts(self, value: Any) -> bool:
        return SCALARS[self.kind][1](value)

    def build(self, value: Any) -> Any:
        return SCALARS[self.kind][2](value)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some JSON scalars: a `Literal`, or the values of an `Enum`."""

    options: tuple[Any, ...]
    make: Callable[[Any], Any] | None = None

    def schema(self, _: Definitions) -> dict[str, Any]:
        return {"enum": list(self.options)}

    def accepts(self, value: Any) -> bool:
        return any(option == value and isinstance(option, bool) == isinstance(value, bool) for option in self.options)

    def build(self, value: Any) -> Any:
        return self.make(value) if self.make else value


@dataclass(frozen=True, slots=True)
class Array:
    """A JSON array of one kind of item, built as a list, tuple, set or frozenset."""

    item: Shape
    make: Callable[[Any], Any]
    unique: bool

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        text: dict[str, Any] = {"type": "array"}
        if items := self.item.schema(definitions):
            text["items"] = items
        if self.unique:
            text["uniqueItems"] = True
        return text

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list) and all(self.item.accepts(item) for item in value)

    def build(self, value: Any) -> Any:
        return self.make(self.item.build(item) for item in value)


@dataclass(frozen=True, slots=True)
class Row:
    """A JSON array of a fixed number of items, built as a tuple."""

    items: tuple[Shape, ...]

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        text: dict[str, Any] = {"type": "array", "minItems": len(self.items), "maxItems": len(self.items)}
        if self.items:
            text["prefixItems"] = [item.schema(definitions) for item in self.items]
        return text

    def accepts(self, value: Any) -> bool:
        same = isinstance(value, list) and len(value) == len(self.items)
        return same and all(shape.accepts(item) for shape, item in zip(self.items, value, strict=True))

    def build(self, value: Any) -> Any:
        return tuple(shape.build(item) for shape, item in zip(self.items, value, strict=True))


@dataclass(frozen=True, slots=True)
class Table:
    """A JSON object with any keys (or those of `key`) and one kind of value, built as a dict."""

    key: Shape
    value: Shape

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        text: dict[str, Any] = {"type": "object"}
        if isinstance(self.key, Choice):
            text["propertyNames"] = self.key.schema(definitions)
        if values := self.value.schema(definitions):
            text["additionalProperties"] = values
        return text

    def accepts(self, value: Any) -> bool:
        return isinstance(value, dict) and all(
            self.key.accepts(key) and self.value.accepts(item) for key, item in value.items()
        )

    def build(self, value: Any) -> Any:
        return {self.key.build(key): self.value.build(item) for key, item in value.items()}


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a record. A key that is not required and has no default is built as None when `fill` says so."""

    shape: Shape
    required: bool
    fill: bool


@dataclass(eq=False, slots=True)
class Record:
    """A JSON object with the fields of a dataclass or TypedDict, and no others."""

    title: str
    make: Callable[..., Any]
    fields: dict[str, Field] = field(default_factory=dict)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        known = definitions.names.get(self)
        if self in definitions.open or known in definitions.written:
            return {"$ref": f"#/$defs/{definitions.name(self, self.title)}"}
        definitions.open.add(self)
        text: dict[str, Any] = {
            "type": "object",
            "title": self.title,
            "properties": {name: one.shape.schema(definitions) for name, one in self.fields.items()},
            "additionalProperties": False,
        }
        definitions.open.remove(self)
        if required := [name for name, one in self.fields.items() if one.required]:
            text["required"] = required
        if self not in definitions.names:
            return text
        definitions.written[definitions.names[self]] = text
        return {"$ref": f"#/$defs/{definitions.names[self]}"}

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, dict) or not value.keys() <= self.fields.keys():
            return False
        return all(
            one.shape.accepts(value[name]) if name in value else not one.required for name, one in self.fields.items()
        )

    def build(self, value: Any) -> Any:
        given = {name: one.shape.build(value[name]) for name, one in self.fields.items() if name in value}
        absent = {name: None for name, one in self.fields.items() if one.fill and name not in value}
        return self.make(**given, **absent)


@dataclass(frozen=True, slots=True)
class Either:
    """A value of one of several shapes: a scalar of its very type, or what the first that accepts it builds."""

    options: tuple[Shape, ...]

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        texts: list[dict[str, Any]] = []
        for option in self.options:
            text = option.schema(definitions)
            if text not in texts:
                texts.append(text)
        if {} in texts:
            return {}
        if all(text.keys() == {"type"} and isinstance(text["type"], str) for text in texts):
            return {"type": [text["type"] for text in texts]}
        return {"anyOf": texts}

    def accepts(self, value: Any) -> bool:
        return any(option.accepts(value) for option in self.options)

    def build(self, value: Any) -> Any:
        if Scalar(type(value)) in self.options:
            return value
        for option in self.options:
            if option.accepts(value):
                return option.build(value)
        raise ValueError("the value matches none of the types allowed here")


@dataclass(frozen=True, slots=True)
class Model:
    """A pydantic model, known by its methods: the schema and the checks are its own."""

    cls: Any

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        name = definitions.name(self.cls, self.cls.__name__)
        text: dict[str, Any] = self.cls.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
        for key, part in text.pop("$defs", {}).items():
            definitions.written[f"{name}.{key}"] = part
        return text

    def accepts(self, value: Any) -> bool:
        try:
            self.cls.model_validate(value)
        except ValueError:
            return False
        return True

    def build(self, value: Any) -> Any:
        return self.cls.model_validate(value)


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A JSON schema that its author wrote out: it is the schema, and the value is kept as it is."""

    text: dict[str, Any]

    def whole(self) -> dict[str, Any]:
        """The schema, where nothing stands around it.

        Raises:
            InvalidArgument: (SCHEMA_INVALID) it is no JSON, or says nothing that a schema says.
        """
        try:
            text: dict[str, Any] = json.loads(json.dumps(self.text, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(
                f"a dict as a hint must be a valid JSON schema: {error}", code=SCHEMA_INVALID
            ) from error
        if not _KEYWORDS.intersection(text):
            why = f"a dict as a hint must be a JSON schema, but this one has none of {', '.join(sorted(_KEYWORDS))}"
            raise InvalidArgument(why, code=SCHEMA_INVALID)
        kinds = text.get("type", "")
        if not isinstance(kinds, str) and not (isinstance(kinds, list) and all(isinstance(one, str) for one in kinds)):
            raise InvalidArgument("the `type` of a JSON schema must be text, or a list of texts", code=SCHEMA_INVALID)
        return text

    def schema(self, _: Definitions) -> dict[str, Any]:
        text = self.whole()
        if _refers(text):
            raise InvalidArgument(
                "a JSON schema with $ref can only be used as a whole hint, not as a part of one", code=SCHEMA_INVALID
            )
        return text

    def accepts(self, value: Any) -> bool:
        # As far as its type: all else is for who has a validator.
        kinds = self.text.get("type", list(_TYPES))
        return any(_TYPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind in _TYPES)

    def build(self, value: Any) -> Any:
        return value


# With none of them, it is somebody's other idea of a contract.
_KEYWORDS = frozenset({"$ref", "allOf", "anyOf", "const", "enum", "oneOf", "properties", "required", "type"})
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    **{name: accepts for name, accepts, _ in SCALARS.values()},
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _refers(part: Any) -> bool:
    if isinstance(part, dict):
        return "$ref" in part or any(map(_refers, part.values()))
    return isinstance(part, list) and any(map(_refers, part))


def choice_of(members: type[enum.Enum]) -> Choice:
    """The shape of an Enum: its members' values in JSON, its members when built."""
    return Choice(tuple(member.value for member in members), members)
