"""Acceptance: a job as a part of another, on every store."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest

from holon import Blueprint
from holon.client import Job
from holon.context import ActionFactory
from holon.testing import RunningNode, running_node
from holon.worker.progress import Progress
from tests.integration.cases.parts import WAYS, above, part_of
from tests.integration.cases.site import (
    GUARD,
    NEVER,
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
from tests.integration.grpc_node import offering, result, updates
from tests.redis_server import RedisServer


class Strict(TypedDict):
    m: int


async def test_d09_a_part_finishes_and_the_job_above_takes_its_result(start: Start) -> None:
    async with start(above(), one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(n: int) -> dict[str, int]:
            return {"twice": 2 * n}

        async with worker:
            job_id = await create(node, "above", {"n": 4})
            job = await ended(node, job_id)
            assert (job.status, job.result, job.cost) == ("finished", {"twice": 8}, None)
            part = await node.client.get_job(await part_of(node, job_id))
            assert (part.status, part.blueprint_name, part.parent_job_id) == ("finished", "one_task", job_id)
            # It belongs to the owner of the job above, and is listed for him.
            assert {one.id for one in (await node.client.list_page()).jobs} == {job_id, part.id}


def ending(
    *, outcome: str = "finished", status: str = "", raises: bool = False, name: str = "ending", says: Any = None
) -> Blueprint:
    """Ends at once, in a state whose name says nothing of how."""
    bp = Blueprint(name)

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.go_to("failed")

    options: dict[str, Any] = {"outcome": outcome} | ({"status": status} if status else {})

    @bp.handler("failed", is_end=True, **options)
    async def over() -> dict[str, Any]:
        if raises:
            raise RuntimeError("no way")
        return {"n": 7} if says is None else says

    return bp


async def run(node: RunningNode, name: str = "above", data: Any = None) -> Job:
    return await ended(node, await create(node, name, data or {}))


async def test_the_outcome_of_a_part_decides_and_not_the_name_of_its_end(start: Start) -> None:
    async with start(above("ending", WAYS), ending()) as node:
        job = await run(node)
        assert (job.status, job.current_state, job.result) == ("finished", "finished", {"n": 7})


async def test_the_status_of_a_part_s_end_is_the_way_that_the_job_above_takes(start: Start) -> None:
    async with start(above("ending", {"partly": "some", "success": "finished"}), ending(status="partly")) as node:
        assert (await run(node)).current_state == "some"


async def test_a_part_that_fails_leads_to_failure_with_all_that_lies_behind_it(start: Start) -> None:
    async with start(above("ending", WAYS), ending(outcome="failed")) as node:
        job = await run(node)
        assert (job.status, job.current_state) == ("finished", "mended")
        part = await part_of(node, job.id)
        assert job.result["code"] == "CHILD_FAILED"
        assert job.result["message"] == (
            f"Task failed: CHILD_FAILED: job {part} of blueprint ending failed: ended in state 'failed'"
        )
        [cause] = job.result["details"]["causes"]
        assert (cause["code"], cause["name"]) == ("ENDED_FAILED", "ending")
        assert job.result["details"]["details"] == {"n": 7}


async def test_a_part_that_fails_with_more_than_can_be_read_above_is_the_same_failure_there(start: Start) -> None:
    deep: list[Any] = []
    for _ in range(65):
        deep = [deep]
    fan = fan_out([{"blueprint_name": "ending"}])
    async with start(above("ending", WAYS), fan, ending(outcome="failed", says={"n": deep})) as node:
        job = await run(node)
        assert (job.current_state, job.result["code"]) == ("mended", "CHILD_FAILED")
        [cause] = job.result["details"]["causes"]
        assert (cause["code"], cause["name"]) == ("ENDED_FAILED", "ending")
        assert job.result["details"]["details"] == {"details_left_out": "nested deeper than 64 levels"}
        [branch] = (await run(node, "fan_out")).result["results"]
        assert (branch["error"]["code"], branch["error"]["details"]["causes"]) == ("CHILD_FAILED", [cause])


@pytest.mark.parametrize("raises", [False, True])
async def test_without_such_a_transition_the_job_above_ends_as_its_part_did(start: Start, raises: bool) -> None:
    part = ending(outcome="failed", raises=raises)
    async with start(above("ending"), part, JOB_MAX_RETRIES=0) as node:
        job = await run(node)
        how = ("quarantined", "CHILD_QUARANTINED") if raises else ("failed", "CHILD_FAILED")
        assert (job.status, job.error and job.error.code) == how


async def test_what_a_part_may_not_be_given_is_the_failure_of_the_handler_and_nothing_is_made(start: Start) -> None:
    strict = Blueprint("strict")

    @strict.handler(is_start=True, is_end=True)
    async def only(initial_data: Strict) -> None: ...

    async with start(above("strict"), strict, JOB_MAX_RETRIES=0) as node:
        job = await run(node, data={"m": "text"})
        assert job.status == "quarantined"
        assert job.error is not None
        assert job.error.code == "INPUT_INVALID"
        assert "Input validation failed for blueprint 'strict': initial_data.m" in job.error.message
        assert [one.id for one in (await node.client.list_page()).jobs] == [job.id]
        assert (await run(node, data={"m": 1})).status == "finished"


async def test_a_blueprint_that_there_is_not_is_the_failure_of_the_handler(start: Start) -> None:
    async with start(above("one_tsk"), one_task(), **NEVER) as node:
        job = await run(node)
        assert job.error is not None
        assert (job.status, job.error.code) == ("quarantined", "BLUEPRINT_NOT_FOUND")
        assert "no blueprint named 'one_tsk' (did you mean 'one_task'?)" in job.error.message
        assert ": actions.run_blueprint(runs, initial_data, ways, **options))" in job.error.message
        assert len(await history(node, job.id, "state_failed")) == 1


async def test_a_way_by_which_no_part_of_that_blueprint_ends_is_the_failure_of_the_handler(start: Start) -> None:
    sees = above("ending", {"partly": "some", "success": "finished", "party": "some"})
    async with start(sees, ending(status="partly"), JOB_MAX_RETRIES=0) as node:
        job = await run(node)
        assert (job.status, job.error and job.error.code) == ("quarantined", "ACTION_INVALID")
        assert job.error is not None
        assert (
            "transitions has 'party', but no job of 'ending' ends so; use "
            "success, failure, cancelled, timeout, partly (did you mean 'partly'?)"
        ) in job.error.message


async def test_while_a_part_goes_on_the_job_above_says_so_and_tells_how_far_it_is(start: Start) -> None:
    # What bounds how long tasks wait bounds those of the part, and not the wait for it.
    async with start(above(), one_task()) as node:
        job_id = await create(node, "above", {})
        await waits(node, job_id, "waiting_for_child")
        job = await seen(node, job_id, lambda one: bool(one.progress_message))
        part = await part_of(node, job_id)
        assert job.progress_message.startswith(f"in job {part}: waiting: no worker connected")
        worker = node.new_worker("w1")
        began, goes_on = asyncio.Event(), asyncio.Event()

        @worker.skill("t")
        async def t(progress: Progress) -> None:
            progress(50, "half")
            began.set()
            await goes_on.wait()

        async with worker:
            await happened(began)
            job = await seen(node, job_id, lambda one: one.progress_message == "half")
            assert job.status == "waiting_for_child"
            assert [one.worker_id async for one in node.client.node.list_workers()] == ["w1"]
            # A node by itself is no worker, and what it does is no task of one.
            stats = await node.client.node.stats()
            assert (stats.workers_connected, stats.tasks_leased, stats.jobs["waiting_for_child"]) == (1, 1, 1)
            goes_on.set()
            assert (await ended(node, job_id)).status == "finished"


async def test_parts_of_parts_are_shown_in_the_tree_of_the_job_above_all(start: Start) -> None:
    async with start(above("second"), above("third", name="second"), above(name="third"), one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> dict[str, int]:
            return {"n": 1}

        async with worker:
            job = await run(node)
            assert (job.status, job.result) == ("finished", {"n": 1})
            tree = [one async for one in node.client.tree(job.id)]
            shape = [(one.kind, one.name, one.worker_id) for one in tree]
            part = ("task", "run_blueprint", "")
            assert shape == [
                ("job", "above", ""),
                part,
                ("job", "second", ""),
                part,
                ("job", "third", ""),
                part,
                ("job", "one_task", ""),
                ("task", "t", "w1"),
            ]
            assert [one.parent_node_id for one in tree][1:] == [one.node_id for one in tree][:-1]


async def test_a_blueprint_that_runs_itself_comes_to_an_end(start: Start) -> None:
    async with start(above("above", {"success": "finished"}), JOB_MAX_RETRIES=0, MAX_HOLARCHY_DEPTH=3) as node:
        job = await run(node)
        assert job.status == "quarantined"
        assert job.error is not None
        codes = [one["code"] for one in job.error.details["causes"]]
        assert (job.error.code, codes) == ("CHILD_QUARANTINED", ["CHILD_QUARANTINED", "NESTED_TOO_DEEP"])
        assert len((await node.client.list_page()).jobs) == 3


# What flows down -------------------------------------------------------------------------------------------------


async def test_a_part_may_use_and_cost_no_more_than_the_job_above(start: Start) -> None:
    async with start(above(ways=WAYS), one_task()) as node, a_wire(node, "w1", offering("t", price=4)) as wire:
        refused = await ended(node, await create(node, "above", allowed_skills=["x"]))
        assert refused.result["details"]["causes"][0]["code"] == "POLICY_DENIED"
        too_little = await create(node, "above", allowed_skills=["t"], budget=3)
        job_id = await create(node, "above", allowed_skills=["t"], budget=9)
        offer = await next_offer(wire)
        await wire.send(updates(result(offer, cost=2)))
        job = await ended(node, job_id)
        assert (job.status, job.cost, job.budget) == ("finished", 2, 9)
        part = await node.client.get_job(await part_of(node, job_id))
        assert (part.cost, part.budget) == (2, 9)
        said = (await node.client.get_job(await part_of(node, too_little))).progress_message
        assert said.endswith("with skill 't' declares a price of at most 3")


async def test_a_node_that_leaves_hands_its_parts_to_another_at_once(redis: RedisServer) -> None:
    shared: dict[str, Any] = {"STORAGE_URI": redis.uri(redis.database()), "TASK_LEASE_SECONDS": 2 * GUARD}
    async with running_node(above(), one_task(), INSTANCE_ID="stays", **shared) as stays:
        async with running_node(above(), one_task(), INSTANCE_ID="leaves", **shared) as leaves:
            jobs = [await create(node, "above", {"n": 1}) for node in (leaves, stays) for _ in range(4)]
            for job_id in jobs:
                await waits(leaves, job_id, "waiting_for_child")
        async with a_wire(stays, "w1") as wire:
            for _ in jobs:
                await wire.send(updates(result(await next_offer(wire))))
            for job_id in jobs:
                assert (await ended(stays, job_id)).status == "finished"
