"""Patterns of names: `*` stands for any run of characters, none included, and `?` for exactly one."""

from __future__ import annotations

import re
from functools import lru_cache


def is_glob(pattern: str) -> bool:
    """Whether a pattern stands for more than itself."""
    return "*" in pattern or "?" in pattern


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern stands for a name, which is compared whole and by case."""
    if not is_glob(pattern):
        return name == pattern
    # Nearly all of thousands of patterns differ from a name at one of their ends.
    begin, end = _WILD.split(pattern, 1)[0], pattern[max(pattern.rfind("*"), pattern.rfind("?")) + 1 :]
    return name.startswith(begin) and name.endswith(end) and _compiled(pattern).fullmatch(name) is not None


def weight(pattern: str) -> int:
    """How narrow a pattern is: the characters that it asks for."""
    return len(pattern) - pattern.count("*")


def overlap(one: str, other: str) -> bool:
    """Whether there is a name that both patterns stand for."""
    seen: set[tuple[int, int]] = set()
    todo = [(0, 0)]
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        left, right = one[here[0] :], other[here[1] :]
        if not left and not right:
            return True
        todo += _next(here, left[:1], right[:1])
    return False


def _next(here: tuple[int, int], left: str, right: str) -> list[tuple[int, int]]:
    """Where two patterns may go on, of which these are the characters in turn; empty at an end."""
    i, j = here
    steps = []
    if left == "*":
        steps += [(i + 1, j)] + ([(i, j + 1)] if right else [])
    if right == "*":
        steps += [(i, j + 1)] + ([(i + 1, j)] if left else [])
    if left and right and "*" not in (left, right) and (left == right or "?" in (left, right)):
        steps.append((i + 1, j + 1))
    return steps


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Several stars in a row mean what one does, and would take a regular expression much longer.
    parts = (".*" if part[0] == "*" else "." if part == "?" else re.escape(part) for part in _PARTS.findall(pattern))
    return re.compile("".join(parts), re.DOTALL)


_WILD = re.compile(r"[*?]")
_PARTS = re.compile(r"\*+|\?|[^*?]+")
