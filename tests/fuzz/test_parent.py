"""A child holon takes anything at all from its parent: nothing ends the uplink, and the next good task is done."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.wire.values import duration
from tests.fuzz.choices import ENTROPY, EXAMPLES, Choices
from tests.fuzz.messages import wrong
from tests.fuzz.world import Errors
from tests.integration.a_child import PARENT, a_child, offered
from tests.integration.scripted_node import GUARD, Stream, make_certificates

Response = worker_pb2.SessionResponse


def echo() -> Blueprint:
    blueprint = Blueprint("echo")

    @blueprint.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        if "skill" in initial_data:
            actions.dispatch_task(f"no {initial_data['skill']}", initial_data, transitions={"success": "end"})
        else:
            actions.go_to("end")

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


class UplinkErrors(Errors):
    """What the uplink itself logs as an error, or its tasks leave unsaid; the link says so of each broken stream."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("holon.uplink"):
            super().emit(record)


class HostileParent:
    """One child, and its parent's ends of the link; examples run one after the other."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._numbers = itertools.count()
        self._resources = AsyncExitStack()
        self.run(self._open(folder))

    def run(self, example: Any) -> Any:
        return self._loop.run_until_complete(example)

    async def _open(self, folder: Path) -> None:
        certificates = make_certificates(folder)
        self.child = await self._resources.enter_async_context(a_child(certificates, [echo()], max_jobs=10_000))
        self.stream = await self.child.linked()

    def close(self) -> None:
        self.run(self._resources.aclose())
        self._loop.close()

    async def example(self, choices: Choices) -> None:
        """Say what no parent says; then have a task done."""
        for _ in range(1 + choices.below(5)):
            # The child may have left the stream for what came before.
            with suppress(Exception):
                await self.stream.send_bytes(wrong(choices, Response, self._valid(choices)))
        await self._does_a_task()

    def _valid(self, choices: Choices) -> Response:
        task_id = f"t{choices.below(4)}"
        lease: dict[str, Any] = {"task_id": task_id, "lease_id": f"l{choices.below(4)}"}
        left = duration(choices.of((0, 50, 1_000, 10**9)))
        params = types_pb2.Payload(data=choices.of((b"{}", b'{"skill":1}')))
        offer = worker_pb2.TaskOffer(
            **lease,
            job_id="j",
            generation=1 + choices.below(3),
            attempt=1 + choices.below(3),
            skill="echo",
            params=params,
            time_left=left,
        )
        verdict = worker_pb2.ResultAck(**lease, verdict=choices.below(5))  # type: ignore[arg-type]
        stop = worker_pb2.StopTask(**lease, reason=choices.of(("CANCELLED", "DEADLINE", "LEASE_LOST")))
        kinds: tuple[Response, ...] = (
            Response(task_offers=worker_pb2.TaskOffers(offers=[offer])),
            Response(stop_tasks=worker_pb2.StopTasks(stops=[stop])),
            Response(update_acks=worker_pb2.UpdateAcks(results=[verdict])),
            Response(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=duration(1))),
            Response(heartbeat_ack=worker_pb2.HeartbeatAck(sequence=1)),
            Response(welcome=worker_pb2.Welcome(session_id="s", holon_id=PARENT)),
            Response(tree_request=worker_pb2.TreeRequest(request_id="r", **lease)),
            Response(resolve_request=self._brought(choices, lease)),
        )
        return choices.of(kinds)

    def _brought(self, choices: Choices, lease: dict[str, Any]) -> worker_pb2.ResolveRequest:
        kinds = worker_pb2.RESOLVE_KIND_APPROVAL, worker_pb2.RESOLVE_KIND_SIGNAL
        payload = types_pb2.Payload(data=choices.of((b"{}", b"[]", b'{"n":1}')))
        path: dict[str, Any] = {"job_ids": ["j"] * choices.below(3), "holon_ids": ["h"] * choices.below(3)}
        return worker_pb2.ResolveRequest(
            command_id="c", **lease, **path, kind=choices.of(kinds), name="go", payload=payload, approval_id="a"
        )

    async def _does_a_task(self) -> None:
        """It is offered on whatever stream the child has now."""
        task_id = f"good-{next(self._numbers)}"
        async with asyncio.timeout(GUARD):
            for attempt in itertools.count(1):
                await self._newest()
                with suppress(Exception):
                    await offered(self.stream, task_id, "echo", {}, lease_id=f"good-{attempt}", attempt=attempt)
                    if await self._answered(self.stream, task_id):
                        return

    async def _newest(self) -> None:
        while self.stream.gone.is_set() or self.child.parent.waiting:
            self.stream = await self.child.linked()

    async def _answered(self, stream: Stream, task_id: str) -> bool:
        """Whether a task ends well on a stream; every result is acknowledged."""
        gone = asyncio.ensure_future(stream.gone.wait())
        try:
            while True:
                update = asyncio.ensure_future(stream.update())
                await asyncio.wait((gone, update), return_when=asyncio.FIRST_COMPLETED, timeout=0.5)
                if not update.done():
                    update.cancel()
                    return False
                said = update.result()
                if said.HasField("result"):
                    ack = worker_pb2.ResultAck(task_id=said.task_id, lease_id=said.lease_id)
                    ack.verdict = worker_pb2.VERDICT_COMMITTED
                    await stream.send(update_acks=worker_pb2.UpdateAcks(results=[ack]))
                if said.task_id == task_id and said.WhichOneof("update") != "accepted":
                    return said.result.status == "success"
        finally:
            gone.cancel()


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileParent]:
    parent = HostileParent(tmp_path_factory.mktemp("certificates"))
    yield parent
    parent.close()


@given(entropy=ENTROPY)
@settings(EXAMPLES, max_examples=200)
def test_whatever_a_parent_says_the_uplink_stands(parent: HostileParent, entropy: bytes) -> None:
    with UplinkErrors() as errors:
        parent.run(parent.example(Choices(entropy)))
        errors.check()
