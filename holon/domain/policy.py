"""The domain: which skills work may use; on the way down they only become fewer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from holon.domain.json_words import kind
from holon.errors import InvalidArgument, Violation

# The skills that may be used, in order; None: all of them, empty: none.
Allowed: TypeAlias = tuple[str, ...] | None

MOST_SKILLS = 256
LONGEST_SKILL = 128
_SHOWN = 10
# Half a character, which no other program could be told.
_SURROGATE = re.compile("[\ud800-\udfff]")


def allowing(field: str, skills: Any) -> Allowed:
    """These skills as a limit, the same for the same skills in whatever order; None: there is none.

    Arguments:
        field: whose value it is, for the message.
        skills: as somebody sent them.
    Raises:
        InvalidArgument: they are no list of skills, or there are too many.
    """
    if skills is None:
        return None
    reason = ""
    if isinstance(skills, str | Mapping) or not isinstance(skills, Iterable):
        reason = f"is {kind(skills)}; give a list of skill names"
    elif not all(map(_is_skill, names := list(skills))):
        reason = f"has an invalid skill name; use text of 1 to {LONGEST_SKILL} characters"
    elif len(names) > MOST_SKILLS:
        reason = f"has {len(names)} skills, over the limit of {MOST_SKILLS}"
    else:
        return tuple(sorted(set(names)))
    raise InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])


def _is_skill(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= LONGEST_SKILL and not _SURROGATE.search(name)


@lru_cache(maxsize=1024)
def both(one: Allowed, other: Allowed) -> Allowed:
    """What two limits allow together."""
    if one is None or other is None:
        return other if one is None else one
    return tuple(sorted(set(one).intersection(other)))


def denied(allowed: Allowed, skills: Iterable[str]) -> str | None:
    """The first of these skills that may not be used; None: all of them may."""
    if allowed is None:
        return None
    known = frozenset(allowed)
    return next((skill for skill in skills if skill not in known), None)


def told(allowed: Allowed) -> str:
    """What is allowed, for people."""
    if allowed is None:
        return "every skill"
    names = ", ".join(map(repr, allowed[:_SHOWN])) or "none"
    return f"{names} and {len(allowed) - _SHOWN} more" if len(allowed) > _SHOWN else names
