"""Signals: jobs go on by what happens outside, whenever it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from tests.integration.cases.parts import above, part_of
from tests.integration.cases.site import (
    Start,
    create,
    ended,
    happened,
    history,
    http,
    seen,
    waits,
    written,
)

AWAITING = "waiting_for_signal"


def order(ways: Mapping[str, str] | None = None, *, name: str = "order", **options: Any) -> Blueprint:
    """Waits for `paid`, then for `sent`, and ends with what came with them."""
    bp = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.await_signal({"paid": "packing", "refused": "closed"} if ways is None else ways, **options)

    @bp.handler
    async def packing(actions: ActionFactory) -> None:
        actions.await_signal({"sent": "finished"})

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    @bp.handler(is_end=True, outcome="failed")
    async def closed() -> None: ...

    @bp.handler(is_end=True)
    async def late(state_history: dict[str, Any]) -> Any:
        return state_history["error"]["code"]

    return bp


async def test_signals_lead_on_a_job_that_waits_for_them_with_what_comes_with_them(start: Start) -> None:
    async with start(order()) as node, http(node) as web:
        job_id = await create(node, "order")
        waiting = await waits(node, job_id, AWAITING)
        assert waiting.signal is not None
        assert (waiting.signal.names, waiting.signal.expires_at) == (("paid", "refused"), None)
        assert waiting.progress_message == "waiting for a signal (paid, refused)"
        await node.client.send_signal(job_id, "paid", {"amount": 7})
        await seen(node, job_id, lambda job: job.current_state == "packing" and job.status == AWAITING)
        shown = (await web.get(f"/api/v1/jobs/{job_id}")).json()
        assert (shown["signal"], shown["kept_signals"]) == ({"names": ["sent"], "expires_at": None}, 0)
        body = {"name": "sent", "data": {"by": "post"}}
        answer = await web.post(f"/api/v1/jobs/{job_id}/signals", json=body)
        assert (answer.status_code, answer.json()) == (200, {"status": "signal_received", "job_id": job_id})
        job = await ended(node, job_id)
        assert (job.status, job.result, job.signal) == ("finished", {"amount": 7, "by": "post"}, None)
        lines = await history(node, job_id, "signal_awaited", "signal_received")
        assert [(one.event_type, one.next_state, one.context_snapshot) for one in lines] == [
            ("signal_awaited", None, {"names": ["paid", "refused"]}),
            (
                "signal_received",
                "packing",
                {"name": "paid", "by": "default", "request_id": lines[1].context_snapshot["request_id"]},
            ),
            ("signal_awaited", None, {"names": ["sent"]}),
            ("signal_received", "finished", {"name": "sent", "by": "default"}),
        ]


async def test_signals_that_come_early_are_kept_and_the_oldest_goes_first(start: Start) -> None:
    async with start(order()) as node:
        job_id = await create(node, "order")
        await waits(node, job_id, AWAITING)
        for n in (1, 2):
            await node.client.send_signal(job_id, "sent", {"n": n})
        await seen(node, job_id, lambda job: job.kept_signals == 2 and job.status == AWAITING)
        await node.client.send_signal(job_id, "paid")
        job = await ended(node, job_id)
        assert (job.status, job.result, job.kept_signals) == ("finished", {"n": 1}, 0)
        kinds = [one.event_type for one in await history(node, job_id) if one.event_type.startswith("signal_")]
        assert kinds == ["signal_awaited", *["signal_received"] * 3, "signal_taken"]


def ticking(count: int) -> Blueprint:
    """Ends once it has had so many signals; their numbers are its result."""
    bp = Blueprint("ticking", api_endpoint="/jobs/ticking", api_version="v1")

    @bp.handler(is_start=True)
    async def start(state_history: dict[str, Any], actions: ActionFactory) -> None:
        if "n" in state_history:
            state_history["seen"] = [*state_history.get("seen", []), state_history.pop("n")]
        if len(state_history.get("seen", [])) == count:
            actions.go_to("finished")
        else:
            actions.await_signal({"tick": "start"})

    @bp.handler(is_end=True)
    async def finished(seen: list[int]) -> Any:
        return seen

    return bp


async def test_signals_that_come_together_each_count_once_and_a_repeat_of_one_does_not(start: Start) -> None:
    count = 40
    async with start(ticking(count)) as node:
        job_id = await create(node, "ticking")
        sends = [node.client.send_signal(job_id, "tick", {"n": n}, request_id=f"r{n}") for n in (*range(count),) * 2]
        await asyncio.gather(*sends)
        job = await ended(node, job_id)
        assert (job.status, sorted(job.result)) == ("finished", [*range(count)])
        # Also once the job is over.
        assert (await node.client.send_signal(job_id, "tick", {"n": 3}, request_id="r3")).status == "finished"
        with pytest.raises(AlreadyExists, match="was used for another signal"):
            await node.client.send_signal(job_id, "tock", request_id="r3")


def busy(kind: str) -> Blueprint:
    """Waits for something else first: a task, several, a person, a time; then takes the signal."""
    bp = Blueprint("busy", api_endpoint="/jobs/busy", api_version="v1")

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        match kind:
            case "task":
                actions.dispatch_task("t", {}, {"success": "then"}, result_timeout_seconds=600)
            case "tasks":
                actions.dispatch_parallel([{"task_type": "t"}] * 3, "gather")
            case "person":
                actions.await_human_approval("chat", "Well?", {"yes": "then", "timeout": "then"}, timeout_seconds=600)
            case "time":
                actions.sleep(1.5, "then")

    @bp.aggregator
    async def gather(actions: ActionFactory) -> None:
        actions.go_to("then")

    @bp.handler
    async def then(actions: ActionFactory) -> None:
        actions.await_signal({"go": "finished"})

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    return bp


@pytest.mark.parametrize("kind", ["task", "tasks", "person", "time"])
async def test_signals_leave_whatever_else_their_job_waits_for_as_it_is(start: Start, kind: str) -> None:
    async with start(busy(kind)) as node:
        worker = node.new_worker("w1")
        worker.skill("t")(_nothing)
        job_id = await create(node, "busy")
        before = await seen(node, job_id, lambda job: job.status.startswith("waiting_for"))
        await node.client.send_signal(job_id, "other")
        await node.client.send_signal(job_id, "go", {"went": True})
        kept = await seen(node, job_id, lambda job: job.kept_signals)
        assert kept.status in (before.status, AWAITING)
        if kind == "person":
            assert kept.approval == before.approval
            await node.client.resolve_approval(job_id, "yes")
        async with worker:
            job = await ended(node, job_id)
        assert (job.status, job.result["went"]) == ("finished", True)
        if kind == "time":
            [began] = await history(node, job_id, "timer_started")
            ends = [one.timestamp for one in await history(node, job_id, "state_started") if one.state == "then"]
            assert ends[0] - began.timestamp >= 1.5


async def _nothing() -> None: ...


@pytest.mark.parametrize(("ways", "end"), [({}, ("failed", "start")), ({"timeout": "late"}, ("finished", "late"))])
async def test_signals_that_do_not_come_in_time_let_their_job_go_on_without(
    start: Start, ways: dict[str, str], end: tuple[str, str]
) -> None:
    async with start(order({"paid": "packing"} | ways, timeout_seconds=0.05)) as node:
        job = await ended(node, await create(node, "order"))
        assert (job.status, job.current_state) == end
        if job.error is not None:
            assert (job.error.code, job.error.message) == ("SIGNAL_TIMEOUT", "no signal came in time: paid")
        else:
            assert job.result == "SIGNAL_TIMEOUT"
        [line] = await history(node, job.id, "signal_timed_out")
        assert line.context_snapshot == {"names": ["paid"]}


async def test_a_cancel_ends_a_wait_for_a_signal_by_its_way(start: Start) -> None:
    async with start(order({"paid": "packing", "cancelled": "late"})) as node:
        job_id = await create(node, "order")
        await waits(node, job_id, AWAITING)
        # Nobody can send that, or the end of the time.
        for word in ("cancelled", "timeout"):
            with pytest.raises(InvalidArgument, match=f"name is '{word}', which is reserved"):
                await node.client.send_signal(job_id, word)
        await seen(node, job_id, lambda job: job.kept_signals == 0 and job.status == AWAITING)
        await node.client.cancel_job(job_id)
        job = await ended(node, job_id)
        assert (job.status, job.current_state) == ("cancelled", "late")
        with pytest.raises(FailedPrecondition, match="has ended: it is cancelled") as over:
            await node.client.send_signal(job_id, "paid")
        assert over.value.code == "JOB_TERMINATED"


BAD: tuple[tuple[dict[str, Any], int, str], ...] = (
    ({}, 400, "INVALID_ARGUMENT"),
    ({"name": ""}, 400, "INVALID_ARGUMENT"),
    ({"name": "x" * 129}, 400, "INVALID_ARGUMENT"),
    ({"name": "a\nb"}, 400, "INVALID_ARGUMENT"),
    ({"name": "timeout"}, 400, "INVALID_ARGUMENT"),
    ({"name": 7}, 400, "INVALID_ARGUMENT"),
    ({"name": "paid", "data": [1]}, 400, "INVALID_ARGUMENT"),
    ({"name": "paid", "what": 1}, 400, "INVALID_ARGUMENT"),
    ({"name": "paid", "data": {"x": "y" * 70_000}}, 413, "LIMIT_EXCEEDED"),
    ({"name": "paid", "to_job_id": "0-no"}, 409, "SIGNAL_NOT_AWAITED"),
)


async def test_what_is_no_signal_is_refused_and_the_job_waits_as_before(start: Start) -> None:
    async with start(order()) as node, http(node) as web:
        job_id = await create(node, "order")
        await waits(node, job_id, AWAITING)
        for body, status, code in BAD:
            answer = await web.post(f"/api/v1/jobs/{job_id}/signals", json=body)
            assert (answer.status_code, answer.json()["code"]) == (status, code), body
        for unknown in ("0-none", "x" * 5_000):
            with pytest.raises(NotFound):
                await node.client.send_signal(unknown, "paid")
        with pytest.raises(InvalidArgument):
            await node.client.send_signal(job_id, "paid", [1])
        deep: Any = {}
        for _ in range(65):
            deep = {"d": deep}
        with pytest.raises(InvalidArgument, match="nested deeper"):
            await node.client.send_signal(job_id, "paid", deep)
        job = await node.client.get_job(job_id)
        assert (job.status, job.kept_signals) == (AWAITING, 0)


async def test_a_job_keeps_64_signals_and_still_takes_the_one_that_it_waits_for(start: Start) -> None:
    async with start(order()) as node:
        job_id = await create(node, "order")
        await waits(node, job_id, AWAITING)
        for n in range(64):
            await node.client.send_signal(job_id, "sent", {"n": n}, request_id=f"r{n}")
        await seen(node, job_id, lambda job: job.kept_signals == 64)
        with pytest.raises(ResourceExhausted, match="keeps 64 unused signals") as full:
            await node.client.send_signal(job_id, "sent")
        assert full.value.code == "SIGNALS_FULL"
        # What it has is not refused when it comes again.
        await node.client.send_signal(job_id, "sent", {"n": 7}, request_id="r7")
        await node.client.send_signal(job_id, "paid")
        job = await ended(node, job_id)
        assert (job.status, job.result) == ("finished", {"n": 0})


def slow(began: asyncio.Event, may_go_on: asyncio.Event) -> Blueprint:
    """Waits for `go` once it may, after something that takes long."""
    bp = Blueprint("slow", api_endpoint="/jobs/slow", api_version="v1")

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        began.set()
        await may_go_on.wait()
        actions.await_signal({"go": "finished"})

    @bp.handler(is_end=True)
    async def finished(state_history: dict[str, Any]) -> Any:
        return state_history

    return bp


@pytest.mark.parametrize(("data", "most"), [({}, 64), ({"x": "y" * 65_000}, 16)])
async def test_a_busy_job_loses_no_signal_that_was_taken_and_no_more_are_taken_than_it_can_keep(
    start: Start, data: dict[str, str], most: int
) -> None:
    began, may_go_on = asyncio.Event(), asyncio.Event()
    async with start(slow(began, may_go_on)) as node:
        job_id = await create(node, "slow")
        await happened(began)
        for n in range(most):
            await node.client.send_signal(job_id, "other", data, request_id=f"r{n}")
        with pytest.raises(ResourceExhausted) as full:
            await node.client.send_signal(job_id, "go", data | {"n": 1})
        assert full.value.code == "INBOX_FULL"
        may_go_on.set()
        await seen(node, job_id, lambda job: job.kept_signals == most and job.status == AWAITING)
        await node.client.send_signal(job_id, "go", {"n": 2})
        job = await ended(node, job_id)
        assert (job.status, job.result) == ("finished", {"n": 2})


async def test_a_request_id_of_a_signal_that_waits_for_its_job_names_no_other(start: Start) -> None:
    began, may_go_on = asyncio.Event(), asyncio.Event()
    async with start(slow(began, may_go_on)) as node, http(node) as web:
        job_id = await create(node, "slow")
        await happened(began)
        await node.client.send_signal(job_id, "go", {"n": 1}, request_id="r")
        with pytest.raises(AlreadyExists, match="was used for another signal") as reused:
            await node.client.send_signal(job_id, "stop", request_id="r")
        assert reused.value.code == "REQUEST_ID_REUSED"
        key = {"Idempotency-Key": "r"}
        answer = await web.post(f"/api/v1/jobs/{job_id}/signals", json={"name": "stop"}, headers=key)
        assert (answer.status_code, answer.json()["code"]) == (409, "REQUEST_ID_REUSED")
        # The same is answered as before, with whatever comes with it.
        await node.client.send_signal(job_id, "go", {"n": 2}, request_id="r")
        may_go_on.set()
        job = await ended(node, job_id)
        assert (job.status, job.result) == ("finished", {"n": 1})


async def test_a_part_is_sent_signals_through_the_job_above_and_by_itself(start: Start) -> None:
    async with start(above("between"), above("order", name="between"), order()) as node:
        job_id = await create(node, "above", {})
        between = await part_of(node, job_id)
        lowest = await part_of(node, between)
        awaited = await written(node, job_id, "worker_event:signal_awaited")
        assert awaited.context_snapshot["payload"] == {"names": ["paid", "refused"]}
        assert awaited.context_snapshot["job_ids"] == [between, lowest]
        await node.client.send_signal(job_id, "paid", {"by": "above"}, to_job_id=lowest, request_id="r1")
        await seen(node, lowest, lambda job: job.current_state == "packing" and job.status == AWAITING)
        # A repeat is kept by nobody.
        await node.client.send_signal(job_id, "paid", {"by": "above"}, to_job_id=lowest, request_id="r1")
        await node.client.send_signal(lowest, "sent")
        job = await ended(node, job_id)
        assert (job.status, job.result) == ("finished", {"by": "above"})
        for name in ("paid", "sent"):
            with pytest.raises(FailedPrecondition) as over:
                await node.client.send_signal(job_id, name, to_job_id=lowest)
            assert over.value.code in ("SIGNAL_NOT_AWAITED", "JOB_TERMINATED")


async def test_signals_that_are_kept_outlive_the_node(start: Start) -> None:
    async with start(order()) as node:
        job_id = await create(node, "order")
        await waits(node, job_id, AWAITING)
        await node.client.send_signal(job_id, "sent", {"n": 1})
    async with start(order()) as node:
        await seen(node, job_id, lambda job: job.kept_signals == 1)
        await node.client.send_signal(job_id, "paid")
        job = await ended(node, job_id)
        assert (job.status, job.result) == ("finished", {"n": 1})
