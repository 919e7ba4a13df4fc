"""Acceptance: a task that fails: what each code means, how it is tried again, and where its job goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from holon.client import Job
from holon.config.rules import AROUND_BYTES
from holon.config.setting import MIB
from holon.testing import RunningNode
from holon.worker import Result, TaskError, Worker
from tests.integration.cases.site import SUCCESS_ONLY, Start, a_wire, create, ended, failure, history, one_task
from tests.integration.grpc_node import result, updates

TRANSIENT = (
    "TRANSIENT_ERROR",
    "RESOURCE_EXHAUSTED_ERROR",
    "TIMEOUT_ERROR",
    "INTERNAL_ERROR",
    "LIMIT_EXCEEDED_ERROR",
    "DEPENDENCY_MISSING_ERROR",
    "LATE_RESULT",
    "A_CODE_OF_THEIR_OWN",
)
PERMANENT = ("PERMANENT_ERROR", "SECURITY_ERROR", "DEPENDENCY_ERROR", "CONTRACT_VIOLATION_ERROR")
INVALID = ("INVALID_INPUT_ERROR", "INTEGRITY_MISMATCH_ERROR")


@asynccontextmanager
async def failing(node: RunningNode) -> AsyncIterator[None]:
    """A worker that fails with the code in the params."""
    worker = node.new_worker("w1", max_concurrent=20)

    @worker.skill("t")
    async def t(code: str) -> None:
        raise TaskError(code, "no luck", {"code": code})

    async with worker:
        yield


# What the node says of its own accord, or a child holon of its jobs.
NO_WORKERS = (
    "DISPATCH_TIMEOUT",
    "RESULT_TIMEOUT",
    "WORKER_LOST",
    "CHILD_FAILED",
    "CHILD_QUARANTINED",
    "CANCELLED_BY_CHILD",
)


async def fate(node: RunningNode, job_id: str) -> tuple[str, str, str, int]:
    """How a job ended: its status, its state, its error's code, and how often its task ran."""
    job = await ended(node, job_id)
    assert job.error is not None, job
    return job.status, job.current_state, job.error.code, len(await history(node, job_id, "task_finished"))


async def fates(node: RunningNode, codes: tuple[str, ...]) -> dict[str, tuple[str, str, str, int]]:
    jobs = {code: await create(node, "one_task", {"code": code}) for code in codes}
    return {code: await fate(node, job_id) for code, job_id in jobs.items()}


def message(job: Job) -> str:
    assert job.error is not None, job
    return job.error.message


# The table of codes ----------------------------------------------------------------------------------------------


async def test_c05_transient_failures_are_tried_four_times_and_then_quarantined(start: Start) -> None:
    async with start(one_task(SUCCESS_ONLY)) as node, failing(node):
        assert await fates(node, TRANSIENT) == {code: ("quarantined", "start", code, 4) for code in TRANSIENT}
        transient = ("quarantined", "start", "TRANSIENT_ERROR", 4)
        assert await fates(node, NO_WORKERS) == dict.fromkeys(NO_WORKERS, transient)
        assert message(await node.run("one_task", {"code": "WORKER_LOST"})).endswith(": WORKER_LOST: no luck")
        job = await node.run("one_task", {"code": "TRANSIENT_ERROR"})
        assert message(job) == "Task failed after 4 attempts: TRANSIENT_ERROR: no luck"
        assert job.error is not None
        assert job.error.details == {"code": "TRANSIENT_ERROR"}
        told = await history(node, job.id, "task_finished")
        assert [event.attempt_number for event in told] == [1, 2, 3, 4]
        assert {event.task_id for event in told} == {told[0].task_id}
        assert told[0].context_snapshot["code"] == "TRANSIENT_ERROR"


async def test_c07_permanent_failures_quarantine_at_once(start: Start) -> None:
    async with start(one_task(SUCCESS_ONLY)) as node, failing(node):
        assert await fates(node, PERMANENT) == {code: ("quarantined", "start", code, 1) for code in PERMANENT}
        assert message(await node.run("one_task", {"code": "PERMANENT_ERROR"})) == (
            "Task failed: PERMANENT_ERROR: no luck"
        )


async def test_c09_invalid_input_fails_the_job_at_once(start: Start) -> None:
    async with start(one_task(SUCCESS_ONLY)) as node, failing(node):
        assert await fates(node, INVALID) == {code: ("failed", "start", code, 1) for code in INVALID}


async def test_c09_invalid_input_fails_the_job_even_where_a_failure_transition_is_declared(start: Start) -> None:
    async with start(one_task()) as node, failing(node):
        assert await fates(node, INVALID) == {code: ("failed", "start", code, 1) for code in INVALID}


async def test_c11_a_failure_transition_is_followed_after_the_retries_or_a_permanent_error(start: Start) -> None:
    async with start(one_task()) as node, failing(node):
        wanted = dict.fromkeys(TRANSIENT, ("failed", "on_fail", "ENDED_FAILED", 4))
        wanted |= dict.fromkeys(PERMANENT, ("failed", "on_fail", "ENDED_FAILED", 1))
        assert await fates(node, TRANSIENT + PERMANENT) == wanted


async def test_c11_the_state_after_a_failure_sees_the_error(start: Start) -> None:
    async with start(one_task()) as node, failing(node):
        job = await node.run("one_task", {"code": "PERMANENT_ERROR"})
        assert job.error is not None
        assert job.error.details == {
            "code": "PERMANENT_ERROR",
            "message": "Task failed: PERMANENT_ERROR: no luck",
            "details": {"code": "PERMANENT_ERROR"},
        }


async def test_c05_an_exception_is_a_transient_failure_that_names_itself(start: Start) -> None:
    async with start(one_task(SUCCESS_ONLY)) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        def t() -> None:
            raise ZeroDivisionError("by nothing")

        async with worker:
            job = await node.run("one_task", {})
        assert job.status == "quarantined"
        assert message(job) == "Task failed after 4 attempts: TRANSIENT_ERROR: ZeroDivisionError: by nothing"


@pytest.mark.parametrize("how", ["a bare status", "an error without a code"])
async def test_c05_a_failure_without_a_code_is_transient(start: Start, how: str) -> None:
    async with start(one_task(SUCCESS_ONLY), JOB_MAX_RETRIES=1) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        for attempt in (1, 2):
            offer = await wire.offer()
            assert offer.attempt == attempt
            said = {"status": "failure"} if how == "a bare status" else failure("")
            await wire.send(updates(result(offer, **said)))
            await wire.verdict()
        job = await ended(node, job_id)
        why = "no reason given" if how == "a bare status" else "no luck"
        assert (job.status, message(job)) == ("quarantined", f"Task failed after 2 attempts: TRANSIENT_ERROR: {why}")


async def test_c05_a_bare_failure_of_the_sdk_is_tried_again(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(attempt: int) -> Result:
            return Result("failure") if attempt < 3 else Result(data={"attempt": attempt})

        async with worker:
            assert (await node.run("one_task", {})).result == {"attempt": 3}


@pytest.mark.parametrize(("retries", "tries"), [(0, 1), (1, 2)])
async def test_c05_the_number_of_retries_is_a_setting(start: Start, retries: int, tries: int) -> None:
    async with start(one_task(SUCCESS_ONLY), JOB_MAX_RETRIES=retries) as node, failing(node):
        wanted = ("quarantined", "start", "TRANSIENT_ERROR", tries)
        assert await fates(node, ("TRANSIENT_ERROR",)) == {"TRANSIENT_ERROR": wanted}


async def test_c05_retries_are_counted_for_each_task_alone(start: Start) -> None:
    bp = one_task({"success": "start", "done": "finished"})
    async with start(bp) as node:
        worker = node.new_worker("w1")
        runs = 0

        @worker.skill("t", statuses=["done"])
        async def t() -> Result:
            nonlocal runs
            runs += 1
            if runs % 4:
                raise TaskError("TRANSIENT_ERROR", "not yet")
            return Result("done" if runs == 12 else "success")

        async with worker:
            assert (await node.run("one_task", {})).status == "finished"
        assert runs == 12


# Who tries again -------------------------------------------------------------------------------------------------


async def test_a_retry_goes_to_another_worker_when_there_is_one(start: Start) -> None:
    async with start(one_task()) as node:
        tried: list[str] = []

        def add(name: str) -> Worker:
            worker = node.new_worker(name)

            @worker.skill("t")
            async def t(attempt: int) -> dict[str, int]:
                tried.append(name)
                if attempt == 1:
                    raise TaskError("TRANSIENT_ERROR", "not here")
                return {"attempt": attempt}

            return worker

        async with add("w1") as one, add("w2") as two:
            await asyncio.gather(one.ready(), two.ready())
            for _ in range(5):
                tried.clear()
                job = await node.run("one_task", {})
                assert job.result == {"attempt": 2}
                assert sorted(tried) == ["w1", "w2"]


async def test_a_retry_stays_with_the_only_worker(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(attempt: int) -> dict[str, int]:
            if attempt < 4:
                raise TaskError("TRANSIENT_ERROR", "not yet")
            return {"attempt": attempt}

        async with worker:
            job = await node.run("one_task", {})
        assert job.result == {"attempt": 4}
        told = await history(node, job.id, "task_finished")
        assert [event.context_snapshot["status"] for event in told] == ["failure"] * 3 + ["success"]


# Contracts -------------------------------------------------------------------------------------------------------


@dataclass
class Length:
    seconds: int


@pytest.mark.parametrize("data", [{}, {"seconds": "long"}, {"seconds": 1, "hours": 0}, None])
async def test_c12_a_result_against_the_skills_own_schema_is_not_tried_again(start: Start, data: Any) -> None:
    async with start(one_task(SUCCESS_ONLY)) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> Length:
            wrong: Length = data
            return wrong

        async with worker:
            job_id = await create(node, "one_task", {})
            assert await fate(node, job_id) == ("quarantined", "start", "CONTRACT_VIOLATION", 1)
            assert "output schema" in message(await ended(node, job_id))


async def test_c12_a_broken_contract_follows_a_failure_transition(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> Length:
            wrong: Any = {}
            return wrong  # type: ignore[no-any-return]  # the broken promise that is tried

        async with worker:
            job_id = await create(node, "one_task", {})
            assert await fate(node, job_id) == ("failed", "on_fail", "ENDED_FAILED", 1)


async def test_c12_a_result_that_keeps_the_contract_and_other_statuses_are_not_touched(start: Start) -> None:
    async with start(one_task({"success": "finished", "unknown": "no_length"})) as node:
        worker = node.new_worker("w1")

        @worker.skill("t", statuses=["unknown"])
        async def t(known: bool) -> Length:
            other: Any = Result("unknown", {"tried": 3})
            return Length(95) if known else other

        async with worker:
            assert (await node.run("one_task", {"known": True})).result == {"seconds": 95}
            job = await node.run("one_task", {"known": False})
            assert (job.current_state, job.result) == ("no_length", {"tried": 3})


async def test_data_that_json_cannot_hold_is_a_permanent_failure(start: Start) -> None:
    async with start(one_task(SUCCESS_ONLY)) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> Any:
            return {"x": object()}

        async with worker:
            job_id = await create(node, "one_task", {})
            assert await fate(node, job_id) == ("quarantined", "start", "PERMANENT_ERROR", 1)


async def test_the_largest_params_and_result_that_settings_allow_fit_into_their_messages(start: Start) -> None:
    size, skill = 2 * AROUND_BYTES, "s" * 128
    settings = {"INLINE_PAYLOAD_MAX_BYTES": size, "GRPC_MESSAGE_MAX_BYTES": size + AROUND_BYTES}
    async with start(one_task(skill=skill), **settings) as node:
        worker = node.new_worker("w1")

        @worker.skill(skill)
        async def echo(x: str) -> dict[str, str]:
            return {"x": x}

        async with worker:
            job = await node.run("one_task", {"x": "x" * (size - len('{"x":""}'))})
            assert job.status == "finished"


async def test_larger_messages_that_settings_allow_are_read_by_workers_and_clients(start: Start) -> None:
    size = 5 * MIB
    settings = {"INLINE_PAYLOAD_MAX_BYTES": 2 * size, "STATE_MAX_BYTES": 4 * size, "GRPC_MESSAGE_MAX_BYTES": 4 * size}
    async with start(one_task(), **settings) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def echo(x: str) -> dict[str, str]:
            return {"x": x}

        async with worker:
            job = await node.run("one_task", {"x": "x" * size})
            assert job.status == "finished"


async def test_a_result_over_the_limit_is_a_permanent_failure(start: Start) -> None:
    async with start(one_task(SUCCESS_ONLY), INLINE_PAYLOAD_MAX_BYTES=4096) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> dict[str, str]:
            return {"x": "x" * 5000}

        async with worker:
            job_id = await create(node, "one_task", {})
            assert await fate(node, job_id) == ("quarantined", "start", "LIMIT_EXCEEDED", 1)
