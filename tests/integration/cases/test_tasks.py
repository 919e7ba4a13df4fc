"""Acceptance: a task on its way: what its worker is given, and where its answer leads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.engine.handlers import Handlers
from holon.rxon.v1 import worker_pb2
from holon.testing import RunningNode
from holon.worker import Result
from tests.integration.cases.parts import above, part_of
from tests.integration.cases.site import (
    SUCCESS_ONLY,
    Passes,
    Start,
    a_wire,
    create,
    ended,
    happened,
    history,
    http,
    one_task,
    waits,
)
from tests.integration.grpc_node import result, updates


async def test_c01_a_worker_gets_the_task_with_all_that_it_needs_and_the_job_waits_for_it(start: Start) -> None:
    async with start(one_task(priority=2.5)) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {"n": 1, "text": "żółć"})
        offer = await wire.offer()
        assert (offer.job_id, offer.skill, offer.priority) == (job_id, "t", 2.5)
        assert (offer.attempt, offer.generation) == (1, 1)
        assert offer.task_id.startswith(job_id)
        assert offer.lease_id
        assert offer.params.data == '{"n":1,"text":"żółć"}'.encode()
        assert offer.params.media_type in ("", "application/json")
        assert (await node.client.get_job(job_id)).status == "waiting_for_worker"
        (dispatched,) = await history(node, job_id, "task_dispatched")
        assert dispatched.task_id == offer.task_id


async def test_c01_the_sdk_hands_over_the_same_by_name(start: Start) -> None:
    got: list[Any] = []
    async with start(one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(params: dict[str, Any], job_id: str, task_id: str, attempt: int, n: int, absent: int = 4) -> None:
            got.append((params, job_id, task_id, attempt, n, absent))

        async with worker:
            job = await node.run("one_task", {"n": 3})
        (dispatched,) = await history(node, job.id, "task_dispatched")
        assert got == [({"n": 3}, job.id, dispatched.task_id, 1, 3, 4)]


async def test_c02_a_success_leads_on_and_its_data_is_merged_key_by_key(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")

    @bp.handler(is_start=True)
    async def begin(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history.update({"mine": 1, "duration": 0, "nested": {"kept": False}})
        actions.dispatch_task("t", {}, SUCCESS_ONLY)

    @bp.handler(is_end=True)
    async def finished(output_path: str, duration: int, mine: int, state_history: dict[str, Any]) -> Any:
        return [output_path, duration, mine, state_history["nested"]]

    async with start(bp) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> dict[str, Any]:
            return {"output_path": "/v.mp4", "duration": 95, "nested": {"new": True}}

        async with worker:
            job = await node.run("bp", {})
        assert (job.status, job.result) == ("finished", ["/v.mp4", 95, 1, {"new": True}])


@pytest.mark.parametrize("data", [None, {}])
async def test_c02_a_success_without_data_changes_nothing_but_the_state(start: Start, data: Any) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> Any:
            return data

        async with worker:
            job = await node.run("one_task", {})
        assert (job.status, job.result) == ("finished", {})


async def test_c02_two_tasks_one_after_the_other_see_what_went_before(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {"n": 1}, {"success": "again"})

    @bp.handler
    async def again(n: int, actions: ActionFactory) -> None:
        actions.dispatch_task("t", {"n": n}, SUCCESS_ONLY)

    @bp.handler(is_end=True)
    async def finished(n: int) -> int:
        return n

    async with start(bp) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(n: int) -> dict[str, int]:
            return {"n": 10 * n}

        async with worker:
            job = await node.run("bp", {})
        assert job.result == 100
        tasks = [event.task_id for event in await history(node, job.id, "task_finished")]
        assert len(set(tasks)) == 2


# Statuses --------------------------------------------------------------------------------------------------------


async def test_c03_a_status_of_the_workers_own_leads_where_its_transition_says(start: Start) -> None:
    async with start(one_task({"success": "finished", "needs_review": "review"})) as node:
        worker = node.new_worker("w1")

        @worker.skill("t", statuses=["needs_review"])
        async def t(blurred: bool = False) -> Result:
            return Result("needs_review", {"page": 3}) if blurred else Result()

        async with worker:
            job = await node.run("one_task", {"blurred": True})
            assert (job.status, job.current_state, job.result) == ("finished", "review", {"page": 3})
            assert (await node.run("one_task", {})).current_state == "finished"


async def test_c03_a_status_without_a_transition_fails_the_job_and_is_named(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t", statuses=["odd"])
        async def t() -> Result:
            return Result("odd", {"n": 1})

        async with worker:
            job = await node.run("one_task", {})
        assert (job.status, job.current_state) == ("failed", "start")
        assert job.error is not None
        assert (job.error.code, job.error.message) == (
            "UNHANDLED_STATUS",
            "Worker returned unhandled status: odd; state 'start' has transitions for 'success', 'failure'",
        )


async def test_c03_a_success_without_a_transition_fails_the_job_too(start: Start) -> None:
    async with start(one_task({"needs_review": "review"})) as node:
        worker = node.new_worker("w1")

        @worker.skill("t", statuses=["needs_review"])
        async def t() -> None: ...

        async with worker:
            job = await node.run("one_task", {})
        assert job.status == "failed"
        assert job.error is not None
        assert job.error.message.startswith("Worker returned unhandled status: success; state 'start' has transitions")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_workers_own_cancelled_follows_its_transition_or_cancels_the_job(start: Start, declared: bool) -> None:
    ways = {"success": "finished"} | ({"cancelled": "given_up"} if declared else {})
    async with start(one_task(ways)) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> Result:
            return Result("cancelled", {"n": 1})

        async with worker:
            job = await node.run("one_task", {})
        if declared:
            assert (job.status, job.current_state, job.result) == ("finished", "given_up", {"n": 1})
        else:
            assert (job.status, job.current_state, job.result) == ("cancelled", "start", None)
            assert job.error is not None
            assert job.error.code == "CANCELLED"
            assert "w1" in job.error.message
        assert len(await history(node, job.id, "task_finished")) == 1


# Order and time --------------------------------------------------------------------------------------------------


async def order_of(node: RunningNode, jobs: Sequence[str]) -> str:
    """The names of what these jobs wait for a worker for, as one that takes one at a time is given them."""
    order: list[str] = []
    worker = node.new_worker("w1", max_concurrent=1)

    @worker.skill("t")
    async def t(name: str) -> None:
        order.append(name)

    async with worker:
        for job_id in jobs:
            await ended(node, job_id)
    return "".join(order)


async def test_what_waits_goes_by_priority_and_then_by_arrival(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp")

    @bp.handler(is_start=True)
    async def begin(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task("t", initial_data, SUCCESS_ONLY, priority=initial_data["priority"])

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    async with start(bp) as node:
        jobs = []
        for name, priority in (("a", 0), ("b", 1.5), ("c", -1), ("d", 1.5), ("e", 0), ("f", 9)):
            jobs.append(await create(node, "bp", {"name": name, "priority": priority}))
            await waits(node, jobs[-1])
        assert await order_of(node, jobs) == "fbdaec"


async def test_tasks_that_say_no_priority_have_that_of_their_job_in_parts_of_it_too(start: Start) -> None:
    said = one_task(name="said", priority=2), above("one_task"), one_task()
    async with start(*said) as node, http(node) as door:
        jobs = [
            await create(node, "one_task", {"name": "a"}),
            await create(node, "said", {"name": "b"}, priority=-9),
            await create(node, "one_task", {"name": "c"}, priority=1.5),
            await create(node, "above", {"name": "d"}, priority=3),
        ]
        body = {"initial_data": {"name": "e"}, "priority": -1}
        jobs.append((await door.post("/api/v1/jobs/one_task", json=body)).json()["job_id"])
        for job_id in [*jobs[:3], await part_of(node, jobs[3]), jobs[4]]:
            await waits(node, job_id)
        assert await order_of(node, jobs) == "dbcae"


async def test_c24_a_result_timeout_reaches_the_worker_as_a_deadline_on_the_clock(start: Start) -> None:
    deadlines: list[float | None] = []
    async with start(one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(deadline: float | None) -> None:
            deadlines.append(deadline)

        async with worker:
            before = time.time()
            await node.run("one_task", {}, result_timeout=60)
            await node.run("one_task", {})
            after = time.time()
    by_result, by_execution = deadlines
    assert by_result is not None
    assert before + 59 <= by_result <= after + 61
    assert by_execution is not None
    assert before + 299 <= by_execution <= after + 301


async def test_c24_the_nearer_of_result_and_execution_timeout_is_the_deadline(start: Start) -> None:
    async with start(one_task(timeout_seconds=20, result_timeout_seconds=50)) as node, a_wire(node, "w1") as wire:
        before = time.time()
        await create(node, "one_task", {}, result_timeout=90)
        offer = await wire.offer()
        after = time.time()
        left, deadline = offer.time_left.ToMilliseconds() / 1000, offer.deadline.ToMilliseconds() / 1000
        assert 0 < left <= 20
        assert before + 19 <= deadline <= after + 21
        # Both say the same moment.
        assert before - 1 <= deadline - left <= after + 1
        await wire.send(updates(result(offer)))


async def test_c25_a_task_that_is_held_for_longer_than_its_lease_does_not_time_out(start: Start) -> None:
    clock = one_task(name="clock", skill="nobody-has-this")
    short = {"HEARTBEAT_INTERVAL_SECONDS": 0.1, "WORKER_SILENCE_SECONDS": 0.9, "TASK_LEASE_SECONDS": 1.0}
    async with start(one_task(), clock, WORKER_TIMEOUT_SECONDS=300, **short) as node:
        worker = node.new_worker("w1")
        began, go_on = asyncio.Event(), asyncio.Event()

        @worker.skill("t")
        async def t(attempt: int) -> dict[str, int]:
            began.set()
            await go_on.wait()
            return {"attempt": attempt}

        async with worker:
            job_id = await create(node, "one_task", {})
            await happened(began)
            # The node's own timer measures two leases.
            assert (await node.run("clock", {}, dispatch_timeout=2.1)).status == "failed"
            assert (await node.client.get_job(job_id)).status == "waiting_for_worker"
            go_on.set()
            assert (await ended(node, job_id)).result == {"attempt": 1}


async def test_a_result_that_comes_twice_counts_once(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        offer = await wire.offer()
        await wire.send(updates(result(offer, {"n": 1}), result(offer, {"n": 2})))
        verdicts = [(await wire.verdict()).verdict for _ in range(2)]
        assert verdicts == [worker_pb2.VERDICT_COMMITTED] * 2
        assert (await ended(node, job_id)).result == {"n": 1}
        assert len(await history(node, job_id, "task_finished")) == 1


async def test_results_that_come_together_are_decided_upon_one_after_the_other_and_others_run_in_between(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, count = Passes(), 20
    async with start(one_task()) as node:
        worker = node.new_worker("w1", max_concurrent=count)
        began, done = asyncio.Semaphore(0), asyncio.Event()

        @worker.skill("t")
        async def t() -> None:
            began.release()
            await done.wait()

        async with worker:
            # From then on it is known that its handlers await nothing.
            done.set()
            assert (await node.run("one_task", {})).status == "finished"
            done.clear()
            jobs = [await create(node, "one_task") for _ in range(count)]
            for _ in range(1 + count):
                await began.acquire()
            # As if each of them took long.
            monkeypatch.setattr("holon.turns.AT_ONCE_S", -1.0)
            monkeypatch.setattr(Handlers, "run_now", passes.counted("run_now", Handlers.run_now))
            watching = asyncio.create_task(passes.run())
            done.set()
            for job_id in jobs:
                assert (await ended(node, job_id)).status == "finished"
            watching.cancel()
    assert passes.all["run_now"] > count // 2
    assert passes.most["run_now"] == 1
