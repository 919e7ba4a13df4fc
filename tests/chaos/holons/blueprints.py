"""Chaos of holons: the blueprints of each level. A job has a unit, by which leaves write down whose work they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory, TaskItem
from tests.chaos.notes import Notebook

LEAF, WORK, DEEP, SPREAD = "leaf", "work", "deep", "spread"
ONE, FAN = "one", "fan"
DIVE, SHOWER = "dive", "shower"
BRANCHES = {SPREAD: 3, SHOWER: 3, FAN: 4}
# What cleans up after a unit that was cancelled.
CLEAN = "!"


def units(blueprint: str, unit: str) -> list[str]:
    """What the leaves are to do for a job of the root's."""
    return [f"{unit}.{n}" for n in range(BRANCHES[blueprint])] if blueprint in BRANCHES else [unit]


def errand(unit: str) -> str:
    """The unit of the root's job that a unit is part of."""
    return unit.removesuffix(CLEAN).split(".")[0]


def of_root(notes: Notebook) -> list[Blueprint]:
    """What clients ask for: work below the first child alone, or of whichever child there is."""
    return [_one(ONE, WORK, notes), _one(DIVE, DEEP, notes), _one(SHOWER, SPREAD, notes), _many(FAN, notes)]


def of_middle(notes: Notebook) -> list[Blueprint]:
    """What a child does that has a child of its own."""
    return [_one(DEEP, WORK, notes), _many(SPREAD, notes)]


def of_last(notes: Notebook) -> list[Blueprint]:
    """What a child does with workers of its own; it cleans up after a cancel, and a failure may be repeated."""
    work = Blueprint(WORK)
    ways = {"success": "worked", "failure": "spoilt", "cancelled": "clean"}

    @work.handler(is_start=True)
    async def start(unit: str, seconds: float, job_id: str, actions: ActionFactory) -> None:
        notes.write("job", unit=unit, job=job_id, blueprint=WORK)
        actions.dispatch_task(LEAF, _task(unit, seconds), ways)

    @work.handler(is_end=True)
    async def worked(tokens: list[str]) -> dict[str, Any]:
        return {"tokens": tokens}

    @work.handler(is_end=True, outcome="failed", retry=True)
    async def spoilt() -> None:
        pass

    @work.handler
    async def clean(unit: str, actions: ActionFactory) -> None:
        actions.dispatch_task(LEAF, _task(unit + CLEAN, 0.0), {"success": "cleaned"})

    @work.handler(is_end=True, outcome="failed")
    async def cleaned() -> None:
        pass

    return [work]


LEVELS: dict[str, Callable[[Notebook], Iterable[Blueprint]]] = {
    "root": of_root,
    "middle": of_middle,
    "last": of_last,
}


def _task(unit: str, seconds: float) -> dict[str, Any]:
    return {"unit": unit, "seconds": seconds}


def _one(name: str, skill: str, notes: Notebook) -> Blueprint:
    blueprint = Blueprint(name, api_version="v1", api_endpoint=f"/{name}")

    @blueprint.handler(is_start=True)
    async def start(unit: str, seconds: float, job_id: str, actions: ActionFactory) -> None:
        notes.write("job", unit=unit, job=job_id, blueprint=name)
        actions.dispatch_task(skill, _task(unit, seconds), {"success": "done"})

    _done(blueprint)
    return blueprint


def _many(name: str, notes: Notebook) -> Blueprint:
    blueprint = Blueprint(name, api_version="v1", api_endpoint=f"/{name}")

    @blueprint.handler(is_start=True)
    async def start(unit: str, seconds: float, job_id: str, actions: ActionFactory) -> None:
        notes.write("job", unit=unit, job=job_id, blueprint=name)
        tasks = [TaskItem(task_type=WORK, params=_task(one, seconds)) for one in units(name, unit)]
        actions.dispatch_parallel(tasks, aggregate_into="gather")

    @blueprint.aggregator
    async def gather(
        aggregation_results: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory
    ) -> None:
        done = (one["data"]["tokens"] for one in aggregation_results.values() if one.get("data"))
        state_history["tokens"] = [token for tokens in done for token in tokens]
        actions.go_to("done")

    _done(blueprint)
    return blueprint


def _done(blueprint: Blueprint) -> None:
    @blueprint.handler(is_end=True)
    async def done(tokens: list[str]) -> dict[str, Any]:
        return {"tokens": tokens}
