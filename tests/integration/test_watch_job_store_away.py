"""WatchJob: a store that is away, or a job that cannot be read, ends no other watch."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from holon.domain.events import CancelRequested
from holon.errors import StoreUnavailable
from tests.integration.grpc_node import GUARD, Node
from tests.integration.watching import watch

CODE = grpc.StatusCode


async def test_a_store_that_is_away_for_a_while_delays_a_watch_and_ends_it_not(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await node.create()
    stream = watch(node, job_id)
    await stream.next()
    read, failures = node.engine.store.job, iter(range(2))

    async def shaky(wanted: str) -> Any:
        record = await read(wanted)
        if record is not None and record.job.status.terminal:
            # From here on nothing changes any more, and so nothing hints at the job.
            for _ in failures:
                raise StoreUnavailable("the store is away", retry_after=0.01)
        return record

    monkeypatch.setattr(node.engine.store, "job", shaky)
    await node.engine.store.append(job_id, CancelRequested("x"), "cancel-0")
    # Well before all that are watched are looked at anyway.
    async with asyncio.timeout(GUARD / 4):
        assert (await stream.rest())[-1].job.status == "cancelled"


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_job_in_a_part_of_the_store_that_is_away_delays_no_other_watch(
    node: Node, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    away, there = await node.create(), await node.create()
    streams = [watch(node, away), watch(node, there)]
    for stream in streams:
        await stream.next()
    read, reads, is_back = node.engine.store.job, 0, asyncio.Event()

    async def parted(wanted: str) -> Any:
        nonlocal reads
        if wanted == away:
            reads += 1
            if hangs:
                await is_back.wait()
            if reads == 1:
                raise StoreUnavailable("a part of the store is away", retry_after=0.01 if hangs else GUARD)
        return await read(wanted)

    monkeypatch.setattr(node.engine.store, "job", parted)
    node.engine.watching.changed([away])
    await node.until(lambda: reads > 0)
    await node.engine.store.append(there, CancelRequested("x"), "cancel-0")
    async with asyncio.timeout(GUARD / 2):
        assert (await streams[1].rest())[-1].job.status == "cancelled"
    is_back.set()
    await node.cancel(away)
    assert (await streams[0].rest())[-1].job.terminal


async def test_a_job_that_cannot_be_read_ends_its_watch_and_no_other(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = await node.create(), await node.create()
    streams = [watch(node, broken), watch(node, sound)]
    for stream in streams:
        await stream.next()
    read = node.engine.store.job

    async def faulty(wanted: str) -> Any:
        if wanted == broken:
            raise RuntimeError("a secret of the node")
        return await read(wanted)

    monkeypatch.setattr(node.engine.store, "job", faulty)
    node.engine.watching.changed([broken])
    error = await streams[0].refused()
    assert error.code() is CODE.INTERNAL
    assert "secret" not in str(error)
    assert "a secret of the node" in caplog.text
    await node.cancel(sound)
    assert (await streams[1].rest())[-1].job.terminal
