"""The HTTP door: JSON bodies, read strictly: what would be lost or changed on the way in is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from holon.domain.plain import MAX_DEPTH_READ
from holon.engine.payloads import check_depth, may_be_deep
from holon.errors import InvalidArgument, Violation, invalid
from holon.json_in import parse

# What the fast reader passes over: it keeps the last of several equal keys, and whole numbers of more than 64 bits lose
# digits. A body is read again, slowly, only where one of them may be: a key of ours can hide in \\u escapes alone.
_HIDDEN = b"\\u00"
# Looked for by its first digit, which a repetition is not.
_LONG = re.compile(rb"[0-9][0-9]{18}")
_INT64 = range(-(2**63), 2**64)


def read_object(body: bytes, known: frozenset[str]) -> dict[str, Any]:
    """Return the JSON object that a request carries.

    Arguments:
        known: the fields that it may have.
    Raises:
        InvalidArgument: (INVALID_JSON) it is no JSON object, nested deeper than 64, or has a whole number beyond 64
            bits; or it names the fields that are unknown, or there twice.
        Unavailable: the node has no memory to read it.
    """
    try:
        value = parse(body)
    except ValueError as error:
        raise _invalid(f"Invalid JSON body: {_why(body, error)}") from error
    if not isinstance(value, dict):
        raise _invalid("Invalid JSON body: the body must be an object")
    unknown = [Violation(name[:128], "is unknown") for name in value if name not in known]
    if unknown:
        fields = ", ".join(repr(violation.field) for violation in unknown[:10])
        takes = ", ".join(sorted(known)) or "none"
        raise InvalidArgument(f"unknown field {fields} in the body; use {takes}", details=unknown[:10])
    # Each field may be as deep as anything is.
    if may_be_deep(body, MAX_DEPTH_READ + 1):
        for name, inner in value.items():
            _check_depth(inner, name)
    if _HIDDEN in body or _LONG.search(body) or any(body.count(b'"%b"' % name.encode()) > 1 for name in value):
        _read_again(body)
    return value


def text_in(asked: Mapping[str, Any], name: str) -> str:
    """The text in one field of a body; empty: there is none. Raises InvalidArgument for what is no text."""
    value = asked.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(name, "must be text")
    return value


def _why(body: bytes, error: ValueError) -> str:
    """Why it is no JSON; the reader has words of its own for bytes that are no text, and for none at all."""
    if not body:
        return "the body is empty; send an object, such as {}"
    try:
        body.decode()
    except UnicodeDecodeError as other:
        return f"the body is not UTF-8 from byte {other.start} on"
    return str(error)


def _check_depth(value: Any, name: str) -> None:
    try:
        check_depth(value, name)
    except InvalidArgument as error:
        raise _invalid(f"Invalid JSON body: {error.message}") from error


def _read_again(body: bytes) -> None:
    top: list[tuple[str, Any]] = []

    def keep_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # The outermost object ends last, so what is kept in the end is its.
        nonlocal top
        top = pairs
        return {}

    json.loads(body, object_pairs_hook=keep_pairs, parse_int=_whole)
    seen: set[str] = set()
    for name, _ in top:
        if name in seen:
            raise InvalidArgument(f"the body has the field {name!r} twice", details=[Violation(name, "is there twice")])
        seen.add(name)


def _whole(digits: str) -> int:
    # Python refuses to read very long numbers at all, hence the length first.
    if len(digits) > 20 or int(digits) not in _INT64:
        raise _invalid(f"Invalid JSON body: {digits[:40]} does not fit into 64 bits; send it as text")
    return 0


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(message, code="INVALID_JSON")
