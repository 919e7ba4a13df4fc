"""A child that does at once what it is asked for, or waits for somebody."""

from __future__ import annotations

from typing import Any

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from tests.integration.a_child import Child, offered


def blueprints() -> list[Blueprint]:
    echo = Blueprint("echo")

    @echo.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.go_to("end")

    @echo.handler(is_end=True)
    async def end(initial_data: dict[str, Any]) -> dict[str, Any]:
        return {"echo": initial_data.get("n")}

    waits = Blueprint("waits")

    @waits.handler("start", is_start=True)
    async def wait(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        # By no constant: else it would be known beforehand that nobody can do it.
        actions.dispatch_task(initial_data.get("of", "nobody"), {}, transitions={"success": "end"})

    @waits.handler("end", is_end=True)
    async def waited() -> None: ...

    return [echo, waits]


async def finishes(child: Child, stream: Any, task_id: str) -> None:
    """The child does what it is asked for."""
    await offered(stream, task_id, "echo", {"n": 1})
    update = await stream.result()
    while update.task_id != task_id:
        update = await stream.result()
    assert update.result.data.data == b'{"echo":1}'
    await stream.ack(task_id)
