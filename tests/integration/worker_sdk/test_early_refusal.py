"""A node that refuses a stream before it reads any of it: the worker learns why, though it was about to write."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from holon.worker import Worker
from holon.worker.channel import write
from tests.integration.scripted_node import FAST, GUARD, serving
from tests.log_watch import LogWatch

_STANDING = 0.1


@pytest.fixture
def refused() -> threading.Event:
    """Set once a stream has been refused."""
    return threading.Event()


@pytest.fixture
def url(refused: threading.Event) -> Iterator[str]:
    """Where a node in threads of its own refuses every stream unread."""

    def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(refused.set)
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "this token is of no use")

    with ThreadPoolExecutor() as pool:
        server = grpc.server(pool)
        handler: Any = grpc.stream_stream_rpc_method_handler(refuse)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("holon.rxon.v1.WorkerService", {"Session": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"grpc://127.0.0.1:{port}"
        server.stop(0).wait()


async def test_a_worker_that_is_refused_before_it_could_say_hello_is_told_why(
    url: str, refused: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(call: Any, frame: bytes) -> None:
        # The whole process stands still: the refusal comes in below it, and nobody here has heard of it.
        refused.wait(GUARD)
        time.sleep(_STANDING)  # noqa: ASYNC251
        await write(call, frame)

    monkeypatch.setattr("holon.worker.session.write", late)
    worker = Worker(url, token="a token", worker_id="w1", timing=FAST)
    worker.skill(_nothing)
    with LogWatch("UNAUTHENTICATED: this token is of no use") as told, LogWatch("INTERNAL") as untold:
        async with serving(worker):
            await asyncio.wait_for(told.seen.wait(), GUARD)
    assert not untold.seen.is_set()


async def _nothing() -> None: ...
