"""Acceptance: what a client sees of how far a task is."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.rxon.v1 import worker_pb2
from holon.worker import Log
from tests.integration.cases.site import (
    NEVER,
    Start,
    a_wire,
    create,
    ended,
    failure,
    fan_out,
    happened,
    http,
    next_offer,
    one_task,
    seen,
)
from tests.integration.grpc_node import result, update, updates


def progress(offer: Any, percent: float | None, message: str = "") -> Any:
    said = worker_pb2.TaskProgress(message=message)
    if percent is not None:
        said.percent = percent
    return updates(update(offer, progress=said))


async def test_c30_progress_and_its_message_are_shown_at_both_doors(start: Start) -> None:
    async with start(one_task()) as node, http(node) as door:
        worker = node.new_worker("w1")
        go_on = asyncio.Event()

        @worker.skill("t")
        async def t(progress: Any) -> None:
            progress(10)
            progress(50, "half")
            await go_on.wait()

        async with worker:
            job_id = await create(node, "one_task", {})
            job = await seen(node, job_id, lambda one: one.progress == 50)
            assert (job.progress_message, job.status) == ("half", "waiting_for_worker")
            shown = (await door.get(f"/api/v1/jobs/{job_id}")).json()
            assert (shown["progress"], shown["progress_message"]) == (50, "half")
            (listed,) = (await door.get("/api/v1/jobs")).json()["jobs"]
            assert (listed["progress"], listed["progress_message"]) == (50, "half")
            go_on.set()
            assert (await ended(node, job_id)).status == "finished"


async def test_c30_a_message_alone_leaves_the_percentage_and_the_newest_word_wins(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        offer = await wire.offer()
        for percent, message in ((70, "most"), (20, "again"), (None, "still")):
            await wire.send(progress(offer, percent, message))
        job = await seen(node, job_id, lambda one: one.progress_message == "still")
        assert job.progress == 20
        await wire.send(progress(offer, 100, "all"))
        job = await seen(node, job_id, lambda one: one.progress_message == "all")
        assert job.progress == 100
        await wire.send(updates(result(offer)))
        assert (await ended(node, job_id)).status == "finished"


async def test_c30_a_word_with_nothing_in_it_takes_back_what_was_said_and_a_percentage_alone_does_not(
    start: Start,
) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        offer = await wire.offer()
        await wire.send(progress(offer, 10, "stuck"))
        await wire.send(progress(offer, 20))
        job = await seen(node, job_id, lambda one: one.progress == 20)
        assert job.progress_message == "stuck"
        await wire.send(progress(offer, None))
        await wire.send(progress(offer, 30))
        job = await seen(node, job_id, lambda one: one.progress == 30)
        assert (job.progress_message, job.status) == ("", "waiting_for_worker")


async def test_c30_the_last_word_of_a_task_is_that_of_its_job_that_is_over(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1")
        go_on = asyncio.Event()

        @worker.skill("t")
        async def t(progress: Any) -> None:
            progress(50, "half")
            await go_on.wait()
            progress(95, "i=19")
            progress(100, "all done")

        async with worker:
            job_id = await create(node, "one_task", {})
            await seen(node, job_id, lambda one: one.progress_message == "half")
            go_on.set()
            job = await ended(node, job_id)
    assert (job.status, job.progress, job.progress_message) == ("finished", 100, "all done")


async def test_c30_the_sdk_keeps_progress_between_0_and_100(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1")
        go_on = asyncio.Event()

        @worker.skill("t")
        async def t(said: float, progress: Any) -> None:
            progress(said, "said")
            await go_on.wait()

        async with worker:
            jobs = {said: await create(node, "one_task", {"said": said}) for said in (-5, 250, 33.3)}
            shown = [
                (await seen(node, job_id, lambda one: one.progress_message == "said")).progress
                for job_id in jobs.values()
            ]
            assert shown == pytest.approx([0, 100, 33.3], abs=0.1)
            go_on.set()
            for job_id in jobs.values():
                await ended(node, job_id)


@pytest.mark.parametrize("percent", [-1.0, 100.5, float("nan")])
async def test_c30_progress_out_of_range_is_refused_on_the_wire_and_not_shown(start: Start, percent: float) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        offer = await wire.offer()
        await wire.send(progress(offer, percent, "wrong"))
        refused = await wire.refused()
        assert refused.error.code == 3
        await wire.send(updates(result(offer)))
        assert (await ended(node, job_id)).progress is None


async def test_c30_progress_begins_anew_with_the_next_dispatch(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "again"})

    @bp.handler
    async def again(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "bp", {})
        offer = await wire.offer()
        await wire.send(progress(offer, 80, "nearly"))
        await seen(node, job_id, lambda one: one.progress == 80)
        await wire.send(updates(result(offer)))
        offer = await next_offer(wire)
        job = await node.client.get_job(job_id)
        assert (job.current_state, job.progress, job.progress_message) == ("again", None, "")
        await wire.send(updates(result(offer)))
        assert (await ended(node, job_id)).status == "finished"


async def test_c30_what_an_attempt_that_failed_said_is_shown_no_more(start: Start) -> None:
    async with start(one_task(), **NEVER) as node, a_wire(node, "w1") as wire, http(node) as door:
        job_id = await create(node, "one_task", {})
        offer = await wire.offer()
        await wire.send(progress(offer, 80, "nearly"))
        await seen(node, job_id, lambda one: one.progress == 80)
        await wire.send(updates(result(offer, **failure("TRANSIENT_ERROR"))))
        job = await seen(node, job_id, lambda one: one.progress is None)
        assert job.status == "waiting_for_worker"
        assert job.progress_message.startswith("waiting: its task failed, and is tried again at ")
        shown = (await door.get(f"/api/v1/jobs/{job_id}")).json()
        assert (shown["progress"], shown["progress_message"]) == (None, job.progress_message)


async def test_c30_progress_of_a_task_that_is_over_or_not_held_is_not_shown(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire, a_wire(node, "w2") as other:
        job_id = await create(node, "one_task", {})
        got, _ = await asyncio.wait(
            [asyncio.create_task(wire.next(), name="w1"), asyncio.create_task(other.next(), name="w2")],
            return_when=asyncio.FIRST_COMPLETED,
        )
        (holder,) = got
        _, offer = holder.result()
        mine, theirs = (wire, other) if holder.get_name() == "w1" else (other, wire)
        await theirs.send(progress(offer, 99, "not mine"))
        await mine.send(progress(offer, 10, "mine"))
        job = await seen(node, job_id, lambda one: one.progress_message)
        assert (job.progress, job.progress_message) == (10, "mine")
        await mine.send(updates(result(offer)))
        await ended(node, job_id)
        await mine.send(progress(offer, 50, "late"))
        assert (await node.client.get_job(job_id)).progress_message != "late"


async def test_c30_the_progress_of_a_fan_out_is_the_mean_of_its_branches(start: Start) -> None:
    async with start(fan_out([{"task_type": "t"}] * 4)) as node:
        worker = node.new_worker("w1", max_concurrent=4)
        told, go_on, turn = asyncio.Semaphore(0), asyncio.Event(), iter((100, 50, 10, 0))

        @worker.skill("t")
        async def t(progress: Any) -> None:
            progress(next(turn))
            told.release()
            await go_on.wait()

        async with worker:
            job_id = await create(node, "fan_out", {})
            for _ in range(4):
                await happened(told)
            job = await seen(node, job_id, lambda one: one.progress == 40)
            assert job.status == "waiting_for_parallel"
            go_on.set()
            assert (await ended(node, job_id)).status == "finished"


async def test_c30_what_a_task_writes_in_its_log_is_told_to_who_follows_the_job(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1")
        followed = asyncio.Event()

        @worker.skill("t")
        async def t(log: Log) -> None:
            await followed.wait()
            log.warning("half way", n=1)

        async with worker:
            job_id = await create(node, "one_task", {})
            told = []
            async with aclosing(node.client.watch(job_id, logs=True)) as updates_of:
                async for one in updates_of:
                    followed.set()
                    told.append(one)
        [logs] = [one.logs for one in told if one.logs is not None]
        assert (logs.task_id.startswith(job_id), logs.attempt) == (True, 1)
        [line] = logs.lines
        assert (line.level, line.text, line.fields) == ("warning", "half way", {"n": 1})
        assert told[-1].job is not None
        assert told[-1].job.terminal
