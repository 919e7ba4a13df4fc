"""The blueprint: a function becomes a state, if it can be one."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from holon.domain.absent import ARGUMENTS
from holon.domain.prompt import awaits_nothing
from holon.domain.states import Function, Outcome, State, Want
from holon.errors import BlueprintError

# What every task may end with.
_TAKEN = ("success", "failure", "cancelled")
_WORD = re.compile(r"[^\x00-\x1f\x7f]{1,128}")


def declared(
    function: Function,
    name: str | None,
    *,
    is_start: bool,
    is_end: bool,
    outcome: Outcome | None,
    is_aggregator: bool,
    retry: bool,
    status: str,
    progress_weight: float | None,
) -> State:
    """The state that a function is to be.

    Arguments:
        name: None: the function's.
        outcome: None: that of an end is told by its name.
        progress_weight: None: an end weighs nothing, any other state 1.
    Raises:
        BlueprintError: what is wrong with the function, or with what is said of it.
    """
    place = place_of(function)
    if not (inspect.isfunction(function) and inspect.iscoroutinefunction(function)):
        raise BlueprintError(f"{place}: {_no_handler(function)}; a handler is a function written with `async def`")
    name = function.__name__ if name is None else name
    if not _is_word(name):
        raise BlueprintError(f"{place}: state name {name!r}; use text of 1 to 128 printable characters")
    if outcome is not None and (outcome not in ("finished", "failed") or not is_end):
        raise BlueprintError(f"{place}: outcome={outcome!r}; it is 'finished' or 'failed', and needs is_end=True")
    if is_end and outcome is None:
        outcome = "failed" if name == "failed" else "finished"
    if retry and outcome != "failed":
        raise BlueprintError(f"{place}: retry=True says what may follow a failure; it needs outcome='failed'")
    if status and (outcome != "finished" or status in _TAKEN or not _is_word(status)):
        raise BlueprintError(
            f"{place}: status={status!r}; it is a word of your own for an end that is a success, none of "
            f"{', '.join(_TAKEN)}"
        )
    return State(
        name,
        function,
        is_start,
        is_end,
        outcome,
        is_aggregator,
        _wants(function, place),
        retry,
        status,
        _weight(progress_weight, 0 if is_end else 1, place),
        awaits_nothing(function.__code__),
    )


def place_of(function: Any) -> str:
    """The function's name and where it was written."""
    name = getattr(function, "__qualname__", None) or repr(function)
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _no_handler(function: Any) -> str:
    if inspect.ismethod(function):
        return "is a method"
    if inspect.isasyncgenfunction(function):
        return "is a generator, for there is a `yield` in it"
    return "is not async" if inspect.isfunction(function) else f"is a {type(function).__name__}"


def _weight(told: Any, default: float, place: str) -> float:
    """What a state weighs."""
    if told is None:
        return default
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told <= sys.float_info.max:
        raise BlueprintError(f"{place}: progress_weight={told!r}; it is a finite number, 0 or more")
    return told


def _wants(function: Function, place: str) -> tuple[Want, ...]:
    wants = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise BlueprintError(
                f"{place}: argument {parameter.name!r} cannot be given by name; spell the arguments out"
            )
        if why := ARGUMENTS.get(parameter.name):
            text = f"{place}: no handler can have an argument {parameter.name!r}: {why}"
            raise BlueprintError(f"{text}; what a client sent under that name is in initial_data")
        wants.append(Want(parameter.name, parameter.default is parameter.empty))
    return tuple(wants)
