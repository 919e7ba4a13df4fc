"""Contracts: how much work it is to check a value, told from its schema before anything is checked.

Alternatives and references multiply each other: a schema of a few lines and a value of a hundred bytes can keep the
checker busy for hours while it explains what is wrong. So each place of a value is counted with the parts of the
schema that apply there, one level after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from holon.errors import InvalidArgument

# References can make a short schema expand without end.
MAX_EXPANDED = 100_000
# Past this nobody looks how much more it is.
_ENDLESS = 10**9
# The depth of a value is limited to less.
_LEVELS = 70
# Comparing with a list or an object takes as long as so many parts.
_COMPOUND = 10

_HOLDS_DATA = frozenset({"const", "default", "examples"})
_MOVES_REFERENCES = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef")
_ALTERNATIVES = frozenset({"allOf", "anyOf", "oneOf"})
_HERE = frozenset({"not", "if", "then", "else"})
_BELOW = frozenset(
    {"items", "contains", "additionalProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems"}
)


class Work:
    """What a schema takes.

    Attributes:
        patterns: how many regular expressions it has.
        alternatives: whether a value may fit one part of it or another.
        most: what it takes at one place of a value, at most.
    Raises:
        InvalidArgument: (SCHEMA_INVALID) its references lead nowhere or out of it, or expand beyond all bounds.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        try:
            self._expanded, self.patterns = _expanded(schema, schema, {})
            if self._expanded > MAX_EXPANDED:
                raise unusable(f"its references expand to over {MAX_EXPANDED} parts")
            places = _Places(schema)
            self._levels = tuple(_levels(schema, places.found))
        except RecursionError as error:
            raise unusable("its references go too deep") from error
        self.most = self._levels[-1]
        self.alternatives = places.alternatives

    def __repr__(self) -> str:
        return f"<Work expanded={self._expanded} most={self.most} patterns={self.patterns}>"

    def to_check(self, value: Any, limit: int) -> int:
        """About how many steps say whether a value is valid; what was looked at already is not looked at again.

        Arguments:
            limit: past it, it is not counted on.
        """
        parts = explained = 0
        for places, each in self._places(value):
            parts += places
            explained += places * each
            if min(parts * self._expanded, explained) > limit:
                break
        return min(parts * self._expanded, explained)

    def to_explain(self, value: Any, limit: int) -> int:
        """About how many steps say all that is wrong with it, as `to_check`."""
        explained = 0
        for places, each in self._places(value):
            explained += places * each
            if explained > limit:
                break
        return explained

    def _places(self, value: Any) -> Iterator[tuple[int, int]]:
        """Level by level, how many places a value has there, and what the schema takes at each."""
        level = [value]
        for each in (*self._levels, *[self.most] * _LEVELS):
            yield len(level), each
            level = [
                inner
                for outer in level
                if isinstance(outer, dict | list)
                for inner in (outer.values() if isinstance(outer, dict) else outer)
            ]
            if not level:
                return


def unusable(why: str) -> InvalidArgument:
    """The error of a schema that is not taken."""
    return InvalidArgument(f"the schema cannot be used: {why}"[:1000], code="SCHEMA_INVALID")


def _expanded(part: Any, root: dict[str, Any], known: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """How many parts a schema has when each reference is replaced by what it names; recursion counts once.

    And how many patterns it has as it is written.
    """
    if isinstance(part, list):
        sizes = [_expanded(one, root, known) for one in part]
        return sum(size for size, _ in sizes), sum(patterns for _, patterns in sizes)
    if not isinstance(part, dict):
        return 0, 0
    size, patterns = 1, 0
    for key, value in part.items():
        if isinstance(value, str) and (key in _MOVES_REFERENCES or (key == "$id" and part is not root)):
            raise unusable(f"{key} is not supported; refer to parts as #/$defs/name")
        if key == "$ref" and isinstance(value, str):
            if value not in known:
                known[value] = (0, 0)
                known[value] = _expanded(_named(value, root), root, known)
                patterns += known[value][1]
            size += known[value][0]
        elif key == "enum":
            size += _compared(value)
        elif key not in _HOLDS_DATA and key not in ("$defs", "definitions"):
            inner, found = _expanded(value, root, known)
            size, patterns = size + inner, patterns + found
            if key == "pattern":
                patterns += 1
            elif key == "patternProperties" and isinstance(value, dict):
                patterns += len(value)
    return size, patterns


def _compared(members: Any) -> int:
    if not isinstance(members, list):
        return 0
    return sum(_COMPOUND if isinstance(one, dict | list) else 1 for one in members)


def _named(reference: str, root: dict[str, Any]) -> Any:
    """The part of a schema that a reference names."""
    if reference != "#" and not reference.startswith("#/"):
        raise unusable(f"the reference {reference} is never fetched; put its target under $defs")
    part: Any = root
    try:
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            part = part[int(name)] if isinstance(part, list) else part[name]
    except (LookupError, TypeError, ValueError) as error:
        raise unusable(f"the reference {reference} leads nowhere") from error
    return part


class _Place:
    """What applies at one place: its weight, and by the name of what is below, or to all of it, what applies there."""

    def __init__(self, weight: int = 0) -> None:
        self.weight = weight
        self.named: dict[str, Counter[int]] = {}
        self.all: Counter[int] = Counter()

    def take(self, other: _Place) -> None:
        self.weight += other.weight
        self.all.update(other.all)
        for name, parts in other.named.items():
            self.named.setdefault(name, Counter()).update(parts)


class _Places:
    """The places of a schema, each part's once, by its identity."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._open: set[int] = set()
        self.alternatives = False
        self.found: dict[int, _Place] = {}
        self._below: list[Any] = [root]
        while self._below:
            self.at(self._below.pop())

    def at(self, part: Any) -> _Place:
        """What applies where this part does."""
        if id(part) in self.found:
            return self.found[id(part)]
        place = _Place(1)
        if not isinstance(part, dict) or id(part) in self._open:
            # A part that refers to itself, at the same place, is looked at once.
            if not isinstance(part, dict):
                self.found[id(part)] = place
            return place
        self._open.add(id(part))
        for key, value in part.items():
            self._keyword(place, key, value)
        self._open.remove(id(part))
        self.found[id(part)] = place
        return place

    def _keyword(self, place: _Place, key: str, value: Any) -> None:
        place.weight += 1
        if key == "$ref" and isinstance(value, str):
            place.take(self.at(_named(value, self._root)))
        elif key in _ALTERNATIVES and isinstance(value, list):
            self.alternatives = self.alternatives or key != "allOf"
            for one in value:
                place.take(self.at(one))
        elif key in _HERE:
            place.take(self.at(value))
        elif key == "dependentSchemas" and isinstance(value, dict):
            for one in value.values():
                place.take(self.at(one))
        elif key == "properties" and isinstance(value, dict):
            for name, one in value.items():
                self._add(place.named.setdefault(name, Counter()), one)
        elif key == "prefixItems" and isinstance(value, list):
            for index, one in enumerate(value):
                self._add(place.named.setdefault(str(index), Counter()), one)
        elif key == "patternProperties" and isinstance(value, dict):
            for one in value.values():
                self._add(place.all, one)
        elif key in _BELOW:
            self._add(place.all, value)
        elif key == "enum":
            place.weight += _compared(value)
        elif key in ("required", "dependentRequired") and isinstance(value, list | dict):
            place.weight += len(value)

    def _add(self, parts: Counter[int], part: Any) -> None:
        parts[id(part)] += 1
        self._below.append(part)


def _levels(schema: dict[str, Any], places: dict[int, _Place]) -> Iterator[int]:
    """What a schema takes at one place, at its top and at each level below it, until that grows no more."""
    takes = {part: place.weight for part, place in places.items()}
    for _ in range(_LEVELS):
        yield takes[id(schema)]
        below = {part: max(takes[part], _below(place, takes)) for part, place in places.items()}
        if below == takes:
            return
        takes = below


def _below(place: _Place, takes: dict[int, int]) -> int:
    of_all = sum(times * takes[part] for part, times in place.all.items())
    each = (sum(times * takes[part] for part, times in parts.items()) for parts in place.named.values())
    of_one = max(each, default=0)
    return min(of_all + of_one, _ENDLESS)
