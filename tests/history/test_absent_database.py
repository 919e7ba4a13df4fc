"""A node whose database of history is away: nothing is lost, and no job waits for it."""

from __future__ import annotations

import asyncio
from functools import partial
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import pytest

from holon.errors import ResourceExhausted, Unavailable
from holon.testing import RunningNode, running_node
from tests.conftest import Measured
from tests.history.backends import PostgresDatabase
from tests.history.postgres import Server
from tests.history.site import KINDS, LINES, StoreOf, has, moved, so, told, working
from tests.integration.cases.site import http, one_task


async def test_a_node_starts_and_works_while_the_database_is_away(store_of: StoreOf, own: Server) -> None:
    database = PostgresDatabase(own)
    own.stop()
    uris: dict[str, Any] = {"STORAGE_URI": store_of("sqlite"), "HISTORY_DATABASE_URI": database.uri}
    async with running_node(one_task(), **uris) as node:
        async with working(node):
            job = await node.run("one_task", {"n": 1})
        assert [event.event_type for event in await told(node.client, job.id)] == KINDS
        assert [job.id async for job in node.client.list_jobs(statuses=["pending", "running"])] == []
        with pytest.raises(Unavailable) as away:
            await node.client.list_page()
        assert (away.value.code, away.value.retry_after) == ("HISTORY_UNAVAILABLE", 2.0)
        async with http(node) as client:
            reply = await client.get("/api/v1/jobs")
            assert (reply.status_code, reply.json()["code"]) == (503, "HISTORY_UNAVAILABLE")
            assert int(reply.headers["retry-after"]) >= 1
        own.start()
        await moved(database, job.id, LINES)
        assert [one.id for one in (await node.client.list_page()).jobs] == [job.id]


async def test_a_database_that_comes_later_and_cannot_hold_history_is_as_one_that_is_away(
    store_of: StoreOf, own: Server, caplog: pytest.LogCaptureFixture
) -> None:
    database = PostgresDatabase(own)
    name = urlsplit(database.uri).path.removeprefix("/")
    own.sql(f"DROP DATABASE {name}")
    own.stop()
    uris: dict[str, Any] = {"STORAGE_URI": store_of("sqlite"), "HISTORY_DATABASE_URI": database.uri}
    async with running_node(one_task(), **uris) as node, working(node):
        own.start()
        own.sql(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        job = await node.run("one_task", {"n": 1})
        await so(partial(_said, caplog, "history cannot be moved: ", "encoding LATIN1"))
        with pytest.raises(Unavailable, match="encoding LATIN1") as away:
            await node.client.list_page()
        assert away.value.code == "HISTORY_UNAVAILABLE"
        own.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        own.stop()
        own.start()
        own.sql(f"DROP DATABASE {name}")
        own.sql(f"CREATE DATABASE {name}")
        await moved(database, job.id, LINES)
        assert (await node.run("one_task", {"n": 2})).status == "finished"


async def _said(caplog: pytest.LogCaptureFixture, *parts: str) -> bool:
    return any(all(part in line for part in parts) for line in caplog.messages)


async def test_too_much_that_waits_refuses_new_jobs_and_nothing_else(store_of: StoreOf, own: Server) -> None:
    database = PostgresDatabase(own)
    own.stop()
    uris: dict[str, Any] = {"STORAGE_URI": store_of("sqlite"), "HISTORY_DATABASE_URI": database.uri}
    async with running_node(one_task(), **uris, HISTORY_BACKLOG=4096) as node:
        jobs: list[str] = []
        with pytest.raises(ResourceExhausted) as full:  # noqa: PT012  the last of many
            while len(jobs) < 500:
                jobs.append((await node.client.create_job("one_task", {"n": 1})).job_id)
        assert (full.value.code, full.value.retry_after) == ("HISTORY_BACKLOG", 5.0)
        async with http(node) as client:
            reply = await client.post("/api/v1/jobs/one_task", json={"initial_data": {"n": 1}})
            assert (reply.status_code, reply.json()["code"], reply.headers["retry-after"]) == (
                429,
                "HISTORY_BACKLOG",
                "5",
            )
            figures = (await client.get("/_public/metrics")).text
        [backlog] = [line for line in figures.splitlines() if line.startswith("holon_history_backlog_bytes ")]
        assert float(backlog.split()[1]) >= 4096
        cancelled = await node.client.cancel_job(jobs[0])
        async with working(node):
            ended = [await node.client.wait_for(job, timeout=60) for job in jobs]
        assert [job.status for job in ended] == ["cancelled"] + ["finished"] * (len(jobs) - 1)
        assert cancelled.id == jobs[0]
        own.start()
        for job in jobs[1:]:
            await moved(database, job, LINES)
        await so(lambda: _creates(node))


async def _creates(node: RunningNode) -> bool:
    try:
        await node.client.create_job("one_task", {"n": 1})
    except ResourceExhausted:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("store", ["memory", "sqlite", "redis"])
async def test_the_database_is_killed_and_comes_back_under_load_and_nothing_is_lost(
    store_of: StoreOf, own: Server, measured: Measured, store: str
) -> None:
    database = PostgresDatabase(own)
    uris: dict[str, Any] = {"STORAGE_URI": store_of(store), "HISTORY_DATABASE_URI": database.uri}
    jobs: list[str] = []
    took: dict[str, list[float]] = {"there": [], "away": []}
    phase, enough = "there", asyncio.Event()

    async def client(node: RunningNode) -> None:
        while not enough.is_set():
            now, began = phase, perf_counter()
            job = await node.run("one_task", {"n": len(jobs)})
            if phase == now:
                took[now].append(perf_counter() - began)
            assert job.status == "finished"
            jobs.append(job.id)

    async def more(count: int) -> None:
        wanted = len(took[phase]) + count
        await so(lambda: _reached(took[phase], wanted))

    async with running_node(one_task(), **uris) as node, working(node, "w1", "w2"):
        async with asyncio.TaskGroup() as clients:
            for _ in range(8):
                clients.create_task(client(node))
            for _ in range(3):
                await more(40)
                await asyncio.to_thread(own.kill)
                phase = "away"
                await more(40)
                await asyncio.to_thread(own.start)
                phase = "there"
            await more(40)
            enough.set()
        async with database.open() as history:
            for job in jobs:
                await so(lambda job=job: has(history, job, LINES))  # type: ignore[misc]
                lines = await history.history(job, 0, 10)
                assert [(number, event.type) for number, event in lines] == list(enumerate(KINDS, start=1))
        assert own.sql("SELECT count(*) FROM holon_history", database.uri) == [str(LINES * len(jobs))]
        shown = [job.id async for job in node.client.list_jobs(page_size=1000)]
        assert sorted(shown) == sorted(jobs)
    medians = {name: sorted(times)[len(times) // 2] * 1000 for name, times in took.items()}
    measured(
        f"{len(jobs)} jobs, 3 kills of PostgreSQL: a job takes {medians['there']:.1f} ms while it is there, "
        f"{medians['away']:.1f} ms while it is away (medians); all {LINES * len(jobs)} lines are kept once"
    )


async def _reached(times: list[float], wanted: int) -> bool:
    return len(times) >= wanted
