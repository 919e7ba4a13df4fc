"""Acceptance: what handlers decide, and what becomes of a job whose handler decides wrongly."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from linecache import getlines
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.integration.cases.site import NEVER, Start, create, ended, happened, history, http, one_task, seen


def blueprint(name: str = "bp") -> Blueprint:
    return Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")


def line_of(handler: Any) -> int:
    """The line with the `def` of a handler with one decorator."""
    line: int = handler.__code__.co_firstlineno + 1
    return line


def code_and_message(job: Any) -> tuple[str, str]:
    assert job.error is not None, job
    return job.error.code, job.error.message


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


async def test_b14_b19_a_handler_that_always_raises_is_run_four_times_and_one_that_cannot_be_called_once(
    start: Start,
) -> None:
    raising, asking = blueprint("raising"), blueprint("asking")
    runs: list[int] = []

    @raising.handler(is_start=True, is_end=True)
    async def raises() -> None:
        runs.append(1)
        raise ValueError("not today")

    line = 1 + next(n for n, text in enumerate(getlines(__file__)) if "not today" in text)
    at = f'{__file__}:{line}: raise ValueError("not today")'

    @asking.handler(is_start=True, is_end=True)
    async def asks(nonsense: int) -> None:
        runs.append(2)

    async with start(raising, asking) as node, http(node) as web:
        jobs = [await node.run(name, {}) for name in ("raising", "asking")]
        assert [(job.status, *code_and_message(job)) for job in jobs] == [
            (
                "quarantined",
                "HANDLER_ERROR",
                f"handler of state 'raises' failed after 4 attempts: ValueError: not today ({at})",
            ),
            ("quarantined", "MISSING_ARGUMENT", jobs[1].error.message if jobs[1].error else ""),
        ]
        assert "requires the argument 'nonsense'" in code_and_message(jobs[1])[1]
        assert code_and_message(jobs[1])[1].endswith(
            f"({__file__}:{line_of(asks)}: async def asks(nonsense: int) -> None:)"
        )
        assert len(await history(node, jobs[1].id, "state_failed")) == 1
        assert runs == [1] * 4
        listed = (await web.get("/api/v1/jobs?status=quarantined")).json()["jobs"]
        assert [one["id"] for one in listed] == [jobs[1].id, jobs[0].id]


@pytest.mark.parametrize("then", ["raised", "swallowed", "swallowed and told otherwise", "in another run"])
async def test_a_second_decision_is_an_error_of_the_handler_and_neither_happens(start: Start, then: str) -> None:
    bp, runs = blueprint(), 0

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        if then == "in another run" and runs == 1:
            raise ValueError("not yet")
        actions.dispatch_task("t", {}, {"success": "end"})
        try:
            actions.go_to("end")
        except Exception:
            if then == "raised":
                raise
            if then == "swallowed and told otherwise":
                raise ValueError("something else") from None

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp, RETRY_BACKOFF_MIN_SECONDS=0.01, RETRY_BACKOFF_MAX_SECONDS=0.01) as node:
        job = await node.run("bp", {})
        assert job.status == "quarantined"
        code, message = code_and_message(job)
        assert code == "SECOND_DECISION"
        assert message.startswith("handler of state 'begin' failed: this run of the handler already called dis")
        assert message.endswith(f'({__file__}:{line_of(begin) + 8}: actions.go_to("end"))')
        assert len(await history(node, job.id, "state_failed")) == (2 if then == "in another run" else 1)
        assert not await history(node, job.id, "task_dispatched")


@dataclass
class Order:
    n: int


async def test_a_fault_that_no_other_run_can_mend_ends_its_job_at_once_and_names_its_line(start: Start) -> None:
    flows = {
        code: blueprint(code.lower()) for code in ("ACTION_INVALID", "STATE_NOT_FOUND", "NOT_JSON", "INPUT_INVALID")
    }
    helped: dict[str, Any] = {"success": "start", "failure": "stat"}

    @flows["ACTION_INVALID"].handler("start", is_start=True, is_end=True)
    async def invalid(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {"n": {1}})

    @flows["STATE_NOT_FOUND"].handler("start", is_start=True)
    async def unknown(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, helped)

    @flows["NOT_JSON"].handler("start", is_start=True)
    async def unkept(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["n"] = {1}
        actions.go_to("start")

    @flows["INPUT_INVALID"].handler("start", is_start=True)
    async def begin(state_history: dict[str, Any], actions: ActionFactory) -> None:
        actions.go_to("typed")

    @flows["INPUT_INVALID"].handler("typed", is_end=True)
    async def typed(initial_data: Order) -> None: ...

    lines = {
        "ACTION_INVALID": (line_of(invalid) + 1, 'actions.dispatch_task("t", {"n": {1}})'),
        "STATE_NOT_FOUND": (line_of(unknown) + 1, 'actions.dispatch_task("t", {}, helped)'),
        "NOT_JSON": (line_of(unkept) + 2, 'actions.go_to("start")'),
        "INPUT_INVALID": (line_of(typed), "async def typed(initial_data: Order) -> None: ..."),
    }
    async with start(*flows.values(), **NEVER) as node:
        for code, (line, source) in lines.items():
            job = await node.run(code.lower(), {"m": 1})
            assert (job.status, code_and_message(job)[0]) == ("quarantined", code)
            assert code_and_message(job)[1].endswith(f" ({__file__}:{line}: {source})")
            assert len(await history(node, job.id, "state_failed")) == 1
            assert not await history(node, job.id, "task_dispatched")
            if code == "STATE_NOT_FOUND":
                said = "leads to 'stat', which is not a state of blueprint 'state_not_found' (did you mean 'start'?)"
                assert said in code_and_message(job)[1]


async def test_what_a_node_that_a_handler_calls_does_not_know_may_be_known_later(start: Start) -> None:
    bp, runs = blueprint(), 0

    @bp.handler(is_start=True, is_end=True)
    async def begin() -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise NotFound("no blueprint named 'x' accepts jobs from clients", code="BLUEPRINT_NOT_FOUND")
        return runs

    async with start(bp, RETRY_BACKOFF_MIN_SECONDS=0.01, RETRY_BACKOFF_MAX_SECONDS=0.01) as node:
        assert (await node.run("bp", {})).result == 2


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

    async with start(bp, **NEVER) as node:
        job = await node.run("bp", wrong)
        assert (job.status, code_and_message(job)[0]) == ("quarantined", "ACTION_INVALID")


async def test_i8_a_job_that_goes_round_is_stopped_at_the_limit_of_transitions(start: Start) -> None:
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
        fewer = await ended(node, await create(node, "bp", {}, max_transitions=3))
        assert code_and_message(fewer)[1].startswith("exceeded maximum transitions (3)")


async def test_a_state_history_that_json_cannot_hold_is_an_error_of_the_handler(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["x"] = object()
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp, **NEVER) as node:
        job = await node.run("bp", {})
        assert (job.status, code_and_message(job)[0]) == ("quarantined", "NOT_JSON")
        assert len(await history(node, job.id, "state_failed")) == 1


async def test_i8_a_state_over_the_limit_fails_the_job(start: Start) -> None:
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


@pytest.mark.parametrize("fails", [False, True], ids=["cancelled", "fails"])
async def test_i8_a_state_of_any_size_up_to_the_limit_can_end(start: Start, fails: bool) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.go_to("middle")

    @bp.handler
    async def middle(actions: ActionFactory) -> None:
        if fails:
            raise RuntimeError("x" * 50)
        actions.dispatch_task("nobody", {}, {"success": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp, STATE_MAX_BYTES=4096, JOB_MAX_RETRIES=1) as node:
        jobs, refused = {}, 0
        for size in range(3600, 4200, 7):
            try:
                jobs[size] = await create(node, "bp", {"data": "x" * size})
            except InvalidArgument:
                refused += 1
        assert refused
        assert len(jobs) > 40
        if not fails:
            for job_id in jobs.values():
                with contextlib.suppress(FailedPrecondition):
                    await node.client.cancel_job(job_id)
        ends = {(job.status, code_and_message(job)[0]) for job in [await ended(node, one) for one in jobs.values()]}
        own = ("quarantined", "HANDLER_ERROR") if fails else ("cancelled", "CANCELLED")
        assert own in ends
        assert ends <= {own, ("failed", "LIMIT_EXCEEDED")}


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
