"""A node of two doors: real gRPC over mTLS on loopback, the engine over the store in memory, workers frame by frame."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from holon.clock import Clock, SystemClock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.engine.core import Engine, EngineSettings
from holon.engine.holarchy import Holarchy
from holon.engine.overview import Overview
from holon.engine.reloading import Reloading
from holon.ports import Storage, StoreSettings
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.security.admission import Admission
from holon.security.certificates import Authority, KeyPair, issue_server, issue_worker, open_authority
from holon.security.clients import Clients, Entry, sole
from holon.security.sts.exchange import Exchange, TokenSettings
from holon.security.tls import TlsPaths
from holon.security.tls_files import TlsFiles
from holon.storage.memory import MemoryStorage
from holon.stores.sealing import Seal
from holon.transports.grpc.client_door import ClientDoor
from holon.transports.grpc.settings import DoorSettings, WorkerDoorSettings
from holon.transports.grpc.worker_door import WorkerDoor
from holon.wire.trees import read_summary
from holon.worker.channel import write

GUARD = 60.0
CLIENT_TOKEN = "the-token-of-the-clients"
WORKER_TOKEN = "the-worker-token"
CLIENT = (("x-client-token", CLIENT_TOKEN),)
OPERATOR = tuple(sole(CLIENT_TOKEN))
SESSION = "/holon.rxon.v1.WorkerService/Session"
JOBS = "/holon.rxon.v1.JobService/"
# Nothing lapses while a busy machine makes others wait; what is to lapse is given its time by its test.
SETTINGS = WorkerDoorSettings(node_id="node-1", holon_id="holon-1", lease=600.0, offer=600.0, silence=300.0)
ENDED = grpc.aio.AioRpcError


@cache
def authority(name: str) -> Authority:
    folder = tempfile.mkdtemp(prefix=f"holon-{name}-")
    atexit.register(shutil.rmtree, folder)
    return open_authority(Path(folder))


@cache
def worker_files(worker_id: str, name: str = "ours") -> KeyPair:
    return issue_worker(authority(name), authority(name).files.key.parent, worker_id)


@cache
def server_files() -> TlsFiles:
    files = issue_server(authority("ours"), authority("ours").files.key.parent)
    ca = authority("ours").files.certificate
    return TlsFiles(TlsPaths(str(files.certificate), str(files.key), str(ca)), SystemClock())


def trust(files: KeyPair | None = None) -> grpc.ChannelCredentials:
    own = (files.key.read_bytes(), files.certificate.read_bytes()) if files else (None, None)
    return grpc.ssl_channel_credentials(authority("ours").files.certificate.read_bytes(), *own)


def blueprints() -> list[Blueprint]:
    relay = Blueprint("relay", api_endpoint="/relay", api_version="v1")

    @relay.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        skill = initial_data.get("skill", "t")
        actions.dispatch_task(skill, initial_data, transitions={"success": "end", "failure": "broken"})

    @relay.handler(is_end=True)
    async def end() -> None: ...

    @relay.handler(is_end=True, outcome="failed")
    async def broken() -> None: ...

    spread = Blueprint("spread", api_endpoint="/spread", api_version="v1")

    @spread.handler("start", is_start=True)
    async def branch(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        count = initial_data["branches"]
        actions.dispatch_parallel([{"task_type": "t", "params": {"n": n}} for n in range(count)], "gather")

    @spread.aggregator
    async def gather(actions: ActionFactory) -> None:
        actions.go_to("end")

    @spread.handler("end", is_end=True)
    async def together() -> None: ...

    return [relay, spread]


def json_payload(value: Any) -> types_pb2.Payload:
    return types_pb2.Payload(data=json.dumps(value).encode())


def offering(skill: str = "t", **more: Any) -> worker_pb2.Offering:
    return worker_pb2.Offering(skill=skill, **more)


def hello(*offerings: worker_pb2.Offering, **more: Any) -> worker_pb2.SessionRequest:
    catalog = worker_pb2.Catalog(offerings=offerings or [offering()])
    more.setdefault("capabilities", [types_pb2.CAPABILITY_RESUME, types_pb2.CAPABILITY_CANCEL])
    return worker_pb2.SessionRequest(hello=worker_pb2.Hello(catalog=catalog, **more))


def update(lease: Any, **what: Any) -> worker_pb2.TaskUpdate:
    return worker_pb2.TaskUpdate(task_id=lease.task_id, lease_id=lease.lease_id, **what)


def result(lease: Any, data: Any = None, status: str = "success", **more: Any) -> worker_pb2.TaskUpdate:
    if data is not None:
        more["data"] = json_payload(data)
    return update(lease, result=worker_pb2.TaskResult(status=status, **more))


def updates(*all_of_them: worker_pb2.TaskUpdate) -> worker_pb2.SessionRequest:
    return worker_pb2.SessionRequest(task_updates=worker_pb2.TaskUpdates(updates=all_of_them))


def heartbeat(sequence: int = 1, **more: Any) -> worker_pb2.SessionRequest:
    return worker_pb2.SessionRequest(heartbeat=worker_pb2.Heartbeat(sequence=sequence, **more))


DRAIN = worker_pb2.SessionRequest(drain=worker_pb2.Drain(reason="going home"))


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The stable code in a status' details."""
    info = error_details_pb2.ErrorInfo()
    for detail in details_of(error):
        detail.Unpack(info)
    return str(info.reason)


async def end_of(wire: Wire) -> tuple[grpc.StatusCode, str]:
    """How a stream ends: its code, and the node's reason."""
    end = await wire.end()
    return end.code(), reason_of(end)


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """The fields that a status' details name."""
    bad = error_details_pb2.BadRequest()
    for detail in details_of(error):
        detail.Unpack(bad)
    return [one.field for one in bad.field_violations]


def details_of(error: grpc.aio.AioRpcError) -> list[Any]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return list(status_pb2.Status.FromString(value).details)
    return []


class Wire:
    """A worker's stream, frame by frame. Offers and verdicts come in batches; here they are taken one by one."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.welcome = worker_pb2.Welcome()
        self._waiting: list[tuple[str, Any]] = []

    async def send(self, frame: worker_pb2.SessionRequest | bytes) -> None:
        async with asyncio.timeout(GUARD):
            await self.call.wait_for_connection()
            try:
                await write(self.call, frame if isinstance(frame, bytes) else frame.SerializeToString())
            except grpc.aio.InternalError:
                # Raises what the node said at the end.
                await self.call.code()
                await self.call.read()

    async def frame(self) -> worker_pb2.SessionResponse:
        """The next frame as it is; raises AioRpcError, or EOFError where the stream ends with OK."""
        async with asyncio.timeout(GUARD):
            raw = await self.call.read()
        if raw is grpc.aio.EOF:
            raise EOFError((await self.call.code()).name)
        return worker_pb2.SessionResponse.FromString(raw)

    async def next(self) -> tuple[str, Any]:
        """The next thing said, and its kind."""
        while not self._waiting:
            frame = await self.frame()
            kind = str(frame.WhichOneof("message"))
            said = getattr(frame, kind)
            each = {"task_offers": "offers", "update_acks": "results", "stop_tasks": "stops"}.get(kind)
            self._waiting += [(kind, one) for one in (getattr(said, each) if each else [said])]
            if kind == "update_acks":
                self._waiting += [("event_acks", one) for one in said.events]
        return self._waiting.pop(0)

    async def expect(self, kind: str) -> Any:
        """The next thing said, which must be of this kind."""
        got, said = await self.next()
        assert got == kind, f"expected {kind}, not {got}: {said}"
        return said

    async def offer(self) -> worker_pb2.TaskOffer:
        offered: worker_pb2.TaskOffer = await self.expect("task_offers")
        return offered

    async def verdict(self) -> worker_pb2.ResultAck:
        ack: worker_pb2.ResultAck = await self.expect("update_acks")
        return ack

    async def refused(self) -> worker_pb2.SessionError:
        error: worker_pb2.SessionError = await self.expect("session_error")
        return error

    async def beat(self, sequence: int = 1, **more: Any) -> None:
        """A heartbeat and its answer: all that was sent before it has been read."""
        await self.send(heartbeat(sequence, **more))
        assert (await self.expect("heartbeat_ack")).sequence == sequence

    async def end(self) -> grpc.aio.AioRpcError:
        """How the stream ends, which must not be OK; what is said before is passed over."""
        try:
            while True:
                await self.next()
        except grpc.aio.AioRpcError as error:
            return error

    async def close(self) -> None:
        await self.call.done_writing()


@dataclass
class Node:
    engine: Engine
    workers: WorkerDoor
    clients: ClientDoor
    channel: grpc.aio.Channel
    secure: bool
    resources: AsyncExitStack
    drains: list[tuple[float | None, str]]
    known: Clients
    reloading: Reloading
    overview: Overview
    numbers: Any = field(default_factory=itertools.count)
    workers_port: int | None = None
    exchange: Exchange | None = None
    holarchy: Holarchy | None = None

    async def worker_channel(self, files: KeyPair | None) -> grpc.aio.Channel:
        options = (("grpc.use_local_subchannel_pool", 1),)
        target = f"localhost:{self.workers_port or self.workers.port}"
        if not self.secure:
            return await self.resources.enter_async_context(grpc.aio.insecure_channel(target, options=options))
        return await self.resources.enter_async_context(grpc.aio.secure_channel(target, trust(files), options=options))

    async def stream(self, files: KeyPair | str | None = "w1", metadata: Any = None) -> Wire:
        """A new stream of a worker, on a connection of its own, before its first message."""
        channel = await self.worker_channel(worker_files(files) if isinstance(files, str) else files)
        if metadata is None and not self.secure:
            metadata = (("x-worker-token", WORKER_TOKEN),)
        return Wire(channel.stream_stream(SESSION)(metadata=metadata))

    async def worker(self, worker_id: str = "w1", *offerings: worker_pb2.Offering, **more: Any) -> Wire:
        """A worker that has its Welcome."""
        if not self.secure:
            more["worker_id"] = worker_id
        wire = await self.stream(worker_id)
        await wire.send(hello(*offerings, **more))
        wire.welcome = await wire.expect("welcome")
        return wire

    async def call(self, method: str, request: Any, kind: Callable[[bytes], Any], metadata: Any = CLIENT) -> Any:
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        method_of: Any = self.channel.unary_unary
        return kind(await method_of(JOBS + method)(raw, metadata=metadata, timeout=GUARD))

    async def create(self, blueprint: str = "relay", /, **initial_data: Any) -> str:
        request = job_pb2.CreateJobRequest(blueprint_name=blueprint, initial_data=json_payload(initial_data))
        created = await self.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)
        return str(created.job_id)

    async def job(self, job_id: str) -> job_pb2.Job:
        answer = await self.call("GetJob", job_pb2.GetJobRequest(job_id=job_id), job_pb2.GetJobResponse.FromString)
        job: job_pb2.Job = answer.job
        return job

    async def cancel(self, job_id: str) -> None:
        await self.call("CancelJob", job_pb2.CancelJobRequest(job_id=job_id), job_pb2.CancelJobResponse.FromString)

    async def history(self, job_id: str) -> list[job_pb2.HistoryEvent]:
        request = job_pb2.GetJobHistoryRequest(job_id=job_id)
        return list((await self.call("GetJobHistory", request, job_pb2.GetJobHistoryResponse.FromString)).events)

    async def ended(self, job_id: str) -> job_pb2.Job:
        async with asyncio.timeout(GUARD):
            while not (job := await self.job(job_id)).terminal:  # noqa: ASYNC110  polled, as by a client without a watch
                # Else the test takes the processor from the node that it waits for.
                await asyncio.sleep(0.005)
        return job

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD):
            while not condition():  # noqa: ASYNC110  it looks from outside, and nothing tells it
                await asyncio.sleep(0.001)

    async def finishes_another(self, worker: Wire) -> job_pb2.Job:
        """A worker of the skill `t` finishes a job now."""
        job_id = await self.create()
        await worker.send(updates(result(await worker.offer())))
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        return await self.ended(job_id)

    async def finishes_jobs(self, wire: Wire) -> None:
        """Nothing is disturbed: a worker of the skill `good` finishes a job now."""
        job_id = await self.create(skill="good", n=next(self.numbers))
        offer = await wire.offer()
        await wire.send(updates(result(offer, {"done": True})))
        assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        assert (await self.ended(job_id)).status == "finished"


@asynccontextmanager
async def a_node(
    *,
    secure: bool = True,
    clock: Clock | None = None,
    admission: Admission | None = None,
    entries: Sequence[Entry] = OPERATOR,
    watch_idle: int = 20_000,
    tls: TlsFiles | None = None,
    tokens: TokenSettings | None = None,
    store: Storage | None = None,
    **settings: Any,
) -> AsyncIterator[Node]:
    clock = clock or SystemClock()
    door = replace(SETTINGS, **settings)
    store_settings = StoreSettings(door.node_id, lease=round(door.lease * 1000), offer=round(door.offer * 1000))
    door = replace(door, certificates=secure) if "certificates" not in settings else door
    admission = admission or Admission(clock, shared=WORKER_TOKEN)
    tls = (tls or server_files()) if secure else None
    async with AsyncExitStack() as resources:
        if store is None:
            store = memory = MemoryStorage(store_settings, clock)
            await resources.enter_async_context(memory)
        engine = Engine(
            store,
            store_settings,
            EngineSettings(max_payload=door.max_payload_bytes, watch_idle=watch_idle),
            read_told=read_summary,
        )
        engine.blueprints.register_all(blueprints())
        clients = Clients(entries)
        reloading = Reloading()
        drains: list[tuple[float | None, str]] = []
        holarchy = Holarchy(store, door.holon_id, max_depth=3)
        drain = lambda grace, reason: drains.append((grace, reason))  # noqa: E731
        overview = Overview(engine, door.node_id, "1.2.3", drain, reloading.reload, holarchy)
        plain = DoorSettings(bounds=door.bounds)
        exchange = Exchange(store, store.now, admission, tokens, Seal()) if tokens is not None else None
        running = [asyncio.create_task(engine.run())]
        if exchange is not None:
            engine.follow_documents(exchange.state.hints.changed)
            running.append(asyncio.create_task(exchange.state.run()))
            await exchange.state.look()
        try:
            # The doors close before the callers do: how streams end then is seen from both sides.
            async with (
                AsyncExitStack() as callers,
                WorkerDoor(
                    engine.workers,
                    door,
                    tls,
                    admission,
                    clock,
                    holarchy,
                    engine.trees,
                    exchange=exchange,
                ) as workers,
                ClientDoor(engine.jobs, engine.watching, engine.trees, overview, plain, tls, clients) as client_door,
            ):
                target = f"localhost:{client_door.port}"
                channel = grpc.aio.secure_channel(target, trust()) if secure else grpc.aio.insecure_channel(target)
                await callers.enter_async_context(channel)
                yield Node(
                    engine,
                    workers,
                    client_door,
                    channel,
                    secure,
                    callers,
                    drains,
                    clients,
                    reloading,
                    overview,
                    exchange=exchange,
                    holarchy=holarchy,
                )
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
