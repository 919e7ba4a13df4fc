"""Bytecode: what can be known of the values on the stack, and what an instruction does to them."""

from __future__ import annotations

import dis
from dataclasses import dataclass
from types import CodeType
from typing import Any, TypeAlias

# Values from the bottom to the top, as far as they are known; None is what is not.
Stack: TypeAlias = tuple[Any, ...]

_TAKES_ONLY = ("POP_", "STORE_", "DELETE_", "JUMP_FORWARD", "JUMP_BACKWARD", "NOP", "RESUME", "MAKE_CELL", "COPY_FREE")


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant of the code."""

    value: Any


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A dictionary made in the code, by what is known of its keys and values."""

    keys: Stack
    values: Stack


def constant_of(one: dis.Instruction) -> Constant:
    """The constant that an instruction loads."""
    value = one.argval
    # Only text, numbers and tuples of names matter; a code object would compare by its whole content.
    return Constant(value if isinstance(value, str | int | float | tuple | None) else type(value))


def names_in(code: CodeType) -> frozenset[str]:
    """The names that code asks for of whatever it has, by `.name`, and its globals; nested code included."""
    inner = (names_in(one) for one in code.co_consts if isinstance(one, CodeType))
    return frozenset(code.co_names).union(*inner)


def line_of(one: dis.Instruction) -> int | None:
    """The line of the file that an instruction is made of."""
    return one.positions.lineno if one.positions else None


def variables_of(one: dis.Instruction) -> tuple[str, ...]:
    """The variables that an instruction names: one, or two of them."""
    return one.argval if isinstance(one.argval, tuple) else (one.argval,)


def merged(first: Any, second: Any) -> Dictionary | None:
    """A dictionary of what is sure to be in it: the second hides what the first has under the same keys."""
    if not isinstance(second, Dictionary):
        return None
    ways: list[tuple[Any, Any]] = [(None, None)]
    if isinstance(first, Dictionary) and all(isinstance(key, Constant) for key in second.keys):
        ways = [way for way in zip(first.keys, first.values, strict=True) if way[0] not in second.keys]
    return Dictionary((*(key for key, _ in ways), *second.keys), (*(value for _, value in ways), *second.values))


def popped(stack: Stack, count: int) -> tuple[Stack, Stack]:
    """The rest, and exactly `count` values from the top; what the stack does not hold is unknown."""
    if count <= len(stack):
        return stack[: len(stack) - count], stack[len(stack) - count :]
    return (), (*(None,) * (count - len(stack)), *stack)


def shifted(one: dis.Instruction, stack: Stack, jump: bool | None = None) -> Stack:
    """The stack after an instruction of which only the effect is known: what it may have left on top is unknown."""
    effect = dis.stack_effect(one.opcode, one.arg, jump=jump)
    if effect > 0:
        return (*stack, *(None,) * effect)
    if one.opname.startswith(_TAKES_ONLY):
        return popped(stack, -effect)[0]
    return (*popped(stack, 1 - effect)[0], None)
