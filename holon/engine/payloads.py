"""JSON between handlers and workers: encoded once, bounded, and decoded only where it must be read."""

from __future__ import annotations

from typing import Any

import orjson

from holon.errors import InvalidArgument, TooLarge

# Python's parsers and ours recurse: nobody's data needs more, and an attacker's must not have it.
MAX_DEPTH = 64


def encode(value: Any, limit: int, what: str) -> bytes:
    """A value as JSON text.

    Arguments:
        limit: the most bytes that it may have.
        what: what it is, for the message.
    Raises:
        InvalidArgument: (NOT_JSON) it holds what JSON cannot.
        TooLarge: (LIMIT_EXCEEDED) it is over the limit.
    """
    try:
        text = orjson.dumps(value)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{what}: {error}", code="NOT_JSON") from error
    if len(text) > limit:
        raise TooLarge(f"{what}: {len(text)} bytes of JSON, over the limit of {limit}", code="LIMIT_EXCEEDED")
    return text


def decode(text: bytes, what: str) -> Any:
    """The value of JSON text; None for no text.

    Raises:
        InvalidArgument: (NOT_JSON) it is no JSON, or nested deeper than 64.
    """
    if not text:
        return None
    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{what}: {error}", code="NOT_JSON") from error
    check_depth(value, what)
    return value


def check_depth(value: Any, what: str) -> None:
    """Raise InvalidArgument (NOT_JSON) when a JSON value is nested deeper than 64; without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise InvalidArgument(f"{what}: nested deeper than {MAX_DEPTH}", code="NOT_JSON")
