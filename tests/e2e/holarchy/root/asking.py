"""A blueprint for tests of holons: it asks for whatever it is told to ask for."""

from __future__ import annotations

from typing import Any

from holon import Blueprint
from holon.context import ActionFactory

ask = Blueprint("ask", api_endpoint="/jobs/ask", api_version="v1")


@ask.handler(is_start=True)
async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    actions.dispatch_task(
        initial_data["skill"],
        initial_data.get("params", {}),
        {"success": "done", **initial_data.get("transitions", {})},
        timeout_seconds=initial_data.get("timeout"),
        result_timeout_seconds=initial_data.get("result_timeout"),
        on_lost=initial_data.get("on_lost"),
        max_cost=initial_data.get("max_cost"),
    )


@ask.handler(is_end=True)
async def done(state_history: dict[str, Any]) -> dict[str, Any]:
    return state_history


@ask.handler(is_end=True)
async def consoled(state_history: dict[str, Any]) -> dict[str, Any]:
    return {"consoled": state_history["error"]}
