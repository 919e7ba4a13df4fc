"""Acceptance: handlers that do what few do: each runs once, and what it raises or leaves is its own job's matter."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from holon import Blueprint
from holon.context import ActionFactory, JobContext
from holon.engine import handlers
from holon.errors import HolonError
from tests.integration.cases.site import NEVER, Start, a_wire, create, ended, history, http, next_offer, seen
from tests.integration.grpc_node import result, updates


def blueprint() -> Blueprint:
    return Blueprint("bp", api_endpoint="/jobs/bp", api_version="v1")


def ending(handler: Any) -> Blueprint:
    """One state, which the handler ends."""
    bp = blueprint()
    bp.handler("only", is_start=True, is_end=True)(handler)
    return bp


async def test_i2_a_handler_that_waits_only_now_and_then_runs_once_for_each_job(start: Start) -> None:
    charged: Counter[str] = Counter()

    async def charge(job_id: str) -> None:
        charged[job_id] += 1

    async def only(job_id: str, amount: int) -> None:
        if amount > 0:
            await asyncio.wait_for(charge(job_id), 5)

    async with start(ending(only)) as node:
        jobs = [await node.run("bp", {"amount": amount}) for amount in (0, 0, 10, 0, 10)]
        assert [(job.status, charged[job.id]) for job in jobs] == [("finished", times) for times in (0, 0, 1, 0, 1)]


async def test_a_group_in_a_handler_whose_task_fails_disturbs_no_door(start: Start) -> None:
    async def fails() -> None:
        raise ValueError("of the group alone")

    async def only(fail: bool) -> None:
        if not fail:
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
        except* ValueError:
            pass

    async with start(ending(only)) as node, http(node) as door:
        for fail in (False, True, True):
            made = await door.post("/api/v1/jobs/bp", json={"initial_data": {"fail": fail}})
            assert made.status_code == 202
            assert (await ended(node, made.json()["job_id"])).status == "finished"


async def test_a_group_in_the_handler_behind_a_result_leaves_the_workers_stream_open(start: Start) -> None:
    async def fails() -> None:
        raise ValueError("of the group alone")

    async def after(fail: bool) -> None:
        if fail:
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(fails())

    bp = Blueprint("grouped", api_endpoint="/jobs/grouped", api_version="v1")

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "after"})

    bp.handler("after", is_end=True)(after)
    async with start(bp) as node, a_wire(node, "w1") as wire:
        for fail in (False, True, True):
            job_id = await create(node, "grouped", {"fail": fail})
            await wire.send(updates(result(await next_offer(wire))))
            assert (await ended(node, job_id)).status == "finished"


@pytest.mark.parametrize("length", [10, 2_000_000, 6_000_000])
async def test_i8_b19_however_long_an_error_is_its_job_is_quarantined_and_can_be_read(
    start: Start, length: int
) -> None:
    async def only() -> None:
        raise ValueError("x" * length)

    async with start(ending(only), JOB_MAX_RETRIES=1, RETRY_BACKOFF_MIN_SECONDS=0) as node:
        job = await node.run("bp", {})
        assert (job.status, job.error and job.error.code) == ("quarantined", "HANDLER_ERROR")
        assert job.error is not None
        assert "ValueError: xxx" in job.error.message
        assert len(job.error.message) < 10_000
        assert len(await history(node, job.id)) > 4


def _careless(text: str) -> Any:
    return json.loads(text)


async def test_b19_the_error_of_a_handler_names_the_line_of_its_own_file_that_it_passed_last(start: Start) -> None:
    async def only() -> None:
        _careless("{")

    async with start(ending(only), JOB_MAX_RETRIES=0) as node:
        job = await node.run("bp", {})
    at = f"({__file__}:{_careless.__code__.co_firstlineno + 1}: return json.loads(text))"
    assert job.error is not None
    assert job.error.message.startswith("handler of state 'only' failed after 1 attempts: JSONDecodeError: ")
    assert job.error.message.endswith(at)


class Odd:
    def __str__(self) -> str:
        raise SystemExit(3)


@pytest.mark.parametrize(
    "error",
    [
        GeneratorExit(),
        SystemExit(7),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        ValueError(Odd()),
        HolonError("m", code="\ud800"),
        HolonError("m", code=Odd()),  # type: ignore[arg-type]
        HolonError(Odd()),  # type: ignore[arg-type]
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("waits", [False, True])
async def test_whatever_a_handler_raises_is_its_jobs_failure_and_no_other_job_notices(
    start: Start, error: BaseException, waits: bool
) -> None:
    async def only(fails: bool) -> None:
        if waits:
            await asyncio.sleep(0)
        if fails:
            raise error

    async def at_once(fails: bool) -> None:
        if fails:
            raise error

    bp = ending(only if waits else at_once)
    async with start(bp, JOB_MAX_RETRIES=1, RETRY_BACKOFF_MIN_SECONDS=0) as node:
        assert (await node.run("bp", {"fails": False})).status == "finished"
        job = await node.run("bp", {"fails": True})
        assert job.status == "quarantined"
        assert job.error is not None
        assert job.error.code != "HANDLER_CRASHED"
        assert (await node.run("bp", {"fails": False})).status == "finished"


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "waiting"])
@pytest.mark.parametrize("fails", [False, True], ids=["ends", "raises"])
async def test_the_log_names_a_handler_that_holds_up_the_node(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, waits: bool, fails: bool
) -> None:
    monkeypatch.setattr(handlers, "HELD_UP_S", 0.02)

    async def only(blocks: bool, fails: bool) -> None:
        if waits:
            await asyncio.sleep(0)
        since = time.perf_counter()
        while blocks and time.perf_counter() < since + 0.03:
            pass
        if waits:
            await asyncio.sleep(0)
        if fails:
            raise ValueError

    async with start(ending(only), JOB_MAX_RETRIES=0) as node:
        # Once it has ended well, the next run of one that awaits nothing is of another kind.
        await node.run("bp", {"blocks": False, "fails": False})
        job = await node.run("bp", {"blocks": True, "fails": fails})
    (told,) = {
        one.getMessage() for one in caplog.records if "blocked" in one.getMessage() and job.id in one.getMessage()
    }
    assert told.startswith(f"job {job.id}: handler of state only of bp blocked the whole node for ")


async def test_a_handler_that_held_up_the_node_runs_once(start: Start) -> None:
    runs: Counter[str] = Counter()

    async def only(job_id: str) -> Any:
        await asyncio.sleep(0)
        runs[job_id] += 1
        since = time.perf_counter()
        while time.perf_counter() < since + 0.6:
            pass
        # What was due meanwhile is done now.
        await asyncio.sleep(0.3)
        return {"run": runs[job_id]}

    async with start(ending(only), JOB_MAX_RETRIES=0) as node:
        job = await node.run("bp", {})
        assert (job.status, job.result, runs[job.id]) == ("finished", {"run": 1}, 1)


class Word(StrEnum):
    ONE = "one"


class Kind(Enum):
    ONE = "one"


class Pair(NamedTuple):
    first: int
    second: int


class Real(float): ...


@dataclass
class Kept:
    """May be returned, as its class may be what a handler promises."""

    word: Word
    more: list[Any]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


NOT_JSON: list[tuple[Any, str]] = [
    (float("nan"), ".kept.v is nan"),
    ([1.0, float("-inf")], ".kept.v[1] is -inf"),
    (nested(199), ".kept.v[0][0]"),
    (nested(300), ".kept.v[0][0]"),
    ({1, 2}, ".kept.v is a set, which JSON cannot hold"),
    ({"deep": [b"x"]}, ".kept.v.deep[0] is a bytes, which JSON cannot hold"),
    ({1: "x"}, ".kept.v has the key 1; keys are text"),
    ({Word.ONE: "x"}, ".kept.v has the key <Word.ONE: 'one'> of type Word; keys are text"),
    (datetime(2026, 1, 1, tzinfo=UTC), ".kept.v is a datetime, which JSON cannot hold"),
    (UUID(int=1), ".kept.v is a UUID, which JSON cannot hold"),
    (object(), ".kept.v is a object, which JSON cannot hold"),
    (Pair(1, 2), ".kept.v is a Pair, which JSON cannot hold"),
    (Real(0.5), ".kept.v is a Real, which JSON cannot hold"),
    (2**64, ".kept.v is an integer of over 64 bits"),
    ("\ud800", ".kept.v is a text that cannot be written as UTF-8"),
]


async def test_what_json_cannot_hold_is_the_failure_of_the_handler_that_leaves_it_and_no_other_run_is_tried(
    start: Start,
) -> None:
    async def in_state(n: int, state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["kept"] = {"v": NOT_JSON[n][0]}
        actions.go_to("end")

    async def as_result(n: int) -> Any:
        return {"kept": {"v": NOT_JSON[n][0]}}

    async def fine() -> None: ...

    bp = ending(as_result)
    other = Blueprint("other", api_endpoint="/jobs/other", api_version="v1")
    other.handler("begin", is_start=True)(in_state)
    other.handler("end", is_end=True)(fine)
    failing = Blueprint("failing", api_endpoint="/jobs/failing", api_version="v1")
    failing.handler("only", is_start=True, is_end=True, outcome="failed")(as_result)
    async with start(bp, other, failing, **NEVER) as node, http(node) as door:
        for n, (_, said) in enumerate(NOT_JSON):
            for name, holder in (("bp", "result"), ("other", "state_history"), ("failing", "result")):
                job = await node.run(name, {"n": n})
                assert (job.status, job.error and job.error.code) == ("quarantined", "NOT_JSON")
                assert job.error is not None
                assert f"{holder}{said}" in job.error.message
                assert "test_handlers.py:" in job.error.message
                assert (await door.get(f"/api/v1/jobs/{job.id}")).status_code == 200


@pytest.mark.parametrize("kept", [Kept(Word.ONE, []), Word.ONE, Kind.ONE])
async def test_an_instance_may_be_returned_and_is_not_kept_in_the_state(start: Start, kept: Any) -> None:
    async def in_state(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["kept"] = kept
        actions.go_to("end")

    async def as_result() -> Any:
        return [kept]

    bp = ending(as_result)
    other = Blueprint("other", api_endpoint="/jobs/other", api_version="v1")
    other.handler("begin", is_start=True)(in_state)
    other.handler("end", is_end=True)(as_result)
    async with start(bp, other, **NEVER) as node:
        told = {"word": "one", "more": []} if isinstance(kept, Kept) else "one"
        assert (await node.run("bp", {})).result == [told]
        job = await node.run("other", {})
        if kept is Word.ONE:
            # It is text.
            assert job.status == "finished"
        else:
            assert job.error is not None
            assert f"state_history.kept is a {type(kept).__name__}, which JSON cannot hold" in job.error.message


async def test_as_deep_as_may_be_is_read_at_every_door(start: Start) -> None:
    async def only() -> Any:
        return {"v": nested(199)}

    async with start(ending(only)) as node, http(node) as door:
        job = await node.run("bp", {})
        assert (await door.get(f"/api/v1/jobs/{job.id}")).json()["result"] == {"v": nested(199)}
        assert (await node.client.get_job(job.id)).result == {"v": nested(199)}


async def test_a_state_history_that_is_put_in_the_place_of_the_other_is_the_jobs(start: Start) -> None:
    bp = blueprint()

    @bp.handler(is_start=True)
    async def begin(context: JobContext) -> None:
        context.state_history = {"new": context.initial_data["n"]}
        context.actions.go_to("end")

    @bp.handler(is_end=True)
    async def end(state_history: dict[str, Any]) -> dict[str, Any]:
        return state_history

    async with start(bp) as node:
        assert (await node.run("bp", {"n": 3})).result == {"new": 3}
        assert (await node.run("bp", {"n": 4})).result == {"new": 4}


async def test_a_state_history_that_is_no_dict_is_the_handlers_failure(start: Start) -> None:
    async def only(context: JobContext) -> None:
        context.state_history = [1]  # type: ignore[assignment]

    async with start(ending(only), JOB_MAX_RETRIES=0) as node:
        job = await seen(node, await create(node, "bp", {}), lambda job: job.status == "quarantined")
        assert job.error is not None
        assert "state_history is now a list" in job.error.message
