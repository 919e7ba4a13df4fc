"""Connections that mean harm, frame by frame: calls that never end, are reset at once, or are not read."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

import grpc
import pytest

from holon.wire import arrivals
from tests.integration.grpc_node import CLIENT, ENDED, GUARD, JOBS, SESSION, Node, Wire, a_node, reason_of
from tests.integration.raw_http2 import CANCEL, DATA, HEADERS, RST_STREAM, connection

HEALTH = "/grpc.health.v1.Health/"
RESETS = 10_000
NEVER = -1
# What a door lets one connection have at once; the worker door serves 8 of them.
STREAMS = 100


async def settled(tasks: int) -> None:
    """Wait until there are no more tasks than that."""
    async with asyncio.timeout(GUARD):
        while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.01)


async def test_a_watcher_of_the_health_that_does_not_read_holds_up_nobody() -> None:
    async with asyncio.timeout(GUARD), a_node() as node, connection(node, window=0) as deaf:
        deaf.call(HEALTH + "Watch", message=b"")
        await deaf.until(HEADERS)
        watch: Any = node.channel.unary_stream(HEALTH + "Watch")
        watching = watch(b"")
        assert await watching.read()
        node.clients.drain()
        assert await watching.read()


async def test_questions_for_the_health_that_stop_half_way_are_bounded_and_shut_nobody_out(node: Node) -> None:
    async with connection(node) as stranger, asyncio.timeout(GUARD):
        streams = [stranger.call(HEALTH + "Check") for _ in range(STREAMS)]
        for stream in streams:
            stranger.send(DATA, 0, stream, b"\0" + (4 * 2**20 - 1).to_bytes(4, "big") + b"x" * 100)
        # As many as there may be wait; those that came before them have been ended.
        ended = [(await stranger.until(HEADERS))[2] for _ in range(STREAMS - 32)]
        assert set(ended) == set(streams[: STREAMS - 32])
        check: Any = node.channel.unary_unary
        await check(HEALTH + "Check")(b"", timeout=GUARD)


@pytest.mark.parametrize("worker_id", [None, "cuts"])
async def test_a_question_that_is_cut_off_half_way_is_no_error_of_ours(
    node: Node, caplog: pytest.LogCaptureFixture, worker_id: str | None
) -> None:
    before = len(asyncio.all_tasks())
    async with connection(node, worker_id) as stranger:
        for _ in range(8):
            stream = stranger.call(HEALTH + "Check")
            stranger.send(DATA, 0, stream, b"\0" + (1_000).to_bytes(4, "big") + b"x" * 100)
        await stranger.drained()
        await node.until(lambda: len(asyncio.all_tasks()) >= before + 8)
    await settled(before)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_a_malformed_question_for_the_health_is_refused_and_is_no_error_of_ours(
    node: Node, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    asking: Any = node.channel.unary_unary(HEALTH + method)
    with pytest.raises(ENDED) as refused:
        await asking(b"\xff\xff", timeout=GUARD)
    assert (refused.value.code(), reason_of(refused.value)) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_FRAME")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("worker_id", [None, "resets"])
async def test_calls_that_are_reset_at_once_by_the_thousand_leave_nothing_behind(
    node: Node, good: Wire, worker_id: str | None
) -> None:
    await node.finishes_jobs(good)
    before = len(asyncio.all_tasks())
    most = 0
    async with connection(node, worker_id) as hasty:
        for number in range(RESETS):
            stream = hasty.call(JOBS + "GetJob" if worker_id is None else SESSION, CLIENT, message=b"")
            hasty.send(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))
            if number % 500 == 0:
                await hasty.drained()
                most = max(most, len(asyncio.all_tasks()))
        await node.finishes_jobs(good)
        most = max(most, len(asyncio.all_tasks()))
        await settled(before)
    assert most < before + 3 * STREAMS


async def test_calls_without_a_message_are_bounded_and_end_with_their_connection(
    node: Node, good: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "PATIENCE_S", 0.05)
    await node.finishes_jobs(good)
    before = len(asyncio.all_tasks())
    async with connection(node) as silent:
        for _ in range(3 * STREAMS):
            silent.call(JOBS + "CreateJob", CLIENT)
        await silent.drained()
        await node.finishes_jobs(good)
        assert len(asyncio.all_tasks()) <= before + 2 * STREAMS + 10
    await settled(before)


async def test_a_call_that_is_not_let_in_ends_before_its_message_is_there(node: Node) -> None:
    async with connection(node) as stranger, asyncio.timeout(GUARD):
        stream = stranger.call(JOBS + "CreateJob")
        stranger.send(DATA, 0, stream, b"\0" + (4 * 2**20 - 1).to_bytes(4, "big") + b"x" * 1_000)
        _, _, ended, _ = await stranger.until(HEADERS)
        assert ended == stream


async def test_a_stream_of_calls_cut_half_way_disturbs_nobody(node: Node, good: Wire) -> None:
    await node.finishes_jobs(good)
    before = len(asyncio.all_tasks())
    for number in itertools.islice(itertools.count(), 30):
        async with connection(node, None if number % 2 else "cuts") as cut:
            stream = cut.call(JOBS + "CreateJob" if number % 2 else SESSION, CLIENT)
            cut.send(DATA, 0, stream, (b"\0" + (100).to_bytes(4, "big") + b"x" * 100)[: number * 4])
            await cut.drained()
    await node.finishes_jobs(good)
    await settled(before)


async def test_frames_that_are_no_http2_end_their_connection_only(node: Node, good: Wire) -> None:
    async with connection(node, "junk") as junk, asyncio.timeout(GUARD):
        junk.send(HEADERS, 0xFF, 0, b"\xff" * 50)
        with pytest.raises(EOFError):
            await junk.until(NEVER)
    await node.finishes_jobs(good)
