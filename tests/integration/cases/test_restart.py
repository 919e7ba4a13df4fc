"""Acceptance: a node that is stopped and started again on its file goes on with every job where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict
from unittest.mock import ANY

import pytest

from holon import Blueprint
from holon.client import CreatedJob, JobRequest
from holon.context import ActionFactory
from holon.errors import AlreadyExists, HolonError, InvalidArgument, NotFound
from holon.testing import RunningNode, running_node
from holon.worker import TaskError
from tests.integration.cases.parts import above
from tests.integration.cases.site import (
    NEVER,
    Start,
    create,
    ended,
    fan_out,
    happened,
    history,
    http,
    one_task,
    seen,
    waits,
)
from tests.redis_server import RedisServer


@pytest.fixture
def on_file(tmp_path: Path) -> Start:
    """Starts a node on the one file of this test."""
    return partial(running_node, STORAGE_URI=f"sqlite:///{tmp_path / 'holon.db'}")


@asynccontextmanager
async def doing(node: RunningNode, *, fails: bool = False, price: int | None = None) -> AsyncIterator[None]:
    worker = node.new_worker("w1")

    @worker.skill("t", price=price)
    async def t(n: int = 0) -> dict[str, int]:
        if fails:
            raise TaskError("TRANSIENT_ERROR", "not yet")
        return {"n": n}

    async with worker:
        yield


async def test_jobs_that_wait_for_workers_are_delivered_by_the_next_run(on_file: Start) -> None:
    tasks = [{"task_type": "t", "params": {"n": n}} for n in range(3)]
    async with on_file(one_task(), fan_out(tasks)) as node:
        one, many = await create(node, "one_task", {"n": 5}), await create(node, "fan_out", {})
        await waits(node, one)
        await waits(node, many, "waiting_for_parallel")
    async with on_file(one_task(), fan_out(tasks)) as node, doing(node):
        assert (await ended(node, one)).result == {"n": 5}
        assert [result["data"]["n"] for result in (await ended(node, many)).result["results"]] == [0, 1, 2]


async def test_a_page_token_is_good_after_a_restart(on_file: Start) -> None:
    async with on_file(one_task()) as node:
        made = [await create(node, "one_task") for _ in range(2)]
        first = await node.client.list_page(page_size=1)
    async with on_file(one_task()) as node:
        second = await node.client.list_page(page_size=1, page_token=first.next_page_token)
        assert [job.id for job in (*first.jobs, *second.jobs)] == made[::-1]


async def test_a_job_goes_on_with_its_part_after_each_of_many_runs(on_file: Start) -> None:
    parts = above(), one_task()
    async with on_file(*parts) as node:
        job_id = await create(node, "above", {"n": 5}, budget=7)
        await waits(node, job_id, "waiting_for_child")
    for _ in range(12):
        # As often as this no task of a worker may lose who has it.
        async with on_file(*parts) as node:
            await waits(node, job_id, "waiting_for_child")
    async with on_file(*parts) as node, doing(node, price=3):
        job = await ended(node, job_id)
        assert (job.status, job.result, job.cost) == ("finished", {"n": 5}, 3)
        assert len((await node.client.list_page()).jobs) == 2


async def test_a_job_that_is_over_stays_as_it_was_and_its_key_is_remembered(on_file: Start) -> None:
    async with on_file(one_task()) as node, doing(node):
        before = await node.run("one_task", {"n": 1}, request_id="once")
        told = await history(node, before.id)
    async with on_file(one_task()) as node:
        assert await node.client.get_job(before.id) == before
        assert await history(node, before.id) == told
        again = await node.client.create_job("one_task", {"n": 1}, request_id="once")
        assert (again.job_id, again.existing) == (before.id, True)


class Strict(TypedDict):
    m: int


def flow(hint: Any = dict[str, Any], name: str = "flow") -> Blueprint:
    bp = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")

    async def only(initial_data: Any) -> None: ...

    only.__annotations__["initial_data"] = hint
    bp.handler(is_start=True, is_end=True)(only)
    return bp


@pytest.mark.parametrize("now", [flow(Strict), flow(name="another")], ids=["another contract", "no blueprint"])
async def test_a_repeat_is_answered_with_its_job_whatever_became_of_the_blueprint(
    on_file: Start, now: Blueprint
) -> None:
    path, body, key = "/api/v1/jobs/flow", {"initial_data": {"n": 1}}, {"Idempotency-Key": "once"}
    asked = JobRequest("flow", {"n": 1}, request_id="once")
    async with on_file(flow()) as node:
        job = await create(node, "flow", {"n": 1}, request_id="once")
    async with on_file(now) as node, http(node) as door:
        replies = [await door.post(path, json=body, headers=key) for path in (path, f"{path}?wait=20&fields=id,status")]
        assert [reply.status_code for reply in replies] == [202, 200]
        assert [reply.json() for reply in replies] == [
            {"status": "accepted", "job_id": job},
            {"id": job, "status": "finished"},
        ]
        assert await node.client.create_job("flow", {"n": 1}, request_id="once") == CreatedJob(job, existing=True)
        new, again = await node.client.create_jobs([replace(asked, request_id="new"), asked])
        assert again == CreatedJob(job, existing=True)
        assert isinstance(new, HolonError)
        assert [one.id async for one in node.client.list_jobs()] == [job]


@pytest.mark.parametrize("now", [flow(Strict), flow(name="another")], ids=["another contract", "no blueprint"])
async def test_what_is_no_repeat_is_refused_as_ever(on_file: Start, now: Blueprint) -> None:
    body, key = {"initial_data": {"n": 1}}, {"Idempotency-Key": "once"}
    async with on_file(flow()) as node:
        await create(node, "flow", {"n": 1}, request_id="once")
    is_there = now.name == "flow"
    async with on_file(now) as node, http(node) as door:
        plain = await door.post("/api/v1/jobs/flow", json=body)
        other = await door.post("/api/v1/jobs/flow", json=body, headers={"Idempotency-Key": "other"})
        assert plain.json() == other.json()
        assert plain.status_code == (400 if is_there else 405)
        reused = await door.post("/api/v1/jobs/flow", json={"initial_data": {"n": 2}}, headers=key)
        assert reused.status_code == (409 if is_there else 405)
        with pytest.raises(AlreadyExists):
            await node.client.create_job("flow", {"n": 2}, request_id="once")
        [batch] = await node.client.create_jobs([JobRequest("flow", {"n": 2}, request_id="once")])
        assert isinstance(batch, AlreadyExists)
        with pytest.raises(InvalidArgument if is_there else NotFound):
            await node.client.create_job("flow", {"n": 1}, request_id="other")
        # A stranger learns nothing by a key.
        stranger = await door.post("/api/v1/jobs/flow", json=body, headers=key | {"X-Client-Token": "wrong"})
        assert stranger.status_code == 401


async def test_a_path_that_never_was_one_is_not_answered_with_the_job_of_a_blueprint_that_is_there(
    on_file: Start,
) -> None:
    body, key = {"initial_data": {"n": 1}}, {"Idempotency-Key": "once"}
    async with on_file(flow()) as node, http(node) as door:
        made = await door.post("/api/v1/jobs/flow", json=body, headers=key)
        assert made.status_code == 202
        elsewhere = ("/api/v1/jobs/ship", "/api/nonsense", "/api/jobs/x%2Fy", "/api/v1/jobs/flow%2F")
        replies = [await door.post(path, json=body, headers=key) for path in elsewhere]
        assert [reply.status_code for reply in replies] == [405, 404, 404, 404]
    async with on_file(flow(name="another")) as node, http(node) as door:
        again = await door.post("/api/v1/jobs/flow", json=body, headers=key)
        assert (again.status_code, again.json()) == (202, made.json())
        hidden = await door.post("/api/v1/jobs%2Fflow", json=body, headers=key)
        assert hidden.status_code == 404


@pytest.mark.parametrize("what", ["a task", "a handler"])
async def test_a_back_off_goes_on_and_a_cancel_still_reaches_it(on_file: Start, what: str) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")

    @bp.handler(is_start=True, is_end=True)
    async def only() -> None:
        raise ValueError("not yet")

    name, status = ("one_task", "waiting_for_worker") if what == "a task" else ("bp", "waiting_for_retry")
    async with on_file(one_task(), bp, **NEVER) as node, doing(node, fails=True):
        job_id = await create(node, name, {})
        await waits(node, job_id, status)
        while not await history(node, job_id, "task_finished", "state_failed"):
            pass
    async with on_file(one_task(), bp, **NEVER) as node:
        assert (await node.client.get_job(job_id)).status == status
        await node.client.cancel_job(job_id)
        assert (await ended(node, job_id)).status == "cancelled"


async def test_a_question_and_a_pause_outlive_the_node(on_file: Start) -> None:
    bp, pauses = Blueprint("bp", api_endpoint="/jobs/bp"), Blueprint("pauses", api_endpoint="/jobs/pauses")

    @bp.handler(is_start=True)
    async def ask(actions: ActionFactory) -> None:
        actions.await_human_approval("chat", "Go on?", {"yes": "end"}, timeout_seconds=1_000)

    @pauses.handler(is_start=True)
    async def pause(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.sleep(initial_data["seconds"], "end")

    for one in (bp, pauses):
        one.handler("end", is_end=True)(_end)
    async with on_file(bp, pauses) as node:
        asks, rests = await create(node, "bp", {}), await create(node, "pauses", {"seconds": 1_000})
        quick = await create(node, "pauses", {"seconds": 0.2})
        before = await waits(node, asks, "waiting_for_human")
        assert before.approval is not None
        resting = await waits(node, rests, "waiting_for_timer")
    async with on_file(bp, pauses) as node:
        assert (await ended(node, quick)).status == "finished"
        assert (await node.client.get_job(asks)).approval == replace(before.approval, approval_token=ANY)
        assert (await node.client.get_job(rests)).progress_message == resting.progress_message
        await node.client.resolve_approval(asks, "yes")
        assert (await ended(node, asks)).status == "finished"
        await node.client.cancel_job(rests)
        assert (await ended(node, rests)).status == "cancelled"


async def _end() -> None: ...


async def test_i10_a_handler_that_runs_when_the_node_stops_is_waited_for(on_file: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")
    began, go_on = asyncio.Event(), asyncio.Event()

    @bp.handler(is_start=True)
    async def begin(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["runs"] = state_history.get("runs", 0) + 1
        began.set()
        await go_on.wait()
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with on_file(bp) as node:
        job_id = await create(node, "bp", {})
        await happened(began)
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    async with on_file(bp) as node:
        job = await ended(node, job_id)
        assert (job.status, job.result) == ("finished", {"runs": 1})
        assert len(await history(node, job_id, "state_started")) == 2


async def test_a_dispatch_timeout_goes_on_counting_while_the_node_is_away(on_file: Start) -> None:
    async with on_file(one_task()) as node:
        job_id = await create(node, "one_task", {}, dispatch_timeout=0.2)
        await waits(node, job_id)
    async with on_file(one_task()) as node:
        job = await ended(node, job_id)
        assert job.error is not None
        assert job.error.code == "DISPATCH_TIMEOUT"


SOON: dict[str, float] = {"RETRY_BACKOFF_MIN_SECONDS": 0.01, "RETRY_BACKOFF_MAX_SECONDS": 0.01}


async def test_a_job_whose_blueprint_is_gone_waits_and_says_so_until_a_node_has_it_again(on_file: Start) -> None:
    async with on_file(one_task()) as node:
        job_id = await create(node, "one_task", {"n": 1})
        await waits(node, job_id)
    async with on_file(one_task(name="one_tsk"), JOB_MAX_RETRIES=0, **SOON) as node, doing(node), http(node) as door:
        job = await waits(node, job_id, "waiting_for_retry")
        said = "waiting: blueprint 'one_task' is not loaded on this node (did you mean 'one_tsk'?); it continues when"
        assert (job.progress_message or "").startswith(said)
        assert (await door.get(f"/api/v1/jobs/{job_id}")).json()["progress_message"].startswith(said)
        # However often it is tried.
        await seen(node, job_id, lambda one: one.status == "waiting_for_retry" and one.updated_at > job.updated_at)
        assert not await history(node, job_id, "state_failed")
    async with on_file(one_task(), JOB_MAX_RETRIES=0, **SOON) as node:
        job = await ended(node, job_id)
        assert (job.status, job.result) == ("finished", {"n": 1})


async def test_a_job_whose_state_is_gone_waits_and_says_so_until_a_node_has_it_again(on_file: Start) -> None:
    async with on_file(one_task({"success": "finished"})) as node:
        job_id = await create(node, "one_task", {"n": 1})
        await waits(node, job_id)
    other = Blueprint("one_task")
    other.handler("finish", is_start=True, is_end=True)(_nothing)
    async with on_file(other, JOB_MAX_RETRIES=0, **SOON) as node, doing(node):
        job = await waits(node, job_id, "waiting_for_retry")
        said = "waiting: blueprint 'one_task' has no state 'finished' on this node (did you mean 'finish'?)"
        assert (job.progress_message or "").startswith(said)
        await node.client.cancel_job(job_id)
        assert (await ended(node, job_id)).status == "cancelled"


async def _nothing() -> None: ...


async def test_a_job_whose_blueprint_its_node_lacks_goes_on_when_another_takes_over(redis: RedisServer) -> None:
    store: Any = {"STORAGE_URI": redis.uri(redis.database()), "JOB_MAX_RETRIES": 0, **SOON}
    async with running_node(one_task(), **store) as first:
        job_id = await create(first, "one_task", {"n": 1})
        await waits(first, job_id)
    async with running_node(one_task(name="other"), INSTANCE_ID="lacks", **store) as lacks, doing(lacks):
        job = await waits(lacks, job_id, "waiting_for_retry")
        assert (job.progress_message or "").startswith("waiting: blueprint 'one_task' is not loaded on this node; it")
    async with running_node(one_task(), INSTANCE_ID="has", **store) as has, doing(has):
        assert (await ended(has, job_id)).result == {"n": 1}
        assert not await history(has, job_id, "state_failed")
