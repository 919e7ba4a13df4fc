"""Contracts: how much work it is to check a value, told from its schema before anything is checked.

Alternatives and references multiply each other: a schema of a few lines and a value of a hundred bytes can keep the
checker busy for hours while it explains what is wrong. So each place of a value is counted with the parts of the
schema that apply there, one level after the other; and so are numbers and texts, which some keywords are dear for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from holon.engine.number_work import EACH_UNIQUE, EXTREME_VALUE, is_extreme, to_compare
from holon.engine.pattern_work import ENDLESS, width
from holon.errors import InvalidArgument

# References can make a short schema expand without end.
MAX_EXPANDED = 100_000
# The depth of a value is limited to less.
_LEVELS = 70
# Comparing with a list or an object takes as long as so many parts.
_COMPOUND = 10
# Two places of a pattern at a character take as long as one step.
_PLACES_OF_A_STEP = 2
# A character beyond ASCII is up to so many bytes, of which each is one for a pattern.
_WIDE = 3
# So much of a step is one where all that is wrong is said: that takes far longer, but not for texts and numbers.
_SAID = 100
# What applies to each of a list that has none twice.
_UNIQUE = -1

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
        most: what it takes at one place of a value, at most; texts count with the widest of its patterns.
    Raises:
        InvalidArgument: (SCHEMA_INVALID) its references lead nowhere or out of it, or expand beyond all bounds.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        try:
            self._expanded = _expanded(schema, schema, {})
            if self._expanded.parts > MAX_EXPANDED:
                raise unusable(f"its references expand to over {MAX_EXPANDED} parts")
            places = _Places(schema)
            self._levels = _Levels(places, schema)
        except RecursionError as error:
            raise unusable("its references or patterns are nested too deep") from error
        self.patterns = self._expanded.patterns
        self.most = max(self._levels.parts[-1] + self._levels.numbers[-1], *self._levels.reading)
        self.alternatives = places.alternatives

    def __repr__(self) -> str:
        return f"<Work {self._expanded} most={self.most}>"

    def to_check(self, found: Sequence[Found]) -> int:
        """About how many steps say whether a value is valid; what was looked at already is not looked at again.

        Arguments:
            found: what of the value is at each of its levels.
        """
        whole, once, explained = self._expanded, 0, 0
        for level, there in enumerate(found):
            here = self._levels.at(level)
            once += there.steps(whole.parts, whole.numbers, whole.reading)
            explained += there.steps(here.parts, here.numbers, here.reading)
        return min(once, explained)

    def to_explain(self, found: Sequence[Found]) -> int:
        """About how many steps say all that is wrong with it, as `to_check`."""
        explained = 0
        for level, there in enumerate(found):
            here = self._levels.at(level)
            explained += there.places * here.parts + there.steps(0, here.numbers, here.reading) // _SAID
        return explained


class Found(NamedTuple):
    """What is at one level of a value: places; numbers to compare, of which the extreme ones are many; and text."""

    places: int
    numbers: int
    text: int

    def steps(self, parts: int, numbers: int, reading: int) -> int:
        """What it takes where this much applies to each of it."""
        return self.places * parts + self.numbers * numbers + self.text * reading // _PLACES_OF_A_STEP


def found_in(value: Any) -> list[Found]:
    """What of a JSON value is at each of its levels, from the top."""
    found, level, names = [], [value], 0
    while level:
        compounds = [one for one in level if isinstance(one, dict | list)]
        above, names = names, sum(_length(name) for one in compounds if isinstance(one, dict) for name in one)
        text = above + names + sum(_length(one) for one in level if isinstance(one, str))
        found.append(Found(len(level), len(level) + sum(map(is_extreme, level)) * (EXTREME_VALUE - 1), text))
        level = [inner for one in compounds for inner in (one.values() if isinstance(one, dict) else one)]
    return found


def _length(text: str) -> int:
    return len(text) if text.isascii() else _WIDE * len(text)


class _Takes(NamedTuple):
    """What a schema, or a part of it, takes: for each place, each number, and each character."""

    parts: int
    numbers: int
    reading: int


def unusable(why: str) -> InvalidArgument:
    """The error of a schema that is not taken."""
    return InvalidArgument(f"the schema cannot be used: {why}"[:1000], code="SCHEMA_INVALID")


class _Size(NamedTuple):
    """How large a schema is, each reference replaced by what it names; but patterns as they are written."""

    parts: int = 0
    patterns: int = 0
    numbers: int = 0
    reading: int = 0

    def and_(self, other: _Size) -> _Size:
        return _Size(*(one + another for one, another in zip(self, other, strict=True)))


def _expanded(part: Any, root: dict[str, Any], known: dict[str, _Size]) -> _Size:
    """How large a schema is; recursion counts once."""
    size = _Size()
    if isinstance(part, list):
        for one in part:
            size = size.and_(_expanded(one, root, known))
        return size
    if not isinstance(part, dict):
        return size
    size = _Size(parts=1)
    for key, value in part.items():
        if isinstance(value, str) and (key in _MOVES_REFERENCES or (key == "$id" and part is not root)):
            raise unusable(f"{key} is not supported; refer to parts as #/$defs/name")
        size = size.and_(_Size(numbers=_numbers(key, value), reading=_reading(key, value)))
        if key == "$ref" and isinstance(value, str):
            if value not in known:
                known[value] = _Size()
                known[value] = _expanded(_named(value, root), root, known)
                size = size.and_(known[value])
            else:
                size = size.and_(known[value]._replace(patterns=0))
        elif key == "enum":
            size = size.and_(_Size(parts=_compared(value)))
        elif key not in _HOLDS_DATA and key not in ("$defs", "definitions"):
            size = size.and_(_expanded(value, root, known))
            if key == "pattern":
                size = size.and_(_Size(patterns=1))
            elif key == "patternProperties" and isinstance(value, dict):
                size = size.and_(_Size(patterns=len(value)))
    return size


def _numbers(key: str, value: Any) -> int:
    return EACH_UNIQUE if key == "uniqueItems" and value is True else to_compare(key, value)


def _reading(key: str, value: Any) -> int:
    """How many places of the patterns of a keyword can be reached at one character."""
    if key == "pattern" and isinstance(value, str):
        return width(value)
    if key == "patternProperties" and isinstance(value, dict):
        return sum(map(width, value))
    return 0


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
        raise unusable(f"the reference {reference} has no target") from error
    return part


class _Place:
    """What applies at one place: what it takes, and by the name of what is below, or to all of it, what applies there.

    Attributes:
        weight: steps for each place.
        numbers: and for what is compared there.
        reading: places of patterns, for each character.
    """

    def __init__(self, weight: int = 0, numbers: int = 0) -> None:
        self.weight = weight
        self.numbers = numbers
        self.reading = 0
        self.named: dict[str, Counter[int]] = {}
        self.all: Counter[int] = Counter()

    def take(self, other: _Place) -> None:
        self.weight += other.weight
        self.numbers += other.numbers
        self.reading += other.reading
        self.all.update(other.all)
        for name, parts in other.named.items():
            self.named.setdefault(name, Counter()).update(parts)


class _Places:
    """The places of a schema, each part's once, by its identity."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._open: set[int] = set()
        self.alternatives = False
        self.found: dict[int, _Place] = {_UNIQUE: _Place(numbers=EACH_UNIQUE)}
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
        place.numbers += to_compare(key, value)
        place.reading += _reading(key, value)
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
        elif key == "uniqueItems" and value is True:
            place.all[_UNIQUE] += 1
        elif key == "enum":
            place.weight += _compared(value)
        elif key in ("required", "dependentRequired") and isinstance(value, list | dict):
            place.weight += len(value)

    def _add(self, parts: Counter[int], part: Any) -> None:
        parts[id(part)] += 1
        self._below.append(part)


class _Levels:
    """What a schema takes at one place, at its top and at each level below it, until that grows no more."""

    def __init__(self, places: _Places, schema: dict[str, Any]) -> None:
        found, top = places.found, id(schema)
        self.parts = tuple(_levels(top, found, lambda place: place.weight))
        self.numbers = tuple(_levels(top, found, lambda place: place.numbers))
        # A long text may well stand below a short one that a pattern is for.
        self.reading = tuple(_levels(top, found, lambda place: place.reading, growing=False))

    def at(self, level: int) -> _Takes:
        """What applies at a level, from 0 on."""
        return _Takes(*(one[min(level, len(one) - 1)] for one in (self.parts, self.numbers, self.reading)))


def _levels(top: int, places: dict[int, _Place], of: Callable[[_Place], int], *, growing: bool = True) -> Iterator[int]:
    """What is taken at each level; where it is `growing`, no less than at those above, which is known sooner."""
    takes = {part: of(place) for part, place in places.items()}
    # Most parts have nothing below, and most schemas nothing to compare or to read.
    inner = [(part, place) for part, place in places.items() if place.all or place.named] if any(takes.values()) else []
    nothing = dict.fromkeys(takes, 0)
    for _ in range(_LEVELS):
        yield takes[top]
        least = takes if growing else nothing
        below = {**least, **{part: max(least[part], _below(place, takes)) for part, place in inner}}
        if below == takes:
            return
        takes = below


def _below(place: _Place, takes: dict[int, int]) -> int:
    of_all = sum([times * takes[part] for part, times in place.all.items()])
    of_one = max([_sum(parts, takes) for parts in place.named.values()]) if place.named else 0
    return min(of_all + of_one, ENDLESS)


def _sum(parts: Counter[int], takes: dict[int, int]) -> int:
    return sum([times * takes[part] for part, times in parts.items()])
