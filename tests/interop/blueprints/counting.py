"""A job of one task, for whoever serves `count`."""

from __future__ import annotations

from typing import Any

from holon import Blueprint
from holon.context import ActionFactory

counting = Blueprint("counting", api_endpoint="/jobs/counting", api_version="v1")


@counting.handler(is_start=True)
async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    actions.dispatch_task("count", initial_data, {"success": "done"})


@counting.handler(is_end=True)
async def done(counted: int) -> dict[str, Any]:
    return {"counted": counted}
