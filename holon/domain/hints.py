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
                f"{place_of(handler.function)}: initial_data: its hint differs from that of "
                f"{place_of(said[0].function)}, but both are handlers of the start state {start.name!r}, so both "
                "declare the input of a job; use the same hint, or only one"
            )
        said = handler, found
    return None if said is None else said[1]


def returned_by(handler: Handler) -> dict[str, Any] | None:
    """The JSON schema of what a handler of an end returns, which is the result of its job.

    Returns:
        None where its hint says nothing, or allows None: of a handler that returns that, `state_history` is the result.
    Raises:
        BlueprintError: a hint that cannot be read, or that JSON cannot hold.
    """
    found = _schema(handler, "return", "returns")
    return None if found is None or schema.fits(_hint(handler, "return"), None) else found


def ended_with(end: State) -> dict[str, Any] | None:
    """The JSON schema of what an end's handlers return, as `returned_by` has it, if all say the same; else None."""
    first, *others = map(returned_by, end.handlers)
    return None if any(one != first for one in others) else first


def _schema(handler: Handler, argument: str, called: str) -> dict[str, Any] | None:
    """The JSON schema of the hint of an argument, or of what is returned."""
    hint = _hint(handler, argument)
    try:
        return schema.schema_of(hint)
    except HolonError as error:
        raise BlueprintError(f"{place_of(handler.function)}: {called}: {error.message}") from error


def _hint(handler: Handler, argument: str) -> Any:
    try:
        return schema.hint_of(handler.function, argument)
    except HolonError as error:
        raise BlueprintError(f"{place_of(handler.function)}: {error.message}") from error
