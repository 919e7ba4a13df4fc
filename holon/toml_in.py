"""TOML text, read; what of it JSON can hold, and how its parts are called where something is wrong with them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from typing import Any

from holon.errors import ConfigError

MOST_DEPTH = 16
_INT64 = 2**63


def parse(text: bytes) -> dict[str, Any]:
    """The tables of a file; raises ConfigError, whose message goes on after the file's name, when it is no TOML."""
    try:
        return tomllib.loads(text.decode())
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8") from error
    except RecursionError as error:
        raise ConfigError("is nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"is not valid TOML: {error}") from error


def kind_of(value: Any) -> str:
    """What a value of TOML is, for people."""
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or a time")


def shown(name: str) -> str:
    """A name or a key of a file, as it can be told in one line."""
    return name if name.isprintable() and len(name) <= 80 else ascii(name)[:80]


def problems(value: Any, where: str, depth: int = 1) -> Iterator[tuple[str, str]]:
    """What of a value could not be stored as JSON, or be given to a handler as it is written, and where it stands."""
    if depth > MOST_DEPTH:
        yield where, f"has over {MOST_DEPTH} levels of nesting"
    elif isinstance(value, dict):
        yield from _of_all(((f"{where}.{key}", one) for key, one in value.items()), depth)
        if any("\0" in key for key in value):
            yield where, "has a NUL character in a key"
    elif isinstance(value, list):
        yield from _of_all(((f"{where}[{index}]", one) for index, one in enumerate(value)), depth)
    elif isinstance(value, datetime | date | time):
        yield where, "is a date or a time; write it as text"
    elif isinstance(value, float) and not math.isfinite(value):
        yield where, f"is {value}, which JSON cannot hold"
    elif isinstance(value, int) and not -_INT64 <= value < _INT64:
        yield where, "is an integer of over 64 bits"
    elif isinstance(value, str) and "\0" in value:
        yield where, "has a NUL character"


def _of_all(parts: Iterable[tuple[str, Any]], depth: int) -> Iterator[tuple[str, str]]:
    for where, one in parts:
        yield from problems(one, where, depth + 1)
