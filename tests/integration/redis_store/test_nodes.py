"""Whole nodes on one Redis: what one of them takes is done by workers of another, and goes on when it dies."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from holon.client import Job
from holon.errors import StoreUnavailable, Unimplemented
from holon.ports import StoreSettings
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage.redis import RedisStorage
from holon.testing import RunningNode, running_node
from holon.worker.link import Replaced
from tests.chaos.link import Link
from tests.conftest import Measured
from tests.e2e.processes import until
from tests.hints import heard, hints_of
from tests.integration.admission import REVOKED, admission, end_of, rules
from tests.integration.cases.site import fan_out, one_task
from tests.integration.grpc_node import a_node, result, updates
from tests.integration.redis_store.nodes import Nodes
from tests.integration.scripted_node import serving
from tests.ports import free_ports
from tests.redis_server import RedisServer

GUARD = 60.0
# What was claimed or offered, and not heard of, is given out again when that is over.
SOON_OVER: dict[str, Any] = {
    "TASK_OFFER_SECONDS": 0.5,
    "TASK_LEASE_SECONDS": 3,
    "WORKER_SILENCE_SECONDS": 2.5,
    "HEARTBEAT_INTERVAL_SECONDS": 1,
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer(append_only=True)
    yield server
    server.close()


@pytest.fixture
async def pair(server: RedisServer) -> AsyncIterator[tuple[RunningNode, RunningNode]]:
    """Two nodes on one store, each with a client and workers of its own."""
    uri = server.uri(server.database())
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(running_node(one_task(), STORAGE_URI=uri, INSTANCE_ID=name))
            for name in ("a", "b")
        ]
        yield nodes[0], nodes[1]


async def _all(node: RunningNode) -> list[Job]:
    return [job async for job in node.client.list_jobs()]


async def ended(node: RunningNode, job_id: str) -> Job:
    return await node.client.wait_for(job_id, timeout=GUARD)


async def test_a_job_of_one_node_is_done_by_a_worker_of_another(pair: tuple[RunningNode, RunningNode]) -> None:
    first, second = pair
    worker = second.new_worker("w1")

    @worker.skill("t")
    async def t(n: int) -> dict[str, int]:
        return {"twice": 2 * n}

    async with worker:
        jobs = [(await first.client.create_job("one_task", {"n": n})).job_id for n in range(20)]
        statuses = [(await ended(first, job_id)).status for job_id in jobs]
        assert statuses == ["finished"] * 20
        assert [job.status for job in await _all(second)] == ["finished"] * 20


async def test_a_cancel_at_one_node_stops_the_worker_of_another(pair: tuple[RunningNode, RunningNode]) -> None:
    first, second = pair
    worker = second.new_worker("w1")
    begun, stopped = asyncio.Event(), asyncio.Event()

    @worker.skill("t")
    async def t() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with worker, asyncio.timeout(GUARD):
        job_id = (await first.client.create_job("one_task", {})).job_id
        await begun.wait()
        await first.client.cancel_job(job_id)
        await stopped.wait()
        assert (await ended(first, job_id)).status == "cancelled"


async def test_a_call_that_a_node_does_not_know_is_refused_and_is_no_fault_of_it(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A node of another release may have calls that this one has not."""
    uri = server.uri(server.database())
    async with RedisStorage(uri, StoreSettings("a")) as store, RedisStorage(uri, StoreSettings("b")):
        with pytest.raises(Unimplemented, match="node 'b' has no call 'of-tomorrow'"):
            await store._post.ask("b", "of-tomorrow", b"")
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []


async def test_a_lease_is_kept_whose_shard_moves_while_its_session_opens(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await nodes.add("a"), await nodes.add("b")
    here, there = one.storage, other.storage
    assert isinstance(here, RedisStorage)
    assert isinstance(there, RedisStorage)
    await until(lambda: "b" in map(here._owner.of, there._shards), "the other node owns a shard, and is known to")
    hand, hints = await one.hand(), hints_of(here)
    task = await other.dispatch()
    await heard(hints, lambda hint: bool(hint.keys))
    [offer] = await one.lease(hand.seat())
    assert offer.task_id == task
    with monkeypatch.context() as patch:
        # As if the other node had come by the shard just after this one looked.
        patch.setattr(here, "_owners_of", lambda _: set())
        with pytest.raises(StoreUnavailable, match="move to another node"):
            await one.resume("w1", offer)
    _, opened = await one.resume("w1", offer)
    assert [kept.lease_id for kept in opened.kept] == [offer.lease_id]
    assert (await other.task_record(task)).attempt == 1


async def test_the_newer_of_two_processes_has_the_id_though_it_is_at_another_node(
    pair: tuple[RunningNode, RunningNode],
) -> None:
    first, second = pair
    older, newer = first.new_worker("w1"), second.new_worker("w1")

    @older.skill("t")
    @newer.skill("t")
    async def t(n: int) -> dict[str, int]:
        return {"n": n}

    async with serving(older) as task:
        await asyncio.sleep(0)
        await asyncio.wait_for(older.ready(), GUARD)
        async with newer:
            with pytest.raises(Replaced):
                await asyncio.wait_for(task, GUARD)
            assert (await first.run("one_task", {"n": 1})).status == "finished"


async def test_a_process_that_moves_to_another_node_is_not_sent_away_by_its_older_one(server: RedisServer) -> None:
    uri = server.uri(server.database())
    async with (
        RedisStorage(uri, StoreSettings("a")) as one,
        RedisStorage(uri, StoreSettings("b")) as other,
        a_node(store=one) as first,
        a_node(store=other) as second,
    ):
        older = await first.worker(instance_id="a process")
        await first.create(n=1)
        offer = await older.offer()
        lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        newer = await second.worker(instance_id="a process", resume=worker_pb2.Resume(leases=[lease]))
        await first.until(lambda: not first.engine.dispatcher.sessions)
        await older.beat()
        await newer.send(updates(result(offer)))
        assert (await newer.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


async def test_results_on_a_stream_whose_process_moved_to_another_node_count_as_long_as_its_worker_is_let_in(
    server: RedisServer, tmp_path: Path
) -> None:
    uri = server.uri(server.database())
    who_lets_in = admission(tmp_path)
    async with (
        RedisStorage(uri, StoreSettings("a")) as one,
        RedisStorage(uri, StoreSettings("b")) as other,
        a_node(store=one, admission=who_lets_in) as first,
        a_node(store=other) as second,
    ):
        older = await first.worker(instance_id="a process", credits=2)
        newer = await second.worker(instance_id="a process", credits=2)
        await first.until(lambda: not first.engine.dispatcher.sessions)
        jobs = [await second.create(n=n) for n in range(2)]
        told, kept = [await newer.offer() for _ in jobs]
        # Of its own lease, whichever stream it comes on.
        await older.send(updates(result(told)))
        assert (await older.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        who_lets_in.use(rules=rules(tmp_path, '[[revoked]]\nworker = "w1"'))
        assert await end_of(older) == REVOKED
        # What the node where it is let in has given it stays its own.
        await newer.send(updates(result(kept)))
        assert (await newer.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        assert [(await second.ended(job)).status for job in jobs] == ["finished"] * 2


async def test_a_job_is_watched_at_one_node_while_another_runs_it(pair: tuple[RunningNode, RunningNode]) -> None:
    first, second = pair
    worker = second.new_worker("w1")

    @worker.skill("t")
    async def t() -> None: ...

    async with asyncio.timeout(GUARD):
        job_id = (await first.client.create_job("one_task", {})).job_id
        watched: list[Any] = []

        async def watch() -> None:
            watched.extend([change async for change in first.client.watch(job_id)])

        watching = asyncio.create_task(watch())
        async with worker:
            await watching
    assert watched
    assert (await second.client.get_job(job_id)).status == "finished"


async def test_replies_of_redis_that_are_cut_at_random_change_no_result(measured: Measured) -> None:
    [port] = free_ports(1)
    server = RedisServer(options=("--port", str(port)))
    chance = random.Random(13)
    torn, runs = 0, Counter[int]()

    def tears() -> bool:
        nonlocal torn
        tear = chance.random() < 1 / 15
        torn += tear
        return tear

    try:
        async with (
            Link("node->redis", lambda: port) as link,
            running_node(one_task(), fan_out(), STORAGE_URI=f"redis://127.0.0.1:{link.port}", **SOON_OVER) as node,
        ):
            worker = node.new_worker("w1", max_concurrent=20)

            @worker.skill("t")
            async def t(n: int) -> dict[str, int]:
                runs[n] += 1
                return {"twice": 2 * n}

            async with worker, asyncio.timeout(6 * GUARD):
                link.tears = tears
                tasks = [{"task_type": "t", "params": {"n": n}} for n in range(40, 60)]
                fan, *jobs = await asyncio.gather(
                    node.client.create_job("fan_out", {"tasks": tasks}),
                    *(node.client.create_job("one_task", {"n": n}) for n in range(40)),
                )
                results = [await node.client.wait_for(one.job_id) for one in jobs]
                gathered = await node.client.wait_for(fan.job_id)
                link.heal()
                lines = [[event.event_type async for event in node.client.history(one.job_id)] for one in jobs]
        assert [(job.status, job.result["twice"]) for job in results] == [("finished", 2 * n) for n in range(40)]
        assert [one["data"] for one in gathered.result["results"]] == [{"twice": 2 * n} for n in range(40, 60)]
        assert gathered.result["collected"] == 1
        assert {(kinds.count("task_finished"), kinds.count("job_completed")) for kinds in lines} == {(1, 1)}
        assert torn >= 5
        measured(f"{torn} replies cut, {runs.total() - len(runs)} of {len(runs)} tasks ran more than once")
    finally:
        server.close()


async def test_rule_13_while_the_store_is_away_jobs_are_refused_and_workers_are_kept() -> None:
    server = RedisServer(append_only=True)
    try:
        async with running_node(one_task(), STORAGE_URI=server.uri(1)) as node:
            worker = node.new_worker("w1")
            begun, go_on = asyncio.Event(), asyncio.Event()

            @worker.skill("t")
            async def t() -> None:
                begun.set()
                await go_on.wait()

            async with worker, httpx.AsyncClient(base_url=node.url, headers={"X-Client-Token": node.token}) as http:
                job_id = (await node.client.create_job("one_task", {})).job_id
                await begun.wait()
                server.kill()
                refused = await http.post("/api/v1/jobs/one_task", json={"initial_data": {}}, timeout=GUARD)
                assert (refused.status_code, refused.json()["code"]) == (503, "STORE_UNAVAILABLE")
                assert refused.headers["Retry-After"]
                go_on.set()
                metrics = (await http.get("/_public/metrics", timeout=GUARD)).text
                assert "\nholon_store_up 0.0\n" in metrics
                assert "\norchestrator_active_workers 1.0\n" in metrics
                server.start()
                assert (await ended(node, job_id)).status == "finished"
    finally:
        server.close()
