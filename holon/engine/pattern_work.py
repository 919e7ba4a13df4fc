"""Contracts: how much work a regular expression is at each character of a text, told from how it is written.

The engine that matches them never goes back, but it may have to follow all ways through a pattern at once: at each
character, one step for each place of the pattern that can be reached there. `[ab]*a[ab]{800}c` has 803 of them, and a
text of a megabyte then takes seconds. It is mostly quicker than that; a stranger's pattern and text are not.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

# Of a pattern that cannot be read here.
ENDLESS = 10**9

_TIMES = re.compile(r"\{\s*([0-9]{1,9})\s*(?:(,)\s*([0-9]{1,9})?\s*)?\}")
# Bounded, so that what never closes is not searched to its end again and again.
_GROUP = re.compile(r"\(\?(?:P?<[^>]{0,200}>|([a-zA-Z-]{0,20})[:)])")
_ESCAPE = re.compile(r"\\(?:[pPxuUbB]\{[^}]{0,200}\}|.)", re.DOTALL)
_AT_NO_CHARACTER = ("^", "$", r"\b", r"\B", r"\A", r"\z", r"\<", r"\>")


class _Part(NamedTuple):
    """A part of a pattern.

    Attributes:
        size: its places, each repetition counted.
        width: how many of them can be reached at once by who enters it once.
        least: how long a text is that it matches, at least.
        most: and at most.
    """

    size: int
    width: int
    least: int
    most: float


_NOTHING = _Part(0, 0, 0, 0)
_CHARACTER = _Part(1, 1, 1, 1)
_BETWEEN = _Part(1, 1, 0, 0)


class _Unclear(ValueError):
    pass


@lru_cache(maxsize=128)
def width(pattern: str) -> int:
    """How many places of a pattern can be reached at one character of a text, at most; `ENDLESS` where nobody knows.

    Raises:
        RecursionError: its groups are too deep in each other.
    """
    reader = _Reader(pattern)
    try:
        whole = reader.alternatives()
        if not reader.ended:
            raise _Unclear
    except _Unclear:
        return reader.at_worst()
    # What is not tied to the beginning is entered anew at each character.
    tied = pattern.startswith("^") and not reader.parted
    return min(1 + (whole.width if tied else whole.size), ENDLESS)


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0
        self._verbose = False
        self.parted = False

    @property
    def ended(self) -> bool:
        return self._at >= len(self._pattern)

    def at_worst(self) -> int:
        """More places than there can be, of a pattern of which it is not clear what is repeated."""
        if self._verbose:
            return ENDLESS
        worst = len(self._pattern)
        for found in _TIMES.finditer(self._pattern):
            worst *= max(int(found[1]), int(found[3] or 0), 1)
            if worst > ENDLESS:
                return ENDLESS
        return worst

    def alternatives(self) -> _Part:
        whole = self._sequence()
        while self._next() == "|":
            self.parted = self.parted or not self._depth
            self._at += 1
            other = self._sequence()
            least, most = min(whole.least, other.least), max(whole.most, other.most)
            whole = _Part(whole.size + other.size, whole.width + other.width, least, most)
        return whole

    def _sequence(self) -> _Part:
        whole = _NOTHING
        while self._next() not in ("", "|", ")"):
            whole = _then(whole, self._repeated(self._atom()))
        return whole

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _atom(self) -> _Part:
        one = self._next()
        if one == "(":
            return self._group()
        if one == "[":
            self._class()
            return _CHARACTER
        if one == "\\":
            found = _ESCAPE.match(self._pattern, self._at)
            if found is None:
                raise _Unclear
            self._at = found.end()
            return _BETWEEN if found[0][:2] in _AT_NO_CHARACTER else _CHARACTER
        self._at += 1
        return _BETWEEN if one in _AT_NO_CHARACTER else _CHARACTER

    def _group(self) -> _Part:
        opening = _GROUP.match(self._pattern, self._at)
        if opening and "x" in (opening[1] or ""):
            # Blanks and comments may stand anywhere, within the braces of a repetition too.
            self._verbose = True
            raise _Unclear
        self._at = opening.end() if opening else self._at + 1
        if opening and opening[0].endswith(")"):
            return _BETWEEN
        self._depth += 1
        inner = self.alternatives()
        self._depth -= 1
        if self._next() != ")":
            raise _Unclear
        self._at += 1
        return inner._replace(size=inner.size + 1, width=inner.width + 1)

    def _class(self) -> None:
        self._at += 1
        if self._next() == "^":
            self._at += 1
        if self._next() == "]":
            # The engine and who translates for it take this for different things.
            raise _Unclear
        while (one := self._next()) != "]":
            if not one:
                raise _Unclear
            self._at += 2 if one == "\\" else 1
        self._at += 1

    def _repeated(self, part: _Part) -> _Part:
        while (one := self._next()) and one in "*+?{":
            if one != "{":
                self._at += 1
                part = _times(part, int(one == "+"), 1 if one == "?" else None)
                continue
            found = _TIMES.match(self._pattern, self._at)
            if found is None:
                raise _Unclear
            self._at = found.end()
            least = int(found[1])
            part = _times(part, least, least if not found[2] else None if not found[3] else int(found[3]))
        return part


def _then(first: _Part, second: _Part) -> _Part:
    """One part behind another. Who is in the one is not in the other, where it is known how long the first one is."""
    if first.most > first.least:
        wide = first.width + min(second.size, second.width * (first.most - first.least + 1))
    elif first.most and second.most:
        wide = max(first.width, second.width)
    else:
        wide = first.width + second.width
    return _Part(first.size + second.size, int(wide), first.least + second.least, first.most + second.most)


def _times(part: _Part, least: int, most: int | None) -> _Part:
    """A part, repeated; `most` is None where that has no end."""
    size = part.size * max(least, most or 1)
    # Who has come through as often as all others is in the same place of it as they are.
    together = part.most == part.least and part.most > 0
    longest = 0 if most == 0 or not part.most else math.inf if most is None else part.most * most
    return _Part(size, part.width if together else size, part.least * least, longest)
