"""Acceptance: what a job may use, as its creator says, at both doors and on every store."""

from __future__ import annotations

from typing import Any

from holon.client import CreatedJob, JobRequest
from holon.testing import RunningNode
from tests.integration.cases.site import Start, ended, fan_out, http, one_task

CREATE = "/api/v1/jobs/one_task"


async def nothing_was_sent(node: RunningNode, job_id: str) -> None:
    job = await ended(node, job_id)
    assert (job.status, job.error and job.error.code) == ("failed", "POLICY_DENIED")
    types = [line.event_type async for line in node.client.history(job_id)]
    assert "task_dispatched" not in types


async def test_a_job_that_may_use_its_skills_does_and_another_ends_at_once(start: Start) -> None:
    async with start(one_task()) as node, http(node) as door:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def work(params: dict[str, Any]) -> dict[str, Any]:
            return params

        async with worker:
            # The first one teaches the node that the handler waits for nothing: the others' steps are fused.
            for allowed in (None, ["t"], ["x", "t"]):
                job = await node.client.create_job("one_task", {}, allowed_skills=allowed)
                assert (await ended(node, job.job_id)).status == "finished"
                reply = await door.post(CREATE, json={"allowed_skills": allowed})
                assert (await ended(node, reply.json()["job_id"])).status == "finished"
            allowing: list[list[str]] = [[], ["x"]]
            for allowed in allowing:
                await nothing_was_sent(
                    node, (await node.client.create_job("one_task", {}, allowed_skills=allowed)).job_id
                )
                reply = await door.post(CREATE, json={"allowed_skills": allowed})
                await nothing_was_sent(node, reply.json()["job_id"])
                (made,) = await node.client.create_jobs([JobRequest("one_task", {}, allowed_skills=allowed)])
                assert isinstance(made, CreatedJob)
                await nothing_was_sent(node, made.job_id)


async def test_one_branch_that_is_not_allowed_keeps_all_of_them_from_being_sent(start: Start) -> None:
    async with start(fan_out()) as node:
        tasks = [{"task_type": skill} for skill in ("t", "u", "t")]
        job = await node.client.create_job("fan_out", {"tasks": tasks}, allowed_skills=["t"])
        await nothing_was_sent(node, job.job_id)


async def test_a_request_id_with_another_limit_is_another_request(start: Start) -> None:
    async with start(one_task()) as node:
        first = await node.client.create_job("one_task", {}, request_id="r", allowed_skills=["a", "b"])
        again = await node.client.create_job("one_task", {}, request_id="r", allowed_skills=["b", "a", "a"])
        assert (again.job_id, again.existing) == (first.job_id, True)
