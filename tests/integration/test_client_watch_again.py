"""The client's watch goes on by itself: what it goes on after, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from holon.client import Client
from holon.client import watching as client_watching
from holon.errors import HolonError, NotFound, Unreachable
from holon.rxon.v1 import job_pb2
from holon.wire.grpc_status import abort
from tests.integration.client_site import GUARD, served, told

CODE = grpc.StatusCode


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

    async def get(self, _: job_pb2.GetJobRequest, __: Any) -> job_pb2.GetJobResponse:
        return job_pb2.GetJobResponse(job=seen(1).job)


@asynccontextmanager
async def scripted(service: Scripted) -> AsyncIterator[Client]:
    handler = grpc.unary_stream_rpc_method_handler(
        service.watch, job_pb2.WatchJobRequest.FromString, job_pb2.WatchJobResponse.SerializeToString
    )
    get = grpc.unary_unary_rpc_method_handler(
        service.get, job_pb2.GetJobRequest.FromString, job_pb2.GetJobResponse.SerializeToString
    )
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"WatchJob": handler, "GetJob": get}
    async with served(grpc.method_handlers_generic_handler("holon.rxon.v1.JobService", methods)) as client:
        yield client


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
    monkeypatch.setattr(client_watching, "SILENCE_S", 0.5)

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


async def test_a_node_that_answered_a_call_is_waited_for_before_a_watch_has_begun_too() -> None:
    away = breaking(error=CODE.INTERNAL)
    async with scripted(Scripted(away, away, ENDING)) as client:
        await client.get_job("j1")
        updates = await told(client, "j1")
    assert updates[-1].sequence == 4


async def test_a_node_that_never_answered_is_not_waited_for() -> None:
    async with scripted(Scripted(breaking(error=CODE.INTERNAL), ENDING)) as client:
        with pytest.raises(HolonError, match="on purpose"):
            await told(client, "j1")
