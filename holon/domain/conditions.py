"""Conditions: one comparison of a job's data, read once, that says whether a handler is called."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from holon.domain.json_words import kind
from holon.errors import BlueprintError

Area = Literal["initial_data", "state_history"]
Value: TypeAlias = str | int | float | bool | None

MAX_CONDITION = 1000
_EXAMPLE = "context.initial_data.type == 'urgent'"
_EQUAL: Mapping[str, Callable[[Any, Any], bool]] = {"==": operator.eq, "!=": operator.ne}
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
_FIELD = re.compile(r"context\.(?P<area>initial_data|state_history)(?P<path>(?:\.[\w-]+)+)(?![\w.-])")
_OPERATOR = re.compile(r"==|!=|>=|<=|>|<")
_TEXT = re.compile(r"'[^']*'|\"[^\"]*\"")
_NUMBER = re.compile(r"[+-]?(?:(?P<whole>[0-9]+)|[0-9]+\.[0-9]*|\.[0-9]+)(?P<power>[eE][+-]?[0-9]+)?(?![\w.])")
_WORD = re.compile(r"\w+")
# A text whose quotes were forgotten; a name with dots is no text but another field.
_BARE = re.compile(r"[^\W\d][\w-]*(?![\w.(\[-])")
_WORDS: Mapping[str, bool | None] = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
}
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one field of a job's data with a value. It has no other kinds of answer than yes and no.

    A field that is not there, and a value of another kind than the condition's, make it false, whatever the operator:
    text is never a number, nor is true or false. Only null may be compared with every kind, by == and !=.

    Arguments:
        text: as it was written.
        area: where it looks.
        path: the names of the objects on the way, and of the field.
        sign: the operator.
        value: what the field is compared with.
    """

    text: str
    area: Area
    path: tuple[str, ...]
    sign: str
    value: Value

    def __str__(self) -> str:
        return self.text

    def holds(self, initial_data: Mapping[str, Any], state_history: Mapping[str, Any]) -> bool:
        """Whether it is true of a job's data; never raises."""
        found = self._found(initial_data, state_history)
        if found is _ABSENT:
            return False
        if self.sign in _EQUAL:
            if self.value is None:
                return (found is None) == (self.sign == "==")
            return _kind(found) is _kind(self.value) and _EQUAL[self.sign](found, self.value)
        return _kind(found) is _kind(self.value) and _ORDER[self.sign](found, self.value)

    def looked_at(self, initial_data: Mapping[str, Any], state_history: Mapping[str, Any]) -> str:
        """What it finds in a job's data, for people: which kind of value, and never the value."""
        found = self._found(initial_data, state_history)
        return f"`{self.text}` found {'nothing' if found is _ABSENT else kind(found)}"

    def _found(self, initial_data: Mapping[str, Any], state_history: Mapping[str, Any]) -> Any:
        found: Any = initial_data if self.area == "initial_data" else state_history
        for name in self.path:
            if not isinstance(found, dict) or name not in found:
                return _ABSENT
            found = found[name]
        return found


def condition_of(text: Any) -> Condition:
    """A condition, read: `context.initial_data.FIELD` or `context.state_history.FIELD`, an operator, and a value.

    A field may be one of an object in an object: `a.b.c`. Operators are == != > < >= <=. A value is a text in quotes,
    of which each character counts, a number, true, false or null.

    Raises:
        BlueprintError: it is none; the message says what is wrong, and where in it.
    """
    if not isinstance(text, str):
        raise BlueprintError(f"the condition is {kind(text)}; write it as text, such as {_EXAMPLE!r}")
    if len(text) > MAX_CONDITION:
        raise BlueprintError(f"the condition has {len(text)} characters, over the limit of {MAX_CONDITION}")
    at = _after_spaces(text, 0)
    field = _FIELD.match(text, at)
    if field is None:
        raise _wrong(text, at, "write a field of context.initial_data or context.state_history first")
    at = _after_spaces(text, field.end())
    sign = _OPERATOR.match(text, at)
    if sign is None:
        raise _wrong(text, at, f"after the field, write one of {' '.join((*_EQUAL, *_ORDER))}")
    at = _after_spaces(text, sign.end())
    value, end = _value(text, at)
    if sign[0] in _ORDER and (value is None or isinstance(value, bool)):
        raise _wrong(text, at, f"{text[at:end]} has no order; compare it with == or !=")
    if (rest := _after_spaces(text, end)) < len(text):
        raise _wrong(text, rest, "a condition is one comparison, which ends here; compare more in the handler")
    area: Area = "initial_data" if field["area"] == "initial_data" else "state_history"
    return Condition(text, area, tuple(field["path"][1:].split(".")), sign[0], value)


def _value(text: str, at: int) -> tuple[Value, int]:
    """The value that begins at a character, and where it ends."""
    if found := _TEXT.match(text, at):
        return found[0][1:-1], found.end()
    if found := _NUMBER.match(text, at):
        if found["whole"] and not found["power"]:
            return int(found[0]), found.end()
        number = float(found[0])
        if not math.isfinite(number):
            raise _wrong(text, at, "this number is too large")
        return number, found.end()
    if (found := _WORD.match(text, at)) and found[0] in _WORDS:
        return _WORDS[found[0]], found.end()
    if found := _BARE.match(text, at):
        raise _wrong(text, at, f"quote the text {found[0]!r}; only numbers, true, false and null have no quotes")
    raise _wrong(text, at, "write a text in quotes, a number, true, false or null")


def _kind(value: Any) -> Any:
    """What makes two values comparable: being both text, both numbers, or both true or false."""
    if isinstance(value, bool):
        return bool
    return float if isinstance(value, int | float) else type(value)


def _after_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _wrong(text: str, at: int, why: str) -> BlueprintError:
    here = f"at {text[at : at + 20]!r} (character {at + 1})" if at < len(text) else "at its end"
    return BlueprintError(f"the condition {text!r} cannot be read {here}: {why}; write it like {_EXAMPLE!r}")
