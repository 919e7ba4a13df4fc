"""The domain: what a value is made of. A job is dozens of them, so making one must cost next to nothing."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots, for the type checker; at run time it is as cheap to make as a plain one.

    A frozen dataclass sets each of its fields by a call that its own guard refuses to others, which takes three times
    as long as an assignment. Here `__init__` assigns, and there is no guard: that nobody changes a value is seen to by
    the type checker, which treats the class as frozen.
    """
    made = dataclass(frozen=True, slots=True)(cls)
    setattr(made, "__init__", _init_of(made))  # noqa: B010  the type checker knows the other one
    for guard in ("__setattr__", "__delattr__"):
        delattr(made, guard)
    return made


def _init_of(cls: type[Any]) -> Any:
    names: dict[str, Any] = {"_absent": MISSING, "_set": object.__setattr__}
    arguments, lines = ["self"], []
    for one in fields(cls):
        if one.init:
            arguments.append(_argument(one, names))
            lines.append(f"    self.{one.name} = {_value(one)}")
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    source = f"def __init__({', '.join(arguments)}):\n" + ("\n".join(lines) or "    pass")
    exec(source, names)  # noqa: S102  the source is made here, of the names of a class's fields
    init = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {one.name: one.type for one in fields(cls) if one.init}
    return init


def _argument(one: Field[Any], names: dict[str, Any]) -> str:
    if one.default is not MISSING:
        names[f"_default_{one.name}"] = one.default
        return f"{one.name}=_default_{one.name}"
    if one.default_factory is not MISSING:
        names[f"_make_{one.name}"] = one.default_factory
        return f"{one.name}=_absent"
    return one.name


def _value(one: Field[Any]) -> str:
    if one.default_factory is MISSING:
        return one.name
    return f"_make_{one.name}() if {one.name} is _absent else {one.name}"
