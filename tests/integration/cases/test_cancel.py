"""Acceptance: a cancel ends a job wherever it is, and reaches whoever works for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.errors import FailedPrecondition
from holon.rxon.v1 import worker_pb2
from holon.worker.cancelled import Cancelled
from tests.integration.cases.site import (
    GUARD,
    NEVER,
    Start,
    a_wire,
    create,
    ended,
    failure,
    fan_out,
    happened,
    history,
    http,
    one_task,
    waits,
)
from tests.integration.grpc_node import result, update, updates

# Where the job is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["http", "grpc"])
async def test_d16_a_cancel_reaches_the_worker_that_runs_the_task(start: Start, door: str) -> None:
    async with start(one_task()) as node, http(node) as client:
        worker = node.new_worker("w1")
        began, stopped = asyncio.Event(), asyncio.Event()
        reasons = []

        @worker.skill("t")
        async def t(cancelled: Cancelled) -> None:
            began.set()
            try:
                await asyncio.sleep(GUARD)
            finally:
                reasons.append(cancelled.reason)
                stopped.set()

        async with worker:
            job_id = await create(node, "one_task", {})
            await happened(began)
            if door == "http":
                reply = await client.post(f"/api/v1/jobs/{job_id}/cancel", json={"reason": "no paper"})
                assert (reply.status_code, reply.json()) == (200, {"status": "cancellation_request_accepted"})
            else:
                await node.client.cancel_job(job_id, reason="no paper")
            job = await ended(node, job_id)
            await happened(stopped)
        assert (job.status, job.current_state, job.result) == ("cancelled", "start", None)
        assert job.error is not None
        assert (job.error.code, job.error.message) == ("CANCELLED", "cancelled by client 'default': no paper")
        assert reasons == ["CANCELLED"]
        told = await history(node, job_id, "job_cancel_requested", "task_finished", "job_completed")
        assert [event.event_type for event in told] == ["job_cancel_requested", "job_completed"]
        assert told[0].context_snapshot == {"by": "default", "reason": "no paper"}


@pytest.mark.parametrize(("reason", "why"), [("x" * 1_025, "has over 1024 characters"), (5, "must be text")])
async def test_a_reason_that_cannot_be_is_refused_and_nothing_is_cancelled(
    start: Start, reason: object, why: str
) -> None:
    async with start(one_task()) as node, http(node) as client:
        job_id = await create(node, "one_task", {})
        reply = await client.post(f"/api/v1/jobs/{job_id}/cancel", json={"reason": reason})
        assert (reply.status_code, reply.json()["details"]) == (400, [{"field": "reason", "reason": why}])
        assert (await waits(node, job_id)).status == "waiting_for_worker"


async def test_d16_a_sync_handler_learns_of_the_cancel_and_its_slot_is_free_again(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1", max_concurrent=1)
        loop, began, stopped = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        @worker.skill("t")
        def t(cancelled: Cancelled, quick: bool = False) -> None:
            if not quick:
                loop.call_soon_threadsafe(began.set)
                if cancelled.sleep(GUARD):
                    stopped.set()

        async with worker:
            job_id = await create(node, "one_task", {})
            await happened(began)
            await node.client.cancel_job(job_id)
            assert (await ended(node, job_id)).status == "cancelled"
            assert (await node.run("one_task", {"quick": True})).status == "finished"
            assert stopped.is_set()


async def test_d16_a_task_that_waits_is_never_delivered(start: Start) -> None:
    ran = []
    async with start(one_task()) as node:
        job_id = await create(node, "one_task", {"n": 1})
        await waits(node, job_id)
        await node.client.cancel_job(job_id)
        assert (await ended(node, job_id)).status == "cancelled"
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(n: int) -> None:
            ran.append(n)

        async with worker:
            assert (await node.run("one_task", {"n": 2})).status == "finished"
    assert ran == [2]


async def test_d16_a_task_in_back_off_is_not_tried_again(start: Start) -> None:
    async with start(one_task(), **NEVER) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        await wire.send(updates(result(await wire.offer(), **failure("TRANSIENT_ERROR"))))
        await wire.verdict()
        assert (await node.client.get_job(job_id)).status == "waiting_for_worker"
        await node.client.cancel_job(job_id)
        assert (await ended(node, job_id)).status == "cancelled"


async def test_d16_branches_that_run_are_stopped_and_those_that_wait_never_run(start: Start) -> None:
    tasks = [{"task_type": "t", "params": {"n": n}} for n in range(300)]
    async with start(fan_out(tasks), one_task(skill="other")) as node:
        worker = node.new_worker("w1", max_concurrent=3)
        began, stopped, runs = asyncio.Semaphore(0), asyncio.Semaphore(0), []

        @worker.skill("t")
        async def t(n: int) -> None:
            runs.append(n)
            began.release()
            try:
                await asyncio.sleep(GUARD)
            finally:
                stopped.release()

        @worker.skill("other")
        async def other() -> None: ...

        async with worker:
            job_id = await create(node, "fan_out", {})
            for _ in range(3):
                await happened(began)
            await node.client.cancel_job(job_id)
            assert (await ended(node, job_id)).status == "cancelled"
            for _ in range(3):
                await happened(stopped)
            assert (await node.run("one_task", {})).status == "finished"
        assert runs == [0, 1, 2]
        assert not [event for event in await history(node, job_id) if event.state == "collect"]


@pytest.mark.one_node
async def test_d16_a_job_that_waits_for_its_turn_never_runs(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")
    began, go_on, ran = asyncio.Event(), asyncio.Event(), []

    @bp.handler(is_start=True, is_end=True)
    async def only(n: int) -> None:
        ran.append(n)
        began.set()
        await go_on.wait()

    async with start(bp, EXECUTOR_MAX_CONCURRENT_JOBS=1) as node:
        first = await create(node, "bp", {"n": 0})
        await happened(began)
        late = await create(node, "bp", {"n": 1})
        assert (await node.client.get_job(late)).status == "pending"
        await node.client.cancel_job(late)
        go_on.set()
        assert (await ended(node, first)).status == "finished"
        assert (await ended(node, late)).status == "cancelled"
    assert ran == [0]


async def test_d16_a_cancel_while_a_handler_runs_ends_what_it_decided(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")
    began, go_on, ran = asyncio.Event(), asyncio.Event(), []

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        began.set()
        await go_on.wait()
        actions.dispatch_task("t", {}, {"success": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> None:
            ran.append(1)
            await asyncio.sleep(GUARD)

        async with worker:
            await worker.ready()
            job_id = await create(node, "bp", {})
            await happened(began)
            await node.client.cancel_job(job_id)
            go_on.set()
            job = await ended(node, job_id)
        assert job.status == "cancelled"


async def test_d16_a_job_that_goes_round_can_be_cancelled(start: Start) -> None:
    bp = Blueprint("round", api_endpoint="/jobs/round")

    @bp.handler(is_start=True)
    async def ping(actions: ActionFactory) -> None:
        actions.go_to("pong")

    @bp.handler
    async def pong(actions: ActionFactory) -> None:
        actions.go_to("ping")

    async with start(bp, MAX_TRANSITIONS_PER_JOB=10_000_000) as node:
        job_id = await create(node, "round", {})
        await node.client.cancel_job(job_id)
        job = await ended(node, job_id)
        assert job.status == "cancelled"
        told = await history(node, job_id, "job_cancel_requested")
        assert len(told) == 1


# Again, and too late ---------------------------------------------------------------------------------------------


async def test_d16_a_second_cancel_is_answered_alike_until_the_job_is_over(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")
    began, go_on = asyncio.Event(), asyncio.Event()

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        began.set()
        await go_on.wait()
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp) as node, http(node) as door:
        job_id = await create(node, "bp", {})
        await happened(began)
        for _ in range(3):
            reply = await door.post(f"/api/v1/jobs/{job_id}/cancel")
            assert (reply.status_code, reply.json()) == (200, {"status": "cancellation_request_accepted"})
            await node.client.cancel_job(job_id)
        go_on.set()
        assert (await ended(node, job_id)).status == "cancelled"
        assert len(await history(node, job_id, "job_cancel_requested")) == 1
        reply = await door.post(f"/api/v1/jobs/{job_id}/cancel")
        assert (reply.status_code, reply.json()["code"]) == (409, "JOB_TERMINATED")
        with pytest.raises(FailedPrecondition):
            await node.client.cancel_job(job_id)


async def test_d16_a_result_after_the_cancel_is_answered_with_the_reason_and_changes_nothing(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        offer = await wire.offer()
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        await node.client.cancel_job(job_id)
        before = await ended(node, job_id)
        stop = await wire.expect("stop_tasks")
        assert (stop.lease_id, stop.reason) == (offer.lease_id, "CANCELLED")
        await wire.send(updates(result(offer, {"late": True})))
        ack = await wire.verdict()
        assert (ack.verdict, ack.reason) == (worker_pb2.VERDICT_SUPERSEDED, "job_cancelled")
        assert await node.client.get_job(job_id) == before
        assert before.status == "cancelled"
        (told,) = await history(node, job_id, "result_superseded")
        assert told.context_snapshot == {"reason": "job_cancelled", "status": "success"}


async def test_d16_a_cancelled_worker_that_says_so_has_said_its_last_word(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1", credits=1) as wire:
        job_id = await create(node, "one_task", {})
        offer = await wire.offer()
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        await node.client.cancel_job(job_id)
        await wire.expect("stop_tasks")
        after = await create(node, "one_task", {})
        await waits(node, after)
        await wire.send(updates(result(offer, status="cancelled")))
        await wire.verdict()
        again = await wire.offer()
        assert again.job_id == after
        await wire.send(updates(result(again)))
        assert (await ended(node, after)).status == "finished"
