"""Integrity: what is wrong with a blueprint, found before any job runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from holon.domain import schema
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import MAX_STATUSES
from holon.domain.given import Write
from holon.domain.hints import returned_by, taken_by
from holon.domain.states import Handler, State
from holon.domain.targets import Dispatch, Mistake, Sending, Target, Targets, targets_of
from holon.domain.task import COMMON_STATUSES, own_statuses
from holon.domain.texts import meant
from holon.errors import BlueprintError, HolonError

# The blueprint of a name; None: there is none.
Named: TypeAlias = Callable[[str], Blueprint | None]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a blueprint: an error keeps it from being used, a warning is for its author to judge."""

    severity: Literal["error", "warning"]
    state: str | None
    message: str


def check(blueprint: Blueprint) -> list[Problem]:
    """Every problem of a blueprint, by reading the bytecode of its handlers; nothing of it is run.

    A state is reachable when its name stands in the code of a reachable one. A state that is not is an error; but where
    some reachable handler chooses its target at run time, it is a warning. A constant target that is no state is an
    error everywhere, and so is what a handler asks of its `actions` or `context` that these do not have.

    Arguments:
        blueprint: with all its states defined.
    Returns:
        errors and warnings, in the order of the states; empty when all is well.
    """
    problems: list[Problem] = []
    try:
        start: State | None = blueprint.start
    except BlueprintError as error:
        start = None
        problems.append(Problem("error", None, error.message))
    if (count := len({state.status for state in blueprint.states.values() if state.status})) > MAX_STATUSES:
        text = f"blueprint {blueprint.name!r}: its ends have {count} statuses, over the limit of {MAX_STATUSES}"
        problems.append(Problem("error", None, f"{text}; put finer distinctions into the result"))
    targets = {state.name: [targets_at(one) for one in state.handlers] for state in blueprint.states.values()}
    for state in blueprint.states.values():
        problems.extend(_input(blueprint, state))
        problems.extend(_output(state))
        for handler, found in zip(state.handlers, targets[state.name], strict=True):
            problems.extend(_mistaken(state, handler, found))
            problems.extend(_dangling(blueprint, state, handler, found))
            problems.extend(_undeclared(blueprint, state, handler, found))
            problems.extend(_lost(state, handler, found))
            if not (state.is_end or {"actions", "context"} & {want.name for want in handler.wants}):
                text = "takes neither `actions` nor `context`, so it cannot decide anything, and is not an end"
                problems.append(Problem("warning", state.name, f"{_place(state, handler)} {text}"))
    if start:
        problems.extend(_unreachable(blueprint, start, targets))
    return problems


def _input(blueprint: Blueprint, state: State) -> list[Problem]:
    """What is wrong with the hints of the handlers' `initial_data`."""
    problems = []
    for handler in state.handlers:
        if "initial_data" not in {want.name for want in handler.wants}:
            continue
        try:
            hint = schema.hint_of(handler.function, "initial_data")
            text = schema.schema_of(hint) or {}
        except HolonError as error:
            why = f"{_place(state, handler)}: initial_data: {error.message}"
        else:
            if "object" in text.get("type", "object"):
                continue
            why = f"{_place(state, handler)}: initial_data of blueprint {blueprint.name!r} is always an object"
            why += f", never {text['type']}"
        problems.append(Problem("error", state.name, why))
    if state.is_start and not problems:
        try:
            taken_by(state)
        except BlueprintError as error:
            problems.append(Problem("error", state.name, error.message))
    return problems


def _output(state: State) -> list[Problem]:
    """What is wrong with the hints of what a good end returns."""
    problems = []
    for handler in state.handlers if state.outcome == "finished" else ():
        try:
            returned_by(handler)
        except BlueprintError as error:
            problems.append(Problem("error", state.name, error.message))
    return problems


def targets_at(handler: Handler) -> Targets:
    """What a handler can lead to, through its decorators too."""
    found = targets_of(handler.function.__code__)
    plain = inspect.unwrap(handler.function)
    if plain is not handler.function:
        inner = targets_of(plain.__code__)
        # What stands between may go anywhere.
        texts, dispatches = found.texts | inner.texts, found.dispatches | inner.dispatches
        runs = found.runs | inner.runs
        constants = found.constants | inner.constants
        return Targets(constants, True, texts, dispatches, runs, True, found.mistakes, found.events)
    return found


def is_parallel(blueprint: Blueprint, named: Named) -> bool:
    """Whether a job of a blueprint may have several tasks at a time, as far as its handlers can be followed.

    Arguments:
        named: the blueprint of a name: those that it runs count too.
    """
    return any(found.parallel for found in _below(blueprint, named))


def skills_of(blueprint: Blueprint, named: Named) -> frozenset[str]:
    """The skills that a blueprint's handlers ask for by constants, each by `dispatch_task`; others cannot be known.

    Arguments:
        named: as in `is_parallel`.
    """
    return frozenset(skill for found in _below(blueprint, named) for skill in found.skills)


def _below(blueprint: Blueprint, named: Named) -> Iterator[Targets]:
    """What the handlers of a blueprint can lead to, and those of all that it runs by constant names."""
    known, waiting = {blueprint.name}, [blueprint]
    while waiting:
        for found in _all_targets(waiting.pop()):
            yield found
            fresh = {one.value for one in found.runs} - known
            known |= fresh
            waiting += [one for one in map(named, fresh) if one is not None]


def _all_targets(blueprint: Blueprint) -> Iterator[Targets]:
    return (targets_at(handler) for state in blueprint.states.values() for handler in state.handlers)


def missing(blueprint: Blueprint, named: Named) -> list[Problem]:
    """The blueprints that one runs by constant names, and that are not there.

    Arguments:
        named: the blueprint of a name, among all that are loaded.
    """
    problems = []
    for state, handler in ((one, each) for one in blueprint.states.values() for each in one.handlers):
        for one in sorted(targets_at(handler).runs, key=lambda one: (one.line or 0, str(one.value))):
            if not isinstance(one.value, str) or named(one.value) is None:
                place = _place(state, handler, one)
                text = f"{place}: {one.action} runs {one.value!r}, but no blueprint of this name is loaded"
                problems.append(Problem("error", state.name, text))
    return list(dict.fromkeys(problems))


@dataclass(frozen=True, slots=True)
class BranchingTask:
    """A single task of a constant skill, and the statuses of the skill's own by which its job goes on.

    Arguments:
        place: the state and the line, for messages.
    """

    state: str
    place: str
    skill: str
    statuses: tuple[str, ...]


def branching_tasks(blueprint: Blueprint) -> list[BranchingTask]:
    """The tasks of a blueprint that it goes on from by other statuses than those that every task may end with."""
    found = [
        BranchingTask(state.name, _place(state, handler, one), one.skill, own)
        for state in blueprint.states.values()
        for handler in state.handlers
        for one in sorted(targets_at(handler).dispatches, key=lambda one: (one.line or 0, one.skill))
        if (own := own_statuses(one.statuses))
    ]
    return list(dict.fromkeys(found))


def unknown_statuses(task: BranchingTask, declared: Collection[frozenset[str]]) -> dict[str, Problem]:
    """The statuses that a blueprint goes on by and that its task may never end with, as far as is known.

    Unless all known offerings of the skill declare their statuses, these are the misspelt ones: those that are like a
    status that every task may end with.

    Arguments:
        declared: the statuses of their own that the known offerings of the skill declare, of each. One without any may
            end with whatever it likes.
    Returns:
        each status with what is wrong with it.
    """
    known = sorted(frozenset[str]().union(*declared))
    complete = bool(declared) and all(declared)
    found: dict[str, Problem] = {}
    for status in task.statuses:
        if status in known:
            continue
        text = f"{task.place}: dispatch_task has a transition for the status {status!r}, which "
        if complete:
            text += (
                f"no connected worker with skill {task.skill!r} declares{meant(status, (*known, *COMMON_STATUSES))}; "
            )
            text += f"they declare {', '.join(known)}. The task waits until a worker declares it"
        elif suggestion := meant(status, COMMON_STATUSES):
            text += f"a worker only returns if it declares it{suggestion}"
        else:
            continue
        found[status] = Problem("warning", task.state, text)
    return found


def _mistaken(state: State, handler: Handler, targets: Targets) -> list[Problem]:
    found = sorted(targets.mistakes, key=lambda one: (one.line or 0, one.text))
    return [Problem("error", state.name, f"{_place(state, handler, one)}: {one.text}") for one in found]


def _dangling(blueprint: Blueprint, state: State, handler: Handler, targets: Targets) -> list[Problem]:
    problems = []
    for target in sorted(targets.constants, key=lambda one: (one.line or 0, one.action, str(one.value), one.label)):
        if target.value not in blueprint.states:
            text = f"{_place(state, handler, target)}: {target.action} leads to {target.value!r}, which is not a state"
            text += f" of blueprint {blueprint.name!r}{meant(str(target.value), blueprint.states)}"
            problems.append(Problem("error", state.name, text))
    return list(dict.fromkeys(problems))


def _undeclared(blueprint: Blueprint, state: State, handler: Handler, targets: Targets) -> list[Problem]:
    """Events that a handler sends beside those that its blueprint declares, if it declares any."""
    problems = []
    for sent in sorted(targets.events, key=lambda one: (one.line or 0, one.event)):
        if blueprint.events and sent.event not in blueprint.events:
            text = f"{_place(state, handler, sent)}: send_event sends {sent.event!r}, but blueprint {blueprint.name!r}"
            text += " declares only others; unless STRICT_EVENT_VALIDATION is off, the handler fails"
            problems.append(Problem("warning", state.name, text))
    return problems


def _lost(state: State, handler: Handler, targets: Targets) -> list[Problem]:
    found = sorted(targets.lost, key=lambda one: one.line or 0)
    text = "what a handler writes into initial_data is lost after this run; to keep it for later states, write it into "
    text += "state_history"
    return [Problem("warning", state.name, f"{_place(state, handler, one)}: {text}") for one in found]


def _unreachable(blueprint: Blueprint, start: State, targets: dict[str, list[Targets]]) -> list[Problem]:
    reached = {start.name}
    waiting = [start.name]
    while waiting:
        texts = frozenset[str]().union(*(one.texts for one in targets[waiting.pop()]))
        fresh = (texts & blueprint.states.keys()) - reached
        reached |= fresh
        waiting.extend(fresh)
    is_open = any(one.open for name in reached for one in targets[name])
    problems = []
    for state in blueprint.states.values():
        if state.name not in reached:
            text = f"{_place(state, state.handlers[0])}: no reachable state leads to {state.name!r}"
            problems.append(Problem("warning" if is_open else "error", state.name, text))
    if not any(state.is_end for state in blueprint.states.values()):
        text = f"blueprint {blueprint.name!r} has no end, so its jobs never finish; mark one with is_end=True"
        problems.append(Problem("warning", None, text))
    return problems


def _place(state: State, handler: Handler, found: Target | Mistake | Sending | Write | Dispatch | None = None) -> str:
    code = inspect.unwrap(handler.function).__code__
    return f"state {state.name!r} ({code.co_filename}:{(found and found.line) or code.co_firstlineno})"
