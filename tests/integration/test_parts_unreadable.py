"""What cannot be opened of one job, or of one part, stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from holon import Blueprint
from holon.context import ActionFactory
from holon.engine.children import own
from holon.testing import RunningNode, running_node
from tests.integration.cases.parts import above, part_of
from tests.integration.cases.site import GUARD, create, ended, history, waits
from tests.integration.sealed_places import OLD, text
from tests.redis_server import RedisServer
from tests.store_file import flipped, put, rows


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


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


def node(uri: str) -> Any:
    return running_node(above("asking"), asking(), STORAGE_URI=uri, ENCRYPTION_KEY=text(OLD))


async def told(it: RunningNode, job_id: str, kind: str) -> None:
    """Wait until a job was told of something."""
    async with asyncio.timeout(GUARD):
        async for update in it.client.watch(job_id, after=0):
            if update.event is not None and update.event.event_type == f"worker_event:{kind}":
                return


async def asked(it: RunningNode) -> tuple[str, str]:
    """A job, and its part, of which it has been told all that there is."""
    job_id = await create(it, "above", {})
    await told(it, job_id, "approval_requested")
    return job_id, await part_of(it, job_id)


async def decide(it: RunningNode, part: str) -> None:
    approval = (await waits(it, part, "waiting_for_human")).approval
    assert approval is not None
    await it.client.resolve_approval(part, "yes", approval_id=approval.approval_id)


async def test_a_line_of_history_that_does_not_open_stops_no_job_not_even_its_own(tmp_path: Path) -> None:
    file = tmp_path / "holon.db"
    uri = f"sqlite:///{file}?synchronous=NORMAL"
    async with node(uri) as it:
        jobs = [await asked(it) for _ in range(3)]
    # Of one job above, and of a part of another.
    for spoilt in (jobs[0][0], jobs[1][1]):
        put(file, {key: flipped(value) for key, value in rows(file, "lines.1", spoilt).items()})
    async with node(uri) as it:
        for _, part in jobs:
            await decide(it, part)
        for job_id, _ in jobs:
            assert (await ended(it, job_id)).status == "finished"
        assert len(await history(it, jobs[2][0], "worker_event:said")) == 1


async def test_a_job_that_does_not_open_keeps_no_part_of_another_from_beginning(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "MADE_AT_ONCE", 1)
    uri = redis.uri(redis.database())
    async with node(uri) as it:
        unreadable, _ = await asked(it)
    async with Redis.from_url(uri) as store:
        [key] = [key async for key in store.scan_iter(f"*:j:{unreadable}")]
        state = await store.hget(key, "state")
        assert isinstance(state, bytes)
        await store.hset(key, "state", flipped(state))
    async with node(uri) as it:
        job_id, part = await asked(it)
        await decide(it, part)
        assert (await ended(it, job_id)).status == "finished"
