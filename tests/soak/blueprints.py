"""The soak: the jobs of its clients. Each carries its number in, and what became of it out."""

from __future__ import annotations

from typing import Any

from holon import Blueprint
from holon.context import ActionFactory

BRANCHES = 20
WORK = "work"
NOBODY = "nobody-has-this"
# What hostile workers offer: whatever they answer, the job has to end.
BAIT = "bait"

one = Blueprint("one", api_version="v1", api_endpoint="/one")
many = Blueprint("many", api_version="v1", api_endpoint="/many")
alone = Blueprint("alone", api_version="v1", api_endpoint="/alone")
bait = Blueprint("bait", api_version="v1", api_endpoint="/bait")
lost = Blueprint("lost", api_version="v1", api_endpoint="/lost")
ALL = (one, many, alone, bait, lost)


@one.handler(is_start=True)
async def ask(n: int, actions: ActionFactory) -> None:
    """One task."""
    actions.dispatch_task(WORK, {"n": n}, {"success": "answered"})


@one.handler(is_end=True)
async def answered(echo: int) -> dict[str, int]:
    """What the worker answered."""
    return {"echo": echo}


@many.handler(is_start=True)
async def split(n: int, actions: ActionFactory) -> None:
    """Some tasks at once."""
    actions.dispatch_parallel([{"task_type": WORK, "params": {"n": n}}] * BRANCHES, aggregate_into="count")


@many.aggregator
async def count(
    n: int, aggregation_results: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory
) -> None:
    """Count the branches that answered with this job's number."""
    state_history["branches"] = sum(one["data"] == {"echo": n} for one in aggregation_results.values())
    actions.go_to("counted")


@many.handler(is_end=True)
async def counted(n: int, branches: int) -> dict[str, int]:
    """How many there were."""
    return {"echo": n, "branches": branches}


@alone.handler(is_start=True)
async def begin(actions: ActionFactory) -> None:
    """No task at all."""
    actions.go_to("arrived")


@alone.handler(is_end=True)
async def arrived(n: int) -> dict[str, int]:
    """Its number."""
    return {"echo": n}


@bait.handler(is_start=True)
async def lure(n: int, actions: ActionFactory) -> None:
    """A task that may be answered with anything, or not at all."""
    ways = {"success": "taken", "failure": "taken"}
    actions.dispatch_task(BAIT, {"n": n}, ways, result_timeout_seconds=15.0)


@bait.handler(is_end=True)
async def taken() -> None:
    """It was."""


@lost.handler(is_start=True)
async def wait(n: int, actions: ActionFactory) -> None:
    """A task that waits for ever, unless the client says how long it may."""
    actions.dispatch_task(NOBODY, {"n": n}, {"success": "found"})


@lost.handler(is_end=True)
async def found() -> None:
    """Nobody gets here."""
