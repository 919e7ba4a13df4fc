"""What users put into jobs, as stores keep it: JSON text, which every reader reads back as it was."""

from __future__ import annotations

from typing import Any

import orjson

from holon.domain.plain import MAX_DEPTH, no_number, unwritten
from holon.errors import InvalidArgument, StoreUnavailable, Unavailable
from holon.json_in import parse

# As deep as the encoder goes: what is stored stands a few levels deeper in an answer.
_ENCODER_DEPTH = 254


def to_json(value: Any, called: str = "value") -> bytes:
    """A value as JSON text, which every reader reads back as it was.

    Arguments:
        called: what it is, for the message.
    Raises:
        InvalidArgument: `NOT_JSON`, it holds something that JSON cannot: a set, a date of another type, a huge integer,
            a number that is none; or it is nested over 200 deep.
    """
    try:
        text = orjson.dumps(value)
        if len(text) > 2 * MAX_DEPTH and text.count(b"[") + text.count(b"{") > MAX_DEPTH:
            # It may be deeper than whoever wraps it in an answer can write; strings have brackets too.
            orjson.dumps(_wrapped(value))
    except (TypeError, ValueError) as error:
        why = unwritten(value, called, orjson.dumps) or f"{called}: {error}"
        raise InvalidArgument(f"not JSON: {why}", code="NOT_JSON") from error
    if b"null" in text and (where := no_number(value, called)):
        raise InvalidArgument(f"not JSON: {where}", code="NOT_JSON")
    return text


def _wrapped(value: Any) -> Any:
    for _ in range(_ENCODER_DEPTH - MAX_DEPTH):
        value = (value,)
    return value


def from_json(text: bytes) -> Any:
    """The value of JSON text; None for no text. Raises StoreUnavailable where there is no memory to read it."""
    try:
        return parse(text) if text else None
    except Unavailable as error:
        raise StoreUnavailable(error.message, retry_after=error.retry_after) from error
