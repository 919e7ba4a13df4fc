"""Jobs above parts end while the database of history is away, and are told of each event once."""

from __future__ import annotations

import asyncio
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory
from holon.testing import RunningNode, running_node
from holon.worker import SendEvent
from tests.history.backends import PostgresDatabase
from tests.history.postgres import Server
from tests.history.site import StoreOf, so, told
from tests.integration.cases.parts import above, part_of
from tests.integration.cases.site import one_task, waits


def asking() -> Blueprint:
    """Tells of something, and asks then."""
    bp = Blueprint("asking")

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.send_event("said")
        actions.await_human_approval("chat", "Enough?", {"yes": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


async def has_moved(database: PostgresDatabase, job_id: str, kind: str) -> None:
    """Wait until the database has a line of a job."""

    async def there() -> bool:
        async with database.open() as history:
            return any(line.type == kind for _, line in await history.history(job_id, 0, 1_000))

    await so(there)


async def times_told(node: RunningNode, job_id: str, kind: str) -> int:
    return [line.event_type for line in await told(node.client, job_id)].count(f"worker_event:{kind}")


async def test_what_happens_in_a_part_is_told_before_its_end_while_the_database_is_away(
    store_of: StoreOf, own: Server
) -> None:
    database = PostgresDatabase(own)
    uris: dict[str, Any] = {"STORAGE_URI": store_of("redis"), "HISTORY_DATABASE_URI": database.uri}
    async with running_node(above(), one_task(), **uris) as node:
        worker = node.new_worker("w1")
        go = asyncio.Event()

        @worker.skill("t")
        async def t(send_event: SendEvent) -> dict[str, int]:
            await go.wait()
            send_event("seen", {"n": 1})
            return {"n": 1}

        async with worker:
            job_id = (await node.client.create_job("above", {})).job_id
            part = await part_of(node, job_id)
            await has_moved(database, part, "task_dispatched")
            own.stop()
            go.set()
            assert (await node.client.wait_for(job_id, timeout=20)).status == "finished"
            own.start()
            await has_moved(database, job_id, "job_completed")
            assert await times_told(node, job_id, "seen") == 1


async def test_a_node_that_starts_anew_while_the_database_is_away_ends_jobs_and_tells_nothing_twice(
    store_of: StoreOf, own: Server
) -> None:
    database = PostgresDatabase(own)
    uris: dict[str, Any] = {"STORAGE_URI": store_of("sqlite"), "HISTORY_DATABASE_URI": database.uri}
    async with running_node(above("asking"), asking(), **uris) as node:
        job_id = (await node.client.create_job("above", {})).job_id
        part = await part_of(node, job_id)
        await has_moved(database, job_id, "worker_event:approval_requested")
        await has_moved(database, part, "approval_requested")
    own.stop()
    async with running_node(above("asking"), asking(), **uris) as node:
        approval = (await waits(node, part, "waiting_for_human")).approval
        assert approval is not None
        await node.client.resolve_approval(part, "yes", approval_id=approval.approval_id)
        assert (await node.client.wait_for(job_id, timeout=20)).status == "finished"
        own.start()
        await has_moved(database, job_id, "job_completed")
        for kind in ("said", "approval_requested", "approval_resolved"):
            assert await times_told(node, job_id, kind) == 1
