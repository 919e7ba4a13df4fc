"""The HTTP door: parameters as values, of their texts; what a parameter cannot be is refused by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from holon.engine.paging import DEFAULT_PAGE, MAX_PAGE
from holon.errors import InvalidArgument, Violation

_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?")


def page_size(asked: Mapping[str, str]) -> int:
    """How many a page may hold, by either of its names; 100 when that is left out.

    Raises:
        InvalidArgument: it is no such number, or both names are given.
    """
    if "page_size" in asked and "limit" in asked:
        raise invalid("limit", "is another name for page_size; use only one of them")
    return number(asked, "limit" if "limit" in asked else "page_size", 1, MAX_PAGE) or DEFAULT_PAGE


def number(asked: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """A whole number; None when it is left out.

    Raises:
        InvalidArgument: it is none, or not in these bounds.
    """
    text = asked.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise invalid(name, f"must be a whole number from {least} to {most}, not {text[:40]!r}")
    return int(text)


def flag(asked: Mapping[str, str], name: str) -> bool | None:
    """True or false; None when it is left out.

    Raises:
        InvalidArgument: it is neither.
    """
    text = asked.get(name)
    if text not in (None, "true", "false"):
        raise invalid(name, f"must be true or false, not {text[:40]!r}")
    return None if text is None else text == "true"


def time(asked: Mapping[str, str], name: str) -> float | None:
    """A time in seconds since the epoch; None when it is left out.

    Raises:
        InvalidArgument: it is no number.
    """
    text = asked.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise invalid(name, f"must be a number of seconds since the epoch, not {text[:40]!r}")
    return float(text)


def seconds(asked: Mapping[str, str], name: str, most: int) -> float:
    """So many seconds; 0 when that is left out.

    Raises:
        InvalidArgument: it is no number of them, or over `most`.
    """
    text = asked.get(name, "0")
    if not _NUMBER.fullmatch(text) or not 0 <= float(text) <= most:
        raise invalid(name, f"must be a number of seconds from 0 to {most}, not {text[:40]!r}")
    return float(text)


def invalid(name: str, reason: str) -> InvalidArgument:
    """The refusal of a parameter."""
    return InvalidArgument(f"{name} {reason}", details=[Violation(name, reason)])
