"""Makes what a server runs out of Lua files: a file holds definitions, and each uses others by their names.

A definition begins with `local` in the first column, and goes on until the next one. Whoever uses it comes after it. So
a script can be given exactly what its operation needs, and what that needs in turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_NAME = re.compile(r"(?<![.:\w])[A-Za-z_]\w*")
_STRING = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
_NAMES = re.compile(r"local (?:function (\w+)|([\w, ]+))")

_OUTSIDE = 58


@dataclass(frozen=True, slots=True)
class Definition:
    """One of a file's definitions.

    Attributes:
        names: what it defines.
        text: the Lua, without comments.
        uses: all names in it.
    """

    names: tuple[str, ...]
    text: str
    uses: frozenset[str]


def definitions(source: str) -> list[Definition]:
    """The definitions of a file.

    Raises:
        ValueError: there is something else in the first column.
    """
    lines = [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("local "):
            found.append([line])
        elif found and line.startswith((" ", "end", "}", ")")):
            found[-1].append(line)
        else:
            raise ValueError(f"a definition begins with local, and this does not: {line}")
    return [_definition("\n".join(one)) for one in found]


def _definition(text: str) -> Definition:
    begin = _NAMES.match(text)
    if begin is None:
        raise ValueError(f"a definition has a name, and this has none: {text}")
    names = (begin[1],) if begin[1] else tuple(name.strip() for name in begin[2].split(","))
    return Definition(names, text, frozenset(_NAME.findall(_STRING.sub("", text))))


def needed(known: Sequence[Definition], by: Iterable[Definition]) -> list[Definition]:
    """What of the definitions that are known others use, and those use, in their order."""
    by_name = {name: one for one in known for name in one.names}
    wanted: set[str] = set()
    left = [one.uses for one in by]
    while left:
        for name in (left.pop() & by_name.keys()) - wanted:
            wanted.update(by_name[name].names)
            left.append(by_name[name].uses)
    return [one for one in known if not wanted.isdisjoint(one.names)]


def lua(some: Iterable[Definition]) -> str:
    """The definitions as Lua."""
    return "".join(f"{one.text}\n" for one in some)


def lua_of_script(some: Sequence[Definition], result: str) -> str:
    """The definitions and what they are for, as a script that is to run once.

    Each function that is made looks for the locals that it uses among all that others use already, one by one: with
    many definitions that is a good part of what such a script costs. What is outside of the function that makes it, it
    has at once; there may be 60 of these.
    """
    names, first = 0, 0
    while first < len(some) and names + len(some[first].names) <= _OUTSIDE:
        names += len(some[first].names)
        first += 1
    return f"{lua(some[:first])}return (function()\n{lua(some[first:])}return {result}\nend)()\n"
