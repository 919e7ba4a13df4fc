"""The blueprint: a function becomes a state, if it can be one."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from holon.domain.absent import ARGUMENTS
from holon.domain.bytecode import names_in
from holon.domain.conditions import Condition
from holon.domain.prompt import awaits_nothing
from holon.domain.states import Function, Handler, Outcome, State, Want
from holon.errors import BlueprintError

# What every task may end with.
_TAKEN = ("success", "failure", "cancelled")
# What a handler asks for the files of its job by.
FILES = "task_files"
_WORD = re.compile(r"[^\x00-\x1f\x7f]{1,128}")


@dataclass(frozen=True, slots=True)
class Said:
    """What a decorator says of a state, or those of all its handlers together.

    Arguments:
        outcome: None: that of an end is told by its name.
        progress_weight: None: an end weighs nothing, any other state 1.
    """

    is_start: bool = False
    is_end: bool = False
    outcome: Outcome | None = None
    is_aggregator: bool = False
    retry: bool = False
    status: str = ""
    progress_weight: float | None = None


def handler_of(function: Function, condition: Condition | None = None) -> Handler:
    """The handler that a function is to be.

    Raises:
        BlueprintError: the function can be none.
    """
    place = place_of(function)
    if not (inspect.isfunction(function) and inspect.iscoroutinefunction(function)):
        raise BlueprintError(f"{place}: {_no_handler(function)}; a handler is a function written with `async def`")
    wants = _wants(function, place)
    files, needs_files = _files(function, wants)
    # What a run does with files is outside of its step: its job is stored before.
    prompt = awaits_nothing(function.__code__) and not files
    return Handler(function, wants, prompt, condition, files, needs_files)


def state_of(name: str, handlers: tuple[Handler, ...], said: Said) -> State:
    """The state that some handlers make, the last of which is new.

    Raises:
        BlueprintError: what is said of it cannot be.
    """
    place = place_of(handlers[-1].function)
    if not _is_word(name):
        raise BlueprintError(f"{place}: state name {name!r} is invalid; use 1 to 128 printable characters")
    outcome = said.outcome
    if outcome is not None and (outcome not in ("finished", "failed") or not said.is_end):
        raise BlueprintError(f"{place}: outcome={outcome!r} is invalid; use 'finished' or 'failed', with is_end=True")
    if said.is_end and outcome is None:
        outcome = "failed" if name == "failed" else "finished"
    if said.retry and outcome != "failed":
        raise BlueprintError(f"{place}: retry=True is only for ends with outcome='failed'")
    status = said.status
    if status and (outcome != "finished" or status in _TAKEN or not _is_word(status)):
        raise BlueprintError(
            f"{place}: status={status!r} is invalid; use a word of your own for a successful end, other than "
            f"{', '.join(_TAKEN)}"
        )
    weight = _weight(said.progress_weight, 0 if said.is_end else 1, place)
    # Those with a condition are asked first, in the order of their definition.
    ordered = tuple(sorted(handlers, key=lambda one: one.condition is None))
    return State(name, ordered, said.is_start, said.is_end, outcome, said.is_aggregator, said.retry, status, weight)


def clash(handlers: Iterable[Handler], before: Said, handler: Handler, said: Said) -> str:
    """Why a function cannot be one more handler of a state; empty where it can."""
    for one in handlers:
        if one.condition is not None and one.condition == handler.condition:
            return f"is already defined, with the same condition, by {place_of(one.function)}"
        if one.condition is handler.condition or before.is_aggregator or said.is_aggregator:
            return f"is already defined by {place_of(one.function)}"
    for name in ("outcome", "status", "progress_weight"):
        first, now = getattr(before, name), getattr(said, name)
        if first not in (None, "", now) and now not in (None, ""):
            return f"has {name}={first!r} in another of its handlers, and {now!r} here; use the same, or give it once"
    return ""


def together(before: Said, said: Said) -> Said:
    """What two handlers of a state say of it: what one says holds for both."""
    return Said(
        before.is_start or said.is_start,
        before.is_end or said.is_end,
        before.outcome or said.outcome,
        before.is_aggregator,
        before.retry or said.retry,
        before.status or said.status,
        said.progress_weight if before.progress_weight is None else before.progress_weight,
    )


def _files(function: Function, wants: tuple[Want, ...]) -> tuple[bool, bool]:
    """Whether a handler may ask for the files of its job, and whether it cannot do without them."""
    needed = {want.name: want.required for want in wants}
    if "context" in needed and FILES in names_in(inspect.unwrap(function).__code__):
        return True, True
    return FILES in needed, needed.get(FILES, False)


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
        return "is a generator, because it has a `yield`"
    return "is not async" if inspect.isfunction(function) else f"is a {type(function).__name__}"


def _weight(told: Any, default: float, place: str) -> float:
    """What a state weighs."""
    if told is None:
        return default
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told <= sys.float_info.max:
        raise BlueprintError(f"{place}: progress_weight={told!r} is invalid; use a finite number, 0 or more")
    return told


def _wants(function: Function, place: str) -> tuple[Want, ...]:
    wants = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise BlueprintError(
                f"{place}: argument {parameter.name!r} cannot be passed by name; write out the arguments"
            )
        if why := ARGUMENTS.get(parameter.name):
            text = f"{place}: a handler cannot have the argument {parameter.name!r}: {why}"
            raise BlueprintError(f"{text}. Data that a client sent under this name is in initial_data")
        wants.append(Want(parameter.name, parameter.default is parameter.empty))
    return tuple(wants)
