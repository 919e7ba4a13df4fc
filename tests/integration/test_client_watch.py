"""The client's watch: what it yields, and that it goes on by itself; batches, and the node as operators see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from holon import Blueprint
from holon.client import Client, CreatedJob, EdgeInfo, Job, JobRequest, Update
from holon.client import watching as client_watching
from holon.context import ActionFactory
from holon.errors import HolonError, NotFound, Unauthenticated, Unavailable, Unreachable
from holon.rxon.v1 import job_pb2
from holon.testing import RunningNode, running_node
from holon.wire.grpc_status import abort

GUARD = 60.0
CODE = grpc.StatusCode


def echo() -> Blueprint:
    blueprint = Blueprint("echo", api_endpoint="/echo", api_version="v1")

    @blueprint.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task("echo", initial_data, transitions={"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


@pytest.fixture
async def node() -> AsyncIterator[RunningNode]:
    async with running_node(echo()) as node:
        yield node


@asynccontextmanager
async def working(node: RunningNode) -> AsyncIterator[None]:
    worker = node.new_worker("w1")

    @worker.skill("echo")
    def answer(n: int = 0) -> dict[str, int]:
        return {"n": n}

    async with worker:
        await worker.ready()
        yield


async def told(client: Client, job_id: str, after: int | None = None) -> list[Update]:
    async with asyncio.timeout(GUARD):
        return [update async for update in client.watch(job_id, after=after)]


async def test_a_watch_yields_the_job_what_happens_to_it_and_the_job_as_it_ended(node: RunningNode) -> None:
    job_id = (await node.client.create_job("echo", {"n": 1})).job_id
    watching = asyncio.create_task(told(node.client, job_id, 0))
    async with working(node):
        updates = await watching
    assert updates[0].job is not None
    assert updates[0].job.id == job_id
    assert updates[-1].job == await node.client.get_job(job_id)
    assert updates[-1].job.status == "finished"
    history = [event async for event in node.client.history(job_id)]
    assert [update.event for update in updates if update.event is not None] == history
    progress = [update.progress for update in updates if update.progress is not None]
    assert all(one.current_state in ("start", "end") for one in progress)


async def test_waiting_for_a_job_sees_it_go_on(node: RunningNode) -> None:
    job_id = (await node.client.create_job("echo", {"n": 1})).job_id
    seen: list[Job] = []
    began = asyncio.Event()

    def see(job: Job) -> None:
        seen.append(job)
        began.set()

    waiting = asyncio.create_task(node.client.wait_for(job_id, timeout=GUARD, seen=see))
    await began.wait()
    async with working(node):
        job = await waiting
    assert job == seen[-1] == await node.client.get_job(job_id)
    assert seen[0].status == "waiting_for_worker"


async def test_calls_never_wait_behind_any_number_of_watches(node: RunningNode) -> None:
    job_id = (await node.client.create_job("echo")).job_id
    waiting = [asyncio.create_task(node.client.wait_for(job_id)) for _ in range(200)]
    async with asyncio.timeout(GUARD):
        while not repr(node.client._streams).endswith("streams=200)"):
            await node.client.get_job(job_id)
    assert (await node.client.get_job(job_id)).status == "waiting_for_worker"
    async with working(node):
        jobs = await asyncio.gather(*waiting)
    assert {job.status for job in jobs} == {"finished"}


async def test_jobs_are_created_in_batches_each_by_itself(node: RunningNode) -> None:
    asked = [JobRequest("echo", {"n": n}, request_id=f"r-{n}") for n in range(300)]
    asked.insert(7, JobRequest("nothing"))
    asked.insert(9, JobRequest("echo", {"text": "x" * 900_000}))
    made = await node.client.create_jobs(asked)
    refused = made.pop(7)
    assert isinstance(refused, NotFound)
    assert refused.code == "BLUEPRINT_NOT_FOUND"
    jobs = [one for one in made if isinstance(one, CreatedJob)]
    assert len({job.job_id for job in jobs}) == len(made) == 301
    again = await node.client.create_jobs([JobRequest("echo", {"n": n}, request_id=f"r-{n}") for n in (0, 299)])
    assert again == [CreatedJob(jobs[0].job_id, True), CreatedJob(jobs[-1].job_id, True)]
    assert await node.client.create_jobs([]) == []


# The node as operators see it --------------------------------------------------------------------------------------


async def test_the_node_tells_who_it_is_what_it_runs_and_who_works_for_it(node: RunningNode) -> None:
    async with working(node):
        info = await node.client.node.info()
        assert (info.node_id, info.draining) == (node.config.INSTANCE_ID, False)
        assert [one.name async for one in node.client.node.list_blueprints()] == ["echo"]
        blueprint = await node.client.node.get_blueprint("echo")
        assert (blueprint.path, blueprint.version) == ("/api/v1/echo", "v1")
        assert blueprint.graph is not None
        assert blueprint.graph.edges == (EdgeInfo("start", "end", "success"),)
        assert [state.kind for state in blueprint.graph.states] == ["start", "end"]
        [worker] = [one async for one in node.client.node.list_workers(skill="echo")]
        assert (worker.worker_id, worker.skills, worker.connected) == ("w1", ("echo",), True)
        assert worker.sdk.startswith("holon")
        [skill] = [one async for one in node.client.node.list_skills()]
        assert (skill.name, skill.providers) == ("echo", 1)
        assert skill.input_schema["properties"]["n"] == {"type": "integer"}
        stats = await node.client.node.stats()
        assert (stats.jobs, stats.workers_connected) == ({}, 1)
        assert stats.uptime > 0
        assert (await node.client.node.drain_worker("w1")).draining
        assert not (await node.client.node.drain_worker("w1", undo=True)).draining


async def test_a_drained_node_takes_nothing_new_waits_for_what_runs_and_ends_itself() -> None:
    async with running_node(echo(), SHUTDOWN_GRACE_SECONDS=30) as node:
        worker = node.new_worker("w1")
        began, may_end = asyncio.Event(), asyncio.Event()

        @worker.skill("echo")
        async def slow() -> None:
            loop.call_soon_threadsafe(began.set)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(may_end.wait(), loop))

        loop = asyncio.get_running_loop()
        async with worker, asyncio.timeout(GUARD):
            await node.client.create_job("echo")
            await began.wait()
            await node.client.node.drain(reason="a test")
            await node.client.node.drain(reason="a repeat does not hurry it")
            while not (await node.client.node.info()).draining:
                pass
            with pytest.raises(Unavailable) as refused:
                await node.client.create_job("echo")
            assert refused.value.code == "DRAINING"
            assert (await node.client.node.stats()).tasks_leased == 1
            may_end.set()
        with pytest.raises((Unreachable, Unavailable)):
            await forever(node.client.node.info)


async def forever(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(GUARD):
        while True:
            await call()


# What it goes on after ---------------------------------------------------------------------------------------------

Answer = Callable[[job_pb2.WatchJobRequest, Any], AsyncIterator[job_pb2.WatchJobResponse]]


def seen(sequence: int, *, terminal: bool = False) -> job_pb2.WatchJobResponse:
    job = job_pb2.Job(id="j1", status="finished" if terminal else "running", terminal=terminal)
    return job_pb2.WatchJobResponse(sequence=sequence, job=job)


def line(sequence: int) -> job_pb2.WatchJobResponse:
    event = job_pb2.HistoryEvent(sequence=sequence, event_type="state_started")
    return job_pb2.WatchJobResponse(sequence=sequence, event=event)


class Scripted:
    """A service whose streams are told in advance; what is asked of each is noted."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.after: list[int | None] = []

    async def watch(self, request: job_pb2.WatchJobRequest, context: Any) -> AsyncIterator[job_pb2.WatchJobResponse]:
        self.after.append(request.after_sequence if request.HasField("after_sequence") else None)
        async for message in self._answers.pop(0)(request, context):
            yield message


@asynccontextmanager
async def scripted(service: Scripted) -> AsyncIterator[Client]:
    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(
        service.watch, job_pb2.WatchJobRequest.FromString, job_pb2.WatchJobResponse.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("holon.rxon.v1.JobService", {"WatchJob": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Client(f"grpc://127.0.0.1:{port}", timeout=GUARD) as client:
            yield client
    finally:
        await server.stop(None)


def breaking(*messages: job_pb2.WatchJobResponse, error: HolonError | grpc.StatusCode | None) -> Answer:
    async def answer(_: Any, context: Any) -> AsyncIterator[job_pb2.WatchJobResponse]:
        for message in messages:
            yield message
        if isinstance(error, HolonError):
            await abort(context, error)
        elif error is not None:
            await context.abort(error, "on purpose")

    return answer


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_watching, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(client_watching, "LAST_PAUSE_S", 0.002)


ENDING = breaking(seen(3), line(4), seen(4, terminal=True), error=None)


@pytest.mark.parametrize(
    "error",
    [
        CODE.UNAVAILABLE,
        CODE.CANCELLED,
        CODE.INTERNAL,
        None,
        HolonError("the store is away", code="STORE_UNAVAILABLE", retry_after=0.001),
    ],
)
async def test_a_stream_that_ends_before_the_job_is_gone_on_with_after_what_was_told(error: Any) -> None:
    service = Scripted(breaking(seen(1), line(2), line(3), error=error), ENDING)
    async with scripted(service) as client:
        updates = await told(client, "j1")
    assert service.after == [None, 3]
    assert [update.sequence for update in updates] == [1, 2, 3, 3, 4, 4]
    assert [update.event.sequence for update in updates if update.event is not None] == [2, 3, 4]
    assert updates[-1].job is not None
    assert updates[-1].job.terminal


async def test_what_was_asked_for_is_asked_for_again_when_nothing_was_told_yet() -> None:
    service = Scripted(breaking(seen(2), error=CODE.UNAVAILABLE), ENDING)
    async with scripted(service) as client:
        await told(client, "j1", 2)
    assert service.after == [2, 2]


async def test_a_refusal_ends_the_watch() -> None:
    gone = NotFound("Job not found: 'j1'", code="JOB_NOT_FOUND")
    service = Scripted(breaking(seen(1), error=CODE.UNAVAILABLE), breaking(error=gone))
    async with scripted(service) as client:
        with pytest.raises(NotFound) as refused:
            await told(client, "j1")
    assert refused.value.code == "JOB_NOT_FOUND"


async def test_a_fault_of_the_node_is_not_repeated() -> None:
    service = Scripted(breaking(seen(1), error=HolonError("the node failed")))
    async with scripted(service) as client:
        with pytest.raises(HolonError, match="the node failed"):
            await told(client, "j1")


async def test_patience_has_an_end() -> None:
    away = breaking(error=CODE.UNAVAILABLE)
    service = Scripted(breaking(seen(1), error=CODE.UNAVAILABLE), *[away] * 1_000)
    async with scripted(service) as client:
        updates = client.watch("j1", patience=0.05)
        await anext(updates)
        with pytest.raises(Unreachable):
            await anext(updates)


async def test_silence_is_taken_for_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_watching, "SILENCE_S", 0.05)

    async def silent(_: Any, context: Any) -> AsyncIterator[job_pb2.WatchJobResponse]:
        yield seen(1)
        await asyncio.Event().wait()

    service = Scripted(silent, ENDING)
    async with scripted(service) as client:
        updates = await told(client, "j1")
    assert service.after == [None, 1]
    assert updates[-1].sequence == 4


async def test_what_a_newer_node_tells_and_signs_of_life_are_passed_over() -> None:
    idle = job_pb2.WatchJobResponse(sequence=1, idle=job_pb2.WatchIdle())
    unknown = job_pb2.WatchJobResponse.FromString(b"\x08\x01\x9a\x06\x00")
    service = Scripted(breaking(seen(1), idle, unknown, seen(1, terminal=True), error=None))
    async with scripted(service) as client:
        assert len(await told(client, "j1")) == 2


async def test_a_watch_that_is_left_early_ends_its_stream() -> None:
    ended = asyncio.Event()

    async def endless(_: Any, context: Any) -> AsyncIterator[job_pb2.WatchJobResponse]:
        try:
            while True:
                yield seen(1)
        finally:
            ended.set()

    async with scripted(Scripted(endless)) as client, asyncio.timeout(GUARD):
        async with aclosing(client.watch("j1")) as updates:
            await anext(updates)
        await ended.wait()
        assert repr(client._streams) == "Streams(channels=1, streams=0)"


async def test_nobody_there_at_first_is_told_at_once() -> None:
    async with Client("grpc://127.0.0.1:1") as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
            await told(client, "j1")


async def test_a_wrong_token_ends_a_watch(node: RunningNode) -> None:
    job_id = (await node.client.create_job("echo")).job_id
    async with Client(f"grpcs://localhost:{node.ports.client}", "wrong", node.folder / "ca.pem") as client:
        with pytest.raises(Unauthenticated):
            await told(client, job_id)
