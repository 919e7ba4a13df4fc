"""A node without memory to read what it was sent: whoever sent it hears to come again, not that it was wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import orjson
import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.testing import running_node
from tests.integration.http_node import AUTH, running


class Short:
    """Has no memory for the first times that a text with each of some words in it is read."""

    def __init__(self, *words: bytes, times: int = 1) -> None:
        self.refused: Counter[bytes] = Counter()
        self._words = words
        self._times = times
        self._loads = orjson.loads

    def __call__(self, text: bytes) -> Any:
        for word in [one for one in self._words if one in bytes(text) and self.refused[one] < self._times]:
            self.refused[word] += 1
            raise orjson.JSONDecodeError("Not enough memory to allocate buffer for parsing", "", 0)
        return self._loads(text)


async def test_a_job_and_a_result_that_there_was_no_memory_for_are_taken_when_they_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bp = Blueprint("one", api_endpoint="/jobs/one", api_version="v1")

    @bp.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task("t", initial_data, {"success": "finished"})

    @bp.handler(is_end=True)
    async def finished() -> None:
        pass

    async with running_node(bp) as node:
        worker = node.new_worker("w1")
        ran: list[str] = []

        @worker.skill("t")
        async def t(task_id: str) -> dict[str, str]:
            ran.append(task_id)
            return {"made": "the result"}

        async with worker:
            await worker.ready()
            short = Short(b"the client's", b"the result")
            monkeypatch.setattr(orjson, "loads", short)
            job = await node.run("one", {"given": "the client's"})
    assert job.status == "finished", job.error
    assert short.refused == {b"the client's": 1, b"the result": 1}
    assert len(ran) == 1


async def test_a_run_that_there_was_no_memory_for_is_no_failure_of_its_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    bp = Blueprint("one", api_endpoint="/jobs/one", api_version="v1")

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory, state_history: dict[str, Any]) -> None:
        state_history["left"] = "by the start"
        actions.go_to("finished")

    @bp.handler(is_end=True)
    async def finished() -> None:
        pass

    async with running_node(bp, JOB_MAX_RETRIES=0) as node:
        short = Short(b"by the start", times=2)
        monkeypatch.setattr(orjson, "loads", short)
        job = await node.run("one", {})
    assert job.status == "finished", job.error
    assert short.refused == {b"by the start": 2}


async def test_a_body_that_there_is_no_memory_for_is_not_said_to_be_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as node:

        async def create() -> httpx.Response:
            return await node.client.post("/api/v1/jobs/doubling", content=b'{"initial_data": {"n": 77}}', headers=AUTH)

        monkeypatch.setattr(orjson, "loads", Short(b"77"))
        refused = await create()
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            503,
            "UNAVAILABLE",
            "1",
        )
        assert "lacks memory to read" in refused.json()["error"]
        assert (await create()).status_code == 202
