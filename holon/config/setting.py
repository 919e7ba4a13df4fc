"""What a setting is: its default, its meaning, its unit and its bounds; and how the table says that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

T = TypeVar("T", str, int, float, bool)
Value: TypeAlias = str | int | float | bool
Kind: TypeAlias = type[str] | type[int] | type[float] | type[bool]

DAY_SECONDS = 86_400.0
KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting beside its value.

    Attributes:
        name: the attribute of `Config`, and the environment variable.
        kind: str, int, float or bool.
        default: the value when nothing is set.
        about: one sentence for the documentation.
        unit: "s" or "bytes", or empty.
        minimum: the least value allowed, or None.
        maximum: the greatest value allowed, or None.
        choices: the values allowed, or empty for any.
        secret: whether the value must never be shown.
        required: whether empty text is wrong.
    """

    name: str
    kind: Kind
    default: Value
    about: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    secret: bool = False
    required: bool = False


def setting(
    default: T,
    about: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
    required: bool = False,
) -> T:
    """A row of the table."""
    facts = {
        "about": about,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "secret": secret,
        "required": required,
    }
    return field(default=default, metadata=facts)


def host(about: str) -> str:
    """A row for an address that a door listens at."""
    return setting("127.0.0.1", about, required=True)


def port(default: int, about: str) -> int:
    """A row for a port that a door listens at."""
    return setting(default, about + ". 0 takes any free port", minimum=0, maximum=65535)


def seconds(default: float, about: str, *, minimum: float = 0.05, maximum: float = 366 * DAY_SECONDS) -> float:
    """A row for a time."""
    return setting(default, about, unit="s", minimum=minimum, maximum=maximum)


def size(default: int, about: str, *, maximum: int) -> int:
    """A row for a size in bytes."""
    return setting(default, about, unit="bytes", minimum=KIB, maximum=maximum)
