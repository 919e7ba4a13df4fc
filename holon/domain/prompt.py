"""Prompt handlers: those that await nothing, and so are over in the moment in which they begin."""

from __future__ import annotations

import dis
from inspect import CO_COROUTINE
from types import CodeType

# What every `await`, `async for` and `async with` is made of. A coroutine without it cannot be suspended.
_SUSPENDS = frozenset({"SEND", "YIELD_VALUE"})


def awaits_nothing(code: CodeType) -> bool:
    """Whether a function with this code is `async def`, and awaits nothing itself.

    Functions inside it do not count: to be awaited they would have to be awaited by this one.
    """
    return bool(code.co_flags & CO_COROUTINE) and all(one.opname not in _SUSPENDS for one in dis.get_instructions(code))
