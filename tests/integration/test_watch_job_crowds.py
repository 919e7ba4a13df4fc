"""WatchJob: many watchers, slow ones and those who go away hold up nobody, and leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
import pytest

from holon.domain.client import DEFAULT, Client
from holon.engine import watching
from holon.engine.feeds import TAIL, Moved
from holon.rxon.v1 import job_pb2
from tests.integration.grpc_node import GUARD, Node, a_node, reason_of, result, trust, updates
from tests.integration.watching import Watch, events_of, finish, nothing_is_left, says, watch

CODE = grpc.StatusCode


async def test_who_does_not_read_holds_up_nobody_and_reads_all_of_it_later(node: Node) -> None:
    branches = 4 * TAIL
    job_id = await node.create("spread", branches=branches)
    slow, quick = watch(node, job_id, 0), watch(node, job_id, 0)
    await slow.next()
    worker = await node.worker(credits=branches)
    done = 0
    while done < branches:
        kind, said = await worker.next()
        if kind == "task_offers":
            await worker.send(updates(result(said, {"x": "y" * 100})))
        elif kind == "update_acks":
            done += 1
    told = await quick.rest()
    assert told[-1].job.status == "finished"
    history = [event async for event in whole_history(node, job_id)]
    assert events_of(told) == history
    assert len(history) > branches
    assert events_of(await slow.rest()) == history


async def whole_history(node: Node, job_id: str) -> AsyncIterator[job_pb2.HistoryEvent]:
    token = ""
    while True:
        request = job_pb2.GetJobHistoryRequest(job_id=job_id, page_size=1000, page_token=token)
        page = await node.call("GetJobHistory", request, job_pb2.GetJobHistoryResponse.FromString)
        for event in page.events:
            yield event
        token = page.next_page_token
        if not token:
            return


async def test_who_is_slow_is_told_of_the_newest_progress_only(node: Node) -> None:
    job_id = await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    async with aclosing(node.engine.watching.follow(Client(DEFAULT), job_id, None)) as following:
        await anext(following)
        quick = watch(node, job_id)
        await quick.next()
        for percent in range(1, 100, 20):
            await says(node, worker, offer, percent)
            while (await quick.until("progress"))[-1].progress.percent != percent:
                pass
        async with asyncio.timeout(GUARD):
            moved = await anext(following)
        while not isinstance(moved, Moved):
            moved = await anext(following)
        assert moved.percent == 81


async def test_a_thousand_watchers_cost_one_reading_and_leave_nothing_behind(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await node.create()
    reads = 0
    read = node.engine.store.job

    async def counted(wanted: str) -> Any:
        nonlocal reads
        reads += wanted == job_id
        return await read(wanted)

    monkeypatch.setattr(node.engine.store, "job", counted)
    channels = [
        await node.resources.enter_async_context(
            grpc.aio.secure_channel(
                f"localhost:{node.clients.port}", trust(), options=(("grpc.use_local_subchannel_pool", 1),)
            )
        )
        for _ in range(20)
    ]
    watches = [Watch(channels[n % 20], job_id) for n in range(1_000)]
    firsts = await asyncio.gather(*(one.next() for one in watches))
    assert len({first.job.id for first in firsts}) == 1
    assert node.engine.watching.watchers == 1_000
    await finish(await node.worker())
    ends = await asyncio.gather(*(one.rest() for one in watches))
    assert all(told[-1].job.status == "finished" for told in ends)
    assert reads < 20
    await node.until(lambda: node.engine.watching.watchers == 0)
    nothing_is_left(node)


async def test_a_client_that_goes_away_leaves_nothing_behind(node: Node) -> None:
    job_id = await node.create()
    watches = [watch(node, job_id) for _ in range(5)]
    for one in watches:
        await one.next()
    watches[0].call.cancel()
    await node.until(lambda: node.engine.watching.watchers == 4)
    assert repr(node.engine.watching) == "Watching(jobs=1, watchers=4)"
    for one in watches:
        one.call.cancel()
    await node.until(lambda: node.engine.watching.watchers == 0)
    nothing_is_left(node)


async def test_one_watcher_too_many_is_told_to_come_later(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHERS", 1)
    job_id = await node.create()
    first = watch(node, job_id)
    await first.next()
    error = await watch(node, job_id).refused()
    assert (error.code(), reason_of(error)) == (CODE.RESOURCE_EXHAUSTED, "WATCHES_FULL")
    await node.cancel(job_id)
    assert (await first.rest())[-1].job.terminal


async def test_a_door_that_closes_sends_its_watchers_elsewhere() -> None:
    async with a_node() as node:
        job_id = await node.create()
        stream = watch(node, job_id)
        first = await stream.next()
        assert first.sequence
        closing = asyncio.create_task(node.clients.__aexit__(None, None, None))
        error = await stream.refused()
        assert (error.code(), reason_of(error)) == (CODE.UNAVAILABLE, "DRAINING")
        await closing
