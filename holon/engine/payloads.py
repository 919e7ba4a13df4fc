"""JSON between handlers and workers: encoded once, bounded, and decoded only where it must be read."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import orjson

from holon.domain.json_words import kind
from holon.domain.plain import MAX_DEPTH_READ
from holon.errors import InvalidArgument, TooLarge, invalid
from holon.json_in import parse

# The parser turns whole numbers beyond 64 bits into floats: text that may hold one is read again, to refuse it.
_DIGITS = 19
_LONG = re.compile(rb"[0-9]{%d}" % _DIGITS)
_AS_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_SHAPE = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_INT64 = range(-(2**63), 2**64)


def encode(value: Any, limit: int, what: object) -> bytes:
    """A value as JSON text.

    Arguments:
        limit: the most bytes that it may have.
        what: what it is, for the message: a text, or what makes one when there is a message.
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
        InvalidArgument: (NOT_JSON) it is no JSON, nested deeper than 64, or has a whole number beyond 64 bits.
        Unavailable: the node has no memory to read it.
    """
    if not text:
        return None
    try:
        value = parse(text)
    except ValueError as error:
        raise InvalidArgument(f"{what}: {error}", code="NOT_JSON") from error
    if may_be_deep(text):
        check_depth(value, what)
    if len(text) >= _DIGITS and _LONG.search(text):
        json.loads(text, parse_int=partial(_check_whole, what))
    return value


def decode_within(text: bytes, limit: int, what: str) -> Any:
    """As `decode`, of what somebody sends.

    Arguments:
        limit: the most bytes that it may have.
    Raises:
        TooLarge: it is over the limit; (NOT_JSON) it is nested deeper than 64.
    """
    if len(text) > limit:
        raise TooLarge(f"{what}: {len(text)} bytes, over the limit of {limit}")
    try:
        return decode(text, what)
    except InvalidArgument as error:
        if may_be_deep(text):
            # What a worker passes on is as deep as whoever created its job would have it.
            raise TooLarge(error.message, code=error.code) from error
        raise


def _check_whole(what: str, digits: str) -> None:
    # Python refuses to read very long numbers at all, hence the length first.
    if len(digits) > 20 or int(digits) not in _INT64:
        raise InvalidArgument(f"{what}: {digits[:40]} does not fit into 64 bits; send it as text", code="NOT_JSON")


def encode_object(value: Any, limit: int, what: str) -> bytes:
    """A JSON object that somebody brings as JSON text; None: empty.

    Raises:
        InvalidArgument: it is none, or nested too deeply.
        TooLarge: (LIMIT_EXCEEDED) it is over the limit, in bytes.
    """
    if value is None:
        return b""
    if not isinstance(value, dict):
        raise invalid(what, f"is {kind(value)}, but must be a JSON object")
    text = encode(value, limit, what)
    if may_be_deep(text):
        check_depth(value, what)
    return text


def may_be_deep(text: bytes, depth: int = MAX_DEPTH_READ) -> bool:
    """Whether JSON text is nested deeper than that: it is, or would be if it did not give a name twice.

    Large data has many brackets and few levels: to look at each value would take longer than to read the text.
    """
    if len(text) <= 2 * depth or text.count(b"{") + text.count(b"[") <= depth:
        return False
    if b"\\" in text:
        # Of a quote behind an odd number of them one is left over.
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    shape = text.translate(_AS_ONE_KIND, _NO_SHAPE)
    if b'"' in (outside := shape.replace(b'""', b"")):
        # Some texts have brackets in them.
        outside = b"".join(shape.split(b'"')[::2])
    shape = outside
    for _ in range(depth):
        if not shape:
            return False
        # What holds nothing but what is gone already.
        shape = shape.replace(b"[]", b"")
    return bool(shape)


def too_much(text: bytes, most: int) -> str:
    """Why nobody elsewhere takes JSON text of ours, which gives no name twice; empty: it is taken.

    Arguments:
        most: so many bytes are taken.
    """
    if len(text) > most:
        return f"{len(text)} bytes of JSON, over the limit of {most}"
    return f"nested deeper than {MAX_DEPTH_READ} levels" if may_be_deep(text) else ""


def check_depth(value: Any, what: str) -> None:
    """Raise InvalidArgument (NOT_JSON) when a JSON value is nested deeper than 64; without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH_READ):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise InvalidArgument(f"{what}: nested deeper than {MAX_DEPTH_READ} levels", code="NOT_JSON")
