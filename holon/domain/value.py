"""The domain: what a value is made of. A job is dozens of them, so making one must cost next to nothing."""

from __future__ import annotations

from typing import dataclass_transform

from msgspec import Struct, field
from msgspec.structs import replace

__all__ = ["Value", "field", "replace", "shown"]


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value(Struct, frozen=True, gc=False, array_like=True):
    """A base of frozen classes with slots, compared and hashed by their fields, that are made and replaced in C.

    The garbage collector does not look at them, for nothing that plain data has leads back to it. A value that may have
    something else, as what a user's handler gave or an exception, says `gc=True`: else what leads to itself through it
    is never freed.

    Encoded by msgspec, a value is the array of its fields. So new fields come last, with defaults: releases read each
    other's values.
    """


def shown(one: Value, *, but: str) -> str:
    """What a value looks like in a log, but for the field that is not to be read there."""
    fields = [f"{name}={getattr(one, name)!r}" for name in one.__struct_fields__ if name != but]
    return f"{type(one).__name__}({', '.join(fields)})"
