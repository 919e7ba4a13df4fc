"""The HTTP door: a client that waits for the end of its job, instead of asking again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from holon.engine import watching
from tests.integration.http_node import AUTH, GUARD, Node, running


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running() as it:
        yield it


class Waits:
    """Says when a wait has begun, and when it is over, whatever ended it."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.over = asyncio.Event(), asyncio.Event()
        first, self._until_over = node.engine.watching._first, node.engine.watching.until_over

        async def noted_first(*asked: object) -> object:
            seen = await first(*asked)  # type: ignore[arg-type]
            self.begun.set()
            return seen

        async def noted(owner: str, job_id: str, seconds: float) -> None:
            try:
                await self._until_over(owner, job_id, seconds)
            finally:
                self.over.set()

        monkeypatch.setattr(node.engine.watching, "_first", noted_first)
        monkeypatch.setattr(node.engine.watching, "until_over", noted)


@pytest.fixture
def waits(node: Node, monkeypatch: pytest.MonkeyPatch) -> Waits:
    return Waits(node, monkeypatch)


def asking(node: Node, job_id: str, query: str) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(node.client.get(f"/api/v1/jobs/{job_id}?{query}", headers=AUTH, timeout=GUARD))


async def test_the_answer_comes_once_the_job_is_over(node: Node, waits: Waits) -> None:
    job_id = await node.created()
    answer = asking(node, job_id, "wait=30&fields=status,error")
    await waits.begun.wait()
    assert not answer.done()
    cancelled = await node.client.post(f"/api/v1/jobs/{job_id}/cancel", headers=AUTH)
    assert cancelled.status_code == 200
    shown = (await answer).json()
    assert (shown["status"], shown["error"]["code"]) == ("cancelled", "CANCELLED")
    assert node.engine.watching.watchers == 0


async def test_many_wait_for_one_job_and_all_are_answered(node: Node, waits: Waits) -> None:
    job_id = await node.created()
    answers = [asking(node, job_id, "wait=30") for _ in range(20)]
    await waits.begun.wait()
    await node.client.post(f"/api/v1/jobs/{job_id}/cancel", headers=AUTH)
    assert {(await answer).json()["status"] for answer in answers} == {"cancelled"}
    assert repr(node.engine.watching) == "Watching(jobs=0, watchers=0)"


async def test_a_job_that_is_over_is_not_waited_for(node: Node, waits: Waits) -> None:
    job_id = await node.created("/api/v1/jobs/doubling", {"n": 4})
    await node.ended(job_id)
    waits.begun.clear()
    shown = await node.client.get(f"/api/v1/jobs/{job_id}?wait=30", headers=AUTH)
    assert shown.json()["result"] == {"twice": 8}
    assert not waits.begun.is_set()


async def test_what_is_not_over_by_then_is_shown_as_it_stands(node: Node) -> None:
    job_id = await node.created()
    began = time.monotonic()
    shown = await node.client.get(f"/api/v1/jobs/{job_id}?wait=0.05", headers=AUTH)
    assert (shown.status_code, shown.json()["status"]) == (200, "waiting_for_worker")
    assert time.monotonic() - began >= 0.05
    assert node.engine.watching.watchers == 0


async def test_a_door_that_stops_says_how_far_the_job_is(node: Node, waits: Waits) -> None:
    job_id = await node.created()
    answer = asking(node, job_id, "wait=30&fields=status")
    await waits.begun.wait()
    await node.door.stop(GUARD)
    shown = await answer
    assert (shown.status_code, shown.json()) == (200, {"status": "waiting_for_worker"})
    assert shown.headers["connection"] == "close"


async def test_a_client_that_goes_away_leaves_nothing_behind(node: Node, waits: Waits) -> None:
    job_id = await node.created()
    async with httpx.AsyncClient(base_url=node.client.base_url) as leaving:
        answer = asyncio.create_task(leaving.get(f"/api/v1/jobs/{job_id}?wait=30", headers=AUTH))
        await waits.begun.wait()
        answer.cancel()
    async with asyncio.timeout(GUARD):
        await waits.over.wait()
    assert repr(node.engine.watching) == "Watching(jobs=0, watchers=0)"


async def test_one_who_waits_too_much_is_told_to_come_later(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHERS", 0)
    job_id = await node.created()
    refused = await node.client.get(f"/api/v1/jobs/{job_id}?wait=1", headers=AUTH)
    assert (refused.status_code, refused.json()["code"]) == (429, "WATCHES_FULL")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await node.client.get(f"/api/v1/jobs/{job_id}", headers=AUTH)).status_code == 200


@pytest.mark.parametrize("wait", ["", "x", "-1", "31", "nan", "inf", "1e400", "0x1", "1_0"])
async def test_a_wait_that_is_none_is_refused(node: Node, wait: str) -> None:
    job_id = await node.created()
    refused = await node.client.get(f"/api/v1/jobs/{job_id}", params={"wait": wait}, headers=AUTH)
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert [detail["field"] for detail in refused.json()["details"]] == ["wait"]
    assert "must be a number of seconds from 0 to 30" in refused.json()["error"]


async def test_no_job_is_waited_for_that_is_not_there(node: Node) -> None:
    missing = await node.client.get("/api/v1/jobs/0-00000000-0000-4000-8000-000000000000?wait=30", headers=AUTH)
    assert (missing.status_code, missing.json()["code"]) == (404, "JOB_NOT_FOUND")
