"""What happened in a part is told once to the job above, also where nodes start anew and more has happened than a job
knows the last of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory
from holon.testing import RunningNode, running_node
from tests.integration.cases.parts import above, part_of
from tests.integration.cases.site import create, ended, history, waits

RUNS, EACH = 11, 100


def talking() -> Blueprint:
    """Sends more events than a job knows of, and asks then."""
    bp = Blueprint("talking")

    @bp.handler(is_start=True)
    async def start(state_history: dict[str, Any], actions: ActionFactory) -> None:
        for _ in range(EACH):
            actions.send_event("said")
        state_history["runs"] = state_history.get("runs", 0) + 1
        actions.go_to("start" if state_history["runs"] < RUNS else "ask")

    @bp.handler
    async def ask(actions: ActionFactory) -> None:
        actions.await_human_approval("chat", "Enough?", {"yes": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


async def told(node: RunningNode, job_id: str, kind: str) -> int:
    return len(await history(node, job_id, kind))


async def test_more_than_a_job_knows_of_is_told_once_however_often_its_node_starts(tmp_path: Path) -> None:
    def node() -> Any:
        uri = f"sqlite:///{tmp_path / 'holon.db'}?synchronous=NORMAL"
        return running_node(above("between"), above("talking", name="between"), talking(), STORAGE_URI=uri)

    async with node() as it:
        job_id = await create(it, "above", {})
        await asked(it, job_id)
        between = await part_of(it, job_id)
        lowest = await part_of(it, between)
    for _ in range(2):
        async with node() as it:
            await waits(it, lowest, "waiting_for_human")
    async with node() as it:
        approval = (await waits(it, lowest, "waiting_for_human")).approval
        assert approval is not None
        await it.client.resolve_approval(job_id, "yes", approval_id=approval.approval_id)
        await ended(it, job_id)
        # All is told before the end.
        assert await told(it, lowest, "blueprint_event:said") == RUNS * EACH
        for one in (job_id, between):
            assert await told(it, one, "worker_event:said") == RUNS * EACH
            assert await told(it, one, "worker_event:approval_requested") == 1


async def asked(node: RunningNode, job_id: str) -> None:
    """Wait until a job was told of a question."""
    async for update in node.client.watch(job_id, after=0):
        if update.event is not None and update.event.event_type == "worker_event:approval_requested":
            return
