"""The same over real gRPC and mTLS: what is wrong ends one call or stream at most, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from hypothesis import given, settings

from tests.fuzz.choices import ENTROPY, EXAMPLES, Choices
from tests.fuzz.messages import wrong
from tests.fuzz.streams import Request, Response
from tests.fuzz.test_calls import METADATA, SERVICES, request_of, right
from tests.fuzz.test_decoder import VALID
from tests.fuzz.world import FAULTS, Errors
from tests.integration.grpc_node import CLIENT, ENDED, GUARD, SESSION, Node, Wire, a_node, hello, offering, worker_files

FEW = settings(EXAMPLES, max_examples=300)
# What no door answers, and what everybody may ask.
OTHERS: dict[str, type[Message]] = {
    "/grpc.health.v1.Health/Check": health_pb2.HealthCheckRequest,
    "/grpc.health.v1.Health/Watch": health_pb2.HealthCheckRequest,
    "/grpc.health.v1.Health/List": health_pb2.HealthCheckRequest,
    "/holon.rxon.v1.JobService/Nothing": health_pb2.HealthCheckRequest,
    "/": health_pb2.HealthCheckRequest,
}
METHODS = {f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
TOKENS: tuple[Any, ...] = (CLIENT, CLIENT, CLIENT, CLIENT, (), (("x-client-token", "wrong"),), (*CLIENT, *CLIENT))


class Site:
    """A node on real ports, a worker that means well, and one loop for all examples."""

    def __init__(self, runner: asyncio.Runner, errors: Errors) -> None:
        errors.watch(runner.get_loop())
        self._runner = runner
        self._errors = errors
        self._made = a_node(silence=300.0)
        self.node: Node = self.run(self._made.__aenter__())
        self.evil: grpc.aio.Channel = self.run(self.node.worker_channel(worker_files("evil")))
        self._good: Wire = self.run(self.node.worker("good-1", offering("good")))
        self.run(self.goes_on())
        self._before = self.run(self.left())

    def run(self, example: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(example)

    async def goes_on(self) -> None:
        """Nobody else is disturbed, and nothing was logged as an error."""
        await self.node.finishes_jobs(self._good)
        self._errors.check()

    async def left(self) -> tuple[int, int]:
        """How many files are open, and how many tasks there are."""
        files = Path("/proc/self/fd")
        return len(list(files.iterdir())) if files.exists() else 0, len(asyncio.all_tasks())  # noqa: ASYNC240

    async def check_over(self) -> None:
        """There is no more of anything than before the examples."""
        await self.goes_on()
        async with asyncio.timeout(GUARD):
            while any(now > then for now, then in zip(await self.left(), self._before, strict=True)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def close(self) -> None:
        self.run(self._made.__aexit__(None, None, None))
        self._errors.check()


@pytest.fixture
def site() -> Iterator[Site]:
    with asyncio.Runner() as runner, Errors() as errors:
        site = Site(runner, errors)
        yield site
        site.close()


def test_any_bytes_on_a_real_stream_end_that_stream_at_most(site: Site) -> None:
    @FEW
    @given(ENTROPY)
    def any_stream(entropy: bytes) -> None:
        site.run(stream_example(site, Choices(entropy)))

    site.run(_connected(site))
    any_stream()
    site.run(site.check_over())


async def _connected(site: Site) -> None:
    """The channel's own connection is there before anything is counted."""
    await stream_example(site, Choices(b""))
    site._before = await site.left()


async def stream_example(site: Site, choices: Choices) -> None:
    call: Any = site.evil.stream_stream(SESSION)()
    opening = hello(credits=3)
    with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
        await call.write(wrong(choices, Request, opening) if choices.one_in(4) else opening.SerializeToString())
        for _ in range(choices.below(5)):
            await call.write(wrong(choices, Request, *VALID))
        if choices.one_in(3):
            call.cancel()
        else:
            await call.done_writing()
            async with asyncio.timeout(GUARD):
                while (said := await call.read()) is not grpc.aio.EOF:
                    assert Response.FromString(said).WhichOneof("message")
    await no_fault(call, SESSION)
    if choices.one_in(16):
        await site.goes_on()


async def no_fault(call: Any, path: str) -> None:
    """The call has ended, and not by a fault of the node."""
    async with asyncio.timeout(GUARD):
        code = await call.code()
        said = f"{path}: {await call.details()}; {await call.debug_error_string()}"
    # The client's own library says so when it sends on a call that has ended.
    assert code not in FAULTS or 'Failed "execute_batch"' in said, said


def test_any_request_over_a_real_connection_is_answered_or_refused_by_name(site: Site) -> None:
    @FEW
    @given(ENTROPY)
    def any_request(entropy: bytes) -> None:
        site.run(call_example(site, Choices(entropy)))

    any_request()
    site.run(site.check_over())


async def call_example(site: Site, choices: Choices) -> None:
    path = choices.of([*METHODS, *OTHERS])
    method = METHODS.get(path)
    kind = request_of(method) if method is not None else OTHERS[path]
    like = right(method.name, "0-0") if method is not None else kind()
    raw = wrong(choices, kind, like if isinstance(like, kind) else kind())
    metadata = (*choices.of(TOKENS), *choices.of(METADATA))
    timeout = choices.of((GUARD, GUARD, GUARD, 0.0005, 0.003))
    # Health watches for ever, and so does who watches a job.
    if path.endswith("Watch") or (method is not None and method.server_streaming):
        timeout = min(timeout, 0.05)
    of_path: Any = site.node.channel.stream_stream(path)
    call = of_path(_messages(raw, choices.one_in(8)), metadata=metadata, timeout=timeout)
    if choices.one_in(6):
        await asyncio.sleep(0)
        call.cancel()
    with suppress(ENDED, asyncio.CancelledError):
        while await call.read() is not grpc.aio.EOF:
            pass
    await no_fault(call, path)
    if choices.one_in(16):
        await site.goes_on()


async def _messages(raw: bytes, twice: bool) -> AsyncIterator[bytes]:
    yield raw
    if twice:
        yield raw
