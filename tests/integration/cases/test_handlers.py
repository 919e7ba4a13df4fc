"""Acceptance: handlers: what they are given, and what becomes of a job whose handler does it wrong."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory, JobContext
from tests.integration.cases.site import NEVER, Start, create, ended, happened, history, one_task, seen, waits


def blueprint(name: str = "bp") -> Blueprint:
    return Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")


def code_and_message(job: Any) -> tuple[str, str]:
    assert job.error is not None, job
    return job.error.code, job.error.message


# Arguments -------------------------------------------------------------------------------------------------------


async def test_b13_arguments_are_given_by_name_and_the_context_wins_over_data(start: Start) -> None:
    bp = blueprint()
    got: dict[str, Any] = {}

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "end"})

    @bp.handler(is_end=True)
    async def end(
        job_id: str,
        blueprint_name: str,
        current_state: str,
        initial_data: dict[str, Any],
        state_history: dict[str, Any],
        aggregation_results: dict[str, Any],
        context: JobContext,
        output_path: str,
        given_at_creation: int,
        in_both: str,
        nowhere: str = "its default",
        *,
        duration: int,
    ) -> None:
        got.update(locals())

    async with start(bp) as node:
        worker = node.new_worker("w1")
        answer = {
            "output_path": "/out",
            "duration": 7,
            "in_both": "worker",
            "job_id": "spoofed",
            "initial_data": "spoofed",
            "current_state": "spoofed",
            "actions": "spoofed",
            "context": "spoofed",
        }

        @worker.skill("t")
        async def t() -> dict[str, Any]:
            return answer

        data = {"given_at_creation": 5, "in_both": "client", "blueprint_name": "spoofed"}
        async with worker:
            job = await node.run("bp", data)
    assert job.status == "finished", job
    context = got.pop("context")
    assert isinstance(context, JobContext)
    assert (context.job_id, context.current_state, context.state_history) == (job.id, "end", answer)
    assert {name: value for name, value in got.items() if name not in ("bp", "got")} == {
        "job_id": job.id,
        "blueprint_name": "bp",
        "current_state": "end",
        "initial_data": data,
        "state_history": answer,
        "aggregation_results": {},
        "output_path": "/out",
        "given_at_creation": 5,
        "in_both": "worker",
        "nowhere": "its default",
        "duration": 7,
    }


async def test_b13_the_context_alone_is_enough_to_decide(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(context: JobContext) -> None:
        context.state_history["from"] = context.initial_data["n"]
        context.actions.go_to("end")

    @bp.handler(is_end=True)
    async def end(context: JobContext) -> int:
        return int(context.state_history["from"])

    async with start(bp) as node:
        assert (await node.run("bp", {"n": 3})).result == 3


async def test_b14_an_argument_that_is_nowhere_quarantines_after_the_retries_and_is_named(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True, is_end=True)
    async def only(colour: str) -> None: ...

    async with start(bp) as node:
        job = await node.run("bp", {"size": 1})
        assert job.status == "quarantined"
        code, message = code_and_message(job)
        assert code == "MISSING_ARGUMENT"
        assert "'colour'" in message
        assert "size" in message
        assert [event.attempt_number for event in await history(node, job.id, "state_failed")] == [1, 2, 3, 4]


# Handlers that raise ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("retries", "tries"), [(3, 4), (1, 2), (0, 1)])
async def test_b19_a_handler_that_always_raises_is_tried_so_often_and_then_quarantined(
    start: Start, retries: int, tries: int
) -> None:
    bp = blueprint()
    runs = 0

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        nonlocal runs
        runs += 1
        actions.go_to("begin")
        raise ValueError("no luck")

    async with start(bp, JOB_MAX_RETRIES=retries) as node:
        job = await node.run("bp", {})
        assert (job.status, runs) == ("quarantined", tries)
        code, message = code_and_message(job)
        assert code == "HANDLER_ERROR"
        assert f"after {tries} attempts" in message
        assert "ValueError: no luck" in message
        listed = [one.id async for one in node.client.list_jobs(statuses=["quarantined"])]
        assert listed == [job.id]
        assert (await history(node, job.id))[-1].context_snapshot["code"] == "HANDLER_ERROR"


async def test_b19_a_handler_that_recovers_goes_on_and_nothing_of_its_failed_runs_is_kept(start: Start) -> None:
    bp = blueprint()
    runs = 0

    @bp.handler(is_start=True)
    async def begin(initial_data: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory) -> None:
        nonlocal runs
        runs += 1
        assert (initial_data, state_history) == ({"n": [1]}, {})
        initial_data["n"].append(2)
        state_history["run"] = runs
        if runs < 4:
            raise ValueError("not yet")
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end(initial_data: dict[str, Any], state_history: dict[str, Any]) -> list[Any]:
        return [initial_data, state_history]

    async with start(bp) as node:
        job = await node.run("bp", {"n": [1]})
        assert (job.status, job.result) == ("finished", [{"n": [1]}, {"run": 4}])


async def test_b19_failures_are_counted_for_each_handler_alone(start: Start) -> None:
    bp = blueprint()
    runs = {"one": 0, "two": 0}

    def flaky(name: str, after: str, *, is_start: bool = False) -> None:
        @bp.handler(name, is_start=is_start)
        async def step(actions: ActionFactory) -> None:
            runs[name] += 1
            if runs[name] < 4:
                raise ValueError("not yet")
            actions.go_to(after)

    flaky("one", "two", is_start=True)
    flaky("two", "end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp) as node:
        assert (await node.run("bp", {})).status == "finished"
        assert runs == {"one": 4, "two": 4}


async def test_a_handler_in_back_off_shows_it_and_can_be_cancelled(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin() -> None:
        raise ValueError("no luck")

    async with start(bp, **NEVER) as node:
        job_id = await create(node, "bp")
        await waits(node, job_id, "waiting_for_retry")
        await node.client.cancel_job(job_id)
        assert (await ended(node, job_id)).status == "cancelled"
        assert len(await history(node, job_id, "state_failed")) == 1


@pytest.mark.parametrize("raised", [SystemExit(3), RecursionError("deep"), StopAsyncIteration(), TimeoutError()])
async def test_whatever_a_handler_raises_is_its_own_failure_and_disturbs_no_other_job(
    start: Start, raised: BaseException
) -> None:
    bp = blueprint()

    @bp.handler(is_start=True, is_end=True)
    async def only(initial_data: dict[str, Any]) -> None:
        if initial_data.get("bad"):
            raise raised

    async with start(bp, JOB_MAX_RETRIES=1) as node:
        bad = await create(node, "bp", {"bad": True})
        assert (await node.run("bp", {})).status == "finished"
        assert (await ended(node, bad)).status == "quarantined"
        assert (await node.run("bp", {})).status == "finished"


# Handlers that decide wrongly ------------------------------------------------------------------------------------


async def test_a_handler_that_decides_nothing_outside_an_end_fails_its_job(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(state_history: dict[str, Any], actions: ActionFactory) -> None: ...

    async with start(bp) as node:
        job = await node.run("bp", {})
        code, message = code_and_message(job)
        assert (job.status, code) == ("failed", "NO_DECISION")
        assert "'begin'" in message
        assert len(await history(node, job.id, "state_started")) == 1


async def test_a_second_decision_is_an_error_of_the_handler_and_neither_happens(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "end"})
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp) as node:
        job = await node.run("bp", {})
        assert (job.status, code_and_message(job)[0]) == ("quarantined", "SECOND_DECISION")
        assert len(await history(node, job.id, "state_failed")) == 4
        assert not await history(node, job.id, "task_dispatched")


@pytest.mark.parametrize(
    "wrong",
    [
        {"go_to": [None]},
        {"go_to": [""]},
        {"dispatch_task": ["", {}]},
        {"dispatch_task": ["t", [1]]},
        {"dispatch_task": ["t", {}, {"success": ""}]},
        {"dispatch_parallel": [[{"params": {}}], "end"]},
        {"dispatch_parallel": [{}, "end"]},
    ],
    ids=str,
)
async def test_an_action_that_cannot_be_is_an_error_of_the_handler(start: Start, wrong: dict[str, Any]) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        ((action, arguments),) = initial_data.items()
        getattr(actions, action)(*arguments)

    async with start(bp, JOB_MAX_RETRIES=0) as node:
        job = await node.run("bp", wrong)
        assert (job.status, code_and_message(job)[0]) == ("quarantined", "ACTION_INVALID")


async def test_a_job_that_goes_round_is_stopped_at_the_limit_of_transitions(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def ping(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["n"] = state_history.get("n", 0) + 1
        actions.go_to("pong")

    @bp.handler
    async def pong(actions: ActionFactory) -> None:
        actions.go_to("ping")

    async with start(bp, MAX_TRANSITIONS_PER_JOB=7) as node:
        job = await node.run("bp", {})
        code, message = code_and_message(job)
        assert (job.status, code) == ("failed", "TOO_MANY_TRANSITIONS")
        assert "exceeded maximum transitions (7)" in message
        assert len(await history(node, job.id, "state_finished")) == 8


async def test_a_state_history_that_json_cannot_hold_is_an_error_of_the_handler(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["x"] = object()
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp, JOB_MAX_RETRIES=1) as node:
        job = await node.run("bp", {})
        assert (job.status, code_and_message(job)[0]) == ("quarantined", "NOT_JSON")
        assert len(await history(node, job.id, "state_failed")) == 2


async def test_a_state_over_the_limit_fails_the_job(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["x"] = "x" * 5000
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp, STATE_MAX_BYTES=4096) as node:
        job = await node.run("bp", {})
        assert (job.status, code_and_message(job)[0]) == ("failed", "LIMIT_EXCEEDED")
        assert (await node.run("bp", {})).status == "failed"


async def test_what_an_end_returns_and_json_cannot_hold_is_an_error_of_the_handler(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True, is_end=True)
    async def only() -> object:
        return {"x": {1, 2}}

    async with start(bp, JOB_MAX_RETRIES=1) as node:
        job = await node.run("bp", {})
        assert (job.status, code_and_message(job)[0]) == ("quarantined", "NOT_JSON")


async def test_a_running_handler_shows_its_job_as_running(start: Start) -> None:
    bp = blueprint()
    go_on, began = asyncio.Event(), asyncio.Event()

    @bp.handler(is_start=True, is_end=True)
    async def only() -> None:
        began.set()
        await go_on.wait()

    async with start(bp) as node:
        job_id = await create(node, "bp")
        await happened(began)
        job = await node.client.get_job(job_id)
        assert (job.status, job.current_state, job.finished_at) == ("running", "only", None)
        go_on.set()
        assert (await ended(node, job_id)).status == "finished"


@dataclass
class Typed:
    n: int


async def test_a_later_handler_gets_the_data_as_the_type_that_it_asks_for(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(initial_data: Typed, actions: ActionFactory) -> None:
        actions.go_to("plain" if initial_data.n else "typed")

    @bp.handler(is_end=True)
    async def plain(initial_data: dict[str, Any]) -> Any:
        return initial_data["n"]

    @bp.handler(is_end=True)
    async def typed(initial_data: Typed) -> Any:
        return initial_data.n

    async with start(bp) as node:
        assert (await node.run("bp", {"n": 5})).result == 5
        assert (await node.run("bp", {"n": 0})).result == 0


async def test_state_history_is_seen_by_the_state_after_a_worker_and_written_by_handlers_too(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(n: int) -> dict[str, int]:
            return {"n": n + 1}

        async with worker:
            job = await node.run("one_task", {"n": 1})
            assert job.result == {"n": 2}
            last = await seen(node, job.id, lambda one: one.terminal)
            assert last.current_state == "finished"
