"""A node whose history is elsewhere: what its clients see, wherever its lines are."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest

from holon.cli import main
from holon.errors import FailedPrecondition, NotFound
from holon.testing import RunningNode, running_node
from tests.history.backends import Database, PostgresDatabase
from tests.history.postgres import Server
from tests.history.site import KINDS, LINES, Start, StoreOf, complete, moved, so, told, uri_of, working
from tests.integration.cases.site import http, one_task, waits


@pytest.fixture(params=["memory", "sqlite", "redis"])
def start(request: pytest.FixtureRequest, store_of: StoreOf, database: Database) -> Start:
    """Starts nodes on one store of either kind, with one database of history of either kind."""

    def starting(**settings: Any) -> AbstractAsyncContextManager[RunningNode]:
        uris: dict[str, Any] = {
            "STORAGE_URI": store_of(request.param),
            "HISTORY_DATABASE_URI": uri_of(database),
        }
        return running_node(one_task(), **uris | settings)

    return starting


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


async def test_what_the_store_forgot_is_shown_still(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
            assert await node.client.get_job(job.id, data=True) == shown
            assert await node.client.job_ids(job.id[:-1]) == ((job.id,), False)
        listed = [job.id async for job in node.client.list_jobs(page_size=2)]
        assert listed == [waiting, new.id, *(job.id for job in reversed(old))]
        early = [job.id async for job in node.client.list_jobs(created_before=new.created_at, statuses=["finished"])]
        assert early == [job.id for job in reversed(old)]
        assert await _commanded(node, monkeypatch, "jobs", "get", old[0].id, "--data") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-2:] == ["initial data   deleted", "state history  deleted"]
        with pytest.raises(FailedPrecondition, match="has ended"):
            await node.client.cancel_job(old[0].id)
        async with http(node) as client:
            carried = "fields=id,initial_data,state_history"
            gone = {"id": old[0].id, "initial_data": None, "state_history": None}
            assert (await client.get(f"/api/v1/jobs/{old[0].id}?{carried}")).json() == gone
            page = (await client.get(f"/api/v1/jobs?{carried}")).json()
            data = {"initial_data": {"n": 4}, "state_history": {"n": 4}}
            assert (page["jobs"][0], page["jobs"][-1]) == ({"id": waiting} | data, gone)
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


async def test_who_watches_is_told_every_line_though_it_moves_meanwhile(start: Start, database: Database) -> None:
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
            await moved(database, job_id, LINES)
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
        assert await _commanded(node, monkeypatch, "workers", "history", "w1", "--limit", "1") == 0
        shown = capsys.readouterr().out
        assert jobs["w1"][1][:14] in shown
        assert jobs["w1"][0][:14] not in shown
        assert jobs["w2"][0][:14] not in shown


async def _commanded(node: RunningNode, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """How a command ends that talks to a node."""
    monkeypatch.setenv("HOLON_URL", f"grpcs://localhost:{node.ports.client}")
    monkeypatch.setenv("HOLON_TOKEN", node.token)
    monkeypatch.setenv("HOLON_CA", str(node.folder / "ca.pem"))
    return await asyncio.to_thread(_command, *arguments)


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


async def test_the_stores_own_file_is_no_other_place(store_of: StoreOf) -> None:
    uri = store_of("sqlite")
    async with running_node(one_task(), STORAGE_URI=uri, HISTORY_DATABASE_URI=uri.partition("?")[0]) as node:
        async with working(node):
            job = await node.run("one_task", {"n": 1})
        assert [event.event_type for event in await told(node.client, job.id)] == KINDS
        with pytest.raises(FailedPrecondition):
            [event async for event in node.client.node.worker_history("w1")]


@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_history_of_before_moves_too_when_a_node_is_given_a_database(
    store_of: StoreOf, postgres: Server, store: str
) -> None:
    uri = store_of(store)
    async with running_node(one_task(), STORAGE_URI=uri) as node, working(node):
        job = await node.run("one_task", {"n": 1})
    database = PostgresDatabase(postgres)
    async with running_node(one_task(), STORAGE_URI=uri, HISTORY_DATABASE_URI=database.uri) as node:
        await moved(database, job.id, LINES)
        assert [event.event_type for event in await told(node.client, job.id)] == KINDS
