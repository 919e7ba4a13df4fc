"""The minimal worker of `docs/protocol.md` serves a node as it stands there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import types_pb2, worker_pb2, worker_pb2_grpc

DOC = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


class OneSession(worker_pb2_grpc.WorkerServiceServicer):
    """The node's side of the wire, without a node: two tasks, one frame from the future, and an end after a beat."""

    def __init__(self) -> None:
        self.hello = worker_pb2.Hello()
        self.results: dict[str, object] = {}
        self.beats = 0

    async def Session(  # noqa: N802 - the name of the RPC
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[worker_pb2.SessionResponse]:
        self.hello = (await context.read()).hello
        soon = Duration(nanos=10_000_000)
        yield worker_pb2.SessionResponse(
            welcome=worker_pb2.Welcome(heartbeat_interval=soon, silence_timeout=Duration(seconds=10))
        )
        yield worker_pb2.SessionResponse.FromString(bytes([0xA2, 0x06, 0x00]))
        params = [types_pb2.Payload(data=json.dumps({"n": n}).encode()) for n in (3, 4)]
        offers = [
            worker_pb2.TaskOffer(task_id=f"t{i}", lease_id=f"l{i}", skill="double", params=each)
            for i, each in enumerate(params)
        ]
        yield worker_pb2.SessionResponse(task_offers=worker_pb2.TaskOffers(offers=offers))
        while len(self.results) < 2 or not self.beats:
            frame = await context.read()
            self.beats += frame.HasField("heartbeat")
            for update in frame.task_updates.updates:
                self.results[f"{update.task_id} {update.lease_id}"] = json.loads(update.result.data.data)


async def test_the_minimal_worker_of_the_documentation_does_its_tasks() -> None:
    source = re.search(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert source
    program: dict[str, Any] = {"__name__": "minimal_worker"}
    exec(compile(source[1], str(DOC), "exec"), program)
    session: Callable[[grpc.aio.Channel], Coroutine[None, None, None]] = program["session"]

    node, server = OneSession(), grpc.aio.server()
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(node, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(session(channel), timeout=10)
    finally:
        await server.stop(None)

    assert [offering.skill for offering in node.hello.catalog.offerings] == ["double"]
    assert node.results == {"t0 l0": {"doubled": 6}, "t1 l1": {"doubled": 8}}
    assert node.beats >= 1
