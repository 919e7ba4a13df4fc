"""A node whose history is elsewhere: what its clients see, and what it costs when the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from holon.cli import main
from holon.client import Client, HistoryEvent
from holon.errors import FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from holon.testing import RunningNode, running_node
from tests.conftest import Measured
from tests.e2e.processes import until
from tests.history.backends import Database, PostgresDatabase, SqliteDatabase
from tests.history.postgres import Server, serving
from tests.integration.cases.site import http, one_task, waits

KINDS = [
    "job_created",
    "state_started",
    "state_finished",
    "task_dispatched",
    "task_finished",
    "state_started",
    "state_finished",
    "job_completed",
]
LINES = len(KINDS)
Start = Callable[..., AbstractAsyncContextManager[RunningNode]]


def uri_of(database: Database) -> str:
    if isinstance(database, PostgresDatabase):
        return database.uri
    assert isinstance(database, SqliteDatabase)
    return f"sqlite:///{database.path}"


def stored(store: str, place: Path) -> str:
    return "memory://" if store == "memory" else f"sqlite:///{place / 'holon.db'}?synchronous=NORMAL"


@asynccontextmanager
async def working(node: RunningNode, *names: str) -> AsyncIterator[None]:
    """Workers that do at once what they are asked for."""
    workers = []
    for name in names or ("w1",):
        worker = node.new_worker(name)
        worker.skill("t")(_echo)
        workers.append(worker)
    try:
        for worker in workers:
            await worker.__aenter__()
        yield
    finally:
        for worker in workers:
            await worker.__aexit__(None, None, None)


def _echo(params: dict[str, Any]) -> dict[str, Any]:
    return params


async def told(client: Client, job_id: str) -> list[HistoryEvent]:
    return [event async for event in client.history(job_id, page_size=2)]


async def so(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for what only asking tells."""
    await until(condition, "what the test waits for")


def complete(events: list[HistoryEvent]) -> bool:
    return [event.sequence for event in events] == list(range(1, len(events) + 1))


@pytest.fixture(params=["memory", "sqlite"])
def start(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> Start:
    """Starts nodes on one store of either kind, with one database of history of either kind."""

    def starting(**settings: Any) -> AbstractAsyncContextManager[RunningNode]:
        uris: dict[str, Any] = {
            "STORAGE_URI": stored(request.param, tmp_path),
            "HISTORY_DATABASE_URI": uri_of(database),
        }
        return running_node(one_task(), **uris | settings)

    return starting


async def moved(database: Database, job_id: str, lines: int) -> None:
    """Wait until the database has so many lines of a job."""
    async with database.open() as history:
        await so(lambda: _has(history, job_id, lines))


async def _has(history: Any, job_id: str, lines: int) -> bool:
    return len(await history.history(job_id, 0, 1_000)) == lines


async def test_a_jobs_history_is_the_same_before_and_after_it_moved(start: Start, database: Database) -> None:
    async with start() as node, working(node):
        job = await node.run("one_task", {"n": 1})
        before = await told(node.client, job.id)
        await moved(database, job.id, LINES)
        after = await told(node.client, job.id)
        assert [event.event_type for event in after] == KINDS
        assert before == after
        assert complete(after)
        assert await node.client.get_job(job.id) == job
        async with http(node) as client:
            page = (await client.get(f"/api/v1/jobs/{job.id}/history")).json()
        assert [event["event_type"] for event in page["events"]] == KINDS
        assert page["next_page_token"] == ""


async def test_what_the_store_forgot_is_shown_still(start: Start, database: Database) -> None:
    async with start(JOB_RETENTION=1.0) as node, working(node):
        old = [await node.run("one_task", {"n": n}) for n in range(3)]
        await so(lambda: _forgotten(node, old[-1].id))
        new = await node.run("one_task", {"n": 3})
        waiting = (await node.client.create_job("one_task", {"n": 4})).job_id
        await so(lambda: _over(node, waiting))
        for job in old:
            shown = await node.client.get_job(job.id)
            assert (shown.status, shown.result, shown.created_at) == (job.status, job.result, job.created_at)
            assert [event.event_type for event in await told(node.client, job.id)] == KINDS
        listed = [job.id async for job in node.client.list_jobs(page_size=2)]
        assert listed == [waiting, new.id, *(job.id for job in reversed(old))]
        early = [job.id async for job in node.client.list_jobs(created_before=new.created_at, statuses=["finished"])]
        assert early == [job.id for job in reversed(old)]
        with pytest.raises(FailedPrecondition, match="is over"):
            await node.client.cancel_job(old[0].id)
        async with http(node) as client:
            page = (await client.get("/api/v1/jobs", params={"limit": 3, "created_after": old[1].created_at})).json()
            assert [job["id"] for job in page["jobs"]] == [waiting, new.id, old[2].id]
            query = {"limit": 3, "created_after": old[1].created_at, "page_token": page["next_page_token"]}
            rest = (await client.get("/api/v1/jobs", params=query)).json()
            assert ([job["id"] for job in rest["jobs"]], rest["next_page_token"]) == ([old[1].id], "")


async def _forgotten(node: RunningNode, job_id: str) -> bool:
    """Whether the store has a job no more: only there it can be watched."""
    try:
        async with aclosing(node.client.watch(job_id)) as updates:
            await anext(updates)
    except NotFound:
        return True
    return False


async def _over(node: RunningNode, job_id: str) -> bool:
    return (await node.client.get_job(job_id)).status == "finished"


async def test_who_watches_is_told_every_line_though_it_moves_meanwhile(start: Start) -> None:
    async with start() as node:
        job_id = (await node.client.create_job("one_task", {"n": 1})).job_id
        numbers: list[int] = []
        async with aclosing(node.client.watch(job_id, after=0)) as updates:
            async for update in updates:
                if update.event is not None:
                    numbers.append(update.sequence)
                if len(numbers) == 4:
                    await waits(node, job_id)
                    break
        async with working(node):
            await so(lambda: _over(node, job_id))
            # Long enough for all of it to have moved; whether it has changes nothing.
            await asyncio.sleep(0.3)
            async with aclosing(node.client.watch(job_id, after=numbers[-1])) as updates:
                numbers += [update.sequence async for update in updates if update.event is not None]
        assert numbers == list(range(1, LINES + 1))


async def test_a_node_that_ends_moves_what_there_is(start: Start, database: Database) -> None:
    async with start() as node, working(node):
        jobs = [(await node.run("one_task", {"n": n})).id for n in range(3)]
    async with database.open() as history:
        assert [len(await history.history(job, 0, 10)) for job in jobs] == [LINES] * 3


async def test_what_a_worker_did_is_told_by_grpc_and_the_command_line(
    start: Start, database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as node:
        jobs: dict[str, list[str]] = {"w1": [], "w2": []}
        for name in ("w1", "w2", "w1"):
            async with working(node, name):
                jobs[name].append((await node.run("one_task", {"n": 1})).id)
        for job in (*jobs["w1"], *jobs["w2"]):
            await moved(database, job, LINES)
        for name, did in jobs.items():
            events = [event async for event in node.client.node.worker_history(name, page_size=1)]
            assert [(event.job_id, event.event_type) for event in events] == [
                (job, "task_finished") for job in did[::-1]
            ]
            assert all(event.worker_id == name and event.task_id == f"{event.job_id}-0-0" for event in events)
        assert [event async for event in node.client.node.worker_history("w3")] == []
        monkeypatch.setenv("HOLON_URL", f"grpcs://localhost:{node.ports.client}")
        monkeypatch.setenv("HOLON_TOKEN", node.token)
        monkeypatch.setenv("HOLON_CA", str(node.folder / "ca.pem"))
        assert await asyncio.to_thread(_command, "workers", "history", "w1", "--limit", "1") == 0
        shown = capsys.readouterr().out
        assert jobs["w1"][1] in shown
        assert jobs["w1"][0] not in shown
        assert jobs["w2"][0] not in shown


def _command(*arguments: str) -> int:
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("sys.argv", ["holon", *arguments])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


async def test_without_a_database_nobody_tells_what_a_worker_did() -> None:
    async with running_node(one_task()) as node:
        with pytest.raises(FailedPrecondition, match="HISTORY_DATABASE_URI"):
            [event async for event in node.client.node.worker_history("w1")]


async def test_the_stores_own_file_is_no_other_place(tmp_path: Path) -> None:
    uri = stored("sqlite", tmp_path)
    async with running_node(one_task(), STORAGE_URI=uri, HISTORY_DATABASE_URI=uri.partition("?")[0]) as node:
        async with working(node):
            job = await node.run("one_task", {"n": 1})
        assert [event.event_type for event in await told(node.client, job.id)] == KINDS
        with pytest.raises(FailedPrecondition):
            [event async for event in node.client.node.worker_history("w1")]


async def test_history_of_before_moves_too_when_a_node_is_given_a_database(tmp_path: Path, postgres: Server) -> None:
    uri = stored("sqlite", tmp_path)
    async with running_node(one_task(), STORAGE_URI=uri) as node, working(node):
        job = await node.run("one_task", {"n": 1})
    database = PostgresDatabase(postgres)
    async with running_node(one_task(), STORAGE_URI=uri, HISTORY_DATABASE_URI=database.uri) as node:
        await moved(database, job.id, LINES)
        assert [event.event_type for event in await told(node.client, job.id)] == KINDS


# An absent database ----------------------------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that this test alone may stop and kill."""
    with serving() as server:
        yield server


async def test_a_node_starts_and_works_while_the_database_is_away(tmp_path: Path, own: Server) -> None:
    database = PostgresDatabase(own)
    own.stop()
    uris: dict[str, Any] = {"STORAGE_URI": stored("sqlite", tmp_path), "HISTORY_DATABASE_URI": database.uri}
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


async def test_too_much_that_waits_refuses_new_jobs_and_nothing_else(tmp_path: Path, own: Server) -> None:
    database = PostgresDatabase(own)
    own.stop()
    uris: dict[str, Any] = {"STORAGE_URI": stored("sqlite", tmp_path), "HISTORY_DATABASE_URI": database.uri}
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
@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_the_database_is_killed_and_comes_back_under_load_and_nothing_is_lost(
    tmp_path: Path, own: Server, measured: Measured, store: str
) -> None:
    database = PostgresDatabase(own)
    uris: dict[str, Any] = {"STORAGE_URI": stored(store, tmp_path), "HISTORY_DATABASE_URI": database.uri}
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
                await more(150)
                await asyncio.to_thread(own.kill)
                phase = "away"
                await more(150)
                await asyncio.to_thread(own.start)
                phase = "there"
            await more(150)
            enough.set()
        async with database.open() as history:
            for job in jobs:
                await so(lambda job=job: _has(history, job, LINES))  # type: ignore[misc]
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
