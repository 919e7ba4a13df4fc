"""Acceptance: branches that fail, alone or for all of them."""

from __future__ import annotations

import asyncio
from typing import Any

from holon.domain.task import task_id
from holon.worker import Result, TaskError
from tests.integration.cases.site import (
    GUARD,
    Start,
    a_wire,
    create,
    ended,
    fan_out,
    happened,
    history,
    numbered,
)
from tests.integration.grpc_node import result, updates


async def test_a_branch_that_fails_for_good_is_seen_by_the_aggregator_with_its_error(start: Start) -> None:
    codes = ("", "TRANSIENT_ERROR", "PERMANENT_ERROR", "INVALID_INPUT_ERROR", "")
    async with start(fan_out([{"task_type": "t", "params": {"code": code}} for code in codes])) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(code: str) -> dict[str, bool]:
            if code:
                raise TaskError(code, "no luck", {"why": 1})
            return {"fine": True}

        async with worker:
            job = await node.run("fan_out", {})
        assert (job.status, job.result["collected"]) == ("finished", 1)
        results = job.result["results"]
        assert [one["status"] for one in results] == ["success", "failure", "failure", "failure", "success"]
        assert [one["error"] and one["error"]["code"] for one in results] == [code or None for code in codes]
        assert results[2]["error"] == {"code": "PERMANENT_ERROR", "message": "no luck", "details": {"why": 1}}
        assert results[2]["data"] is None
        told = await history(node, job.id, "task_finished")
        runs = [sum(event.task_id == task_id for event in told) for task_id in job.result["ids"]]
        assert runs == [1, 4, 1, 1, 1]


async def test_each_branch_is_tried_again_as_often_as_it_says(start: Start) -> None:
    retries = (0, 2, None)
    items: list[Any] = [{"task_type": "t", "max_retries": one} for one in retries]
    async with start(fan_out(items), JOB_MAX_RETRIES=1) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> None:
            raise TaskError("TRANSIENT_ERROR", "no luck")

        async with worker:
            job = await node.run("fan_out", {})
        told = await history(node, job.id, "task_finished")
        assert [sum(event.task_id == task_id for event in told) for task_id in job.result["ids"]] == [1, 3, 2]


async def test_a_branch_may_end_with_a_status_of_its_own_or_cancelled(start: Start) -> None:
    async with start(fan_out([{"task_type": "t", "params": {"status": s}} for s in ("odd", "cancelled")])) as node:
        worker = node.new_worker("w1")

        @worker.skill("t", statuses=["odd"])
        async def t(status: str) -> Result:
            return Result(status, {"said": status})

        async with worker:
            job = await node.run("fan_out", {})
        assert job.status == "finished"
        assert [one["status"] for one in job.result["results"]] == ["odd", "cancelled"]
        assert [one["data"] for one in job.result["results"]] == [{"said": "odd"}, {"said": "cancelled"}]


async def test_a_branch_that_no_worker_takes_in_time_fails_alone(start: Start) -> None:
    tasks: list[dict[str, Any]] = [
        {"task_type": "t"},
        {"task_type": "rare"},
        {"task_type": "rare", "dispatch_timeout_seconds": 0.1},
    ]
    async with start(fan_out(tasks)) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> None: ...

        async with worker:
            job = await node.run("fan_out", {}, dispatch_timeout=1.0)
        assert job.status == "finished"
        errors = [one["error"] and one["error"]["code"] for one in job.result["results"]]
        assert errors == [None, "DISPATCH_TIMEOUT", "DISPATCH_TIMEOUT"]


async def test_a_branch_that_runs_or_answers_too_late_fails_alone(start: Start) -> None:
    tasks: list[dict[str, Any]] = [
        {"task_type": "t"},
        {"task_type": "slow", "timeout_seconds": 0.1},
        {"task_type": "slow", "result_timeout_seconds": 0.2},
    ]
    async with start(fan_out(tasks), JOB_MAX_RETRIES=1) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> None: ...

        @worker.skill("slow")
        async def slow() -> None:
            await asyncio.sleep(GUARD)

        async with worker:
            job = await node.run("fan_out", {})
        assert job.status == "finished"
        errors = [one["error"] and one["error"]["code"] for one in job.result["results"]]
        assert errors == [None, "TIMEOUT_ERROR", "RESULT_TIMEOUT"]
        told = await history(node, job.id, "task_finished")
        runs = [sum(event.task_id == task_id for event in told) for task_id in job.result["ids"]]
        # That the time for a result is over may be seen by the worker first, and the task be sent once more.
        assert runs in ([1, 2, 1], [1, 2, 2])


async def test_a_branch_that_breaks_its_contract_fails_alone(start: Start) -> None:
    async with start(fan_out(numbered(2))) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(n: int) -> dict[str, int]:
            wrong: Any = {"n": "x"} if n else {"n": 1}
            return wrong  # type: ignore[no-any-return]  # the broken promise that is tried

        async with worker:
            job = await node.run("fan_out", {})
        assert job.status == "finished"
        assert [one["error"] and one["error"]["code"] for one in job.result["results"]] == [None, "CONTRACT_VIOLATION"]


# Failing fast ----------------------------------------------------------------------------------------------------


async def test_fail_fast_ends_the_job_with_the_first_failure_and_stops_the_other_branches(start: Start) -> None:
    async with start(fan_out(numbered(20), fail_fast=True)) as node:
        worker = node.new_worker("w1", max_concurrent=3)
        began, stopped, runs = asyncio.Semaphore(0), asyncio.Semaphore(0), []

        @worker.skill("t")
        async def t(n: int) -> None:
            runs.append(n)
            began.release()
            if n == 1:
                for _ in range(3):
                    await began.acquire()
                raise TaskError("PERMANENT_ERROR", "no luck")
            try:
                await asyncio.sleep(GUARD)
            finally:
                stopped.release()

        async with worker:
            job = await node.run("fan_out", {})
            assert (job.status, job.current_state, job.result) == ("failed", "start", None)
            assert job.error is not None
            assert job.error.code == "BRANCH_FAILED"
            told = "branch {} before 'collect' failed and fail_fast is set: PERMANENT_ERROR: no luck"
            assert job.error.message == told.format(task_id(job.id, 0, 1))
            for _ in range(2):
                await happened(stopped)
        assert len(runs) == 3
        assert not [event for event in await history(node, job.id) if event.state == "collect"]


async def test_fail_fast_waits_for_the_retries_of_a_branch(start: Start) -> None:
    async with start(fan_out(numbered(3), fail_fast=True)) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(n: int, attempt: int) -> dict[str, int]:
            if n == 1 and attempt < 4:
                raise TaskError("TRANSIENT_ERROR", "not yet")
            return {"attempt": attempt}

        async with worker:
            job = await node.run("fan_out", {})
        assert job.status == "finished"
        assert [one["data"]["attempt"] for one in job.result["results"]] == [1, 4, 1]


async def test_a_late_result_of_a_branch_that_was_stopped_is_superseded(start: Start) -> None:
    async with start(fan_out(numbered(2), fail_fast=True)) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "fan_out", {})
        first, second = await wire.offer(), await wire.offer()
        await wire.send(updates(result(first, status="cancelled")))
        assert (await ended(node, job_id)).status == "failed"
        said: dict[str, Any] = {}
        while said.keys() != {"update_acks", "stop_tasks"}:
            kind, what = await wire.next()
            said[kind] = what
        assert (said["stop_tasks"].lease_id, said["stop_tasks"].reason) == (second.lease_id, "CANCELLED")
        await wire.send(updates(result(second)))
        assert (await wire.verdict()).reason == "job_already_terminated"
