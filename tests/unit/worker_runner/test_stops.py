"""A task that is stopped, or whose handler stops itself: how it ends, and what it costs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.rxon.v1 import worker_pb2
from holon.worker import Cancelled, Result, TaskError
from tests.unit.worker_runner.bench import Bench, Make


@pytest.mark.parametrize(
    ("reason", "word"), [("CANCELLED", "cancelled"), ("DEADLINE", "TIMEOUT_ERROR"), ("LEASE_LOST", "STALE_OFFER")]
)
async def test_a_stop_ends_as_its_reason_says_and_only_a_cancel_as_cancelled(
    bench: Make, reason: str, word: str
) -> None:
    async def raises() -> None:
        await asyncio.Event().wait()

    async def returns() -> Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Result("cancelled")
        raise AssertionError("nothing sets that event")

    made = bench(raises, returns)
    for skill in ("raises", "returns"):
        lease = made.offer(skill)
        assert (await made.updates.next()).HasField("accepted")
        made.runner.stopped(lease, reason, 5)
        update = await made.updates.final()
        assert word in (update.result.status, update.result.error.code, update.rejected.reason)


@pytest.mark.parametrize(("says", "cost"), [(None, 7), (3, 3)], ids=["as declared", "as its handler says"])
async def test_what_was_begun_and_is_given_back_costs_what_a_try_costs(
    bench: Make, says: int | None, cost: int
) -> None:
    async def works() -> Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Result("cancelled", cost=says)
        raise AssertionError("nothing sets that event")

    made = bench(works, price=7)
    lease = made.offer("works")
    assert (await made.updates.next()).HasField("accepted")
    made.runner.stopped(lease, "LEASE_LOST", 5)
    assert (await made.updates.final()).rejected.cost == cost
    # Who leaves does not wait for what the handler says.
    made.offer("works", task_id="t2")
    assert (await made.updates.next()).HasField("accepted")
    made.runner.give_back()
    update = await made.updates.final()
    assert (update.rejected.reason, update.rejected.cost) == ("DRAINING", 7)


async def test_work_done_before_a_lost_lease_was_noticed_is_still_told(bench: Make) -> None:
    def late(cancelled: Cancelled) -> dict[str, int]:
        assert cancelled.sleep(5)
        return {"n": 1}

    made = bench(late)
    made.runner.stopped(made.offer("late"), "LEASE_LOST", 5)
    assert (await made.updates.final()).result.data.data == b'{"n":1}'


async def test_a_handler_whose_loop_is_closed_under_it_gives_its_task_back(bench: Make) -> None:
    async def endless() -> None:
        await asyncio.Event().wait()

    made = bench(endless, closing=True)
    made.offer("endless")
    assert (await made.updates.next()).HasField("accepted")
    (task,) = (one for one in asyncio.all_tasks() if one.get_name() == "task-t1")
    task.cancel()
    assert (await made.updates.final()).rejected.reason == "DRAINING"


async def test_a_handler_that_is_closed_with_its_loop_gives_its_task_back(bench: Make) -> None:
    async def closed() -> None:
        raise GeneratorExit

    made = bench(closed)
    made.offer("closed")
    assert (await made.updates.final()).rejected.reason == "DRAINING"


async def test_a_cancel_of_the_handlers_own_is_a_failure_like_another(bench: Make) -> None:
    async def inner() -> None:
        await asyncio.Event().wait()

    async def confused() -> None:
        task = asyncio.create_task(inner())
        await asyncio.sleep(0)
        task.cancel()
        await task

    assert (await bench(confused).result("confused")).error.code == "TRANSIENT_ERROR"


async def test_a_cancel_by_what_the_handler_has_begun_is_a_failure_like_another(bench: Make) -> None:
    async def late() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.Event().wait()

    result = await bench(late).result("late")
    assert (result.error.code, result.error.message) == ("TRANSIENT_ERROR", "CancelledError")


@pytest.mark.parametrize("ends", ["returns", "fails", "waits"])
async def test_a_handler_that_cancels_itself_has_an_outcome_and_frees_its_slot(bench: Make, ends: str) -> None:
    async def itself() -> dict[str, int]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if ends == "fails":
            raise TaskError("SPENT", "no more of it")
        if ends == "waits":
            await asyncio.sleep(0)
        return {"n": 1}

    made = bench(itself, slots=1)
    # With one slot the second would be given back, had the first one kept it.
    for number in range(2):
        update = await _final(made, f"t{number}")
        assert update.WhichOneof("update") == "result"
        result = update.result
        if ends == "returns":
            assert (result.status, result.data.data) == ("success", b'{"n":1}')
        else:
            assert (result.status, result.error.code) == ("failure", "SPENT" if ends == "fails" else "TRANSIENT_ERROR")


async def _final(made: Bench, task_id: str) -> worker_pb2.TaskUpdate:
    made.offer("itself", task_id=task_id)
    return await made.updates.final()


async def test_the_time_left_of_a_resumed_lease_is_its_new_limit(bench: Make) -> None:
    async def endless() -> None:
        await asyncio.Event().wait()

    made = bench(endless)
    lease = made.offer("endless", time_left={"seconds": 3600})
    made.runner.resumed(lease, 0.001)
    assert (await made.updates.final()).result.error.code == "TIMEOUT_ERROR"


async def test_cancelled_is_seen_from_threads_and_from_loops_with_its_reason(bench: Make) -> None:
    def thread(cancelled: Cancelled) -> dict[str, Any]:
        before = bool(cancelled)
        assert cancelled.sleep(5)
        return {"why": cancelled.reason, "before": before}

    async def loop(cancelled: Cancelled) -> dict[str, Any]:
        waiting = asyncio.create_task(cancelled.wait())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await waiting
            await cancelled.wait()
        return {"why": cancelled.reason, "before": False}

    made = bench(thread, loop)
    for skill in ("thread", "loop"):
        lease = made.offer(skill)
        assert (await made.updates.next()).HasField("accepted")
        made.runner.stopped(lease, "CANCELLED", 5)
        assert (await made.updates.final()).result.data.data == b'{"why":"CANCELLED","before":false}'


async def test_a_handler_that_raises_after_its_stop_was_cancelled(bench: Make) -> None:
    def stubborn(cancelled: Cancelled) -> None:
        assert cancelled.sleep(5)
        raise ValueError("interrupted")

    made = bench(stubborn)
    lease = made.offer("stubborn")
    made.runner.stopped(lease, "CANCELLED", 5)
    assert (await made.updates.final()).result.status == "cancelled"
