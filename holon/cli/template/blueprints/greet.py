"""A job of this blueprint greets one guest."""

from dataclasses import dataclass

from holon import Blueprint
from holon.context import ActionFactory

bp = Blueprint("greet", api_version="v1", api_endpoint="/jobs/greet")


@dataclass
class Guest:
    name: str


@bp.handler(is_start=True)
async def start(initial_data: Guest, actions: ActionFactory) -> None:
    actions.dispatch_task("compose", {"name": initial_data.name}, transitions={"success": "done"})


@bp.handler(is_end=True)
async def done(text: str) -> dict[str, str]:
    return {"text": text}
