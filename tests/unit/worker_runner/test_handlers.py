"""What handlers are given, where they run, and what becomes of what they return or raise."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any, cast

import orjson
import pydantic
import pytest

from holon.worker import Result, TaskError
from holon.worker.threads import Threads
from tests.unit.worker_runner.bench import Make


async def test_reserved_names_are_injected_into_both_kinds_of_handlers(bench: Make) -> None:
    def facts(
        task_id: str, job_id: str, attempt: int, deadline: float | None, params: dict[str, Any]
    ) -> dict[str, Any]:
        return {"all": [task_id, job_id, attempt, deadline, params]}

    async def facts_async(
        task_id: str, job_id: str, attempt: int, deadline: float | None, params: dict[str, Any]
    ) -> dict[str, Any]:
        return facts(task_id, job_id, attempt, deadline, params)

    made = bench(facts, facts_async)
    for skill in ("facts", "facts_async"):
        result = await made.result(skill, {"n": 1}, deadline={"seconds": 100, "nanos": 500_000_000})
        assert orjson.loads(result.data.data) == {"all": ["t1", "j1", 2, 100.5, {"n": 1}]}
        assert result.duration.nanos > 0


async def test_a_sync_handler_runs_in_a_thread_and_an_async_one_on_the_handlers_loop(bench: Make) -> None:
    seen: dict[str, threading.Thread] = {}

    def sync() -> None:
        seen["sync"] = threading.current_thread()

    async def coro() -> None:
        seen["coro"] = threading.current_thread()

    made = bench(sync, coro)
    await made.result("sync")
    await made.result("coro")
    assert seen["coro"] is threading.current_thread()
    assert seen["sync"] is not threading.current_thread()
    assert seen["sync"].daemon


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "status", "data"),
    [
        (None, "success", b""),
        ({"n": 1}, "success", b'{"n":1}'),
        (Point(3), "success", b'{"x":3}'),
        (Result("skipped", {"why": "old"}), "skipped", b'{"why":"old"}'),
        (Result(data=Point(4)), "success", b'{"x":4}'),
        ({"set": {1}, 5: True}, "success", b'{"set":[1],"5":true}'),
    ],
)
async def test_what_a_handler_returns_is_its_result(bench: Make, value: Any, status: str, data: bytes) -> None:
    def give() -> Any:
        return value

    result = await bench(give, statuses=("skipped",)).result("give")
    assert (result.status, result.data.data) == (status, data)


class Aside(BaseException):
    """Like gevent's Timeout: no Exception."""


class Mute(TaskError):
    """Lacks what each TaskError has."""

    def __init__(self) -> None: ...


class Speechless(Exception):
    """Cannot say what it is, and what it raises then cannot either."""

    def __str__(self) -> str:
        raise Speechless


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (TaskError("SECURITY_ERROR", "no", {"why": [1]}), "SECURITY_ERROR", "no"),
        (ValueError("odd"), "TRANSIENT_ERROR", "ValueError: odd"),
        (KeyError(), "TRANSIENT_ERROR", "KeyError"),
        (SystemExit(3), "TRANSIENT_ERROR", "SystemExit: 3"),
        (RuntimeError("x" * 5000), "TRANSIENT_ERROR", "RuntimeError: xxx"),
        (Aside("over"), "TRANSIENT_ERROR", "Aside: over"),
        (TaskError(cast("str", 404), cast("str", ValueError("odd")), {"why": [1]}), "404", "odd"),
        (OSError("no caf\udce9"), "TRANSIENT_ERROR", "OSError: no caf\\udce9"),
        (Mute(), "TRANSIENT_ERROR", "AttributeError: "),
        (Speechless(), "TRANSIENT_ERROR", "Speechless"),
    ],
)
async def test_what_a_handler_raises_is_a_failure_with_a_code(
    bench: Make, error: BaseException, code: str, says: str
) -> None:
    def sync() -> None:
        raise error

    async def coro() -> None:
        raise error

    made = bench(sync, coro)
    for skill in ("sync", "coro"):
        result = await made.result(skill)
        assert (result.status, result.error.code) == ("failure", code)
        assert result.error.message.startswith(says)
        assert len(result.error.message) <= 1000
        if type(error) is TaskError:
            assert result.error.details.data == b'{"why":[1]}'


async def test_a_keyboard_interrupt_in_a_thread_is_a_failure_like_another(bench: Make) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert (await bench(interrupted).result("interrupted")).error.message == "KeyboardInterrupt"


async def test_details_that_cannot_be_written_are_replaced_by_their_text(bench: Make) -> None:
    def odd() -> None:
        raise TaskError("PERMANENT_ERROR", "odd", {"file": "caf\udce9"})

    assert orjson.loads((await bench(odd).result("odd")).error.details.data) == {"text": r"{'file': 'caf\udce9'}"}


async def test_a_thread_outlives_what_its_calls_raise(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise Aside

    done = threading.Event()
    threads = Threads("hands")
    threads.submit(broken)
    threads.submit(done.set)
    threads.close()
    assert await asyncio.to_thread(done.wait, 5)
    for thread in [one for one in threading.enumerate() if one.name.startswith("hands-")]:
        await asyncio.to_thread(thread.join, 5)
    assert [record.getMessage() for record in caplog.records] == ["a call of hands raised"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1], "not list; wrap it in a dict"),
        ("text", "not str; wrap it in a dict"),
        (Result("odd"), "the status 'odd' is not declared"),
        (Result(cast("str", ["odd"])), "the status ['odd'] is not declared"),
        (
            pydantic.RootModel[list[int]]([1]),
            "is a RootModel[list[int]], which is not a JSON object; wrap it in a dict",
        ),
        ({"n": object()}, "data.n is a object, which JSON cannot hold"),
        ({"n": {1: (0, {b"x"})}}, "data.n.1[1][0] is a bytes, which JSON cannot hold"),
        ({"n": 1 << 70}, "data.n is an integer of over 64 bits"),
    ],
)
async def test_what_cannot_be_a_result_is_a_permanent_failure_that_says_where(
    bench: Make, caplog: pytest.LogCaptureFixture, value: Any, said: str
) -> None:
    def give() -> Any:
        return value

    result = await bench(give).result("give")
    assert (result.status, result.error.code) == ("failure", "PERMANENT_ERROR")
    assert said in result.error.message
    # Its handler has raised nothing, so there is no place in it to show.
    (told,) = caplog.records
    assert told.getMessage() == f"task t1: the handler Skill(give): {result.error.message}"
    assert told.exc_info is None


@pytest.mark.parametrize("params", [{}, {"n": "1"}, [], b"{", b"nan"])
async def test_params_against_the_schema_are_an_invalid_input(bench: Make, params: Any) -> None:
    def skill(n: int) -> None:
        raise AssertionError

    result = await bench(skill).result("skill", params)
    assert (result.status, result.error.code) == ("failure", "INVALID_INPUT_ERROR")
