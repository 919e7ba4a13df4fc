"""What waits for a worker, while the replies of the store to others are on their way."""

from __future__ import annotations

import asyncio
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory
from holon.ports import Committed
from holon.storage.memory import MemoryStorage
from holon.testing import running_node
from tests.integration.cases.site import a_wire, create, ended, happened, one_task, waits


class Slow(MemoryStorage):
    """A store that is slow to say that a cancel waits. `done` has happened when it has written such a step."""

    def __init__(self) -> None:
        super().__init__()
        self.done = asyncio.Event()
        self.answered = asyncio.Event()

    async def commit(self, *arguments: Any) -> Committed:
        reply = await super().commit(*arguments)
        if reply.cancel_pending:
            self.done.set()
            await self.answered.wait()
        return reply


async def test_i6_a_step_that_leased_nothing_since_its_job_is_cancelled_strands_no_task_of_others() -> None:
    bp = Blueprint("cancelled", api_endpoint="/jobs/cancelled", api_version="v1")
    began, go_on = asyncio.Event(), asyncio.Event()

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        began.set()
        await go_on.wait()
        actions.dispatch_task("t", {}, {"success": "finished"})

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    store = Slow()
    async with running_node(bp, one_task(), storage=store) as node, a_wire(node, "w1", credits=1) as wire:
        cancelled = await create(node, "cancelled")
        await happened(began)
        await node.client.cancel_job(cancelled)
        go_on.set()
        await happened(store.done)
        other = await create(node, "one_task", {})
        await waits(node, other)
        store.answered.set()
        assert (await wire.offer()).job_id == other
        assert (await ended(node, cancelled)).status == "cancelled"
