"""Given: what a handler's bytecode does with its `initial_data`, of which each run has a copy of its own."""

from __future__ import annotations

import dis
from dataclasses import dataclass

from holon.domain.bytecode import Stack, line_of, popped

# What takes a part, and lets the whole go no further; and how deep in the stack that stands.
_PARTS = {
    "BINARY_SUBSCR": 2,
    "STORE_SUBSCR": 2,
    "DELETE_SUBSCR": 2,
    "STORE_ATTR": 1,
    "DELETE_ATTR": 1,
    "CONTAINS_OP": 1,
}
_WRITES = frozenset({"STORE_SUBSCR", "DELETE_SUBSCR", "STORE_ATTR", "DELETE_ATTR"})
_WRITING = frozenset({"clear", "update"})
# By these all of it may go on.
_WHOLE = frozenset({"copy", "items", "keys", "values"})


@dataclass(frozen=True, slots=True)
class Write:
    """Something that is written into `initial_data`, on which line of the file."""

    line: int | None


@dataclass(frozen=True, slots=True)
class Whole:
    """All of it, from the instruction at `origin`."""

    origin: int


class Given:
    """What one code object does with it."""

    def __init__(self) -> None:
        self._loaded: set[int] = set()
        self._parted: set[int] = set()
        # By their places in the code.
        self._writes: dict[int, Write] = {}
        self._last_read = -1

    @property
    def lost(self) -> set[Write]:
        """What is written into it and goes nowhere, as far as this code shows: nothing after it reads a part of it.

        Where something gets all of it, nothing is lost.
        """
        if self._loaded != self._parted:
            return set()
        return {one for place, one in self._writes.items() if place > self._last_read}

    def loaded(self, one: dis.Instruction) -> Whole:
        """An instruction puts it onto the stack."""
        self._loaded.add(one.offset)
        return Whole(one.offset)

    def passed(self, one: dis.Instruction, stack: Stack) -> None:
        """An instruction is come by, with this stack."""
        depth = _PARTS.get(one.opname)
        if depth is None or not isinstance(whole := popped(stack, depth)[1][0], Whole):
            return
        self._part(whole, one, writes=one.opname in _WRITES)

    def asked(self, whole: Whole, one: dis.Instruction) -> None:
        """It is asked for an attribute."""
        if one.argval not in _WHOLE:
            self._part(whole, one, writes=one.argval in _WRITING)

    def _part(self, whole: Whole, one: dis.Instruction, *, writes: bool) -> None:
        self._parted.add(whole.origin)
        if writes:
            self._writes[one.offset] = Write(line_of(one))
        else:
            self._last_read = max(self._last_read, one.offset)
