"""Schemas from type hints: the JSON schema that a hint promises, and the typed value that it asks for.

The worker SDK shares this module with the node, so it needs nothing but the standard library.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from holon.domain.hashing import hashable
from holon.domain.shapes import (
    SCALARS,
    SCHEMA_INVALID,
    Anything,
    Array,
    Choice,
    Definitions,
    Either,
    Field,
    Model,
    Record,
    Row,
    Scalar,
    Shape,
    Table,
    Written,
    choice_of,
)
from holon.errors import HolonError, InvalidArgument

_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
_SETS = {
    set: set,
    frozenset: frozenset,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_WRAPPERS = (typing.Annotated, typing.Required, typing.NotRequired)


def schema_of(hint: Any) -> dict[str, Any] | None:
    """The JSON schema (draft 2020-12) of a hint.

    Dataclasses and TypedDicts allow no other keys; a field with a default, an Optional one and a NotRequired one may be
    left out. A `dict` is open. A pydantic model says it itself, and a dict that is a schema is taken as it is.

    Arguments:
        hint: a resolved type hint, such as `hint_of` returns.
    Returns:
        None when the hint allows anything (`Any`, `object`, or no hint at all).
    Raises:
        InvalidArgument: (SCHEMA_INVALID) for a type that JSON cannot hold.
    """
    shape = shape_of(hint)
    if isinstance(shape, Written):
        return shape.whole()
    definitions = Definitions()
    return _with_definitions(shape.schema(definitions), definitions) or None


def build(hint: Any, value: Any) -> Any:
    """The typed value that a hint asks for: (nested) dataclass instances, sets, tuples, enum members, models.

    Arguments:
        hint: a resolved type hint, such as `hint_of` returns.
        value: JSON that was checked against `schema_of(hint)`. It is not changed.
    Raises:
        InvalidArgument: (INPUT_INVALID) when the value does not fit, or the class itself refuses it.
    """
    shape = shape_of(hint)
    try:
        return shape.build(value)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        name = getattr(hint, "__name__", str(hint))
        raise InvalidArgument(f"the value cannot become {name}: {error}", code="INPUT_INVALID") from error


def fits(hint: Any, value: Any) -> bool:
    """Whether a JSON value has the shape of a hint, for who has no validator of schemas.

    Arguments:
        hint: a resolved type hint, such as `hint_of` returns.
    """
    return shape_of(hint).accepts(value)


def hint_of(function: Callable[..., Any], argument: str) -> Any:
    """The resolved hint of one argument, whatever the other hints are; `Any` when it has none.

    Raises:
        InvalidArgument: (SCHEMA_INVALID) when the hint is text that names nothing known.
    """
    plain = inspect.unwrap(function)
    hint = getattr(plain, "__annotations__", {}).get(argument, Any)
    stub = types.SimpleNamespace(__annotations__={argument: hint})
    inner = dict(zip(plain.__code__.co_freevars, (_content(cell) for cell in plain.__closure__ or ()), strict=True))
    try:
        return typing.get_type_hints(stub, plain.__globals__, inner, include_extras=True)[argument]
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise InvalidArgument(
            f"the type hint of {argument!r} in {plain.__qualname__} cannot be read: {error}; "
            "import or define its names at the top of the file",
            code=SCHEMA_INVALID,
        ) from error


def arguments_schema(function: Callable[..., Any], reserved: frozenset[str]) -> dict[str, Any]:
    """The schema of an object that holds the arguments of a function: one property each, required without a default.

    Other properties stay allowed.

    Arguments:
        function: its `**` argument, if it has one, takes no part.
        reserved: names of arguments that do not come from the object.
    Raises:
        InvalidArgument: (SCHEMA_INVALID) for a hint that JSON cannot hold, or an argument that has no name.
    """
    definitions = Definitions()
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise InvalidArgument(
                f"argument {name!r} of {function.__qualname__} cannot be passed by name", code=SCHEMA_INVALID
            )
        if name in reserved or parameter.kind is parameter.VAR_KEYWORD:
            continue
        properties[name] = _located(function, name).schema(definitions)
        if parameter.default is parameter.empty:
            required.append(name)
    text: dict[str, Any] = {"type": "object"}
    if properties:
        text["properties"] = properties
    if required:
        text["required"] = required
    return _with_definitions(text, definitions)


def _located(function: Callable[..., Any], name: str) -> Shape:
    hint = hint_of(function, name)
    try:
        return shape_of(hint)
    except HolonError as error:
        raise InvalidArgument(
            f"argument {name!r} of {function.__qualname__}: {error.message}", code=SCHEMA_INVALID
        ) from error


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _with_definitions(text: dict[str, Any], definitions: Definitions) -> dict[str, Any]:
    return {**text, "$defs": definitions.written} if definitions.written else text


@functools.lru_cache(maxsize=1024)
def _remembered(hint: Any, _: str) -> Shape:
    return _read(hint, {})


def shape_of(hint: Any) -> Shape:
    """The shape of a hint.

    Raises:
        InvalidArgument: (SCHEMA_INVALID) for a type that JSON cannot hold.
    """
    try:
        hash(hint)
    except TypeError:
        return _read(hint, {})
    try:
        # Unions are equal in any order, but the order chooses between members that both fit.
        return _remembered(hint, str(hint))
    except RecursionError as error:
        why = f"the type hint {hint!r} contains itself, which only a dataclass or a TypedDict may"
        raise InvalidArgument(why, code=SCHEMA_INVALID) from error


def _read(hint: Any, records: dict[Any, Record]) -> Shape:
    """The shape of a hint; `records` holds the classes being read, so that one may contain itself."""
    if hint is None:
        hint = type(None)
    if isinstance(hint, dict):
        return Written(hint)
    if hint in (Any, object):
        return Anything()
    if isinstance(hint, type) and hint in SCALARS:
        return Scalar(hint)
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in _WRAPPERS:
        return _read(arguments[0], records)
    if isinstance(hint, typing.NewType):
        return _read(hint.__supertype__, records)
    if hasattr(hint, "__value__") and not isinstance(hint, type):
        return _read(hint.__value__, records)
    if origin in (typing.Union, types.UnionType):
        return Either(tuple(_read(one, records) for one in arguments))
    if origin is typing.Literal:
        return _choice([one.value if isinstance(one, enum.Enum) else one for one in arguments], hint)
    if shape := _collection(origin, arguments, records):
        return shape
    if isinstance(origin, type) and (shape := _class(origin, records)):
        return shape
    raise InvalidArgument(
        f"JSON cannot hold the type hint {hint!r}; use str, int, float, bool, None, list, dict, set, tuple, Literal, "
        "Enum, Optional, a dataclass, a TypedDict, a pydantic model or a dict that is a JSON schema",
        code=SCHEMA_INVALID,
    )


def _collection(origin: Any, arguments: tuple[Any, ...], records: dict[Any, Record]) -> Shape | None:
    if origin in _DICTS:
        key, value = arguments or (str, Any)
        names = Scalar(str) if key is Any else _read(key, records)
        if names == Scalar(str) or (isinstance(names, Choice) and all(isinstance(one, str) for one in names.options)):
            return Table(names, _read(value, records))
        raise InvalidArgument(f"keys of JSON objects are text, not {key!r}", code=SCHEMA_INVALID)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return Row(tuple(_read(one, records) for one in arguments))
    item = _read(arguments[0], records) if arguments else Anything()
    if origin is tuple:
        return Array(item, tuple, unique=False)
    if isinstance(origin, type) and origin in _SETS:
        if not hashable(item):
            raise InvalidArgument(
                f"a set cannot hold the type hint {arguments[0]!r}, because it has no hash; use a list, or a frozen "
                "dataclass, tuple or frozenset",
                code=SCHEMA_INVALID,
            )
        return Array(item, _SETS[origin], unique=True)
    if origin in _LISTS:
        return Array(item, list, unique=False)
    return None


def _class(cls: Any, records: dict[Any, Record]) -> Shape | None:
    if hasattr(cls, "model_json_schema") and hasattr(cls, "model_validate"):
        return Model(cls)
    if issubclass(cls, enum.Enum):
        _choice([member.value for member in cls], cls)
        return choice_of(cls)
    if cls in records:
        return records[cls]
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else None
    if fields is None and not typing.is_typeddict(cls):
        return None
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise InvalidArgument(f"a field of {cls.__qualname__} cannot be read: {error}", code=SCHEMA_INVALID) from error
    record = records[cls] = Record(cls.__name__, dict if fields is None else cls)
    if fields is not None:
        for one in fields:
            if one.init:
                bare = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
                record.fields[one.name] = _field(hints[one.name], bare, records)
        return record
    for name, hint in hints.items():
        mark = typing.get_origin(hint)
        needed = mark is typing.Required or (mark is not typing.NotRequired and name in cls.__required_keys__)
        record.fields[name] = _field(hint, needed, records)
    return record


def _field(hint: Any, bare: bool, records: dict[Any, Record]) -> Field:
    shape = _read(hint, records)
    optional = isinstance(shape, Either) and Scalar(type(None)) in shape.options
    return Field(shape, required=bare and not optional, fill=bare and optional)


def _choice(values: list[Any], hint: Any) -> Choice:
    if not all(value is None or isinstance(value, str | int | bool | float) for value in values):
        raise InvalidArgument(f"{hint!r} has a value that JSON cannot hold", code=SCHEMA_INVALID)
    return Choice(tuple(values))
