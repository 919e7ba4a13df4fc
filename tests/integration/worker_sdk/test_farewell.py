"""How a worker leaves a node: what runs is finished or handed back, and nothing that is owed is lost."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import pytest

from holon.errors import InvalidArgument, Unavailable
from holon.worker import Worker
from holon.worker.runner import Runner
from tests.integration.scripted_node import (
    FAST,
    GUARD,
    Certificates,
    Gate,
    ScriptedNode,
    is_at_once,
    keep,
    serving,
    worker_for,
)
from tests.integration.worker_sdk.skills import nothing


async def test_a_drain_finishes_what_runs_takes_nothing_new_and_ends_when_all_is_acknowledged(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker) as task:
        stream = await node.welcomed()
        await stream.offer("t1", "held")
        await gate.enter()
        worker.drain("shift is over")
        assert (await stream.message("drain")).drain.reason == "shift is over"
        await stream.offer("t2", "double", {"n": 1})
        while (update := await stream.update()).HasField("accepted"):
            pass
        assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t2", "DRAINING", True)
        gate.open.set()
        assert (await stream.result()).task_id == "t1"
        assert not stream.half_closed.is_set()
        await stream.ack("t1")
        await stream.wait(stream.half_closed)
        assert not task.done()
        stream.end()
        await asyncio.wait_for(task, GUARD)


async def test_a_drain_hands_back_what_does_not_end_within_the_grace(
    certificates: Certificates, node: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_for(certificates, node, drain_grace=0.05)
    stopped, go_on = asyncio.Event(), asyncio.Event()
    cleaned_up: list[str] = []
    loop, close = asyncio.get_running_loop(), Runner.close

    def closed(runner: Runner) -> None:
        close(runner)
        loop.call_soon_threadsafe(go_on.set)

    monkeypatch.setattr(Runner, "close", closed)

    @worker.skill
    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
            # Another cancel would end this.
            await go_on.wait()
            await asyncio.sleep(0)
            cleaned_up.append("t1")

    async with serving(worker) as task:
        stream = await node.welcomed()
        await stream.offer("t1", "endless")
        assert (await stream.update()).HasField("accepted")
        worker.drain()
        update = await stream.update()
        assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t1", "DRAINING", True)
        await stream.wait(stopped)
        await stream.wait(stream.half_closed)
        stream.end()
        await asyncio.wait_for(task, GUARD)
        assert cleaned_up == ["t1"]


async def test_a_drain_during_an_outage_delivers_its_results_before_it_ends(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker) as task:
        first = await node.welcomed("first")
        await first.offer("t1", "held")
        await gate.enter()
        first.end(grpc.StatusCode.UNAVAILABLE)
        second = await node.session()
        worker.drain("leaving")
        gate.open.set()
        await second.welcome("second", leases=keep("t1"))
        assert (await second.message("drain")).drain.reason == "leaving"
        assert (await second.result()).task_id == "t1"
        await second.ack("t1")
        await second.wait(second.half_closed)
        second.end()
        await asyncio.wait_for(task, GUARD)


async def test_a_worker_that_owes_nothing_leaves_without_a_node(certificates: Certificates) -> None:
    worker = Worker("grpcs://127.0.0.1:1", worker_id="w1", token="t", ca_path=certificates.ca, timing=FAST)
    worker.skill(nothing)
    async with serving(worker) as task:
        await asyncio.sleep(0)
        worker.drain()
        await asyncio.wait_for(task, GUARD)


async def test_a_cancel_that_comes_while_a_worker_starts_ends_it(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting, cancelled = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def runner(*arguments: Any) -> Runner:
        loop.call_soon_threadsafe(starting.set)
        assert cancelled.wait(GUARD)
        return Runner(*arguments)

    monkeypatch.setattr("holon.worker.background.Runner", runner)
    serving = asyncio.create_task(worker.serve())
    await asyncio.wait_for(starting.wait(), GUARD)
    serving.cancel()
    # Where it is told to stop before it can be.
    loop.call_soon(cancelled.set)
    await asyncio.wait((serving,), timeout=GUARD)
    assert serving.cancelled()


async def test_a_worker_that_is_to_leave_before_it_serves_leaves_at_once(worker: Worker) -> None:
    worker.drain()
    await asyncio.wait_for(worker.serve(), GUARD)


async def test_who_waits_for_a_worker_that_leaves_before_it_is_welcomed_is_told(
    node: ScriptedNode, worker: Worker
) -> None:
    async with worker:
        await node.session()
        asyncio.get_running_loop().call_soon(worker.drain)
        with pytest.raises(Unavailable, match="stopped before"):
            await asyncio.wait_for(worker.ready(), GUARD)


async def test_left_as_a_context_a_worker_drains(node: ScriptedNode, worker: Worker) -> None:
    async def play() -> None:
        stream = await node.welcomed()
        await stream.message("drain")
        await stream.wait(stream.half_closed)
        stream.end()

    async with asyncio.TaskGroup() as group:
        group.create_task(play())
        async with worker:
            await asyncio.wait_for(worker.ready(), GUARD)


async def test_a_worker_that_serves_takes_no_more_skills(worker: Worker) -> None:
    def late() -> None: ...

    offered = worker.skills
    async with worker:
        with pytest.raises(InvalidArgument, match=r"already serves, without skill Skill\(late\)"):
            worker.skill(late)
        assert worker.skills == offered
    worker.skill(late)
