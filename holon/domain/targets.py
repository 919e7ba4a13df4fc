"""Targets: the states that a handler's bytecode names when it calls its `actions`.

Every path through the code is followed with a stack of what is known: constants, dictionaries of constants, and the
`actions` object on its way to a call. What is not known is never guessed; it makes the targets open.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from holon.domain.absent import keeping
from holon.domain.bytecode import (
    Constant,
    Dictionary,
    Stack,
    constant_of,
    line_of,
    merged,
    popped,
    shifted,
    variables_of,
)
from holon.domain.given import Given, Whole, Write
from holon.domain.surface import ACTIONS, BRANCHING, HAS, READ, STATES
from holon.domain.texts import meant, nearest

_ENDS = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD")
# More than any sane handler needs; what is longer is left open.
_MAX_VISITS = 50_000


@dataclass(frozen=True, slots=True)
class Target:
    """A constant that stands where a state's name should: in which action, on which line of the file.

    `label` is what leads there, where that is a constant too: a worker's status.
    """

    action: str
    value: Any
    line: int | None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is asked of `actions` or `context` and is not there, on which line of the file."""

    text: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Sending:
    """A constant that stands where the type of an event should, on which line of the file."""

    event: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A single task of a constant skill, and the constant statuses that its job goes on by; on which line."""

    skill: str
    statuses: frozenset[str]
    line: int | None


@dataclass(slots=True)
class Targets:
    """What one handler can lead to.

    Arguments:
        constants: every constant target.
        open: some target is no constant, or `actions` goes where it cannot be followed.
        texts: every string constant in the code.
        dispatches: every single task of a constant skill.
        runs: every constant name of a blueprint that is to be run.
        parallel: it may ask for several tasks at once; also where `actions` goes where it cannot be followed.
        events: every constant type of an event that it sends.
        mistakes: what it asks of its own `actions` and `context`, and there is none of.
        lost: what it writes into its own `initial_data`, where nothing else in its code gets that as a whole.
    """

    constants: set[Target] = field(default_factory=set)
    open: bool = False
    texts: set[str] = field(default_factory=set)
    dispatches: set[Dispatch] = field(default_factory=set)
    runs: set[Target] = field(default_factory=set)
    parallel: bool = False
    mistakes: set[Mistake] = field(default_factory=set)
    events: set[Sending] = field(default_factory=set)
    lost: set[Write] = field(default_factory=set)

    @property
    def skills(self) -> frozenset[str]:
        """Every constant skill of a single task."""
        return frozenset(one.skill for one in self.dispatches)


@dataclass(frozen=True, slots=True)
class _Receiver:
    """`actions`, `context`, or a method of the first, from the instruction at `origin`.

    It is `own` where it is sure to be the handler's argument, and no other variable of the same name.
    """

    name: str
    origin: int
    own: bool


_ABSENT = object()


def targets_of(code: CodeType) -> Targets:
    """The targets of a handler's code, nested functions included."""
    found = Targets()
    arguments = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    for part, own in _nested(code, arguments - _stored(code)):
        found.texts.update(_texts(part.co_consts))
        _Walk(part, found, own).run()
    return found


def _nested(code: CodeType, own: frozenset[str]) -> Iterator[tuple[CodeType, frozenset[str]]]:
    """A code object and those in it, each with the arguments of the outermost that it sees."""
    yield code, own
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant, own & set(constant.co_freevars))


def _stored(code: CodeType) -> set[str]:
    """The variables that some of the code gives another value."""
    named = {
        variable
        for one in dis.get_instructions(code)
        if one.opname.startswith(("STORE_FAST", "STORE_DEREF", "DELETE_"))
        for variable in variables_of(one)[: 1 if one.opname == "STORE_FAST_LOAD_FAST" else 2]
    }
    return named.union(*(_stored(constant) for constant in code.co_consts if isinstance(constant, CodeType)))


def _texts(constants: Any) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple | frozenset):
            yield from _texts(constant)


class _Walk:
    """One walk over one code object."""

    def __init__(self, code: CodeType, found: Targets, own: frozenset[str]) -> None:
        self.code = code
        self.found = found
        self.own = own
        self.instructions = [one for one in dis.get_instructions(code) if one.opname != "EXTENDED_ARG"]
        self.index = {one.offset: at for at, one in enumerate(self.instructions)}
        self.loaded: set[int] = set()
        self.followed: set[int] = set()
        self.given = Given()

    def run(self) -> None:
        visited: set[int] = set()
        seen: set[tuple[int, Stack]] = set()
        # Exception handlers are reached by no jump, so whatever is left starts again with nothing known.
        for first in range(len(self.instructions)):
            if first in visited:
                continue
            waiting: list[tuple[int, Stack]] = [(first, ())]
            while waiting:
                at, stack = waiting.pop()
                if (at, stack) in seen or at >= len(self.instructions):
                    continue
                if len(seen) >= _MAX_VISITS:
                    self.found.open = self.found.parallel = True
                    return
                seen.add((at, stack))
                visited.add(at)
                waiting.extend(self._next(at, stack))
        if self.loaded - self.followed:
            self.found.open = self.found.parallel = True
        else:
            self.found.lost |= self.given.lost

    def _next(self, at: int, stack: Stack) -> Iterator[tuple[int, Stack]]:
        one = self.instructions[at]
        jumps = one.opcode in dis.hasjrel or one.opcode in dis.hasjabs
        if jumps:
            # A jump may lead into an EXTENDED_ARG prefix, which was left out.
            target = next(self.index[offset] for offset in range(one.argval, one.argval + 8) if offset in self.index)
            yield target, shifted(one, stack, jump=True)
        if not one.opname.startswith(_ENDS):
            yield at + 1, shifted(one, stack, jump=False) if jumps else self._after(at, one, stack)

    def _after(self, at: int, one: dis.Instruction, stack: Stack) -> Stack:
        name, arg = one.opname, one.arg or 0
        self.given.passed(one, stack)
        if name in ("PRECALL", "KW_NAMES"):
            return stack
        if name in ("CALL", "CALL_KW"):
            return self._call(at, one, stack)
        if name == "LOAD_CONST":
            return (*stack, constant_of(one))
        if name.startswith(("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE")):
            return (*stack, *(self._load(variable, one) for variable in variables_of(one)))
        if name == "STORE_FAST_LOAD_FAST":
            return (*popped(stack, 1)[0], self._load(one.argval[1], one))
        if name in ("LOAD_ATTR", "LOAD_METHOD"):
            return self._attribute(one, stack)
        if name == "COPY":
            return (*stack, stack[-arg] if arg <= len(stack) else None)
        if name == "SWAP":
            rest, (first, *between, last) = popped(stack, arg)
            return (*rest, last, *between, first)
        if name == "BUILD_CONST_KEY_MAP":
            rest, (*values, names) = popped(stack, arg + 1)
            keys = tuple(map(Constant, names.value)) if isinstance(names, Constant) else (None,) * arg
            return (*rest, Dictionary(keys, tuple(values)))
        if name == "BUILD_MAP":
            rest, items = popped(stack, 2 * arg)
            return (*rest, Dictionary(items[::2], items[1::2]))
        # What is spread in a display (`{**some, "x": "y"}`), and what is merged.
        if (name == "DICT_UPDATE" and arg == 1) or (name == "BINARY_OP" and one.argrepr == "|"):
            rest, (first, second) = popped(stack, 2)
            return (*rest, merged(first, second))
        return shifted(one, stack)

    def _load(self, variable: str, one: dis.Instruction) -> _Receiver | Whole | None:
        # A cell loaded to make a nested function is followed in that function.
        is_cell = variable in self.code.co_cellvars or variable in self.code.co_freevars
        if variable == "initial_data" and variable in self.own and not is_cell:
            return self.given.loaded(one)
        if variable not in ("actions", "context") or (is_cell and one.opname != "LOAD_DEREF"):
            return None
        self.loaded.add(one.offset)
        return _Receiver(variable, one.offset, variable in self.own)

    def _attribute(self, one: dis.Instruction, stack: Stack) -> Stack:
        effect = dis.stack_effect(one.opcode, one.arg)
        rest, (owner,) = popped(stack, 1)
        result: _Receiver | Whole | None = None
        if isinstance(owner, Whole):
            self.given.asked(owner, one)
        if isinstance(owner, _Receiver):
            if owner.name == "actions" and one.argval in ACTIONS:
                result = _Receiver(one.argval, owner.origin, owner.own)
            else:
                self.followed.add(owner.origin)
                there = HAS.get(owner.name)
                if there and owner.own and one.argval not in READ.union(there):
                    known = f"use one of {', '.join(f'{owner.name}.{name}' for name in there)}"
                    near = nearest(one.argval, there)
                    instead = keeping(one.argval) or (f"did you mean {owner.name}.{near}?" if near else known)
                    self._mistaken(f"there is no {owner.name}.{one.argval} in this version; {instead}", one)
                if owner.name == "context" and one.argval == "actions":
                    self.loaded.add(one.offset)
                    result = _Receiver("actions", one.offset, owner.own)
                if owner.name == "context" and one.argval == "initial_data" and owner.own:
                    result = self.given.loaded(one)
        return (*rest, result, *(None,) * effect)

    def _call(self, at: int, one: dis.Instruction, stack: Stack) -> Stack:
        count, keywords = one.arg or 0, self._keywords(at)
        if one.opname == "CALL_KW":
            stack, (names,) = popped(stack, 1)
            keywords = names.value if isinstance(names, Constant) else ()
        stack, arguments = popped(stack, count)
        stack, callee = popped(stack, 2)
        for method in callee:
            if isinstance(method, _Receiver) and method.name in ACTIONS:
                self.followed.add(method.origin)
                self._note(method.name, arguments, keywords, line_of(one))
                for name in keywords:
                    if method.own and name not in ACTIONS[method.name]:
                        takes = ACTIONS[method.name]
                        instead = meant(name, takes) or f"; it takes {', '.join(takes)}"
                        self._mistaken(f"{method.name} does not take {name} in this version{instead}", one)
        return (*stack, None)

    def _mistaken(self, text: str, one: dis.Instruction) -> None:
        self.found.mistakes.add(Mistake(text, line_of(one)))

    def _keywords(self, at: int) -> tuple[str, ...]:
        """Before Python 3.13 the names of keyword arguments stand before the call."""
        before = at - 2 if self.instructions[at - 1].opname == "PRECALL" else at - 1
        one = self.instructions[before]
        return self.code.co_consts[one.arg or 0] if one.opname == "KW_NAMES" else ()

    def _note(self, action: str, arguments: Stack, keywords: tuple[str, ...], line: int | None) -> None:
        named = dict(zip(reversed(keywords), reversed(arguments), strict=False))
        positional = arguments[: len(arguments) - len(keywords)]

        def argument(name: str) -> Any:
            if name in named:
                return named[name]
            position = ACTIONS[action].index(name)
            return positional[position] if position < len(positional) else _ABSENT

        if action == "send_event":
            sent = argument("event_type")
            if isinstance(sent, Constant) and isinstance(sent.value, str):
                self.found.events.add(Sending(sent.value, line))
            return
        self.found.parallel |= action == "dispatch_parallel"
        if action == "dispatch_task":
            skill = argument("task_type")
            if isinstance(skill, Constant) and isinstance(skill.value, str):
                ways = argument("transitions")
                keys = ways.keys if isinstance(ways, Dictionary) else ()
                texts = [one.value for one in keys if isinstance(one, Constant) and isinstance(one.value, str)]
                self.found.dispatches.add(Dispatch(skill.value, frozenset(texts), line))
        if action == "run_blueprint":
            name = argument("blueprint_name")
            if isinstance(name, Constant):
                self.found.runs.add(Target(action, name.value, line))
        for name in STATES[action]:
            if (given := argument(name)) is not _ABSENT:
                self._lead(action, given, line, branching=name in BRANCHING)

    def _lead(self, action: str, given: Any, line: int | None, *, branching: bool) -> None:
        """An action is given this where states stand: one, or one for each of several ways."""
        if not branching:
            ways: tuple[tuple[Any, Any], ...] = ((None, given),)
        elif isinstance(given, Dictionary):
            ways = tuple(zip(given.keys, given.values, strict=True))
        else:
            # `None` stands for no transitions; anything else is built out of sight.
            ways = () if given == Constant(None) else ((None, None),)
        for key, value in ways:
            if isinstance(value, Constant):
                label = key.value if isinstance(key, Constant) and isinstance(key.value, str) else ""
                self.found.constants.add(Target(action, value.value, line, label))
            else:
                self.found.open = True
