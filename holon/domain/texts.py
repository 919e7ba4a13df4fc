"""Texts of others, as they are kept and shown: no longer than that makes sense, and such as can be written."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# What is said of a failure is shown to people, in a line.
MAX_ERROR_MESSAGE = 8 * 1024
MAX_ERROR_CODE = 128


def meant(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not known, to be put behind it; empty where none is like it."""
    close = get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def clipped(text: str, limit: int) -> str:
    """The beginning of a text that fits into `limit` bytes of UTF-8."""
    if len(text) <= limit and text.isascii():
        return text
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def told(said: object, limit: int) -> str:
    """The beginning of what a user's code says; as the name of a file may be, it may be what no store can write."""
    try:
        # Of a text of millions of characters most is not looked at.
        return clipped(str(said)[:limit].encode(errors="backslashreplace").decode(), limit)
    except BaseException:  # noqa: BLE001  how it is written as text is the user's code too
        return "(its text cannot be told)"
