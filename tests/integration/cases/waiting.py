"""Workers that do what waits, and contracts of it."""

from __future__ import annotations

import asyncio
from typing import Any

from holon.testing import RunningNode
from holon.worker import Worker
from tests.integration.cases.site import (
    GUARD,
)

INTEGER = {"type": "object", "properties": {"q": {"type": "integer"}}, "required": ["q"]}
TEXT = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}


def doing(node: RunningNode, name: str = "w1", **options: Any) -> Worker:
    """A worker that answers with its name."""
    worker = node.new_worker(name, **options)

    @worker.skill("t")
    async def t() -> dict[str, str]:
        return {"by": name}

    return worker


async def nobody_is_there(node: RunningNode) -> None:
    """The node has seen that its workers are gone, which may take it longer than them."""
    async with asyncio.timeout(GUARD):
        while [one async for one in node.client.node.list_workers(connected=True)]:
            pass
