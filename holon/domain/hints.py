"""The blueprint: what the hints of a state's handlers promise, which is one thing for all of them."""

from __future__ import annotations

from typing import Any

from holon.domain import schema
from holon.domain.declaring import place_of
from holon.domain.states import Handler, State
from holon.errors import BlueprintError, HolonError


def taken_by(start: State) -> dict[str, Any] | None:
    """The JSON schema of what a start state takes as `initial_data`; None where its handlers say nothing of it.

    Raises:
        BlueprintError: a hint that cannot be read, or that JSON cannot hold; or two that do not say the same.
    """
    said: tuple[Handler, dict[str, Any]] | None = None
    for handler in start.handlers:
        found = _schema(handler, "initial_data", "initial_data")
        if found is None:
            continue
        if said is not None and said[1] != found:
            raise BlueprintError(
                f"{place_of(handler.function)}: initial_data: its hint and {place_of(said[0].function)}'s differ, "
                f"and as handlers of the start state {start.name!r} both say what a job is created with; give both the "
                "same hint, or one of them none"
            )
        said = handler, found
    return None if said is None else said[1]


def returned_by(end: State) -> dict[str, Any] | None:
    """The JSON schema of what a state's handlers return, if all say the same, and that it is an object; else None.

    Raises:
        BlueprintError: a hint that cannot be read, or that JSON cannot hold.
    """
    first, *others = (_schema(handler, "return", "returns") for handler in end.handlers)
    if first is None or first.get("type") != "object" or any(one != first for one in others):
        return None
    return first


def _schema(handler: Handler, argument: str, called: str) -> dict[str, Any] | None:
    """The JSON schema of the hint of an argument, or of what is returned."""
    place = place_of(handler.function)
    try:
        hint = schema.hint_of(handler.function, argument)
    except HolonError as error:
        raise BlueprintError(f"{place}: {error.message}") from error
    try:
        return schema.schema_of(hint)
    except HolonError as error:
        raise BlueprintError(f"{place}: {called}: {error.message}") from error
