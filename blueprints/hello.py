"""Hello: the smallest blueprint that does something. It needs no worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory

bp = Blueprint("hello", api_version="v1", api_endpoint="/jobs/hello")


@dataclass
class Greeting:
    """What a client may send."""

    name: str = "world"


@bp.handler(is_start=True)
async def start(initial_data: Greeting, state_history: dict[str, Any], actions: ActionFactory) -> None:
    """Decide what to say."""
    state_history["text"] = f"Hello, {initial_data.name}!"
    actions.go_to("greeted")


@bp.handler(is_end=True)
async def greeted(text: str) -> dict[str, str]:
    """Its return value is the job's result."""
    return {"text": text}
