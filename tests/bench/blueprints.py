"""The bench: the jobs that it runs. Each carries its number in and an echo of it out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, TypedDict

from holon import Blueprint
from holon.context import ActionFactory, TaskItem

BRANCHES = 100
SKILL = "echo"
# A process with this variable never ends what it begins: it is there to be killed.
HOLDS = "BENCH_HOLDS"

echo = Blueprint("echo", api_version="v1", api_endpoint="/jobs/echo")
# A parent of the node has no use for it, and would have to reckon with how much one job takes.
fan_out = Blueprint("fan-out", api_version="v1", api_endpoint="/jobs/fan-out", internal=True)


class Numbered(TypedDict):
    """What a job is created with."""

    n: int


@echo.handler(is_start=True)
async def ask(initial_data: Numbered, actions: ActionFactory) -> None:
    """One task."""
    actions.dispatch_task(SKILL, {"n": initial_data["n"]}, {"success": "answered"})


@echo.handler(is_end=True)
async def answered(echo: int) -> dict[str, int]:
    """What the worker answered."""
    return {"echo": echo}


@fan_out.handler(is_start=True)
async def split(initial_data: Numbered, actions: ActionFactory) -> None:
    """A hundred tasks."""
    branch: TaskItem = {"task_type": SKILL, "params": {"n": initial_data["n"]}}
    actions.dispatch_parallel([branch] * BRANCHES, aggregate_into="count")


@fan_out.aggregator
async def count(
    n: int, aggregation_results: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory
) -> None:
    """Count the branches that answered with this job's number."""
    state_history["branches"] = sum(one["data"] == {"echo": n} for one in aggregation_results.values())
    actions.go_to("counted")


@fan_out.handler(is_end=True)
async def counted(n: int, branches: int) -> dict[str, int]:
    """How many there were."""
    return {"echo": n, "branches": branches}


work = Blueprint("work", api_version="v1", api_endpoint="/jobs/work")


def working(report: Callable[[int], None]) -> Blueprint:
    """Return the blueprint of jobs of one handler, which tells `report` their number when it begins."""

    @work.handler(is_start=True, is_end=True)
    async def do(initial_data: Numbered) -> dict[str, int]:
        report(initial_data["n"])
        await held()
        return {"echo": initial_data["n"]}

    return work


async def held() -> None:
    """Wait for ever in a process that is there to be killed."""
    if HOLDS in os.environ:
        await asyncio.Event().wait()


def straight(report: Callable[[int], None]) -> Blueprint:
    """Return the blueprint of jobs without a task, which tells `report` the number of each that is about to end."""
    blueprint = Blueprint("straight", api_version="v1", api_endpoint="/jobs/straight")

    @blueprint.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.go_to("arrived")

    @blueprint.handler(is_end=True)
    async def arrived(n: int) -> dict[str, int]:
        report(n)
        return {"echo": n}

    return blueprint
