"""Acceptance: time: to find a worker, to run, and to bring a result."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.rxon.v1 import worker_pb2
from holon.worker.cancelled import Cancelled
from tests.integration.cases.site import (
    GUARD,
    NEVER,
    SUCCESS_ONLY,
    Start,
    a_wire,
    create,
    ended,
    failure,
    fan_out,
    happened,
    history,
    one_task,
    waits,
)
from tests.integration.grpc_node import json_payload, offering, result, update, updates

TIMED = {"success": "finished", "failure": "on_fail", "timeout": "too_late"}


def code(job: Any) -> str:
    assert job.error is not None, job
    return str(job.error.code)


# To find a worker ------------------------------------------------------------------------------------------------


async def test_c21_a_task_that_no_worker_takes_in_time_fails_its_job_and_says_so(start: Start) -> None:
    async with start(one_task()) as node:
        job = await node.run("one_task", {}, dispatch_timeout=0.2)
        assert (job.status, job.current_state, code(job)) == ("failed", "start", "DISPATCH_TIMEOUT")
        assert "dispatch timeout" in job.error.message.lower()  # type: ignore[union-attr]  # `code` has looked
        assert job.finished_at is not None
        assert 0.2 <= job.finished_at - job.created_at < GUARD


async def test_c21_it_fails_in_time_where_all_workers_are_busy(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1", credits=1) as wire:
        first = await create(node, "one_task", {}, dispatch_timeout=0.8)
        offer = await wire.offer()
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        job = await node.run("one_task", {}, dispatch_timeout=0.8)
        assert code(job) == "DISPATCH_TIMEOUT"
        await wire.send(updates(result(offer)))
        assert (await ended(node, first)).status == "finished"


async def test_c21_it_fails_in_time_while_an_offer_is_open_and_who_has_that_is_told_to_stop(start: Start) -> None:
    async with start(one_task(), TASK_OFFER_SECONDS=10 * GUARD) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {}, dispatch_timeout=0.2)
        offer = await wire.offer()
        job = await ended(node, job_id)
        assert (job.status, code(job)) == ("failed", "DISPATCH_TIMEOUT")
        assert job.error is not None
        assert job.error.message.endswith("(dispatch timeout): worker 'w1' did not answer its offer in time")
        stop = await wire.expect("stop_tasks")
        assert (stop.lease_id, stop.reason) == (offer.lease_id, "DEADLINE")
        await wire.send(updates(result(offer)))
        acked = await wire.verdict()
        assert (acked.verdict, acked.reason) == (worker_pb2.VERDICT_SUPERSEDED, "deadline_exceeded")


async def test_c21_an_offer_that_is_accepted_in_time_is_no_wait_for_a_worker(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {}, dispatch_timeout=0.5)
        offer = await wire.offer()
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        clock = await node.run("one_task", {}, dispatch_timeout=2.0)
        assert code(clock) == "DISPATCH_TIMEOUT"
        await wire.send(updates(result(offer)))
        assert (await ended(node, job_id)).status == "finished"


async def test_c21_a_timeout_transition_is_followed_and_a_failure_transition_is_not(start: Start) -> None:
    async with start(one_task(TIMED)) as node:
        job = await node.run("one_task", {}, dispatch_timeout=0.1)
        assert (job.status, job.current_state) == ("finished", "too_late")
        assert job.result["error"]["code"] == "DISPATCH_TIMEOUT"


async def test_c21_the_timeout_that_the_handler_gives_wins_over_the_jobs(start: Start) -> None:
    patient = one_task(name="patient", dispatch_timeout_seconds=60)
    hasty = one_task(name="hasty", dispatch_timeout_seconds=0.1)
    async with start(patient, hasty) as node:
        waiting = await create(node, "patient", {}, dispatch_timeout=0.1)
        job = await node.run("hasty", {}, dispatch_timeout=60)
        assert code(job) == "DISPATCH_TIMEOUT"
        assert (await node.client.get_job(waiting)).status == "waiting_for_worker"


async def test_a_jobs_dispatch_timeout_is_for_each_of_its_tasks_and_not_for_the_job(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "again"})

    @bp.handler
    async def again(actions: ActionFactory) -> None:
        actions.dispatch_task("nobody-has-this", {}, {"success": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    clock = one_task(name="clock", skill="nobody-has-this")
    async with start(bp, clock) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "bp", {}, dispatch_timeout=0.8)
        offer = await wire.offer()
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        assert code(await node.run("clock", {}, dispatch_timeout=1.2)) == "DISPATCH_TIMEOUT"
        assert (await node.client.get_job(job_id)).status == "waiting_for_worker"
        await wire.send(updates(result(offer)))
        job = await ended(node, job_id)
        assert (job.status, job.current_state, code(job)) == ("failed", "again", "DISPATCH_TIMEOUT")


def untaken(job: Any) -> str:
    """Why nobody took a job's task, by the message of its error."""
    assert code(job) in ("DISPATCH_TIMEOUT", "BRANCH_FAILED")
    return str(job.error.message).partition("as this node sees it, ")[2]


NUMBERS = json_payload({"type": "object", "properties": {"q": {"type": "integer"}}})


async def test_a_job_whose_task_nobody_took_says_why(start: Start) -> None:
    strange = one_task({"success": "finished", "strange": "on_fail"}, name="strange")
    cheap = one_task(name="cheap", max_cost=5)
    async with start(one_task(), strange, cheap) as node:

        async def why(name: str = "one_task", *, q: object = 1) -> str:
            return untaken(await node.run(name, {"q": q}, dispatch_timeout=0.1))

        nobody = "no worker connected to this node "
        assert await why() == nobody + "offers skill 't'"
        async with a_wire(node, "w1", offering(input_schema=NUMBERS, statuses=["other"]), credits=1) as wire:
            assert await why(q="x") == nobody + "with skill 't' accepts these params"
            assert await why("cheap") == nobody + "with skill 't' declares a price of at most 5"
            assert await why("strange") == (
                nobody + "with skill 't' declares the status 'strange', for which the job has a transition"
            )
            await create(node, "one_task", {"q": 1})
            await wire.send(updates(update(await wire.offer(), accepted=worker_pb2.TaskAccepted())))
            assert await why() == "every worker with skill 't' is busy"


async def test_a_job_whose_task_was_given_back_says_that_whoever_has_room_does_not_get_it(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {}, dispatch_timeout=0.5)
        await wire.send(updates(update(await wire.offer(), rejected=worker_pb2.TaskRejected(reason="UNSUITABLE"))))
        assert "is free, but it returned" in untaken(await ended(node, job_id))


async def test_a_job_says_why_nobody_took_the_branch_that_failed_it(start: Start) -> None:
    tasks = [{"task_type": "nobody-has-this", "dispatch_timeout_seconds": 0.1}]
    async with start(fan_out(tasks, fail_fast=True)) as node:
        job = await node.run("fan_out", {})
        assert untaken(job) == "no worker connected to this node offers skill 'nobody-has-this'"


# To run ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_c23_a_silent_worker_is_timed_out_the_task_tried_again_and_in_the_end_quarantined(start: Start) -> None:
    async with start(one_task(SUCCESS_ONLY, timeout_seconds=0.1)) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        offers: list[worker_pb2.TaskOffer] = []
        stops: list[worker_pb2.StopTask] = []
        # Where another node tells of the one, the next offer may come first.
        while len(stops) < 4:
            kind, said = await wire.next()
            assert kind in ("task_offers", "stop_tasks")
            (offers if kind == "task_offers" else stops).append(said)
            if kind == "task_offers":
                await wire.send(updates(update(said, accepted=worker_pb2.TaskAccepted())))
        assert [offer.attempt for offer in offers] == [1, 2, 3, 4]
        assert [(stop.lease_id, stop.reason) for stop in stops] == [(offer.lease_id, "DEADLINE") for offer in offers]
        job = await ended(node, job_id)
        assert (job.status, code(job)) == ("quarantined", "TIMEOUT_ERROR")
        assert "after 4 attempts" in job.error.message  # type: ignore[union-attr]  # `code` has looked
        told = await history(node, job_id, "task_finished")
        assert [event.context_snapshot["code"] for event in told] == ["TIMEOUT_ERROR"] * 4


async def test_c23_a_handler_of_the_sdk_is_stopped_at_its_time_and_tried_again(start: Start) -> None:
    async with start(one_task(timeout_seconds=0.8)) as node:
        worker = node.new_worker("w1")
        reasons = []

        @worker.skill("t")
        async def t(attempt: int, cancelled: Cancelled) -> dict[str, int]:
            if attempt < 3:
                try:
                    await asyncio.sleep(GUARD)
                finally:
                    reasons.append(cancelled.reason)
            return {"attempt": attempt}

        async with worker:
            job = await node.run("one_task", {})
        assert (job.status, job.result) == ("finished", {"attempt": 3})
        assert reasons == ["DEADLINE", "DEADLINE"]


async def test_c23_an_execution_timeout_follows_failure_when_its_tries_are_used_up(start: Start) -> None:
    bp = one_task(TIMED, timeout_seconds=0.1)
    async with start(bp, JOB_MAX_RETRIES=1) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        for _ in range(2):
            offer = await wire.offer()
            await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
            await wire.expect("stop_tasks")
        job = await ended(node, job_id)
        assert (job.current_state, job.error.details["code"]) == ("on_fail", "TIMEOUT_ERROR")  # type: ignore[union-attr]


async def test_c23_the_nodes_setting_is_the_time_of_a_task_that_names_none(start: Start) -> None:
    async with start(one_task(SUCCESS_ONLY), WORKER_TIMEOUT_SECONDS=0.2, JOB_MAX_RETRIES=0) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> None:
            await asyncio.sleep(GUARD)

        async with worker:
            job = await node.run("one_task", {})
        assert (job.status, code(job)) == ("quarantined", "TIMEOUT_ERROR")


# To bring a result -----------------------------------------------------------------------------------------------


async def test_c14_a_result_after_its_time_is_answered_with_the_reason_and_changes_nothing(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {}, result_timeout=1.0)
        offer = await wire.offer()
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        before = await ended(node, job_id)
        assert (before.status, before.current_state, code(before)) == ("failed", "start", "RESULT_TIMEOUT")
        assert "result timeout" in before.error.message.lower()  # type: ignore[union-attr]  # `code` has looked
        stop = await wire.expect("stop_tasks")
        assert (stop.task_id, stop.reason) == (offer.task_id, "DEADLINE")
        await wire.send(updates(result(offer, {"late": True})))
        ack = await wire.verdict()
        assert (ack.verdict, ack.reason) == (worker_pb2.VERDICT_SUPERSEDED, "deadline_exceeded")
        assert await node.client.get_job(job_id) == before
        (told,) = await history(node, job_id, "result_superseded")
        assert (told.worker_id, told.task_id) == ("w1", offer.task_id)
        assert told.context_snapshot == {"reason": "deadline_exceeded", "status": "success"}


async def test_c14_a_result_timeout_follows_its_transition_and_the_late_result_is_still_void(start: Start) -> None:
    async with start(one_task(TIMED, result_timeout_seconds=1.0)) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {}, result_timeout=60)
        offer = await wire.offer()
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        job = await ended(node, job_id)
        assert (job.status, job.current_state) == ("finished", "too_late")
        assert job.result["error"]["code"] == "RESULT_TIMEOUT"
        await wire.expect("stop_tasks")
        await wire.send(updates(result(offer)))
        ack = await wire.verdict()
        assert (ack.verdict, ack.reason) == (worker_pb2.VERDICT_SUPERSEDED, "deadline_exceeded")


@pytest.mark.parametrize("where", ["waiting for a worker", "in back-off"])
async def test_c14_a_result_timeout_counts_from_the_dispatch_wherever_the_task_is(start: Start, where: str) -> None:
    async with start(one_task(), **NEVER) as node, a_wire(node, "w1") as wire:
        if where == "waiting for a worker":
            await wire.close()
            with pytest.raises(EOFError):
                await wire.frame()
        job_id = await create(node, "one_task", {}, result_timeout=1.0)
        if where == "in back-off":
            await wire.send(updates(result(await wire.offer(), **failure("TRANSIENT_ERROR"))))
        job = await ended(node, job_id)
        assert (job.status, code(job)) == ("failed", "RESULT_TIMEOUT")


async def test_c14_no_result_timeout_is_tried_again(start: Start) -> None:
    async with start(one_task(result_timeout_seconds=1.0)) as node:
        worker = node.new_worker("w1")
        runs = 0

        @worker.skill("t")
        async def t() -> None:
            nonlocal runs
            runs += 1
            await asyncio.sleep(GUARD)

        async with worker:
            job = await node.run("one_task", {})
        assert (job.status, code(job), runs) == ("failed", "RESULT_TIMEOUT", 1)


async def test_a_sync_handler_that_outlives_its_time_keeps_its_slot_and_its_word_is_void(start: Start) -> None:
    async with start(one_task(), JOB_MAX_RETRIES=0) as node:
        worker = node.new_worker("w1", max_concurrent=1)
        began, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        @worker.skill("t")
        def t(stubborn: bool = False) -> dict[str, bool]:
            if stubborn:
                loop.call_soon_threadsafe(began.set)
                go_on.wait(GUARD)
            return {"stubborn": stubborn}

        try:
            async with worker:
                late = await create(node, "one_task", {"stubborn": True}, result_timeout=1.0)
                await happened(began)
                assert code(await ended(node, late)) == "RESULT_TIMEOUT"
                waiting = await create(node, "one_task", {})
                await waits(node, waiting)
                go_on.set()
                assert (await ended(node, waiting)).result == {"stubborn": False}
                assert code(await ended(node, late)) == "RESULT_TIMEOUT"
        finally:
            go_on.set()
