"""Acceptance: a job that is cancelled may clean up first."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.errors import FailedPrecondition
from holon.rxon.v1 import worker_pb2
from holon.worker import TaskError
from tests.integration.cases.site import (
    GUARD,
    Start,
    a_wire,
    create,
    ended,
    happened,
    history,
    http,
    seen,
    waits,
)
from tests.integration.grpc_node import result, update, updates


def cleaning(*, dispatches: bool = False) -> Blueprint:
    """Dispatches `t`; when cancelled, cleans up: at once, or by the task `clean`."""
    bp = Blueprint("cleaning", api_endpoint="/jobs/cleaning", api_version="v1")

    @bp.handler(is_start=True)
    async def start(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["begun"] = True
        actions.dispatch_task("t", {}, {"success": "finished", "cancelled": "clean_up"})

    @bp.handler
    async def clean_up(initial_data: dict[str, Any], begun: bool, actions: ActionFactory) -> None:
        if initial_data.get("raise"):
            raise ValueError("cannot clean up")
        if dispatches:
            actions.dispatch_task("clean", {"begun": begun}, {"success": "finished", "cancelled": "clean_up"})
        else:
            actions.go_to("finished")

    @bp.handler(is_end=True)
    async def finished() -> dict[str, bool]:
        return {"cleaned": True}

    return bp


@pytest.mark.parametrize("status", ["cancelled", "success"])
async def test_d16_a_cancelled_transition_lets_the_job_clean_up_and_it_still_ends_cancelled(
    start: Start, status: str
) -> None:
    async with start(cleaning()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "cleaning", {})
        offer = await wire.offer()
        await node.client.cancel_job(job_id)
        job = await ended(node, job_id)
        assert (job.status, job.current_state, job.result) == ("cancelled", "finished", None)
        assert job.error is not None
        assert job.error.code == "CANCELLED"
        stop = await wire.expect("stop_tasks")
        assert (stop.lease_id, stop.reason) == (offer.lease_id, "CANCELLED")
        # The job has left the task behind, so whatever its worker says of it changes nothing.
        await wire.send(updates(result(offer, status=status)))
        ack = await wire.verdict()
        assert (ack.verdict, ack.reason) == (worker_pb2.VERDICT_SUPERSEDED, "job_cancelled")
        ran = [event.state for event in await history(node, job_id, "state_started")]
        assert ran == ["start", "clean_up", "finished"]


async def test_d16_the_clean_up_may_give_work_to_workers(start: Start) -> None:
    cleaned = []
    async with start(cleaning(dispatches=True)) as node:
        worker = node.new_worker("w1", max_concurrent=1)
        began = asyncio.Event()

        @worker.skill("t")
        async def t() -> None:
            began.set()
            await asyncio.sleep(GUARD)

        @worker.skill("clean")
        async def clean(begun: bool, attempt: int) -> None:
            if attempt < 3:
                raise TaskError("TRANSIENT_ERROR", "not yet")
            cleaned.append(begun)

        async with worker:
            job_id = await create(node, "cleaning", {})
            await happened(began)
            await node.client.cancel_job(job_id)
            assert (await ended(node, job_id)).status == "cancelled"
    assert cleaned == [True]


async def test_d16_a_cancel_while_it_cleans_up_ends_the_job_at_once(start: Start) -> None:
    async with start(cleaning(dispatches=True)) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "cleaning", {})
        await wire.offer()
        await node.client.cancel_job(job_id)
        await seen(node, job_id, lambda job: job.current_state == "clean_up" and job.status == "waiting_for_worker")
        assert not (await node.client.get_job(job_id)).terminal
        await node.client.cancel_job(job_id)
        job = await ended(node, job_id)
        assert (job.status, job.current_state) == ("cancelled", "clean_up")
        assert len(await history(node, job_id, "job_cancel_requested")) == 2


@pytest.mark.parametrize("door", ["http", "grpc"])
async def test_d16_a_cancel_that_is_repeated_under_its_id_ends_no_clean_up(start: Start, door: str) -> None:
    async with start(cleaning(dispatches=True)) as node, a_wire(node, "w1") as wire, http(node) as client:

        async def cancel(job_id: str, request_id: str) -> None:
            if door == "grpc":
                await node.client.cancel_job(job_id, request_id=request_id)
                return
            reply = await client.post(f"/api/v1/jobs/{job_id}/cancel", headers={"Idempotency-Key": request_id})
            reply.raise_for_status()

        job_id = await create(node, "cleaning", {})
        await wire.offer()
        await cancel(job_id, "wish")
        await seen(node, job_id, lambda job: job.current_state == "clean_up" and job.status == "waiting_for_worker")
        for _ in range(2):
            await cancel(job_id, "wish")
        assert not (await node.client.get_job(job_id)).terminal
        await cancel(job_id, "another wish")
        assert (await ended(node, job_id)).status == "cancelled"
        # The answer may have been lost: whoever asks again for the same hears that it was taken.
        for wish in ("wish", "another wish"):
            await cancel(job_id, wish)
        with pytest.raises((FailedPrecondition, httpx.HTTPStatusError)):
            await cancel(job_id, "a third wish")
        assert len(await history(node, job_id, "job_cancel_requested")) == 2


async def test_d16_a_clean_up_that_fails_leaves_the_job_cancelled_and_says_so(start: Start) -> None:
    async with start(cleaning(), JOB_MAX_RETRIES=1) as node:
        job_id = await create(node, "cleaning", {"raise": True})
        await waits(node, job_id)
        await node.client.cancel_job(job_id)
        job = await ended(node, job_id)
        assert job.status == "cancelled"
        assert job.error is not None
        assert job.error.code == "CANCELLED"
        assert "cannot clean up" in str(job.error.details)
        assert len(await history(node, job_id, "state_failed")) == 2


async def test_d16_a_clean_up_that_comes_to_a_failing_end_says_so(start: Start) -> None:
    bp = Blueprint("stuck", api_endpoint="/jobs/stuck", api_version="v1")

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "finished", "cancelled": "clean_up"})

    @bp.handler
    async def clean_up(actions: ActionFactory) -> None:
        actions.go_to("not_cleaned")

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    @bp.handler(is_end=True, outcome="failed")
    async def not_cleaned() -> dict[str, str]:
        return {"left": "a machine"}

    async with start(bp) as node:
        job_id = await create(node, "stuck", {})
        await waits(node, job_id)
        await node.client.cancel_job(job_id)
        job = await ended(node, job_id)
        assert (job.status, job.current_state, job.result) == ("cancelled", "not_cleaned", None)
        assert job.error is not None
        assert job.error.code == "CANCELLED"
        assert "its clean-up failed" in job.error.message
        assert job.error.details == "ended in state 'not_cleaned'"


async def test_d16_the_task_that_was_cancelled_is_void_while_the_job_cleans_up(start: Start) -> None:
    async with start(cleaning(dispatches=True)) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "cleaning", {})
        offer = await wire.offer()
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        await node.client.cancel_job(job_id)
        assert (await wire.expect("stop_tasks")).lease_id == offer.lease_id
        await wire.send(updates(result(offer, {"late": True})))
        ack = await wire.verdict()
        assert (ack.verdict, ack.reason) == (worker_pb2.VERDICT_SUPERSEDED, "job_cancelled")
        assert (await node.client.get_job(job_id)).current_state == "clean_up"


async def test_d16_a_clean_up_that_failed_is_tried_again_though_the_task_had_ended_meanwhile(start: Start) -> None:
    bp = Blueprint("late", api_endpoint="/jobs/late", api_version="v1")
    cleaning_up, go_on = asyncio.Event(), asyncio.Event()
    tries: list[int] = []

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "clean_up", "cancelled": "clean_up"})

    @bp.handler(is_end=True)
    async def clean_up() -> None:
        tries.append(len(tries))
        cleaning_up.set()
        await go_on.wait()
        if len(tries) == 1:
            raise ValueError("not yet")

    async with start(bp) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "late", {})
        offer = await wire.offer()
        await node.client.cancel_job(job_id)
        await happened(cleaning_up)
        await wire.send(updates(result(offer, {})))
        assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        go_on.set()
        assert (await ended(node, job_id)).status == "cancelled"
        assert tries == [0, 1]


async def test_d16_a_clean_up_that_decides_what_is_too_large_leaves_the_job_cancelled(start: Start) -> None:
    bp = Blueprint("too_large", api_endpoint="/jobs/too_large", api_version="v1")

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "finished", "cancelled": "clean_up"})

    @bp.handler
    async def clean_up(actions: ActionFactory) -> None:
        actions.dispatch_task("clean", {"text": "x" * 2**21}, {"success": "finished"})

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    async with start(bp) as node:
        job_id = await create(node, "too_large", {})
        await waits(node, job_id)
        await node.client.cancel_job(job_id)
        assert (await ended(node, job_id)).status == "cancelled"
        assert len(await history(node, job_id, "job_cancel_requested")) == 1
