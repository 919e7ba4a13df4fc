"""Acceptance: handlers: what they are given, and what becomes of a job whose handler does it wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory, JobContext
from tests.integration.cases.site import NEVER, Start, create, ended, history, waits


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


async def test_b19_a_handler_may_raise_with_a_text_that_is_no_unicode(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.go_to("begin")
        raise FileNotFoundError("no file \udcff")

    async with start(bp, JOB_MAX_RETRIES=0) as node:
        job = await node.run("bp", {})
        assert job.status == "quarantined"
        assert "FileNotFoundError: no file \\udcff" in code_and_message(job)[1]
        assert "no file \\udcff" in (await history(node, job.id, "state_failed"))[0].context_snapshot["error"]


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


class OfAnotherKind(BaseException):
    """As some libraries make them: no `except Exception` sees it."""


class WithoutText(Exception):
    def __str__(self) -> str:
        raise ValueError("it has none")


RAISED = [
    SystemExit(3),
    KeyboardInterrupt(),
    RecursionError("deep"),
    StopAsyncIteration(),
    TimeoutError(),
    asyncio.CancelledError(),
    OfAnotherKind(),
    WithoutText(),
]


@pytest.mark.parametrize("raised", RAISED, ids=lambda raised: type(raised).__name__)
async def test_whatever_a_handler_raises_is_its_own_failure_and_disturbs_no_other_job(
    start: Start, raised: BaseException
) -> None:
    bp = blueprint()

    @bp.handler(is_start=True, is_end=True)
    async def only(initial_data: dict[str, Any]) -> None:
        if initial_data.get("bad"):
            raise raised

    async with start(bp, JOB_MAX_RETRIES=1, EXECUTOR_MAX_CONCURRENT_JOBS=1) as node:
        bad = await create(node, "bp", {"bad": True})
        assert (await node.run("bp", {})).status == "finished"
        job = await ended(node, bad)
        assert (job.status, code_and_message(job)[0]) == ("quarantined", "HANDLER_ERROR")
        assert type(raised).__name__ in code_and_message(job)[1]
        # Now that it ended well once, it is run with what creates its job.
        assert (await ended(node, await create(node, "bp", {"bad": True}))).status == "quarantined"
        assert (await node.run("bp", {})).status == "finished"


async def test_what_a_handler_waits_for_may_be_cancelled_by_others(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "then"})

    @bp.handler(is_end=True)
    async def then(initial_data: dict[str, Any]) -> None:
        if initial_data.get("bad"):
            request = asyncio.get_running_loop().create_future()
            request.cancel()
            await request

    async with start(bp, JOB_MAX_RETRIES=0, EXECUTOR_MAX_CONCURRENT_JOBS=1) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> None: ...

        async with worker:
            assert (await node.run("bp", {})).status == "finished"
            job = await node.run("bp", {"bad": True})
            assert job.status == "quarantined"
            code, message = code_and_message(job)
            assert code == "HANDLER_ERROR"
            assert message.endswith("CancelledError: what the handler waited for was cancelled")
            assert (await node.run("bp", {})).status == "finished"


async def test_i6_a_handler_that_cancels_its_own_run_ends_alone(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True, is_end=True)
    async def only(initial_data: dict[str, Any]) -> None:
        run = asyncio.current_task()
        if initial_data.get("bad") and run is not None:
            run.cancel()
            if initial_data["bad"] == "and waits":
                await asyncio.sleep(0)

    async with start(bp, EXECUTOR_MAX_CONCURRENT_JOBS=1, JOB_CLAIM_SECONDS=0.2, JOB_MAX_RETRIES=0) as node:
        waits = await create(node, "bp", {"bad": "and waits"})
        goes_on = await create(node, "bp", {"bad": "and goes on"})
        assert (await node.run("bp", {})).status == "finished"
        assert code_and_message(await ended(node, waits))[0] == "HANDLER_ERROR"
        # What became of its step depends on how far that had come; it does not run for ever.
        assert (await ended(node, goes_on)).status in ("finished", "quarantined")
        assert (await node.run("bp", {})).status == "finished"


async def test_i6_a_handler_that_is_cut_short_by_the_end_of_its_node_has_not_failed(start: Start) -> None:
    bp, begun = blueprint(), asyncio.Event()

    @bp.handler(is_start=True, is_end=True)
    async def only() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with start(bp) as node:
        job_id = await create(node, "bp")
        await asyncio.wait_for(begun.wait(), 10)
        # As at the end of a program: all at once, and whoever runs others last.
        tasks = [one for one in asyncio.all_tasks() if one.get_name().startswith("lane-")]
        tasks += [one for one in asyncio.all_tasks() if one.get_name() == "executor"]
        for one in tasks:
            one.cancel()
        await asyncio.wait(tasks, timeout=10)
        assert all(one.done() for one in tasks)
        assert await history(node, job_id, "state_failed") == []
