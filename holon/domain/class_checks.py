"""Checks that classes of a type hint make by code of their own: validators of pydantic models, `__post_init__`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holon.domain.schema import shape_of
from holon.domain.shapes import Array, Either, Model, Record, Row, Scalar, Shape, Table
from holon.errors import HolonError, Violation

MAX_VIOLATIONS = 20
MAX_REASON_LENGTH = 300
# What such code may raise of a value that it refuses. Anything else is a fault of the code.
_REFUSED = (TypeError, ValueError, KeyError, AttributeError, AssertionError)
_OWN_CODE = ("__post_init__", "__pydantic_validator__")


def has_checks(hint: Any) -> bool:
    """Whether a value of a hint is checked by code of its classes, of which the hint's JSON schema cannot tell.

    Raises:
        InvalidArgument: (SCHEMA_INVALID) as `schema_of`.
    """
    seen: set[int] = set()
    waiting = [shape_of(hint)]
    while waiting:
        shape = waiting.pop()
        if id(shape) in seen:
            continue
        seen.add(id(shape))
        if isinstance(shape, Model) or (isinstance(shape, Record) and _has_code(shape)):
            return True
        waiting += _inner(shape)
    return False


def _has_code(record: Record) -> bool:
    return any(hasattr(record.make, name) for name in _OWN_CODE)


def refusals(hint: Any, value: Any, path: str) -> list[Violation]:
    """What the classes of a hint refuse of a JSON value, 20 at most; runs their code, which may block.

    Arguments:
        value: JSON that fits the hint's schema.
        path: what to call the value itself.
    Raises:
        HolonError: their code raised what refuses no value.
    """
    shape = shape_of(hint)
    try:
        shape.build(value)
    except _REFUSED as error:
        return _told(shape, value, path, error)[:MAX_VIOLATIONS]
    except BaseException as error:
        # It runs in a thread of ours, where an exit would end the node.
        name = getattr(hint, "__name__", str(hint))
        raise HolonError(f"{path} could not be checked with {name}: {type(error).__name__}: {error}") from error
    return []


def _told(shape: Shape, value: Any, path: str, error: Exception) -> list[Violation]:
    """What an error says that building a value raised, at the innermost place where it is raised."""
    if isinstance(shape, Either):
        among = [one for one in shape.options if not isinstance(one, Scalar)]
        if len(among) == 1:
            try:
                among[0].build(value)
            except _REFUSED as cause:
                return _told(among[0], value, path, cause)
    for step, inner, part in _parts(shape, value):
        try:
            inner.build(part)
        except _REFUSED as cause:
            return _told(inner, part, f"{path}.{step}", cause)
    if callable(errors := getattr(error, "errors", None)):
        # A pydantic model names each part that it refuses, by the keys and indexes that lead there.
        told = [(one.get("loc", ()), str(one.get("msg", ""))) for one in errors()]
        return [Violation(".".join((path, *map(str, where))), said[:MAX_REASON_LENGTH]) for where, said in told]
    said = f"is refused by {type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    return [Violation(path, said[:MAX_REASON_LENGTH] or f"is refused: {type(error).__name__}")]


def _inner(shape: Shape) -> list[Shape]:
    """The shapes of which one is made."""
    if isinstance(shape, Array):
        return [shape.item]
    if isinstance(shape, Row):
        return [*shape.items]
    if isinstance(shape, Table):
        return [shape.value]
    if isinstance(shape, Record):
        return [one.shape for one in shape.fields.values()]
    return [*shape.options] if isinstance(shape, Either) else []


def _parts(shape: Shape, value: Any) -> Iterator[tuple[object, Shape, Any]]:
    """The parts of a value that fits a shape: the key or index of each, and its own shape."""
    if isinstance(shape, Array):
        yield from ((at, shape.item, part) for at, part in enumerate(value))
    elif isinstance(shape, Row):
        yield from ((at, one, part) for at, (one, part) in enumerate(zip(shape.items, value, strict=True)))
    elif isinstance(shape, Table):
        yield from ((key, shape.value, part) for key, part in value.items())
    elif isinstance(shape, Record):
        yield from ((name, one.shape, value[name]) for name, one in shape.fields.items() if name in value)
