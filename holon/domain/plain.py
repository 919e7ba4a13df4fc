"""Plain values: what JSON can hold, told before it is written anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

# What the JSON of every language here reads back unchanged.
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
# As deep as the codec goes.
MAX_DEPTH = 200
# As deep as a node reads what comes from elsewhere. Python's parsers and ours recurse: nobody's data needs more, and an
# attacker's must not have it.
MAX_DEPTH_READ = 64
# Of these there is nothing to be said, whatever the value.
_ALWAYS_PLAIN = frozenset({str, bool, type(None)})
# What is no number that is none: for each of the others its path is put together.
_NEVER_NULL = frozenset({str, int, bool, type(None)})


def _is_simple(value: Any) -> bool:
    """Whether nothing has to be said of a value, as of most: for each of the others its path is put together."""
    kind = type(value)
    if kind is int:
        fits: bool = _SMALLEST <= value <= _LARGEST
        return fits
    return kind in _ALWAYS_PLAIN or (kind is float and math.isfinite(value))


def obstacle(value: Any, path: str, depth: int = 0, most: int = MAX_DEPTH) -> str | None:
    """The first thing in a value that JSON cannot hold, as a sentence; None when there is none.

    Arguments:
        value: dicts with text as keys, lists, tuples, text, finite numbers, booleans, None.
        path: what to call the value itself.
        depth: how deep it stands.
        most: what is nested deeper than that, or in itself, is an obstacle.
    """
    if not isinstance(value, (dict, list)) and type(value) is not tuple:
        return _single(value, path)
    if depth >= most:
        return f"{path[:100]}... is nested over {most} levels deep"
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                kind = f" of type {type(key).__name__}" if isinstance(key, str) else ""
                return f"{path} has the key {key!r}{kind}; keys are text"
            if (
                type(item) not in _ALWAYS_PLAIN
                and not _is_simple(item)
                and (found := obstacle(item, f"{path}.{key}", depth + 1, most))
            ):
                return found
        return None
    for index, item in enumerate(value):
        if (
            type(item) not in _ALWAYS_PLAIN
            and not _is_simple(item)
            and (found := obstacle(item, f"{path}[{index}]", depth + 1, most))
        ):
            return found
    return None


def as_told(value: Any, depth: int = 0) -> Any:
    """A value with instances of dataclasses and members of enums as an encoder writes them, and all else as it is.

    Arguments:
        depth: how deep it stands; what is nested over 200 deep, or in itself, is left as it is.
    """
    if depth >= MAX_DEPTH:
        return value
    if isinstance(value, dict):
        return {key: as_told(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list) or type(value) is tuple:
        return [as_told(item, depth + 1) for item in value]
    if isinstance(value, Enum):
        return as_told(value.value, depth + 1)
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: as_told(getattr(value, one.name, None), depth + 1) for one in fields(value)}
    return value


def no_number(value: Any, path: str) -> str | None:
    """The first number in a value that is none, which an encoder would write as null, as a sentence; else None.

    Arguments:
        value: what can be encoded: `dataclasses` too.
        path: what to call the value itself.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if type(item) not in _NEVER_NULL and (found := no_number(item, f"{path}.{key}")):
                return found
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if type(item) not in _NEVER_NULL and (found := no_number(item, f"{path}[{index}]")):
                return found
    elif is_dataclass(value):
        return no_number({one.name: getattr(value, one.name, None) for one in fields(value)}, path)
    elif isinstance(value, float):
        return _single(value, path)
    return None


def unwritten(value: Any, path: str, write: Callable[[Any], object], depth: int = 0) -> str | None:
    """The first thing in a value that an encoder does not write, as a sentence; None if that cannot be told.

    Arguments:
        value: what the encoder does not write.
        path: what to call the value itself.
        write: the encoder; it raises TypeError or ValueError for what it does not write.
        depth: how deep it stands; of what is nested over 200 deep, or in itself, nothing is told.
    """
    if depth >= MAX_DEPTH:
        return None
    # Only the first part that is not written is looked into: what holds itself twice would never end.
    if isinstance(value, dict):
        for key, item in value.items():
            if not _is_written({key: None}, write):
                return f"{path} has the key {key!r}; keys are text"
            if not _is_written(item, write):
                return unwritten(item, f"{path}.{key}", write, depth + 1)
        return None
    if isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            if not _is_written(item, write):
                return unwritten(item, f"{path}[{index}]", write, depth + 1)
        if isinstance(value, (list, tuple)):
            return None
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {one.name: getattr(value, one.name, None) for one in fields(value)}
        return unwritten(parts, path, write, depth + 1)
    elif isinstance(value, str):
        return f"{path} is a text that cannot be written as UTF-8"
    return _single(value, path)


def _is_written(value: Any, write: Callable[[Any], object]) -> bool:
    try:
        write(value)
    except (TypeError, ValueError):
        return False
    return True


def _single(value: Any, path: str) -> str | None:
    if value is None or isinstance(value, (str, bool)):
        return None
    if isinstance(value, int):
        return None if _SMALLEST <= value <= _LARGEST else f"{path} is an integer of over 64 bits"
    if isinstance(value, float):
        if not math.isfinite(value):
            return f"{path} is {value}, which JSON cannot hold"
        if type(value) is float:
            return None
    return f"{path} is a {type(value).__name__}, which JSON cannot hold"
