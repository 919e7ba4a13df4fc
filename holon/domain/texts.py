"""Texts of others, as they are kept and shown: no longer than that makes sense, and such as can be written."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# What is said of a failure is shown to people, in a line.
MAX_ERROR_MESSAGE = 8 * 1024
MAX_ERROR_CODE = 128
# A name has no more characters; of a longer text only these are compared.
_LONGEST_NAME = 128


def meant(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not known, to be put behind it; empty where none is like it."""
    near = nearest(name, known)
    return f" (did you mean {near!r}?)" if near is not None else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of the known names that a name is most like; None if none is like it."""
    return next(iter(get_close_matches(name[:_LONGEST_NAME], list(known), 1)), None)


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
        return "(its text cannot be shown)"
