"""The domain: JSON values in the words of refusals, which whoever wrote them reads, in whatever language."""

from __future__ import annotations

import json
from typing import Any

from holon.domain.texts import told

_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}


def kind(value: Any) -> str:
    """What a value is; of what JSON does not have, the name of its type."""
    return "null" if value is None else _KINDS.get(type(value), f"a {type(value).__name__}")


def quoted(value: Any, limit: int) -> str:
    """The beginning of a value as JSON text, at most so many characters; of what is none, as it says of itself."""
    try:
        return json.dumps(value, allow_nan=False)[:limit]
    except (TypeError, ValueError, RecursionError):
        return told(value, limit)
