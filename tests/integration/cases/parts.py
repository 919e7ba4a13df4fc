"""A job above, and its part, for the acceptance cases."""

from __future__ import annotations

import asyncio
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory
from holon.errors import NotFound
from holon.testing import RunningNode
from tests.integration.cases.site import GUARD, LOOK_S, written

WAYS = {"success": "finished", "failure": "mended", "cancelled": "withdrawn"}


def above(
    runs: str = "one_task", ways: dict[str, str] | None = None, *, name: str = "above", **options: Any
) -> Blueprint:
    """Runs another blueprint with its `initial_data`, and ends as that does."""
    bp = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")
    ways = {"success": "finished"} if ways is None else ways

    @bp.handler(is_start=True)
    async def begin(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.run_blueprint(runs, initial_data, ways, **options)

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    for state in sorted({*ways.values()} - {"finished"}):
        bp.handler(state, is_end=True)(_told)
    return bp


async def _told(state_history: dict[str, Any]) -> Any:
    return state_history.get("error")


async def part_of(node: RunningNode, job_id: str) -> str:
    """The job that is the first part of this one, once it is there."""
    started = await written(node, job_id, "sub_blueprint_started")
    part_id = str(started.context_snapshot["child_job_id"])
    async with asyncio.timeout(GUARD):
        # It is made after that, and nothing tells a client of it.
        while not await _is_there(node, part_id):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
    return part_id


async def _is_there(node: RunningNode, job_id: str) -> bool:
    try:
        await node.client.get_job(job_id)
    except NotFound:
        return False
    return True
