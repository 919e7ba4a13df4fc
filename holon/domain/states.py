"""The states of a blueprint: what runs in each, and what its end means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["finished", "failed"]
Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Want:
    """One argument of a handler, given by its name; without a default it is required."""

    name: str
    required: bool


@dataclass(frozen=True, slots=True)
class State:
    """One state: what runs in it, and what its end means (`outcome` is None unless `is_end`).

    `retry` says that a parent holon may have the job done again after this end; `status` is what it is told of a good
    one, empty for a success. `progress_weight` is how much of a job it is, next to the others. `prompt` says that its
    handler awaits nothing.
    """

    name: str
    function: Function
    is_start: bool
    is_end: bool
    outcome: Outcome | None
    is_aggregator: bool
    wants: tuple[Want, ...]
    retry: bool = False
    status: str = ""
    progress_weight: float = 1
    prompt: bool = False
