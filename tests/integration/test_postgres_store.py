"""The store in PostgreSQL: nodes share it, and its server may go away."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Iterator

import asyncpg
import pytest

from holon.core import owner
from holon.domain.events import CancelRequested
from holon.domain.job import Job
from holon.errors import StoreBroken, StoreUnavailable
from holon.ports import Appended, JobFilter, NewJob, StoreSettings
from holon.storage.postgres import PostgresStorage
from holon.stores.postgres import PostgresRows
from holon.testing import RunningNode, running_node
from tests.history.postgres import Server, serving
from tests.history.site import working
from tests.integration.cases.site import one_task


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


def storage(uri: str, node: str) -> PostgresStorage:
    return PostgresStorage(uri, StoreSettings(node))


async def test_i1_jobs_go_on_when_the_killed_server_is_back(server: Server) -> None:
    accepted: list[str] = []
    enough = asyncio.Event()

    async def client(node: RunningNode) -> None:
        while not enough.is_set():
            # It repeats what was refused, with the same request id.
            accepted.append((await node.client.create_job("one_task", {"n": len(accepted)})).job_id)

    async with running_node(one_task(), STORAGE_URI=server.database()) as node, working(node, "w1", "w2"):
        async with asyncio.TaskGroup() as clients:
            for _ in range(4):
                clients.create_task(client(node))
            for _ in range(2):
                before = len(accepted)
                while len(accepted) < before + 20:
                    await node.run("one_task", {"n": 0})
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            enough.set()
        for job_id in accepted:
            assert (await node.client.wait_for(job_id)).status == "finished"
        assert len(set(accepted)) == len(accepted)


async def test_i1_jobs_are_there_after_a_restart_of_the_node(server: Server) -> None:
    uri = server.database()
    async with running_node(one_task(), STORAGE_URI=uri) as node:
        job_id = (await node.client.create_job("one_task", {"n": 1})).job_id
    async with running_node(one_task(), STORAGE_URI=uri) as node, working(node, "w1"):
        assert (await node.client.wait_for(job_id)).status == "finished"


async def test_i1_a_node_has_the_jobs_of_another_that_has_ended(server: Server) -> None:
    uri = server.database()
    async with running_node(one_task(), STORAGE_URI=uri, INSTANCE_ID="second") as second:
        async with running_node(one_task(), STORAGE_URI=uri, INSTANCE_ID="first") as first:
            jobs = [(await first.client.create_job("one_task", {"n": n})).job_id for n in range(20)]
            # Each node shows the jobs of both.
            assert {(await second.client.get_job(job_id)).status for job_id in jobs} == {"waiting_for_worker"}
        async with working(second, "w1"):
            for job_id in jobs:
                assert (await second.client.wait_for(job_id)).status == "finished"


async def test_i1_workers_of_one_node_do_the_tasks_of_another(server: Server) -> None:
    uri = server.database()
    async with (
        running_node(one_task(), STORAGE_URI=uri, INSTANCE_ID="first") as first,
        running_node(one_task(), STORAGE_URI=uri, INSTANCE_ID="second") as second,
        working(second, "w1"),
    ):
        for n in range(20):
            assert (await first.run("one_task", {"n": n})).status == "finished"


async def test_i1_shards_that_a_silent_node_lost_are_answered_by_the_other(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "TAKE_OVER_S", 0.2)
    uri = server.database()
    jobs = [NewJob(Job(f"{shard}-a", "bp", "ann", {}, "start"), ()) for shard in range(32)]
    # The first one writes nothing by itself for 2.5 s, as if it stood still.
    async with storage(uri, "frozen") as frozen:
        await frozen.create_jobs(jobs)
        async with storage(uri, "other") as other, PostgresRows(uri) as rows:
            while True:
                if shards := [head.shard for head in await rows.heads() if head.node == "other"]:
                    break
                await asyncio.sleep(0.05)
            taken = f"{shards[0]}-a"
            while True:
                with contextlib.suppress(StoreUnavailable):
                    appended = await frozen.append(taken, CancelRequested("ann"), "key")
                    break
                await asyncio.sleep(0.05)
            assert appended is Appended.APPENDED
            assert len(await other.unread(taken)) == 1


async def test_batches_that_a_failover_lost_are_written_again(server: Server) -> None:
    uri = server.database()
    jobs = [NewJob(Job(f"0-{name}", "bp", "ann", {}, "start"), ()) for name in "abcd"]
    async with storage(uri, "one") as store:
        for new in jobs[:3]:
            await store.create_jobs([new])
        # As a replica that did not have the last two.
        server.sql("DELETE FROM holon_row WHERE job IN ('0-b', '0-c')", uri)
        server.sql("DELETE FROM holon_entry WHERE member IN ('0-b', '0-c')", uri)
        server.sql("UPDATE holon_head SET batch = batch - 2", uri)
        await store.create_jobs(jobs[3:])
    async with storage(uri, "one") as store:
        assert [one.job.id for one in (await store.jobs(JobFilter("ann"), 10))[0]] == ["0-d", "0-c", "0-b", "0-a"]


async def test_of_two_nodes_with_one_name_the_older_ends_and_says_what_to_change(server: Server) -> None:
    uri = server.database()
    async with storage(uri, "same") as older, storage(uri, "same") as newer:
        with pytest.raises(StoreBroken, match="INSTANCE_ID"):
            await older.failure()
        assert await newer.put_document("keys", "a", b"1", version=0)


async def written_on(store: PostgresStorage) -> None:
    """Write until it is refused: the server's processes for clients outlive it for a moment."""
    while True:
        await store.put_document("keys", "a", b"1", version=0)


async def test_i10_a_node_whose_store_is_away_refuses_reads_and_ends(server: Server) -> None:
    store = storage(server.database(), "one")
    await store.__aenter__()
    await asyncio.to_thread(server.kill)
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):
            await written_on(store)
        with pytest.raises(StoreUnavailable, match="does not confirm writes"):
            await store.counts()
        await store.__aexit__(None, None, None)


async def test_a_call_whose_caller_is_cancelled_leaves_no_error_behind_when_its_connection_ends(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back, ended = asyncio.Event(), asyncio.Event()

    async def reset(*_args: object, **_more: object) -> None:
        given_back.set()
        await ended.wait()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    async with PostgresRows(server.database()) as rows:
        with monkeypatch.context() as patch:
            patch.setattr(asyncpg.Connection, "reset", reset)
            asking = asyncio.create_task(rows.records("keys"))
            await given_back.wait()
            asking.cancel()
            await asyncio.wait([asking])
            ended.set()
            # That is known in the next turns of the loop.
            for _ in range(10):
                await asyncio.sleep(0)
    del asking
    gc.collect()
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


async def test_i10_calls_that_read_rows_are_refused_while_the_store_is_silent(server: Server) -> None:
    new = NewJob(Job("0-a", "bp", "ann", {}, "start"), (), request_id="again")
    async with storage(server.database(), "one") as store:
        with server.silent():
            with pytest.raises(StoreUnavailable):
                await store.put_document("keys", "a", b"1", version=0)
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: store.job("0-unknown"),
                lambda: store.task("0-unknown-0-0"),
                lambda: store.append("0-unknown", CancelRequested("ann"), "key"),
                lambda: store.create_jobs([new]),
                lambda: store.made("ann", "again"),
                lambda: store.settle_ends(["0-unknown"]),
            ]
            for call in calls:
                with pytest.raises(StoreUnavailable, match="does not confirm writes"):
                    await call()
        while True:
            with contextlib.suppress(StoreUnavailable):
                assert (await store.create_jobs([new])).jobs
                break
            await asyncio.sleep(0.01)
