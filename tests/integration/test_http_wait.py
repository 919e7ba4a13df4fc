"""The HTTP door: a client that waits for the end of its job, instead of asking again and again."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holon.domain.client import DEFAULT, Client
from holon.domain.value import replace
from holon.engine import watching
from holon.engine.feeds import Feed
from holon.engine.rounds import LOOK_EVERY_S
from holon.errors import StoreUnavailable
from holon.ports import JobRecord
from holon.security.clients import sole
from holon.storage.sqlite import SqliteStorage
from holon.stores.sqlite import SqliteRows
from holon.transports.http import routes
from tests.integration.http_node import AUTH, GUARD, LIMIT, STORE, Node, running
from tests.integration.http_waits import LONG, WAITING, Raw, Waits, asking


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running() as it:
        yield it


@pytest.fixture
def waits(node: Node, monkeypatch: pytest.MonkeyPatch) -> Waits:
    return Waits(node, monkeypatch)


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


async def test_a_creation_that_waits_is_answered_with_how_the_job_ended(node: Node) -> None:
    path, body = "/api/v1/jobs/doubling?wait=30&fields=id,status,result", {"initial_data": {"n": 4}}
    headers = AUTH | {"Idempotency-Key": "once"}
    first = await node.client.post(path, json=body, headers=headers, timeout=GUARD)
    assert (first.status_code, first.json()["status"], first.json()["result"]) == (200, "finished", {"twice": 8})
    # Who repeats it is told the same, whichever way.
    again = await node.client.post(path, json=body, headers=headers)
    assert (again.status_code, again.json()) == (200, first.json())
    plain = await node.client.post("/api/v1/jobs/doubling", json=body, headers=headers)
    assert (plain.status_code, plain.json()) == (202, {"status": "accepted", "job_id": first.json()["id"]})
    assert node.engine.watching.watchers == 0


async def test_a_creation_that_waited_in_vain_is_answered_with_the_job_s_id(node: Node) -> None:
    created = await node.client.post("/api/v1/jobs/waiting?wait=0.05", json={}, headers=AUTH)
    assert (created.status_code, created.json()["status"]) == (202, "accepted")
    job_id = created.json()["job_id"]
    shown = await node.client.get(f"/api/v1/jobs/{job_id}", headers=AUTH)
    assert shown.json()["status"] == "waiting_for_worker"
    assert node.engine.watching.watchers == 0


async def test_a_creation_that_waits_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object) -> None:
        raise StoreUnavailable("the file is not read for this")

    async with SqliteStorage(tmp_path / "holon.db", STORE) as store, running(store=store) as node:
        monkeypatch.setattr(SqliteRows, "read", refused)
        for path in ("/api/v1/jobs/waiting?wait=0.05", "/api/v1/jobs/doubling?wait=30"):
            created = await node.client.post(path, json={"initial_data": {"n": 4}}, headers=AUTH, timeout=GUARD)
        assert (created.status_code, created.json()["result"]) == (200, {"twice": 8})
        assert repr(node.engine.watching) == "Watching(jobs=0, watchers=0)"


async def test_a_creation_that_waits_looks_at_its_job_once_it_is_over(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    take = Feed.take

    def noted(feed: Feed, record: JobRecord, message: str, lines: Any) -> None:
        looks.append(record.job.status)
        take(feed, record, message, lines)

    monkeypatch.setattr(Feed, "take", noted)
    path, body = "/api/v1/jobs/doubling?wait=30", {"initial_data": {"n": 4}}
    created = await node.client.post(path, json=body, headers=AUTH, timeout=GUARD)
    assert (created.status_code, looks) == (200, ["finished"])


async def test_who_waits_beside_the_creation_of_a_job_is_told_after_it_gave_up(node: Node, waits: Waits) -> None:
    post = node.client.post("/api/v1/jobs/waiting?wait=30", json={}, headers=AUTH, timeout=GUARD)
    creation = asyncio.create_task(post)
    await waits.begun.wait()
    waits.begun.clear()
    listed = await node.client.get("/api/v1/jobs", headers=AUTH)
    job_id = listed.json()["jobs"][0]["id"]
    # It is told of, as when its task begins.
    node.engine.watching.changed([job_id])
    beside = asking(node, job_id, "wait=30")
    await waits.begun.wait()
    creation.cancel()
    await waits.over.wait()
    await node.client.post(f"/api/v1/jobs/{job_id}/cancel", headers=AUTH)
    # Not only when all jobs are looked at again.
    async with asyncio.timeout(LOOK_EVERY_S / 2):
        assert (await beside).json()["status"] == "cancelled"
    assert repr(node.engine.watching) == "Watching(jobs=0, watchers=0)"


@pytest.mark.parametrize("why", ["full", "token", "stop"])
async def test_a_job_s_id_is_told_whatever_is_the_matter_with_the_wait(
    node: Node, waits: Waits, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "full":
        monkeypatch.setattr(watching, "MAX_WATCHERS", 0)
    post = node.client.post("/api/v1/jobs/waiting?wait=30", json={}, headers=AUTH, timeout=GUARD)
    answer = asyncio.create_task(post)
    if why == "full":
        await waits.over.wait()
    else:
        await waits.begun.wait()
    if why == "token":
        node.clients.replace(sole("another"))
    elif why == "stop":
        await node.door.stop(GUARD)
    created = await answer
    assert (created.status_code, created.json()["status"]) == (202, "accepted")
    assert (await node.engine.jobs.get(Client(DEFAULT), created.json()["job_id"])).job.status == "waiting_for_worker"


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


@pytest.fixture
async def raw(node: Node, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Raw]:
    # Longer than anything here goes on: what ends such a wait is not its time.
    monkeypatch.setattr(routes, "MAX_WAIT_S", 10 * GUARD)
    raw = await Raw.to(node)
    yield raw
    raw.writer.close()


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_client_that_goes_away_leaves_nothing_behind(node: Node, waits: Waits, raw: Raw, how: str) -> None:
    job_id = await node.created()
    raw.ask(f"/api/v1/jobs/{job_id}?{LONG}")
    await waits.begun.wait()
    if how == "closes":
        raw.writer.close()
    else:
        raw.writer.transport.abort()
    async with asyncio.timeout(GUARD):
        await waits.over.wait()
    assert repr(node.engine.watching) == "Watching(jobs=0, watchers=0)"


async def test_a_client_that_ends_its_side_is_answered_at_once(node: Node, waits: Waits, raw: Raw) -> None:
    job_id = await node.created()
    raw.ask(f"/api/v1/jobs/{job_id}?{LONG}")
    await waits.begun.wait()
    raw.writer.write_eof()
    assert await raw.answer() == (200, WAITING)


async def test_what_is_sent_behind_a_wait_ends_it(node: Node, waits: Waits, raw: Raw) -> None:
    job_id = await node.created()
    raw.ask(f"/api/v1/jobs/{job_id}?{LONG}")
    await waits.begun.wait()
    waits.begun.clear()
    raw.ask(f"/api/v1/jobs/{job_id}?{LONG}")
    assert await raw.answer() == (200, WAITING)
    # The last one waits again: nothing is behind it.
    await waits.begun.wait()
    await node.client.post(f"/api/v1/jobs/{job_id}/cancel", headers=AUTH)
    assert await raw.answer() == (200, {"status": "cancelled"})


async def test_a_wait_with_a_body_takes_no_more_of_it_than_any_call(node: Node, waits: Waits, raw: Raw) -> None:
    job_id = await node.created()
    raw.ask(f"/api/v1/jobs/{job_id}?{LONG}", length=LIMIT + 1)
    status, refusal = await raw.answer()
    assert (status, refusal["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert not waits.begun.is_set()


async def test_one_whose_token_is_taken_back_waits_no_more(node: Node, waits: Waits) -> None:
    job_id = await node.created()
    answer = asking(node, job_id, "wait=30")
    await waits.begun.wait()
    node.clients.replace(sole("another"))
    refused = await answer
    assert (refused.status_code, refused.json()["code"]) == (401, "TOKEN_INVALID")
    assert node.engine.watching.watchers == 0


class Data(dict[str, Any]):
    """What a job works on, of which it is seen when nobody has it any more."""


async def test_what_a_job_works_on_is_not_kept_meanwhile(
    node: Node, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await node.created()
    get, kept = node.engine.jobs.get, []

    async def noted(client: Client, job_id: str) -> JobRecord:
        record = await get(client, job_id)
        data = Data()
        kept.append(weakref.ref(data))
        return replace(record, job=replace(record.job, initial_data=data))

    monkeypatch.setattr(node.engine.jobs, "get", noted)
    answer = asking(node, job_id, "wait=30")
    await waits.begun.wait()
    assert [ref() for ref in kept] == [None]
    await node.client.post(f"/api/v1/jobs/{job_id}/cancel", headers=AUTH)
    assert (await answer).json()["status"] == "cancelled"


async def test_a_job_that_cannot_be_told_at_once_ends_nothing_but_that(
    node: Node, waits: Waits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = node.engine.store

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def at_hand(self, _: str) -> None:
            raise RuntimeError("no job like that")

    monkeypatch.setattr(node.engine.watching, "_store", Failing())
    job_id = await node.created()
    answer = asking(node, job_id, "wait=30")
    await waits.begun.wait()
    await node.client.post(f"/api/v1/jobs/{job_id}/cancel", headers=AUTH)
    assert (await answer).json()["status"] == "cancelled"
    assert "cannot be sent at once" in caplog.text
    assert (await node.ended(await node.created("/api/v1/jobs/doubling", {"n": 1})))["status"] == "finished"


async def test_one_who_waits_too_much_is_told_to_come_later(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHERS", 0)
    job_id = await node.created()
    refused = await node.client.get(f"/api/v1/jobs/{job_id}?wait=1", headers=AUTH)
    assert (refused.status_code, refused.json()["code"]) == (429, "WATCHES_FULL")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await node.client.get(f"/api/v1/jobs/{job_id}", headers=AUTH)).status_code == 200


@pytest.mark.parametrize("wait", ["", "x", "-1", "31", "nan", "inf", "1e400", "0x1", "1_0"])
@pytest.mark.parametrize("creates", [False, True])
async def test_a_wait_that_is_none_is_refused(node: Node, wait: str, creates: bool) -> None:
    if creates:
        refused = await node.client.post("/api/v1/jobs/waiting", params={"wait": wait}, headers=AUTH)
    else:
        job_id = await node.created()
        refused = await node.client.get(f"/api/v1/jobs/{job_id}", params={"wait": wait}, headers=AUTH)
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert [detail["field"] for detail in refused.json()["details"]] == ["wait"]
    assert "must be a number of seconds from 0 to 30" in refused.json()["error"]


async def test_no_job_is_waited_for_that_is_not_there(node: Node) -> None:
    missing = await node.client.get("/api/v1/jobs/0-00000000-0000-4000-8000-000000000000?wait=30", headers=AUTH)
    assert (missing.status_code, missing.json()["code"]) == (404, "JOB_NOT_FOUND")
