"""The domain: what a task asks of its worker beside the skill."""

from __future__ import annotations

from typing import Any

from holon.domain.fleet import MAX_CACHED, MAX_NAME, is_name
from holon.domain.json_words import kind, quoted
from holon.domain.resources import requirement
from holon.domain.strategies import DEFAULT, STRATEGIES
from holon.domain.value import Value
from holon.errors import InvalidArgument, Violation

# By what names a handler says it.
WANTS = "skill_version", "skill_type", "resource_requirements", "dispatch_strategy", "resource_hint"
# Of what cannot be asked for, in the message.
_SHOWN = 64


class Wants(Value):
    """What a task asks of its worker beside the skill: a version and a type of it, letter by letter; empty: any.

    `resources`, `strategy` and `hint` are as in `Need`.
    """

    version: str = ""
    type: str = ""
    resources: str = ""
    strategy: str = ""
    hint: str = ""


def wanting(
    skill_version: Any = None,
    skill_type: Any = None,
    resource_requirements: Any = None,
    dispatch_strategy: Any = None,
    resource_hint: Any = None,
) -> Wants | None:
    """What somebody asks for; None: nothing.

    Arguments:
        skill_version, skill_type, resource_requirements, dispatch_strategy, resource_hint: as they gave it; None where
            they did not.
    Raises:
        InvalidArgument: no worker could have it; the field at fault is named.
    """
    wants = Wants(
        _named("skill_version", skill_version),
        _named("skill_type", skill_type),
        "" if resource_requirements is None else _required("resource_requirements", resource_requirements),
        "" if dispatch_strategy is None else _strategy("dispatch_strategy", dispatch_strategy),
        "" if resource_hint is None else _hint("resource_hint", resource_hint),
    )
    return None if wants == NOTHING else wants


NOTHING = Wants()


def _named(field: str, name: Any) -> str:
    if name is None:
        return ""
    reason = ""
    if not isinstance(name, str):
        reason = f"is {kind(name)}; give text, or None for any"
    elif not name:
        reason = "is empty; give None for any"
    elif not is_name(name):
        reason = f"is {quoted(name, _SHOWN)}; give at most {MAX_NAME} printable characters, as a worker declares it"
    if reason:
        raise InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])
    return str(name)


def _required(field: str, asked: Any) -> str:
    if not isinstance(asked, dict):
        reason = f"is {kind(asked)}; give a dict, such as {{'resources': {{'ram_gb': 16}}}}"
        raise InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])
    for key in asked:
        if key != "resources":
            reason = f"has the unknown key {quoted(key, _SHOWN)}; use resources"
            raise InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])
    return requirement(f"{field}.resources", asked["resources"]) if asked else ""


def _strategy(field: str, asked: Any) -> str:
    if isinstance(asked, str) and asked in STRATEGIES:
        return "" if asked == DEFAULT else asked
    reason = f"is {quoted(asked, _SHOWN)}; give one of {', '.join(STRATEGIES)}"
    raise InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])


def _hint(field: str, asked: Any) -> str:
    if isinstance(asked, str) and 0 < len(asked) <= MAX_CACHED and asked.isprintable():
        return asked
    reason = f"is {quoted(asked, _SHOWN)}; give text of 1 to {MAX_CACHED} printable characters"
    raise InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])
