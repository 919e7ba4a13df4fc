"""Every call of the client door takes any bytes at all: what is wrong is refused by name, and nobody else notices."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2
from hypothesis import given

from holon.engine.requests import Creating
from holon.errors import HolonError
from holon.rxon.v1 import job_pb2, node_pb2, types_pb2
from holon.wire.values import duration
from tests.fuzz.choices import ENTROPY, EXAMPLES, Choices
from tests.fuzz.messages import wrong
from tests.fuzz.world import FAULTS, GUARD, ME, TOKEN, World, a_world

LIMIT = 4 * 2**20
SERVICES = [service for file in (job_pb2, node_pb2) for service in file.DESCRIPTOR.services_by_name.values()]
METADATA = (
    (),
    (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),),
    (("traceparent", "00-zz-zz-zz"), ("tracestate", "x" * 5_000)),
    (("traceparent", ""), ("traceparent", "00")),
    (("traceparent-bin", b"\xff\x00"),),
)


class Call:
    """What grpc gives the handler of a call: its end, and what it is answered with."""

    def __init__(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        self.code: grpc.StatusCode | None = None
        self.answers: list[bytes] = []
        self.request = b""
        self._metadata = metadata

    async def read(self) -> bytes:
        return self.request

    async def write(self, answer: bytes) -> None:
        self.answers.append(answer)
        await asyncio.sleep(0)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        self.code = code
        [(key, packed)] = trailing_metadata
        assert key == "grpc-status-details-bin"
        assert status_pb2.Status.FromString(packed).details, f"{code} has no reason: {details}"
        assert len(packed) < 8_000
        raise grpc.aio.AbortError(details)

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata


@dataclass(frozen=True)
class Rpc:
    """One call of a service, as its door handles it."""

    name: str
    request: type[Message]
    response: type[Message]
    handler: Any
    check: grpc.aio.ServerInterceptor
    details: Any

    async def __call__(self, call: Call, raw: bytes) -> None:
        async def found(_: Any) -> Any:
            return self.handler

        handler: Any = await self.check.intercept_service(found, self.details)
        call.request = raw
        try:
            await handler.stream_stream((), call)
            call.code = grpc.StatusCode.OK
        except grpc.aio.AbortError:
            pass


def rpcs(world: World) -> Iterator[Rpc]:
    """Every call of every service that the protos name and the door has."""
    for service in SERVICES:
        for method in service.methods:
            yield _rpc(world, f"/{service.full_name}/{method.name}", method)


def _rpc(world: World, path: str, method: MethodDescriptor) -> Rpc:
    class Details:
        invocation_metadata = (("x-client-token", TOKEN),)

    details: Any = Details()
    details.method = path
    server = world.clients._server
    [handler] = [found for one in server._handlers if (found := one.service(details)) is not None]
    answer = message_factory.GetMessageClass(method.output_type)
    return Rpc(method.name, request_of(method), answer, handler, server._interceptors[0], details)


def request_of(method: MethodDescriptor) -> type[Message]:
    """The class of a method's requests."""
    return message_factory.GetMessageClass(method.input_type)


class Known:
    """Two jobs that requests may name: one that waits for ever, unless it is cancelled, and one that is over."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    async def renew(self, world: World) -> None:
        for job_id in self.jobs[:1]:
            with suppress(HolonError):
                await world.engine.jobs.cancel(ME, job_id)
        waits = await world.engine.jobs.create(ME, Creating("bait", {"skill": "nobody's"}))
        self.jobs = [waits.job_id, await world.good_job()]


def right(name: str, job_id: str) -> Message:
    """A request that is right, or nearly so."""
    data = types_pb2.Payload(data=b'{"n":1}')
    creation = job_pb2.CreateJobRequest(blueprint_name="good", initial_data=data, request_id="r")
    creation.dispatch_timeout.seconds = creation.result_timeout.seconds = 60
    requests = {
        "CreateJob": creation,
        "BatchCreateJobs": job_pb2.BatchCreateJobsRequest(requests=[creation, creation]),
        "GetJob": job_pb2.GetJobRequest(job_id=job_id, fields=["id", "status", "result"]),
        "ListJobs": job_pb2.ListJobsRequest(statuses=["running", "finished"], page_size=5, page_token="7"),
        "ListJobIds": job_pb2.ListJobIdsRequest(id_prefix=job_id[:20]),
        "CancelJob": job_pb2.CancelJobRequest(job_id=job_id),
        "ResolveApproval": job_pb2.ResolveApprovalRequest(job_id=job_id, decision="yes", data=data, request_id="r"),
        "SendSignal": job_pb2.SendSignalRequest(job_id=job_id, name="go", data=data, request_id="r", to_job_id=job_id),
        "GetJobHistory": job_pb2.GetJobHistoryRequest(job_id=job_id, page_size=2, after_sequence=1),
        "WatchJob": job_pb2.WatchJobRequest(job_id=job_id),
        "ListBlueprints": node_pb2.ListBlueprintsRequest(page_size=1, page_token="1"),
        "GetBlueprint": node_pb2.GetBlueprintRequest(name="good"),
        "ListWorkers": node_pb2.ListWorkersRequest(page_size=1, skill="good", connected=True),
        "ListSkills": node_pb2.ListSkillsRequest(page_size=1),
        "DrainNode": node_pb2.DrainNodeRequest(grace=duration(1_000), reason="home"),
        "DrainWorker": node_pb2.DrainWorkerRequest(worker_id="evil-1", reason="home"),
        "AcceptHolon": node_pb2.AcceptHolonRequest(worker_id="evil-1"),
    }
    return requests.get(name, job_pb2.GetJobRequest())


@pytest.mark.slow
def test_any_request_is_answered_or_refused_by_name() -> None:
    with a_world() as world:
        known, calls = Known(), list(rpcs(world))
        assert {"CreateJob", "BatchCreateJobs", "WatchJob", "ListWorkers"} <= {rpc.name for rpc in calls}

        @EXAMPLES
        @given(ENTROPY)
        def any_request(entropy: bytes) -> None:
            world.run(example(world, calls, known, entropy))

        any_request()


async def example(world: World, calls: list[Rpc], known: Known, entropy: bytes) -> None:
    """A request to each of the calls."""
    if not known.jobs or entropy[0] % 8 == 0:
        await known.renew(world)
    for rpc in calls:
        choices = Choices(hashlib.shake_128(rpc.name.encode() + entropy).digest(120))
        like = right(rpc.name, choices.of(known.jobs))
        raw = wrong(choices, rpc.request, like if isinstance(like, rpc.request) else rpc.request())
        await ask(world, rpc, raw, choices)
    world.check()


async def ask(world: World, rpc: Rpc, raw: bytes, choices: Choices) -> None:
    call = Call(choices.of(METADATA))
    asking = asyncio.create_task(rpc(call, raw), name="asking")
    # A stream has no end, and a client may go away at any time.
    turns = choices.below(12) if choices.one_in(6) or rpc.handler.unary_stream is not None else None
    async with asyncio.timeout(GUARD):
        for turn in itertools.count():
            if asking.done():
                break
            if turn == turns:
                asking.cancel()
            await asyncio.sleep(0 if turn < 50 else 0.001)
    if not asking.cancelled():
        asking.result()
        assert call.code not in FAULTS, f"{rpc.name} was answered with {call.code}"
    for answer in call.answers:
        assert len(answer) <= LIMIT
        rpc.response.FromString(answer)
