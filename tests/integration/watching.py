"""Watchers of jobs at the gRPC door."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from holon.rxon.v1 import job_pb2, worker_pb2
from tests.integration.grpc_node import CLIENT, ENDED, GUARD, JOBS, Node, Wire, result, update, updates

Response = job_pb2.WatchJobResponse


class Watch:
    """One stream of a watcher."""

    def __init__(
        self, channel: grpc.aio.Channel, job_id: str, after: int | None = None, metadata: Any = CLIENT
    ) -> None:
        request = job_pb2.WatchJobRequest(job_id=job_id, after_sequence=after)
        method: Any = channel.unary_stream
        self.call = method(JOBS + "WatchJob")(request.SerializeToString(), metadata=metadata)

    async def next_or_end(self) -> Response | None:
        """The next update; None where the stream ends with OK."""
        async with asyncio.timeout(GUARD):
            raw = await self.call.read()
        return None if raw is grpc.aio.EOF else Response.FromString(raw)

    async def next(self) -> Response:
        told = await self.next_or_end()
        assert told is not None, "the stream has ended"
        return told

    async def until(self, kind: str) -> list[Response]:
        """What is told up to the first update of this kind."""
        told = [await self.next()]
        while told[-1].WhichOneof("update") != kind:
            told.append(await self.next())
        return told

    async def rest(self) -> list[Response]:
        """All that is told, up to an end with OK."""
        told: list[Response] = []
        while (one := await self.next_or_end()) is not None:
            told.append(one)
        return told

    async def refused(self) -> grpc.aio.AioRpcError:
        with pytest.raises(ENDED) as error:
            await self.rest()
        return error.value


def watch(node: Node, job_id: str, after: int | None = None) -> Watch:
    return Watch(node.channel, job_id, after)


async def waiting(node: Node) -> str:
    """A new job, once its task waits for a worker."""
    job_id = await node.create()
    stream = watch(node, job_id)
    told = await stream.next()
    while "waiting_for_worker" not in (told.job.status, told.progress.status):
        told = await stream.next()
    stream.call.cancel()
    return job_id


def events_of(told: list[Response]) -> list[job_pb2.HistoryEvent]:
    return [one.event for one in told if one.HasField("event")]


async def says(node: Node, worker: Wire, offer: worker_pb2.TaskOffer, percent: float, message: str = "") -> None:
    """A worker tells of its progress, and the node stores it now."""
    progress = worker_pb2.TaskProgress(percent=percent, message=message)
    await worker.send(updates(update(offer, accepted=worker_pb2.TaskAccepted()), update(offer, progress=progress)))
    await worker.beat()
    await node.engine.touches.flush()


def nothing_is_left(node: Node) -> None:
    store: Any = node.engine.store
    assert store._hints.watched == set()
    assert repr(node.engine.watching) == "Watching(jobs=0, watchers=0)"


async def finish(worker: Wire) -> None:
    await worker.send(updates(result(await worker.offer(), {"done": True})))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


async def works(node: Node) -> None:
    """A worker comes and finishes one job."""
    await finish(await node.worker())
