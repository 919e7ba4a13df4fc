"""Makes what a server runs out of Lua files: a file holds definitions, and each uses others by their names.

A definition begins in the first column, with `local` or as a function of a table of its file (`function held.count(`),
and goes on until the next one. Whoever uses it comes after it.

Lua takes no more than 200 locals of a function at a time, and one function uses no more than 60 of those around it. So
what belongs together is in a table, where a moment more for each call of it does not matter; and what only its own file
uses is out of sight behind the end of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

_NAME = re.compile(r"(?<![.:\w])([A-Za-z_]\w*)(\.[A-Za-z_]\w*)?")
_STRING = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
_NAMES = re.compile(r"(?:local )?function ([\w.]+)|local ([\w, ]+)")
_BEGINS = re.compile(r"local |function \w+\.\w+\(")


@dataclass(frozen=True, slots=True)
class Definition:
    """One of a file's definitions.

    Attributes:
        file: where it is.
        names: what it defines.
        text: the Lua, without comments.
        uses: all names in it, those in tables with their table's and without.
    """

    file: str
    names: tuple[str, ...]
    text: str
    uses: frozenset[str]

    @property
    def is_local(self) -> bool:
        """Whether its names are locals; else it is a function of a table."""
        return self.text.startswith("local ")

    @property
    def assigned(self) -> str:
        """The Lua where its names, if any, are locals already; empty, when it gives them no values."""
        text = self.text.removeprefix("local ")
        return "" if text == ", ".join(self.names) else text


def definitions(source: str, file: str = "") -> list[Definition]:
    """The definitions of a file.

    Arguments:
        source: what is in it.
        file: its name.
    Raises:
        ValueError: there is something else in the first column.
    """
    lines = [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    found: list[list[str]] = []
    for line in lines:
        if _BEGINS.match(line):
            found.append([line])
        elif found and line.startswith((" ", "end", "}", ")")):
            found[-1].append(line)
        else:
            raise ValueError(f"a definition begins with local, or as a table's function, and this does not: {line}")
    return [_definition(file, "\n".join(one)) for one in found]


def _definition(file: str, text: str) -> Definition:
    begin = _NAMES.match(text)
    if begin is None:
        raise ValueError(f"a definition has a name, and this has none: {text}")
    names = (begin[1],) if begin[1] else tuple(name.strip() for name in begin[2].split(","))
    uses = {name for of, its in _NAME.findall(_STRING.sub("", text)) for name in (of, of + its)}
    return Definition(file, names, text, frozenset(uses))


def lua(some: Sequence[Definition], by: Iterable[Definition]) -> str:
    """The definitions as Lua.

    Arguments:
        some: they, those of a file together.
        by: what comes after them, and is to see what it uses.
    """
    used = frozenset[str]().union(*(one.uses for one in by))
    parts = []
    for file, group in groupby(some, key=lambda one: one.file):
        own = list(group)
        elsewhere = used.union(*(one.uses for one in some if one.file != file))
        seen = [one for one in own if not elsewhere.isdisjoint(one.names)]
        parts.append(_lua_of_file(own, seen))
    return "".join(parts)


def _lua_of_file(own: Sequence[Definition], seen: Sequence[Definition]) -> str:
    """What a file defines as Lua, of which the rest sees so much."""
    if all(one in seen or not one.is_local for one in own):
        return plain_lua(own)
    names = ", ".join(name for one in seen if one.is_local for name in one.names)
    begin = f"local {names}\n" if names else ""
    texts = (one.assigned if one in seen else one.text for one in own)
    body = "".join(f"{text}\n" for text in texts if text)
    return f"{begin}do\n{body}end\n"


def plain_lua(some: Iterable[Definition]) -> str:
    """The definitions as Lua, all in sight of whatever comes after them."""
    return "".join(f"{one.text}\n" for one in some)
