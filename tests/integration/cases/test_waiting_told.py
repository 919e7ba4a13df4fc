"""Acceptance: what a job and the log say of why it waits."""

from __future__ import annotations

import re

import pytest

from holon import Blueprint
from holon.rxon.v1 import types_pb2, worker_pb2
from tests.integration.cases.apart import Apart
from tests.integration.cases.site import (
    Start,
    a_wire,
    create,
    ended,
    fan_out,
    happened,
    http,
    next_offer,
    one_task,
    seen,
    waits,
)
from tests.integration.cases.waiting import TEXT, doing, nobody_is_there
from tests.integration.grpc_node import Wire, json_payload, offering, result, update, updates
from tests.log_watch import LogWatch

# Why it waits ----------------------------------------------------------------------------------------------------


async def test_a_job_says_why_it_waits_at_both_doors_and_in_lists(start: Start) -> None:
    async with start(one_task()) as node, http(node) as door:
        job_id = await create(node, "one_task", {"q": 1})
        unknown = "waiting: no worker connected to this node offers skill 't'"
        assert (await seen(node, job_id, lambda job: job.progress_message)).progress_message == unknown
        assert (await door.get(f"/api/v1/jobs/{job_id}")).json()["progress_message"] == unknown
        assert (await door.get("/api/v1/jobs")).json()["jobs"][0]["progress_message"] == unknown
        assert [job.progress_message async for job in node.client.list_jobs()] == [unknown]
        async with a_wire(node, "w1", offering(input_schema=json_payload(TEXT))):
            refused = "waiting: no worker connected to this node with skill 't' accepts these params"
            wrong = 'params.q value is not of type "string"'
            await seen(node, job_id, lambda job: job.progress_message == f"{refused}: {wrong}")
            assert (await door.get(f"/api/v1/jobs/{job_id}")).json()["progress_message"] == f"{refused}: {wrong}"
            # In lists it is said of many at once, and of none in particular.
            assert [job.progress_message async for job in node.client.list_jobs()] == [refused]
        await seen(node, job_id, lambda job: job.progress_message == unknown)
        async with doing(node):
            assert (await ended(node, job_id)).progress_message == ""


@pytest.mark.parametrize("first", ["worker", "job"])
async def test_the_log_says_once_what_is_wrong_with_params_that_no_worker_takes(
    start: Start, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    said = "a task of skill 't' matches no contract of its workers: params.q value is not of type \"string\""
    async with start(one_task()) as node:
        job_ids = [await create(node, "one_task", {"q": 1})] if first == "job" else []
        async with a_wire(node, "w1", offering(input_schema=json_payload(TEXT))):
            job_ids += [await create(node, "one_task", {"q": n}) for n in (1, 2)]
            for job_id in job_ids:
                await seen(node, job_id, lambda job: "accepts these params" in job.progress_message)
        await nobody_is_there(node)
        # Nobody offers it now, so it is not what the task waits for.
        await create(node, "one_task", {"q": 3})
    assert [one.getMessage() for one in caplog.records if "matches no contract" in one.getMessage()] == [said]


async def fail(wire: Wire) -> None:
    """The worker's next task fails, and may succeed another time."""
    error = types_pb2.TaskError(code="TRANSIENT_ERROR", message="again")
    await wire.send(updates(result(await next_offer(wire), status="failure", error=error)))


async def test_a_job_says_when_its_task_is_tried_again_which_has_failed(start: Start) -> None:
    seldom = {"RETRY_BACKOFF_MIN_SECONDS": 86_400, "RETRY_BACKOFF_MAX_SECONDS": 86_400}
    async with start(one_task(), **seldom) as node, http(node) as door, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        await fail(wire)
        job = await seen(node, job_id, lambda job: job.progress_message)
        assert re.fullmatch("waiting: its task failed, and is tried again at .{8} UTC", job.progress_message)
        assert (await door.get(f"/api/v1/jobs/{job_id}")).json()["progress_message"] == job.progress_message


async def test_a_job_says_when_its_handler_is_tried_again_which_has_failed(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")

    @bp.handler(is_start=True, is_end=True)
    async def only() -> None:
        raise ValueError("not yet")

    seldom = {"RETRY_BACKOFF_MIN_SECONDS": 86_400, "RETRY_BACKOFF_MAX_SECONDS": 86_400}
    async with start(bp, **seldom) as node, http(node) as door:
        job_id = await create(node, "bp", {})
        job = await seen(node, job_id, lambda job: job.progress_message)
        assert job.status == "waiting_for_retry"
        assert re.fullmatch("waiting: its handler failed, and is tried again at .{8} UTC", job.progress_message)
        assert (await door.get(f"/api/v1/jobs/{job_id}")).json()["progress_message"] == job.progress_message


async def test_a_job_whose_task_is_tried_again_says_nothing_of_waiting_any_more(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        await fail(wire)
        await next_offer(wire)
        await seen(node, job_id, lambda job: not job.progress_message)


async def test_a_job_says_why_the_branches_wait_that_nobody_has(start: Start) -> None:
    async with start(fan_out([{"task_type": "t"}] * 3)) as node, http(node) as door:
        job_id = await create(node, "fan_out", {})
        unknown = "waiting: no worker connected to this node offers skill 't'"
        assert (await seen(node, job_id, lambda job: job.progress_message)).progress_message == unknown
        assert (await door.get("/api/v1/jobs")).json()["jobs"][0]["progress_message"] == unknown
        async with doing(node):
            assert (await ended(node, job_id)).progress_message == ""


async def test_a_job_says_why_a_branch_waits_that_nobody_can_do_until_a_worker_has_more_to_say(start: Start) -> None:
    tasks = [{"task_type": "t"}, {"task_type": "nobody-has-this"}, {"task_type": "t"}]
    async with start(fan_out(tasks)) as node, http(node) as door, a_wire(node, "w1") as wire:
        job_id = await create(node, "fan_out", {})
        first, second = await next_offer(wire), await next_offer(wire)
        unknown = "waiting: no worker connected to this node offers skill 'nobody-has-this'"
        assert (await seen(node, job_id, lambda job: job.progress_message)).progress_message == unknown
        assert (await door.get("/api/v1/jobs")).json()["jobs"][0]["progress_message"] == unknown
        progress = worker_pb2.TaskProgress(percent=50, message="half of it")
        await wire.send(updates(update(first, progress=progress)))
        await seen(node, job_id, lambda job: job.progress_message == "half of it")
        for offer in (first, second):
            await wire.send(updates(result(offer)))
        await seen(node, job_id, lambda job: job.progress_message == unknown)


async def test_a_job_says_nothing_of_branches_that_wait_for_room_while_others_are_done(start: Start) -> None:
    async with start(fan_out([{"task_type": "t"}] * 3)) as node, a_wire(node, "w1", credits=1) as wire:
        job_id = await create(node, "fan_out", {})
        await next_offer(wire)
        await seen(node, job_id, lambda job: not job.progress_message)


async def test_the_log_says_once_what_waits_for_somebody_who_does_not_exist(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.getMessage().startswith("tasks wait: ")]

    unknown = "tasks wait: no worker connected to this node offers skill 't'"
    async with start(one_task(), fan_out([{"task_type": "t"}] * 3)) as node:
        with LogWatch(unknown, "holon.engine") as said:
            await create(node, "fan_out", {})
            await happened(said.seen)
        await waits(node, await create(node, "one_task", {}))
        async with a_wire(node, "other", offering("u")):
            await waits(node, await create(node, "one_task", {}))
        assert told() == [unknown]
        async with doing(node):
            assert (await ended(node, await create(node, "one_task", {}))).status == "finished"
        await nobody_is_there(node)
        with LogWatch(unknown, "holon.engine") as said:
            await create(node, "one_task", {})
            await happened(said.seen)
    assert told() == [unknown, unknown]


async def test_a_job_does_not_say_that_a_worker_is_busy_which_has_given_its_task_back(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        rejected = worker_pb2.TaskRejected(reason="UNSUITABLE")
        await wire.send(updates(update(await next_offer(wire), rejected=rejected)))
        there = (
            "waiting: a worker with skill 't' is free, but it returned or failed this task before, or cannot receive "
            "a message this large; it is tried later"
        )
        if isinstance(node, Apart):
            # What room there is at another node is not told.
            there = "waiting: every worker with skill 't' is busy"
        await seen(node, job_id, lambda job: job.progress_message == there)


async def test_a_task_that_is_given_back_since_nobody_can_begin_it_waits_no_longer_than_its_dispatch_timeout(
    start: Start,
) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {}, dispatch_timeout=0.2)
        offer = await next_offer(wire)
        said = {"accepted": worker_pb2.TaskAccepted()}, {"rejected": worker_pb2.TaskRejected(reason="UNSERVABLE")}
        for one in said:
            await wire.send(updates(update(offer, **one)))
        job = await ended(node, job_id)
        assert (job.status, job.error and job.error.code) == ("failed", "DISPATCH_TIMEOUT")
