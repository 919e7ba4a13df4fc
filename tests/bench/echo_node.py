"""The bench: the limit. A node with the real one's doors, framing and TLS, and nothing behind them: what can be had."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import grpc.aio
import orjson
import uvicorn
import uvloop
from google.protobuf.duration_pb2 import Duration
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from holon.rxon.v1 import types_pb2, worker_pb2
from holon.transports.grpc.server import options
from holon.transports.grpc.settings import DoorSettings
from holon.transports.grpc.worker_door import SERVICE
from holon.wire.frames import frames_of
from holon.wire.stream import StreamWriter
from tests.bench.blueprints import BRANCHES, SKILL, echo, fan_out, straight
from tests.bench.control import Reporter, obey, say, stay_on

_NO_TASK = straight(lambda _: None)
_TASKS = {echo.path: 1, fan_out.path: BRANCHES, _NO_TASK.path: 0}
_JOBS = "/api/v1/jobs"
_STREAMS = 8


@dataclass(slots=True)
class Job:
    """One job: how many echoes it still lacks, and its last one."""

    id: str
    left: int
    tasks: int
    data: dict[str, Any] = field(default_factory=dict)
    finished_at: float | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def finish(self) -> None:
        """Note that it has ended now."""
        self.finished_at = time.time()
        self.over.set()

    def shown(self) -> dict[str, Any]:
        """As the API shows it."""
        result = self.data | ({"branches": self.tasks} if self.tasks > 1 else {})
        status = "waiting_for_worker" if self.left else "finished"
        return {"id": self.id, "status": status, "result": result, "finished_at": self.finished_at}


class Stream:
    """One worker's stream: what it may still be given, and the two kinds of data that it is sent."""

    def __init__(self, send: Callable[[bytes], Awaitable[object]], credits: int) -> None:  # noqa: A002  # the protocol's word
        self.free = credits
        self.writer = StreamWriter(send)
        self.offers = self.writer.lane(
            worker_pb2.TaskOffer, frames_of(worker_pb2.SessionResponse, "task_offers", "offers")
        )
        self.acks = self.writer.lane(
            worker_pb2.ResultAck, frames_of(worker_pb2.SessionResponse, "update_acks", "results")
        )


class Echo:
    """Gives each job's tasks to whoever has room, and keeps the jobs in memory.

    Arguments:
        report: hears the number of each job that ends without a task.
    """

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self.jobs: dict[str, Job] = {}
        self._waiting: deque[worker_pb2.TaskOffer] = deque()
        self._sessions: list[Stream] = []
        self._turn = itertools.count()

    def create(self, tasks: int, data: dict[str, Any]) -> Job:
        """Make a job and offer its tasks."""
        job = Job(secrets.token_hex(16), tasks, tasks)
        self.jobs[job.id] = job
        if not tasks:
            job.data = {"echo": data["n"]}
            job.finish()
            self._report(data["n"])
            return job
        params = types_pb2.Payload(data=orjson.dumps(data))
        for index in range(tasks):
            self._waiting.append(
                worker_pb2.TaskOffer(
                    task_id=f"{job.id}-1-{index}",
                    lease_id=secrets.token_hex(8),
                    job_id=job.id,
                    generation=1,
                    attempt=1,
                    skill=SKILL,
                    params=params,
                    time_left=Duration(seconds=300),
                )
            )
        self._give()
        return job

    async def session(self, _: Any, context: Any) -> None:
        """Serve one worker."""
        hello = (await context.read()).hello
        session = Stream(context.write, hello.credits)
        session.writer.put_control(worker_pb2.SessionResponse(welcome=_welcome()))
        writing = asyncio.create_task(session.writer.run())
        self._sessions.append(session)
        self._give()
        try:
            while isinstance(frame := await context.read(), worker_pb2.SessionRequest):
                self._hear(session, frame)
            session.writer.close()
            await writing
        finally:
            self._sessions.remove(session)
            writing.cancel()

    def _hear(self, session: Stream, frame: worker_pb2.SessionRequest) -> None:
        kind = frame.WhichOneof("message")
        if kind == "heartbeat":
            ack = worker_pb2.HeartbeatAck(sequence=frame.heartbeat.sequence)
            session.writer.put_control(worker_pb2.SessionResponse(heartbeat_ack=ack))
        elif kind == "drain":
            session.free = 0
        elif kind == "task_updates":
            for update in frame.task_updates.updates:
                if update.HasField("result"):
                    self._take(session, update)
            self._give()

    def _take(self, session: Stream, update: worker_pb2.TaskUpdate) -> None:
        session.free += 1
        session.acks.put(
            worker_pb2.ResultAck(task_id=update.task_id, lease_id=update.lease_id, verdict=worker_pb2.VERDICT_COMMITTED)
        )
        job = self.jobs[update.task_id.partition("-")[0]]
        job.data = orjson.loads(update.result.data.data)
        job.left -= 1
        if not job.left:
            job.finish()

    def _give(self) -> None:
        """Offer what waits to the sessions in turn."""
        while self._waiting and (able := [one for one in self._sessions if one.free > 0]):
            session = able[next(self._turn) % len(able)]
            session.free -= 1
            session.offers.put(self._waiting.popleft())


class App:
    """The HTTP side, as plain ASGI: create, with and without waiting, and list."""

    def __init__(self, node: Echo, token: str) -> None:
        self._node = node
        self._token = token.encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        status, body = 404, b"{}"
        if dict(scope["headers"]).get(b"x-client-token") != self._token:
            status = 401
        elif scope["method"] == "POST":
            asked = b""
            while (message := await receive())["type"] == "http.request":
                asked += message["body"]
                if not message["more_body"]:
                    break
            job = self._node.create(_TASKS[scope["path"]], orjson.loads(asked)["initial_data"])
            status, body = 202, orjson.dumps({"status": "accepted", "job_id": job.id})
            if scope["query_string"]:
                await job.over.wait()
                status, body = 200, orjson.dumps(job.shown())
        elif scope["path"] == _JOBS:
            status, body = 200, orjson.dumps(self._page(parse_qs(scope["query_string"].decode())))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        begin, size = int(query.get("page_token", ["0"])[0]), int(query["page_size"][0])
        jobs = itertools.islice(reversed(self._node.jobs.values()), begin, begin + size)
        more = begin + size < len(self._node.jobs)
        return {"jobs": [job.shown() for job in jobs], "next_page_token": str(begin + size) if more else ""}


def _welcome() -> worker_pb2.Welcome:
    return worker_pb2.Welcome(
        session_id=secrets.token_hex(8),
        node_id="limit",
        heartbeat_interval=Duration(seconds=10),
        silence_timeout=Duration(seconds=25),
        lease_duration=Duration(seconds=30),
        accept_timeout=Duration(seconds=5),
    )


def _credentials() -> grpc.ServerCredentials:
    chain, key, authorities = (
        Path(os.environ[name]).read_bytes() for name in ("TLS_CERT_PATH", "TLS_KEY_PATH", "TLS_CA_PATH")
    )
    return grpc.ssl_server_credentials([(key, chain)], authorities, require_client_auth=True)


async def main(pipe: int) -> None:
    """Serve until the parent is gone; numbers of jobs without a task go to `pipe`."""
    node = Echo(Reporter(pipe).add)
    server = grpc.aio.server(options=options(DoorSettings(), _STREAMS))
    session: grpc.RpcMethodHandler[Any, bytes] = grpc.stream_stream_rpc_method_handler(
        node.session, request_deserializer=worker_pb2.SessionRequest.FromString
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Session": session})])
    worker = server.add_secure_port("127.0.0.1:0", _credentials())
    await server.start()
    config = uvicorn.Config(
        App(node, os.environ["CLIENT_TOKEN"]),
        interface="asgi3",
        http=HttpToolsProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # A connection is idle while the node has its turn.
        timeout_keep_alive=300,
    )
    config.load()
    state = ServerState()
    listener = await asyncio.get_running_loop().create_server(
        lambda: HttpToolsProtocol(config, state, {}), "127.0.0.1", 0
    )
    say(http=listener.sockets[0].getsockname()[1], worker=worker)
    gone = asyncio.Event()
    await obey(gone.set)
    listener.close()
    await server.stop(0)


if __name__ == "__main__":
    stay_on(int(sys.argv[2]) if len(sys.argv) > 2 else None)
    uvloop.run(main(int(sys.argv[1])))
