"""The domain: what lies behind a failure, level by level: in the details of an error, as plain JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from holon.domain.texts import MAX_ERROR_CODE, clipped

# What is told of one level: a code, a message, whose job it was, and of which blueprint or skill.
Cause: TypeAlias = dict[str, str]

# The code of a cause: attempts that were lost used up the budget of that level.
LOST = "lost"
# Levels whose errors are told, and how much of each.
MAX_CAUSES = 32
MAX_CAUSE_MESSAGE = 1024
_FIELDS = {"code": MAX_ERROR_CODE, "message": MAX_CAUSE_MESSAGE, "holon_id": MAX_ERROR_CODE, "name": MAX_ERROR_CODE}


def cause(code: str, message: str, holon_id: str, name: str) -> Cause:
    """What is told of one level, within its limits."""
    given = {"code": code, "message": message, "holon_id": holon_id, "name": name}
    return {key: clipped(given[key], most) for key, most in _FIELDS.items()}


def with_causes(causes: Iterable[Cause], details: Any) -> dict[str, Any]:
    """Details that tell what happened at the levels below, nearest first, and beside it the details as they were."""
    told: dict[str, Any] = {"causes": list(causes)[:MAX_CAUSES]}
    return told if details is None else {**told, "details": details}


def leaving_out(details: Any, why: str) -> dict[str, Any]:
    """What is told in the place of details that are too much: what happened at the levels below, and why no more is."""
    causes, _ = causes_in(details)
    left_out = {"details_left_out": why}
    # They may be what is too much.
    return with_causes([cause(**one) for one in causes], left_out) if causes else left_out


def causes_in(details: Any) -> tuple[Sequence[Cause], Any]:
    """What happened at the levels below, and the details beside it: what an error's details tell that had causes.

    Those of others may have a list of that name too, of something else: they have no causes, and stay as they are.
    """
    if not isinstance(details, dict) or not details.keys() <= {"causes", "details"}:
        return (), details
    told = details.get("causes")
    if not isinstance(told, list) or not 0 < len(told) <= MAX_CAUSES or not all(map(_is_cause, told)):
        return (), details
    return told, details.get("details")


def _is_cause(one: Any) -> bool:
    return (
        isinstance(one, dict) and one.keys() == _FIELDS.keys() and all(isinstance(text, str) for text in one.values())
    )
