"""What the acceptance cases share: the blueprints that many need, and the doors of a node, called and looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Protocol

import grpc
import grpc.aio
import httpx

from holon import Blueprint
from holon.client import HistoryEvent, Job
from holon.context import ActionFactory, TaskItem
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.testing import RunningNode
from tests.integration.grpc_node import SESSION, Wire, hello, offering
from tests.plaintext import PLAINTEXT

GUARD = 60.0
# How often a client looks again at what nothing tells it of.
LOOK_S = 0.01
# A back-off of this long never passes within a test, whatever the jitter.
NEVER: dict[str, float] = {"RETRY_BACKOFF_MIN_SECONDS": 1_000_000.0, "RETRY_BACKOFF_MAX_SECONDS": 1_000_000.0}


class Start(Protocol):
    """Starts a node with these blueprints and settings, on the store that the test runs on."""

    def __call__(
        self, *blueprints: Blueprint, **settings: str | float | bool
    ) -> AbstractAsyncContextManager[RunningNode]: ...


# Blueprints ------------------------------------------------------------------------------------------------------


def one_task(
    transitions: Mapping[str, str] | None = None, *, name: str = "one_task", skill: str = "t", **options: Any
) -> Blueprint:
    """Dispatches one task with its `initial_data`, and ends as the task does.

    Arguments:
        transitions: by default success leads to `finished`, and failure to `on_fail`, a failing end.
        options: more for `dispatch_task`.
    """
    bp = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")
    ways = {"success": "finished", "failure": "on_fail"} if transitions is None else transitions

    @bp.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(skill, initial_data, ways, **options)

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    @bp.handler(is_end=True, outcome="failed")
    async def on_fail(state_history: dict[str, Any]) -> Any:
        return state_history.get("error")

    for state in sorted({*ways.values()} - {"start", "finished", "on_fail"}):
        bp.handler(state, is_end=True)(_an_end)
    return bp


async def _an_end() -> None: ...


SUCCESS_ONLY = {"success": "finished"}


def numbered(count: int) -> list[TaskItem]:
    """So many branches of one skill, each with its number."""
    return [{"task_type": "t", "params": {"n": n}} for n in range(count)]


def fan_out(tasks: Iterable[Any] | None = None, *, name: str = "fan_out", fail_fast: bool = False) -> Blueprint:
    """Dispatches these tasks, or those in `initial_data["tasks"]`; its result is what the aggregator got, in order."""
    bp = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")

    @bp.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        given = initial_data.get("tasks", []) if tasks is None else tasks
        actions.dispatch_parallel(given, "collect", fail_fast=fail_fast)

    @bp.aggregator
    async def collect(
        aggregation_results: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory
    ) -> None:
        state_history["collected"] = state_history.get("collected", 0) + 1
        state_history["results"] = list(aggregation_results.values())
        state_history["ids"] = list(aggregation_results)
        actions.go_to("finished")

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    return bp


# Looking at the node's loop --------------------------------------------------------------------------------------


class Passes:
    """Counts what is done in one pass of the node's event loop, and keeps the most of any."""

    def __init__(self) -> None:
        self._now: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.all: dict[str, int] = {}

    def counted(self, what: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work, counted."""

        def counting(*arguments: Any, **more: Any) -> Any:
            for counts in (self._now, self.all):
                counts[what] = counts.get(what, 0) + 1
            self.most[what] = max(self.most.get(what, 0), self._now[what])
            return work(*arguments, **more)

        return counting

    async def run(self) -> None:
        """See each pass end, until cancelled."""
        while True:
            self._now.clear()
            await asyncio.sleep(0)


# Looking at jobs -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def http(node: RunningNode, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the HTTP door, with the client's token unless other headers are given."""
    given = headers or {"X-Client-Token": node.token}
    async with httpx.AsyncClient(
        base_url=node.url, headers=given, trust_env=False, timeout=GUARD, verify=PLAINTEXT
    ) as client:
        yield client


async def seen(node: RunningNode, job_id: str, so: Callable[[Job], object]) -> Job:
    """The job, once it looks so to a client."""
    job = await node.client.get_job(job_id)
    try:
        async with asyncio.timeout(GUARD):
            while not so(job):
                # Else the test takes the processor from the node that it waits for.
                await asyncio.sleep(LOOK_S)
                job = await node.client.get_job(job_id)
    except TimeoutError:
        raise AssertionError(f"never so: {job}") from None
    return job


async def waits(node: RunningNode, job_id: str, status: str = "waiting_for_worker") -> Job:
    """The job, once it has this status."""
    return await seen(node, job_id, lambda job: job.status == status)


async def ended(node: RunningNode, job_id: str) -> Job:
    """The job, once it is over."""
    return await node.client.wait_for(job_id, timeout=GUARD)


async def create(node: RunningNode, blueprint: str, initial_data: Any = None, **options: Any) -> str:
    """Create a job; its id."""
    return (await node.client.create_job(blueprint, initial_data, **options)).job_id


async def history(node: RunningNode, job_id: str, *kinds: str) -> list[HistoryEvent]:
    """What happened to a job; only events of these kinds, if any are given."""
    return [event async for event in node.client.history(job_id) if not kinds or event.event_type in kinds]


async def written(node: RunningNode, job_id: str, kind: str) -> HistoryEvent:
    """The first event of this kind in a job's history, once it is there."""
    async with asyncio.timeout(GUARD), aclosing(node.client.watch(job_id, after=0)) as updates:
        async for update in updates:
            if update.event is not None and update.event.event_type == kind:
                return update.event
    raise AssertionError(f"job {job_id} is over, and its history has no {kind}")


async def happened(event: asyncio.Event | asyncio.Semaphore) -> None:
    """Wait for what a handler tells the test."""
    async with asyncio.timeout(GUARD):
        await (event.acquire() if isinstance(event, asyncio.Semaphore) else event.wait())


# A worker, frame by frame ----------------------------------------------------------------------------------------


@asynccontextmanager
async def wired(
    node: RunningNode,
    worker_id: str,
    *offerings: worker_pb2.Offering,
    claimed: str | None = None,
    metadata: Any = None,
    **more: Any,
) -> AsyncIterator[Wire]:
    """A worker's stream after its Hello, before anything is read of it; by default it offers the skill `t`.

    Arguments:
        worker_id: whose certificate it shows.
        claimed: the id in its Hello; none by default.
        more: other fields of its Hello.
    """
    pair = node.certificate(worker_id)
    trusted, key, chain = (path.read_bytes() for path in (node.folder / "ca.pem", pair.key, pair.certificate))
    secure = grpc.ssl_channel_credentials(trusted, key, chain)
    target = node.worker_url.removeprefix("grpcs://")
    async with grpc.aio.secure_channel(target, secure, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        opened: Any = channel.stream_stream(SESSION)(metadata=metadata)
        wire = Wire(opened)
        more.setdefault("credits", 10)
        await wire.send(hello(*(offerings or [offering()]), worker_id=claimed or "", **more))
        yield wire


@asynccontextmanager
async def a_wire(
    node: RunningNode, worker_id: str, *offerings: worker_pb2.Offering, **more: Any
) -> AsyncIterator[Wire]:
    """As `wired`, once it has its Welcome."""
    async with wired(node, worker_id, *offerings, **more) as wire:
        wire.welcome = await wire.expect("welcome")
        yield wire


async def next_offer(wire: Wire) -> worker_pb2.TaskOffer:
    """The next offer, whatever is said before it."""
    while True:
        kind, said = await wire.next()
        if kind == "task_offers":
            offer: worker_pb2.TaskOffer = said
            return offer


def failure(code: str, message: str = "no luck") -> dict[str, Any]:
    """The fields of a result that failed."""
    return {"status": "failure", "error": types_pb2.TaskError(code=code, message=message)}
