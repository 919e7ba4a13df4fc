"""Acceptance: tasks that nobody can take yet: they wait, and go as soon as somebody can."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.engine import refusals
from holon.rxon.v1 import worker_pb2
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
    next_offer,
    one_task,
    seen,
    waits,
)
from tests.integration.cases.waiting import INTEGER, TEXT, doing
from tests.integration.grpc_node import json_payload, offering, result, updates


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


async def test_c20_a_task_waits_for_a_busy_worker_to_become_idle(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1", max_concurrent=1)
        began, go_on = asyncio.Semaphore(0), asyncio.Event()

        @worker.skill("t")
        async def t() -> None:
            began.release()
            await go_on.wait()

        async with worker:
            first = await create(node, "one_task", {})
            await happened(began)
            second = await create(node, "one_task", {})
            busy = "waiting: every worker with skill 't' is busy"
            await seen(node, second, lambda job: job.progress_message == busy)
            assert (await node.client.get_job(first)).progress_message == ""
            go_on.set()
            assert (await ended(node, first)).status == "finished"
            assert (await ended(node, second)).status == "finished"


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


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What all workers refuse fails after a moment."""
    monkeypatch.setattr(refusals, "PATIENCE_MS", 200)
    monkeypatch.setattr(refusals, "EVERY_S", 0.02)


@pytest.mark.usefixtures("hasty")
async def test_c09_params_that_everybody_with_the_skill_refuses_fail_their_job_and_the_field_is_named(
    start: Start,
) -> None:
    nobody = one_task(name="nobody", skill="nobody-has-this")
    newer = one_task(name="newer", skill_version="2")
    async with (
        start(one_task(), nobody, newer) as node,
        a_wire(node, "ints", offering(input_schema=json_payload(INTEGER)), credits=1) as ints,
        a_wire(node, "more", offering(input_schema=json_payload({**INTEGER, "required": ["q", "r"]}))),
    ):
        waiting = [await create(node, name, {"q": "x"}) for name in ("nobody", "newer")]
        fits = [await create(node, "one_task", {"q": n}) for n in range(2)]
        offer = await ints.offer()
        job = await ended(node, await create(node, "one_task", {"q": "x"}))
        assert (job.status, job.current_state) == ("failed", "start")
        assert job.error is not None
        assert job.error.code == "INVALID_INPUT_ERROR"
        assert "every worker with skill 't' refuses the params: params." in job.error.message
        [detail] = job.error.details
        assert detail["field"] in ("params.q", "params.r")
        assert detail["field"] + " " + detail["reason"] in job.error.message
        [line] = await history(node, job.id, "task_finished")
        assert (line.worker_id, line.attempt_number, line.context_snapshot["attempts"]) == (None, 0, [])
        # Nobody is there for these, or somebody is who is busy.
        for job_id in (*waiting, *fits):
            assert (await node.client.get_job(job_id)).status == "waiting_for_worker"
        await ints.send(updates(result(offer)))
        await ints.send(updates(result(await next_offer(ints))))
        assert [(await ended(node, job_id)).status for job_id in fits] == ["finished"] * 2


@pytest.mark.usefixtures("hasty")
async def test_c09_branches_that_everybody_refuses_fail_alone(start: Start) -> None:
    tasks = [{"task_type": "t", "params": {"q": q}} for q in ("x", 1, None)]
    async with start(fan_out(tasks)) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(q: int) -> dict[str, int]:
            return {"q": q}

        async with worker:
            await worker.ready()
            job = await node.run("fan_out", {})
        results = job.result["results"]
        assert [one["status"] for one in results] == ["failure", "success", "failure"]
        assert [one["error"] and one["error"]["code"] for one in results] == [
            "INVALID_INPUT_ERROR", None, "INVALID_INPUT_ERROR",
        ]  # fmt: skip


async def test_c09_what_some_refuse_is_for_who_comes_with_another_contract_in_time(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "EVERY_S", 0.01)
    async with start(one_task()) as node, a_wire(node, "texts", offering(input_schema=json_payload(TEXT))):
        job_id = await create(node, "one_task", {"q": 1})
        await seen(node, job_id, lambda job: "accepts these params" in job.progress_message)
        async with a_wire(node, "ints", offering(input_schema=json_payload(INTEGER))) as ints:
            await ints.send(updates(result(await ints.offer(), {"by": "ints"})))
            assert (await ended(node, job_id)).result == {"by": "ints"}


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
