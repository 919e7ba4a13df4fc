"""A worker whose place another process took stops for good, and nobody else does."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest

from holon.rxon.v1 import worker_pb2
from holon.worker import Replaced, Worker
from tests.integration.scripted_node import (
    FAST,
    GUARD,
    Certificates,
    ScriptedNode,
    serving,
    worker_for,
)
from tests.integration.worker_sdk.skills import nothing
from tests.log_watch import LogWatch


async def test_a_replaced_worker_stops_for_good(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker) as task:
        stream = await node.welcomed()
        await stream.send(go_away=worker_pb2.GoAway(reason="REPLACED", message="host b is newer"))
        with pytest.raises(Replaced, match="host b is newer"):
            await asyncio.wait_for(task, GUARD)
        assert node.waiting == 0


async def test_a_stream_aborted_as_replaced_is_as_final(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker) as task:
        (await node.welcomed()).end(grpc.StatusCode.ABORTED, "SESSION_REPLACED: a newer process")
        with pytest.raises(Replaced):
            await asyncio.wait_for(task, GUARD)
        assert node.waiting == 0


@pytest.mark.parametrize("first", ["refused", "replaced"])
async def test_a_worker_that_is_replaced_while_it_moves_stops_for_good(
    certificates: Certificates, node: ScriptedNode, first: str
) -> None:
    worker = worker_for(certificates, node, timing=replace(FAST, reconnect_first=GUARD, reconnect_longest=GUARD))
    worker.skill(nothing)
    async with serving(worker) as task:
        old = await node.welcomed()
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE"))
        new = await node.session()
        if first == "refused":
            with LogWatch("trying again") as watch:
                new.end(grpc.StatusCode.UNAVAILABLE, "no room")
                await asyncio.wait_for(watch.seen.wait(), GUARD)
        await old.send(go_away=worker_pb2.GoAway(reason="REPLACED", message="host b is newer"))
        old.end(grpc.StatusCode.ABORTED, "SESSION_REPLACED: host b is newer")
        await old.wait(old.gone)
        new.end(grpc.StatusCode.UNAVAILABLE, "no room")
        with pytest.raises(Replaced, match="host b is newer"):
            await asyncio.wait_for(task, GUARD)
        assert node.waiting == 0


async def test_a_worker_that_has_come_after_who_replaced_it_goes_on(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker):
        old = await node.welcomed()
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE"))
        new = await node.session()
        await old.send(go_away=worker_pb2.GoAway(reason="REPLACED"))
        old.end(grpc.StatusCode.ABORTED, "SESSION_REPLACED")
        await old.wait(old.gone)
        await new.welcome("new")
        await new.offer("t1", "double", {"n": 21})
        assert (await new.result()).result.data.data == b'{"n":42}'
