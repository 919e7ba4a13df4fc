"""Acceptance: tasks that nobody can take yet: they wait, say why, and go as soon as somebody can."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.testing import RunningNode
from holon.worker import Worker
from tests.integration.cases.apart import Apart
from tests.integration.cases.site import (
    GUARD,
    SUCCESS_ONLY,
    Start,
    a_wire,
    create,
    ended,
    fan_out,
    happened,
    history,
    http,
    next_offer,
    one_task,
    seen,
    waits,
)
from tests.integration.grpc_node import Wire, json_payload, offering, result, update, updates
from tests.log_watch import LogWatch

INTEGER = {"type": "object", "properties": {"q": {"type": "integer"}}, "required": ["q"]}
TEXT = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}


def doing(node: RunningNode, name: str = "w1", **options: Any) -> Worker:
    """A worker that answers with its name."""
    worker = node.new_worker(name, **options)

    @worker.skill("t")
    async def t() -> dict[str, str]:
        return {"by": name}

    return worker


async def nobody_is_there(node: RunningNode) -> None:
    """The node has seen that its workers are gone, which may take it longer than them."""
    async with asyncio.timeout(GUARD):
        while [one async for one in node.client.node.list_workers(connected=True)]:
            pass


async def test_c19_a_task_waits_for_a_worker_that_comes_later(start: Start) -> None:
    async with start(one_task()) as node:
        job_id = await create(node, "one_task", {}, dispatch_timeout=30)
        await waits(node, job_id)
        async with doing(node):
            assert (await ended(node, job_id)).result == {"by": "w1"}


async def test_c19_many_that_wait_are_all_delivered(start: Start) -> None:
    async with start(one_task()) as node:
        jobs = await asyncio.gather(*(create(node, "one_task", {}) for _ in range(100)))
        async with doing(node, "w1"), doing(node, "w2"):
            statuses = [(await ended(node, job_id)).status for job_id in jobs]
        assert statuses == ["finished"] * 100


@pytest.mark.in_order
async def test_c20_a_task_waits_for_a_busy_worker_to_become_idle(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1", max_concurrent=1)
        began, go_on = asyncio.Semaphore(0), asyncio.Event()

        @worker.skill("t")
        async def t() -> None:
            began.release()
            await go_on.wait()

        async with worker:
            first, second = [await create(node, "one_task", {}) for _ in range(2)]
            await happened(began)
            waiting = await seen(node, second, lambda job: job.progress_message)
            # A node knows the workers that are connected to it.
            busy = "every worker with skill 't' is busy"
            there = "no worker connected to this node offers skill 't'"
            assert waiting.progress_message == f"waiting: {there if isinstance(node, Apart) else busy}"
            assert (await node.client.get_job(first)).progress_message == ""
            go_on.set()
            assert (await ended(node, first)).status == "finished"
            assert (await ended(node, second)).status == "finished"


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
            await seen(node, job_id, lambda job: job.progress_message == refused)
        await seen(node, job_id, lambda job: job.progress_message == unknown)
        async with doing(node):
            assert (await ended(node, job_id)).progress_message == ""


@pytest.mark.parametrize("first", ["worker", "job"])
async def test_the_log_says_once_what_is_wrong_with_params_that_no_worker_takes(
    start: Start, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    said = "a task of skill 't' fits no contract of its workers: params.q value is not of type \"string\""
    async with start(one_task()) as node:
        job_ids = [await create(node, "one_task", {"q": 1})] if first == "job" else []
        async with a_wire(node, "w1", offering(input_schema=json_payload(TEXT))):
            job_ids += [await create(node, "one_task", {"q": n}) for n in (1, 2)]
            for job_id in job_ids:
                await seen(node, job_id, lambda job: "accepts these params" in job.progress_message)
        await nobody_is_there(node)
        # Nobody offers it now, so it is not what the task waits for.
        await create(node, "one_task", {"q": 3})
    assert [one.getMessage() for one in caplog.records if "fits no contract" in one.getMessage()] == [said]


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
        assert re.fullmatch("waiting: its task has failed, and is tried again at .{8} UTC", job.progress_message)
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
        assert re.fullmatch("waiting: its handler has failed, and is tried again at .{8} UTC", job.progress_message)
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
            "waiting: a worker with skill 't' has room; one that gave it back, failed it, or reads no message so large "
            "is asked later"
        )
        if isinstance(node, Apart):
            there = "waiting: no worker connected to this node offers skill 't'"
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


async def test_a_task_that_nobody_can_do_does_not_hold_up_the_others(start: Start) -> None:
    rare = one_task(name="rare", skill="nobody-has-this", priority=100)
    async with start(one_task(), rare) as node, doing(node):
        waiting = [await create(node, "rare", {}) for _ in range(5)]
        for job_id in waiting:
            await waits(node, job_id)
        assert (await node.run("one_task", {})).status == "finished"
        assert {(await node.client.get_job(job_id)).status for job_id in waiting} == {"waiting_for_worker"}


async def test_a_task_whose_worker_left_waits_for_the_next(start: Start) -> None:
    async with start(one_task()) as node:
        async with doing(node, "w1"):
            assert (await node.run("one_task", {})).result == {"by": "w1"}
        job_id = await create(node, "one_task", {})
        await seen(node, job_id, lambda job: "no worker connected" in job.progress_message)
        async with doing(node, "w2"):
            assert (await ended(node, job_id)).result == {"by": "w2"}


async def test_a_leaving_worker_gives_back_what_it_cannot_end_and_another_does_it(start: Start) -> None:
    async with start(one_task()) as node:
        first = node.new_worker("w1", drain_grace=0.05)
        began = asyncio.Event()

        @first.skill("t")
        async def t(attempt: int) -> None:
            began.set()
            await asyncio.sleep(GUARD)

        async with first:
            job_id = await create(node, "one_task", {})
            await happened(began)
        async with doing(node, "w2"):
            assert (await ended(node, job_id)).result == {"by": "w2"}
        (told,) = await history(node, job_id, "task_finished")
        assert (told.worker_id, told.attempt_number) == ("w2", 2)
        assert [one[0] for one in told.context_snapshot["attempts"]] == ["w1", "w2"]


# Contracts that come and go --------------------------------------------------------------------------------------


async def test_a_stricter_worker_that_joins_gets_only_what_it_accepts(start: Start) -> None:
    async with start(one_task()) as node:
        strict = node.new_worker("strict")

        @strict.skill("t")
        async def t(q: int) -> dict[str, str]:
            return {"by": "strict"}

        async with strict:
            await strict.ready()
            async with doing(node, "any", max_concurrent=1) as lax:
                await lax.ready()
                texts = [await create(node, "one_task", {"q": "x"}) for _ in range(10)]
                assert {(await ended(node, job_id)).result["by"] for job_id in texts} == {"any"}
            assert (await node.run("one_task", {"q": 1})).result == {"by": "strict"}


async def test_two_contracts_of_one_skill_each_get_their_own(start: Start) -> None:
    async with (
        start(one_task()) as node,
        a_wire(node, "ints", offering(input_schema=json_payload(INTEGER))) as ints,
        a_wire(node, "texts", offering(input_schema=json_payload(TEXT))) as texts,
    ):
        number, text = await create(node, "one_task", {"q": 1}), await create(node, "one_task", {"q": "x"})
        offers = await ints.offer(), await texts.offer()
        assert [offer.job_id for offer in offers] == [number, text]
        await ints.send(updates(result(offers[0])))
        await texts.send(updates(result(offers[1])))
        for job_id in (number, text):
            assert (await ended(node, job_id)).status == "finished"


async def test_tasks_that_wait_are_tried_on_a_contract_that_comes_later(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "texts", offering(input_schema=json_payload(TEXT))):
        numbers = [await create(node, "one_task", {"q": n}) for n in range(3)]
        neither = await create(node, "one_task", {"q": None})
        for job_id in (*numbers, neither):
            await seen(node, job_id, lambda job: "accepts these params" in job.progress_message)
        async with a_wire(node, "ints", offering(input_schema=json_payload(INTEGER))) as ints:
            for _ in numbers:
                await ints.send(updates(result(await ints.offer(), {"by": "ints"})))
            for job_id in numbers:
                assert (await ended(node, job_id)).result == {"by": "ints"}
        assert "accepts these params" in (await node.client.get_job(neither)).progress_message
        async with doing(node, "any"):
            assert (await ended(node, neither)).result == {"by": "any"}


async def test_a_worker_that_changes_what_it_offers_gets_what_waited_for_that(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")

    @bp.handler(is_start=True)
    async def begin(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data["skill"], {}, SUCCESS_ONLY)

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    async with start(bp) as node:
        job_id = await create(node, "bp", {"skill": "later"})
        async with a_wire(node, "w1", offering("t")) as wire:
            await waits(node, job_id)
            await wire.send(catalog("t", "later"))
            offer = await wire.offer()
            assert (offer.job_id, offer.skill) == (job_id, "later")
            await wire.send(updates(result(offer)))
            assert (await ended(node, job_id)).status == "finished"


def catalog(*skills: str) -> Any:
    offerings = [offering(skill) for skill in skills]
    return worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=2, offerings=offerings))
