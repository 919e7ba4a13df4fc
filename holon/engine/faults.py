"""Faults of handlers: those that another run cannot mend, and the line of the user's code that each is about."""

from __future__ import annotations

import inspect
import linecache
import re
import traceback
from collections.abc import Iterable
from types import CodeType
from typing import Any

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.decisions import (
    AwaitApproval,
    AwaitSignal,
    Decision,
    DispatchParallel,
    DispatchTask,
    GoTo,
    RunBlueprint,
    Sleep,
)
from holon.domain.plain import as_told, obstacle
from holon.domain.states import Handler, State
from holon.domain.texts import MAX_ERROR_MESSAGE, clipped, meant
from holon.errors import BlueprintError, HolonError, InvalidArgument

# Each follows from the blueprint and from what the job was given: neither changes before the next run.
_LASTING = frozenset(
    {"ACTION_INVALID", "SECOND_DECISION", "MISSING_ARGUMENT", "NOT_JSON", "NO_CONDITION_HOLDS", "INPUT_INVALID"}
)
# A node that a handler calls may answer with these, and answer otherwise once it has what it lacks.
_OF_DECISIONS = frozenset({"STATE_NOT_FOUND", "BLUEPRINT_NOT_FOUND"})
_MOST_SOURCE = 200
_MOST_PLACE = 1_024
# So many lines of them are looked through.
_MOST_DECORATORS = 50
_DEF = re.compile(r"\s*(async\s+)?def\b")


def lasts(error: BaseException) -> bool:
    """Whether every other run of the handler would fail likewise."""
    if not isinstance(error, HolonError):
        return False
    return error.code in _LASTING or (isinstance(error, BlueprintError) and error.code in _OF_DECISIONS)


def check(blueprint: Blueprint, state: State, actions: ActionFactory, state_history: Any, returned: Any) -> None:
    """Check what one run of a handler of a state has decided, kept and returned.

    Raises:
        BlueprintError: (SECOND_DECISION) it decided twice. (STATE_NOT_FOUND) its decision names a state that the
            blueprint does not have.
        InvalidArgument: (NOT_JSON) JSON cannot hold what it kept, or what it ends its job with.
    """
    if actions.second is not None:
        raise actions.second
    decision = actions.decision
    for target in _states_of(decision) if decision is not None else ():
        if target not in blueprint.states:
            suggestion = meant(target, blueprint.states)
            raise BlueprintError(
                f"the decision leads to {target!r}, which is not a state of blueprint {blueprint.name!r}{suggestion}",
                code="STATE_NOT_FOUND",
            )
    if not isinstance(state_history, dict):
        kind = type(state_history).__name__
        raise InvalidArgument(f"state_history is now a {kind}, but must be a dict", code="NOT_JSON")
    found = obstacle(state_history, "state_history")
    if found is None and decision is None and state.is_end:
        found = obstacle(returned, "result") and obstacle(as_told(returned), "result")
    if found is not None:
        raise InvalidArgument(found, code="NOT_JSON")


def _states_of(decision: Decision) -> Iterable[str]:
    """The states that a decision names."""
    if isinstance(decision, GoTo | Sleep):
        return (decision.state,)
    if isinstance(decision, DispatchTask):
        return (*decision.transitions.values(), *decision.events.values())
    if isinstance(decision, DispatchParallel):
        return (decision.aggregate_into,)
    assert isinstance(decision, RunBlueprint | AwaitApproval | AwaitSignal)  # noqa: S101  there is no other
    return decision.transitions.values()


def with_line(message: str, error: BaseException, handler: Handler, actions: ActionFactory) -> str:
    """What is said of a fault, with the last line of the user's code that has part in it.

    It is the line of the handler's file that raised the error; else the call that decided; else the handler itself.
    """
    code = inspect.unwrap(handler.function).__code__
    file, line = code.co_filename, _raised_at(error, code.co_filename)
    if not line and actions.called_at is not None:
        file, line = actions.called_at
    line = line or _defined_at(code)
    source = linecache.getline(file, line).strip()
    place = clipped(f"{file}:{line}" + (f": {source[:_MOST_SOURCE]}" if source else ""), _MOST_PLACE)
    return f"{clipped(message, MAX_ERROR_MESSAGE - _MOST_PLACE - 3)} ({place})"


def _raised_at(error: BaseException | None, file: str) -> int:
    """The innermost line of a file that raised an error, or what the error came from; 0: none has."""
    while error is not None:
        lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
        if lines:
            return lines[-1]
        error = error.__cause__
    return 0


def _defined_at(code: CodeType) -> int:
    """The line with the `def` of a function, whose code begins with its decorators."""
    first = code.co_firstlineno
    lines = range(first, first + _MOST_DECORATORS)
    return next((one for one in lines if _DEF.match(linecache.getline(code.co_filename, one))), first)
