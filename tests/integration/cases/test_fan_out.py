"""Acceptance: many tasks at once, and the state in which their results meet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.engine import planning
from tests.integration.cases.site import (
    Start,
    create,
    ended,
    fan_out,
    history,
    numbered,
    one_task,
    seen,
    waits,
)


async def test_d01_the_aggregator_runs_once_with_every_result_in_order_whatever_the_order_of_arrival(
    start: Start,
) -> None:
    async with start(fan_out(numbered(3))) as node:
        worker = node.new_worker("w1", max_concurrent=3)
        began = asyncio.Barrier(3)
        done = [asyncio.Event() for _ in range(4)]
        done[3].set()

        @worker.skill("t")
        async def t(n: int) -> dict[str, int]:
            await began.wait()
            await done[n + 1].wait()
            asyncio.get_running_loop().call_later(0.02, done[n].set)
            return {"square": n * n}

        async with worker:
            job_id = await create(node, "fan_out", {})
            assert (await waits(node, job_id, "waiting_for_parallel")).current_state == "start"
            job = await ended(node, job_id)
        assert (job.status, job.result["collected"]) == ("finished", 1)
        results, ids = job.result["results"], job.result["ids"]
        assert [one["data"] for one in results] == [{"square": n * n} for n in range(3)]
        assert [one["task_id"] for one in results] == ids
        assert len(set(ids)) == 3
        for one in results:
            assert one.keys() == {"job_id", "task_id", "worker_id", "status", "data", "error"}
            assert (one["job_id"], one["worker_id"], one["status"], one["error"]) == (job_id, "w1", "success", None)
        told = await history(node, job_id, "task_finished")
        assert [event.task_id for event in told] == ids[::-1]


async def test_d01_branches_are_shared_out_among_workers(start: Start) -> None:
    async with start(fan_out(numbered(6))) as node:
        together = asyncio.Barrier(6)
        one, two = node.new_worker("w1", max_concurrent=3), node.new_worker("w2", max_concurrent=3)
        for worker in (one, two):

            @worker.skill("t")
            async def t() -> None:
                await together.wait()

        async with one, two:
            await asyncio.gather(one.ready(), two.ready())
            job = await node.run("fan_out", {})
        assert sorted(result["worker_id"] for result in job.result["results"]) == ["w1"] * 3 + ["w2"] * 3


async def test_d01_a_fan_out_larger_than_what_is_written_at_once_keeps_its_order(start: Start) -> None:
    async with start(fan_out(numbered(450))) as node:
        worker = node.new_worker("w1", max_concurrent=50)

        @worker.skill("t")
        async def t(n: int) -> dict[str, int]:
            return {"n": n}

        async with worker:
            job = await node.run("fan_out", {})
        assert [one["data"]["n"] for one in job.result["results"]] == list(range(450))
        assert job.result["collected"] == 1


async def test_d01_the_data_of_branches_is_not_merged_into_the_state(start: Start) -> None:
    async with start(fan_out(numbered(2))) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> dict[str, Any]:
            return {"collected": 70, "leaked": True}

        async with worker:
            job = await node.run("fan_out", {})
        assert job.result.keys() == {"collected", "results", "ids"}
        assert job.result["collected"] == 1


async def test_d01_each_aggregator_gets_the_results_of_its_own_fan_out_and_no_state_after_it_any(start: Start) -> None:
    bp = Blueprint("twice", api_endpoint="/jobs/twice")

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_parallel(numbered(2), "first")

    @bp.aggregator
    async def first(aggregation_results: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["first"] = list(aggregation_results)
        actions.dispatch_parallel(numbered(3), "second")

    @bp.aggregator("second")
    async def another(
        aggregation_results: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory
    ) -> None:
        state_history["second"] = list(aggregation_results)
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end(aggregation_results: dict[str, Any], first: list[str], second: list[str]) -> Any:
        return [len(first), len(second), len({*first, *second}), aggregation_results]

    async with start(bp) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> None: ...

        async with worker:
            assert (await node.run("twice", {})).result == [2, 3, 5, {}]


async def test_d01_an_aggregator_that_raises_is_run_again_with_the_same_results(start: Start) -> None:
    bp = Blueprint("flaky", api_endpoint="/jobs/flaky")
    got: list[list[str]] = []

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_parallel(numbered(2), "collect")

    @bp.aggregator
    async def collect(aggregation_results: dict[str, Any], actions: ActionFactory) -> None:
        got.append(list(aggregation_results))
        if len(got) < 3:
            raise ValueError("not yet")
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> None: ...

        async with worker:
            assert (await node.run("flaky", {})).status == "finished"
    assert len(got) == 3
    assert len(got[0]) == 2
    assert got[0] == got[1] == got[2]


async def test_d02_both_names_of_a_branchs_skill_are_taken(start: Start) -> None:
    tasks: list[dict[str, Any]] = [
        {"task_type": "t", "params": {"n": 0}},
        {"type": "t", "params": {"n": 1}},
        {"type": "t", "task_type": "t"},
    ]
    async with start(fan_out(tasks)) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(n: int = 2) -> dict[str, int]:
            return {"n": n}

        async with worker:
            job = await node.run("fan_out", {})
        assert [one["data"]["n"] for one in job.result["results"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"type": "a", "task_type": "b"}, "give only one of them"),
        ({"params": {}}, "task_type"),
        ({"task_type": "t", "transitions": {}}, "'transitions'"),
        ("t", "dict"),
        ({"task_type": "t", "dispatch_timeout_seconds": 0}, "dispatch_timeout_seconds"),
    ],
)
async def test_d02_a_branch_that_is_none_is_an_error_of_the_handler_and_is_named(
    start: Start, task: Any, told: str
) -> None:
    async with start(fan_out(), JOB_MAX_RETRIES=0) as node:
        job = await node.run("fan_out", {"tasks": [{"task_type": "t"}, task]})
        assert job.error is not None
        assert (job.status, job.error.code) == ("quarantined", "ACTION_INVALID")
        assert "task 1" in job.error.message
        assert told in job.error.message
        assert not await history(node, job.id, "task_dispatched")


async def test_d07_a_fan_out_of_nothing_goes_straight_to_its_aggregator(start: Start) -> None:
    async with start(fan_out()) as node:
        job = await node.run("fan_out", {"tasks": []})
        assert (job.status, job.result) == ("finished", {"collected": 1, "results": [], "ids": []})


# Beside each other -----------------------------------------------------------------------------------------------


async def test_a_large_fan_out_does_not_hold_up_a_job_of_one_task(start: Start) -> None:
    async with start(fan_out(numbered(300)), one_task(skill="other")) as node:
        worker = node.new_worker("w1", max_concurrent=2)
        other = node.new_worker("w2")
        go_on = asyncio.Event()

        @worker.skill("t")
        async def t() -> None:
            await go_on.wait()

        @other.skill("other")
        async def quick() -> None: ...

        async with worker, other:
            large = await create(node, "fan_out", {})
            await waits(node, large, "waiting_for_parallel")
            assert (await node.run("one_task", {})).status == "finished"
            assert (await node.client.get_job(large)).status == "waiting_for_parallel"
            go_on.set()
            job = await ended(node, large)
        assert len(job.result["results"]) == 300


async def test_a_branch_of_higher_priority_goes_first(start: Start) -> None:
    order: list[int] = []
    tasks: list[dict[str, Any]] = [
        {"task_type": "t", "params": {"n": n}, "priority": p} for n, p in enumerate((0, 5, -1, 5))
    ]
    async with start(fan_out(tasks)) as node:
        job_id = await create(node, "fan_out", {})
        await seen(node, job_id, lambda job: job.status == "waiting_for_parallel")
        worker = node.new_worker("w1", max_concurrent=1)

        @worker.skill("t")
        async def t(n: int) -> None:
            order.append(n)

        async with worker:
            await ended(node, job_id)
    assert order == [1, 3, 0, 2]


@pytest.mark.parametrize("count", [3, 3 * planning.CHUNK])
async def test_branches_of_too_much_together_fail_the_job_and_none_is_sent(
    start: Start, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    sent: list[str] = []
    params = [{"task_type": "t", "params": {"text": "x" * 89}}] * count  # 100 bytes each
    skills = [{"task_type": "t", "allowed_skills": ["y" * 99]}] * count  # and its own
    monkeypatch.setattr(planning, "MAX_FAN_OUT_BYTES", 100 * count)
    async with start(fan_out()) as node:
        worker = node.new_worker("w1", max_concurrent=8)

        @worker.skill("t")
        async def t(text: str = "") -> None:
            sent.append(text)

        async with worker:
            assert (await node.run("fan_out", {"tasks": params})).status == "finished"
            assert (await node.run("fan_out", {"tasks": skills})).status == "finished"
            assert len(sent) == 2 * count
            monkeypatch.setattr(planning, "MAX_FAN_OUT_BYTES", 100 * count - 1)
            for tasks in (params, skills):
                job = await node.run("fan_out", {"tasks": tasks})
                assert (job.status, job.current_state) == ("failed", "start")
                assert job.error is not None
                assert job.error.code == "LIMIT_EXCEEDED"
                assert f"the {count} tasks of state 'start'" in job.error.message
        assert len(sent) == 2 * count
