"""A node that does only what a test says, over real grpc.aio and mTLS: the other side of the worker SDK."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
import orjson

from holon.rxon.v1 import worker_pb2
from holon.security.certificates import KeyPair, issue_server, issue_worker, open_authority
from holon.worker import Worker
from holon.worker.timing import Timing

# Ten times what anything here takes; a wait that is longer has failed.
GUARD = 60.0

FAST = Timing(
    reconnect_first=0.02,
    reconnect_longest=0.05,
    reconnect_refused=0.02,
    least_heartbeat=0.05,
    accept_after=0.02,
    stop_patience=0.05,
    progress_every=0.05,
    retry_result=0.02,
    goodbye=5.0,
)


@dataclass(frozen=True)
class Certificates:
    """An authority, and what it issued to the node and to one worker."""

    ca: Path
    server: KeyPair
    worker: KeyPair


def make_certificates(folder: Path) -> Certificates:
    authority = open_authority(folder)
    return Certificates(
        authority.files.certificate, issue_server(authority, folder), issue_worker(authority, folder, "w1")
    )


class Stream:
    """One session as the node sees it. What the worker sends waits here, sorted by kind, until the test asks."""

    def __init__(self, context: Any, hello: worker_pb2.Hello) -> None:
        self.hello = hello
        self.peer = context.peer()
        self.metadata = dict(context.invocation_metadata())
        self.certificate = context.auth_context()["x509_pem_cert"][0]
        self.half_closed = asyncio.Event()
        self.gone = asyncio.Event()
        self._context = context
        self._end: asyncio.Future[tuple[grpc.StatusCode, str]] = asyncio.get_running_loop().create_future()
        self._updates: asyncio.Queue[worker_pb2.TaskUpdate] = asyncio.Queue()
        self._others: asyncio.Queue[worker_pb2.SessionRequest] = asyncio.Queue()
        self.came: list[worker_pb2.SessionRequest] = []

    @property
    def order(self) -> list[str | None]:
        """What kinds of messages came, in their order."""
        return [frame.WhichOneof("message") for frame in self.came]

    async def send(self, **members: Any) -> None:
        async with asyncio.timeout(GUARD):
            await self._context.write(worker_pb2.SessionResponse(**members).SerializeToString())

    async def send_bytes(self, data: bytes) -> None:
        await self._context.write(data)

    async def welcome(self, session_id: str = "s1", **terms: Any) -> None:
        welcome = worker_pb2.Welcome(session_id=session_id, node_id="scripted", **terms)
        await self.send(welcome=welcome)

    async def offer(self, task_id: str, skill: str, params: Any = None, **more: Any) -> None:
        offer = worker_pb2.TaskOffer(
            task_id=task_id, lease_id=f"{task_id}-lease", job_id="j1", attempt=1, skill=skill, **more
        )
        if params is not None:
            offer.params.data = orjson.dumps(params)
        await self.send(task_offers=worker_pb2.TaskOffers(offers=[offer]))

    async def stop(self, task_id: str, reason: str = "CANCELLED", grace: float = 0.0) -> None:
        stop = worker_pb2.StopTask(task_id=task_id, lease_id=f"{task_id}-lease", reason=reason)
        if grace:
            stop.grace.FromNanoseconds(int(grace * 1e9))
        await self.send(stop_tasks=worker_pb2.StopTasks(stops=[stop]))

    async def ack(self, *task_ids: str, verdict: int = worker_pb2.VERDICT_COMMITTED, retry_after: float = 0.0) -> None:
        acks = [worker_pb2.ResultAck(task_id=one, lease_id=f"{one}-lease") for one in task_ids]
        for ack in acks:
            ack.verdict = verdict  # type: ignore[assignment]
            if retry_after:
                ack.error.retry_after.FromNanoseconds(int(retry_after * 1e9))
        await self.send(update_acks=worker_pb2.UpdateAcks(results=acks))

    async def update(self) -> worker_pb2.TaskUpdate:
        """The next update of any task."""
        async with asyncio.timeout(GUARD):
            return await self._updates.get()

    async def result(self) -> worker_pb2.TaskUpdate:
        """The next update that is a result; accepted and progress before it are passed over."""
        while not (update := await self.update()).HasField("result"):
            assert update.WhichOneof("update") in ("accepted", "progress")
        return update

    async def message(self, kind: str) -> worker_pb2.SessionRequest:
        """The next message of that kind, other than task updates; those before it are passed over."""
        async with asyncio.timeout(GUARD):
            while (frame := await self._others.get()).WhichOneof("message") != kind:
                pass
            return frame

    async def wait(self, event: asyncio.Event) -> None:
        async with asyncio.timeout(GUARD):
            await event.wait()

    def end(self, code: grpc.StatusCode = grpc.StatusCode.OK, details: str = "") -> None:
        """End the stream from the node's side."""
        if not self._end.done():
            self._end.set_result((code, details))

    async def _serve(self) -> None:
        reader = asyncio.create_task(self._read())
        try:
            await asyncio.wait((reader, self._end), return_when=asyncio.FIRST_COMPLETED)
            code, details = await self._end
            if code is not grpc.StatusCode.OK:
                await self._context.abort(code, details)
        finally:
            reader.cancel()
            self.gone.set()

    async def _read(self) -> None:
        while (frame := await self._context.read()) is not grpc.aio.EOF:
            kind = frame.WhichOneof("message")
            self.came.append(frame)
            if kind == "task_updates":
                for update in frame.task_updates.updates:
                    self._updates.put_nowait(update)
            else:
                self._others.put_nowait(frame)
        self.half_closed.set()


class ScriptedNode:
    """A server for sessions; `session` gives each that says Hello, before it is answered."""

    def __init__(self, certificates: Certificates, *, max_message_bytes: int = 4 * 1024 * 1024) -> None:
        self._certificates = certificates
        self._options = (("grpc.max_receive_message_length", max_message_bytes), ("grpc.so_reuseport", 0))
        self._opened: asyncio.Queue[Stream] = asyncio.Queue()
        self._streams: list[Stream] = []
        self.url = ""
        self.deaf = False

    async def __aenter__(self) -> Self:
        files = self._certificates
        credentials = grpc.ssl_server_credentials(
            [(files.server.key.read_bytes(), files.server.certificate.read_bytes())],
            root_certificates=files.ca.read_bytes(),
            require_client_auth=True,
        )
        self._server = grpc.aio.server(options=self._options)
        handler = grpc.stream_stream_rpc_method_handler(
            self._session,
            request_deserializer=worker_pb2.SessionRequest.FromString,
            response_serializer=bytes,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("holon.rxon.v1.WorkerService", {"Session": handler}),)
        )
        self.url = f"grpcs://127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.end()
        await self._server.stop(0)

    async def session(self) -> Stream:
        """The next stream that said Hello."""
        async with asyncio.timeout(GUARD):
            return await self._opened.get()

    async def welcomed(self, session_id: str = "s1", **terms: Any) -> Stream:
        """The next stream, answered with these terms."""
        stream = await self.session()
        await stream.welcome(session_id, **terms)
        return stream

    @property
    def waiting(self) -> int:
        """How many streams said Hello and were not asked for yet."""
        return self._opened.qsize()

    async def _session(self, _: Any, context: Any) -> None:
        first = await context.read()
        if first is grpc.aio.EOF:
            return
        stream = Stream(context, first.hello)
        self._streams.append(stream)
        self._opened.put_nowait(stream)
        await stream._serve()


@asynccontextmanager
async def serving(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """Serve in the background, and stop without a drain when the test is over."""
    task = asyncio.create_task(worker.serve())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


def worker_for(certificates: Certificates, *nodes: ScriptedNode, **options: Any) -> Worker:
    """A worker of these nodes with fast timing and no skills yet."""
    files = {
        "ca_path": certificates.ca,
        "cert_path": certificates.worker.certificate,
        "key_path": certificates.worker.key,
    }
    urls = ",".join(node.url for node in nodes)
    return Worker(urls, **{"worker_id": "", "token": "", "timing": FAST, **files, **options})


def is_at_once(update: worker_pb2.TaskUpdate) -> bool:
    """Whether a rejected offer may come again to the same worker as soon as there are credits for it."""
    rejected = update.rejected
    return rejected.retry_at_once and not rejected.retry_after.ToNanoseconds()


def keep(*task_ids: str) -> Sequence[worker_pb2.ResumedLease]:
    """The node's word that these leases go on."""
    decision = worker_pb2.LEASE_DECISION_KEEP
    return [worker_pb2.ResumedLease(task_id=one, lease_id=f"{one}-lease", decision=decision) for one in task_ids]


class Gate:
    """What holds a handler until the test lets it go on; counts how often it was entered."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.open = threading.Event()
        self.runs = 0
        self._loop = asyncio.get_running_loop()

    def pass_through(self) -> None:
        self.runs += 1
        self._loop.call_soon_threadsafe(self.entered.release)
        assert self.open.wait(GUARD)

    async def enter(self) -> None:
        async with asyncio.timeout(GUARD):
            await self.entered.acquire()
