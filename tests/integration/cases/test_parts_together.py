"""Acceptance: several jobs as parts of one, at once and beside tasks, on every store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.client import Job
from holon.engine.children import listing
from holon.testing import RunningNode
from tests.integration.cases.site import (
    GUARD,
    LOOK_S,
    Start,
    a_wire,
    create,
    ended,
    fan_out,
    history,
    http,
    next_offer,
    one_task,
    waits,
)
from tests.integration.cases.test_parts import ending
from tests.integration.grpc_node import offering, result, updates


def part(blueprint: str = "one_task", **more: Any) -> dict[str, Any]:
    return {"blueprint_name": blueprint, **more}


async def made(node: RunningNode, job_id: str) -> list[str]:
    """The jobs that are parts of this one, in the order in which they were asked for, once all of them are there."""
    lines = await history(node, job_id, "sub_blueprint_started")
    ids = [str(line.context_snapshot["child_job_id"]) for line in lines]
    async with asyncio.timeout(GUARD):
        while not {one.id for one in (await node.client.list_page()).jobs}.issuperset(ids):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
    return ids


async def parts_of(node: RunningNode, job_id: str) -> list[Job]:
    return [await node.client.get_job(one) for one in await made(node, job_id)]


async def test_tasks_and_parts_meet_in_one_aggregator_in_their_order(start: Start) -> None:
    both = [part(initial_data={"n": 0}), {"task_type": "t", "params": {"n": 1}}, part(initial_data={"n": 2})]
    async with start(fan_out(both), one_task()) as node:
        worker = node.new_worker("w1", max_concurrent=3)

        @worker.skill("t")
        async def t(n: int) -> dict[str, int]:
            return {"square": n * n}

        async with worker:
            job = await node.run("fan_out", {})
        assert (job.status, job.result["collected"], job.cost) == ("finished", 1, None)
        results = job.result["results"]
        assert [one["data"] for one in results] == [{"square": 0}, {"square": 1}, {"square": 4}]
        assert [(one["job_id"], one["worker_id"], one["status"]) for one in results] == [
            (job.id, None, "success"),
            (job.id, "w1", "success"),
            (job.id, None, "success"),
        ]
        parts = await parts_of(node, job.id)
        assert [(one.status, one.blueprint_name, one.parent_job_id) for one in parts] == [
            ("finished", "one_task", job.id)
        ] * 2
        tree = [(one.kind, one.name, one.worker_id) async for one in node.client.tree(job.id)]
        under = [("task", "run_blueprint", ""), ("job", "one_task", ""), ("task", "t", "w1")]
        assert tree == [("job", "fan_out", ""), *under, ("task", "t", "w1"), *under]


async def test_a_part_that_does_not_end_well_is_seen_with_what_lies_behind_it(start: Start) -> None:
    both = fan_out([part("ending"), part("goes_on")])
    async with start(both, ending(outcome="failed"), one_task(name="goes_on")) as node:
        async with a_wire(node, "w1") as wire:
            job_id = await create(node, "fan_out", {})
            offer = await next_offer(wire)
            failed, other = await made(node, job_id)
            await ended(node, failed)
            assert (await node.client.get_job(job_id)).status == "waiting_for_parallel"
            assert (await node.client.cancel_job(other)).id == offer.job_id
            job = await ended(node, job_id)
        first, second = job.result["results"]
        assert (first["status"], first["error"]["code"]) == ("failure", "CHILD_FAILED")
        assert [one["code"] for one in first["error"]["details"]["causes"]] == ["ENDED_FAILED"]
        assert (second["status"], second["error"]) == ("cancelled", None)


async def test_with_fail_fast_the_first_that_fails_ends_the_other_parts_too(start: Start) -> None:
    many = [part(), part("ending"), part()]
    async with start(fan_out(many, fail_fast=True), one_task(), ending(outcome="failed")) as node:
        job_id = await create(node, "fan_out", {})
        job = await ended(node, job_id)
        assert (job.status, job.error and job.error.code) == ("failed", "BRANCH_FAILED")
        assert job.error is not None
        assert "CHILD_FAILED" in job.error.message
        made = [one for one in (await node.client.list_page()).jobs if one.blueprint_name == "one_task"]
        assert {(await ended(node, one.id)).status for one in made} <= {"cancelled"}


async def test_a_cancel_ends_every_part(start: Start) -> None:
    async with start(fan_out([part(), {"task_type": "t"}, part()]), one_task()) as node:
        job_id = await create(node, "fan_out", {})
        await waits(node, job_id, "waiting_for_parallel")
        begun = await made(node, job_id)
        for one in begun:
            await waits(node, one)
        await node.client.cancel_job(job_id)
        assert (await ended(node, job_id)).status == "cancelled"
        for one in begun:
            over = await ended(node, one)
            assert (over.status, over.error and over.error.message) == ("cancelled", "cancelled by the job above it")


async def test_the_parts_of_a_job_are_listed_the_newest_first_in_pages_and_filtered(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [part("ending"), part("gives_up"), part("ending"), part("ending")]
    ends = ending(), ending(outcome="failed", name="gives_up")
    async with start(fan_out(tasks), *ends) as node, http(node) as door:
        other = (await node.run("fan_out", {})).id
        job_id = (await node.run("fan_out", {})).id
        ids = (await made(node, job_id))[::-1]
        first = await node.client.list_page(parent_job_id=job_id, page_size=3)
        assert [one.id for one in first.jobs] == ids[:3]
        rest = await node.client.list_page(parent_job_id=job_id, page_size=3, page_token=first.next_page_token)
        assert ([one.id for one in rest.jobs], rest.next_page_token) == (ids[3:], "")
        failed = [one.id async for one in node.client.list_jobs(parent_job_id=job_id, statuses=["failed"], page_size=1)]
        assert failed == [ids[2]]
        query = {"parent_job_id": other, "blueprint": "ending", "limit": "1"}
        page = (await door.get("/api/v1/jobs", params=query)).json()
        assert [one["parent_job_id"] for one in page["jobs"]] == [other]
        page = (await door.get("/api/v1/jobs", params={**query, "page_token": page["next_page_token"]})).json()
        assert [one["parent_job_id"] for one in page["jobs"]] == [other]
        for nothing in ("0-nothing", ids[0]):
            assert (await node.client.list_page(parent_job_id=nothing)).jobs == ()
        # Of many that do not fit a page looks at some, and says where the next goes on.
        monkeypatch.setattr(listing, "MOST_LOOKED_AT", 2)
        page = (await door.get("/api/v1/jobs", params={"parent_job_id": job_id, "blueprint": "gives_up"})).json()
        assert (page["jobs"], bool(page["next_page_token"])) == ([], True)
        found = [one.id async for one in node.client.list_jobs(parent_job_id=job_id, blueprint="gives_up")]
        assert found == [ids[2]]


async def test_what_one_part_may_not_be_given_fails_the_handler_and_nothing_is_made(start: Start) -> None:
    tasks = [{"task_type": "t"}, part("gone")]
    async with start(fan_out(tasks), JOB_MAX_RETRIES=0) as node:
        job = await node.run("fan_out", {})
        assert (job.status, job.error and job.error.code) == ("quarantined", "BLUEPRINT_NOT_FOUND")
        assert job.error is not None
        assert "dispatch_parallel: task 1: this node has no blueprint named 'gone'" in job.error.message
        assert [one.id for one in (await node.client.list_page()).jobs] == [job.id]


async def test_parts_share_what_is_left_of_the_budget_and_have_no_more_than_they_may(start: Start) -> None:
    tasks = [part(), {"task_type": "t", "max_cost": 4}, part(), part(max_cost=1)]
    async with start(fan_out(tasks), one_task(), one_task(name="dear", skill="dear")) as node:
        async with a_wire(node, "w1", offering("t", price=1)) as wire:
            job_id = await create(node, "fan_out", budget=20)
            for _ in tasks:
                await wire.send(updates(result(await next_offer(wire), cost=1)))
            job = await ended(node, job_id)
        assert (job.status, job.cost) == ("finished", 4)
        assert [(one.budget, one.cost) for one in await parts_of(node, job_id)] == [(5, 1), (5, 1), (1, 1)]
