"""The states of a blueprint: what runs in each, and what its end means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from holon.domain.conditions import Condition
from holon.errors import BlueprintError

Outcome = Literal["finished", "failed"]
Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Want:
    """One argument of a handler, given by its name; without a default it is required."""

    name: str
    required: bool


@dataclass(frozen=True, slots=True)
class Handler:
    """One function that runs in a state: where its condition holds; without one, where no other's does.

    `prompt` says that it awaits nothing; `files` that it may ask for the files of its job, `needs_files` that it has
    to have them.
    """

    function: Function
    wants: tuple[Want, ...] = ()
    prompt: bool = False
    condition: Condition | None = None
    files: bool = False
    needs_files: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """One state: what runs in it, and what its end means (`outcome` is None unless `is_end`).

    Of its handlers those with a condition come first, in the order of their definition; so the first one has none only
    where it is the only one. `retry` says that a parent holon may have the job done again after this end; `status` is
    what it is told of a good one, empty for a success. `progress_weight` is how much of a job it is, next to others.
    """

    name: str
    handlers: tuple[Handler, ...]
    is_start: bool
    is_end: bool
    outcome: Outcome | None
    is_aggregator: bool
    retry: bool = False
    status: str = ""
    progress_weight: float = 1

    def handler(self, initial_data: Mapping[str, Any], state_history: Mapping[str, Any]) -> Handler:
        """The handler for a job with these data: the first whose condition holds, else the one without.

        Raises:
            BlueprintError: (NO_CONDITION_HOLDS) there is none.
        """
        for one in self.handlers:
            if one.condition is None or one.condition.holds(initial_data, state_history):
                return one
        conditions = (one.condition for one in self.handlers if one.condition is not None)
        looked = "; ".join(one.looked_at(initial_data, state_history) for one in conditions)
        raise BlueprintError(
            f"state {self.name!r} has no handler for this job: {looked}; add a handler without a condition",
            code="NO_CONDITION_HOLDS",
        )
