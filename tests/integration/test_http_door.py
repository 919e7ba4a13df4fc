"""The HTTP door: creating, reading and cancelling jobs, as clients see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.http_node import AUTH, Node, running


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running() as it:
        yield it


async def test_a_job_is_accepted_and_readable_at_once(node: Node) -> None:
    reply = await node.client.post("/api/v1/jobs/doubling", json={"initial_data": {"n": 21}}, headers=AUTH)
    assert reply.status_code == 202
    assert reply.json().keys() == {"status", "job_id"}
    assert reply.json()["status"] == "accepted"
    job = await node.ended(reply.json()["job_id"])
    assert job | {"created_at": 0, "updated_at": 0, "finished_at": 0} == {
        "id": reply.json()["job_id"],
        "blueprint_name": "doubling",
        "status": "finished",
        "terminal": True,
        "current_state": "done",
        "progress": None,
        "progress_message": "",
        "result": {"twice": 42},
        "error": None,
        "created_at": 0,
        "updated_at": 0,
        "finished_at": 0,
        "approval": None,
        "cost": None,
        "budget": None,
        "signal": None,
        "kept_signals": 0,
        "parent_job_id": None,
    }


async def test_a_failing_end_shows_its_error_and_no_result(node: Node) -> None:
    job = await node.ended(await node.created("/api/plain"))
    assert (job["status"], job["result"]) == ("failed", None)
    assert job["error"] == {"code": "ENDED_FAILED", "message": "ended in state 'only'", "details": {"tried": True}}


async def test_times_are_seconds_since_the_epoch(node: Node) -> None:
    job = await node.ended(await node.created("/api/plain"))
    assert 1_700_000_000 < job["created_at"] <= job["updated_at"] <= job["finished_at"] < 5_000_000_000


async def test_only_the_fields_asked_for_are_shown(node: Node) -> None:
    job_id = await node.created()
    for query in ("?fields=id,status", "?fields=id&fields=status"):
        reply = await node.client.get(f"/api/v1/jobs/{job_id}{query}", headers=AUTH)
        assert reply.json().keys() == {"id", "status"}


@pytest.mark.parametrize("query", ["fields=secret", "fields=", "fields=id,,status", "field=id"])
async def test_an_unknown_field_or_parameter_of_a_job_is_named(node: Node, query: str) -> None:
    job_id = await node.created()
    reply = await node.client.get(f"/api/v1/jobs/{job_id}?{query}", headers=AUTH)
    assert reply.status_code == 400
    assert reply.json()["details"]


@pytest.mark.parametrize(
    "path", ["/api/v1/jobs/none", "/api/v1/jobs/none/history", "/api/v1/jobs/%00", "/api/v1/jobs/ö"]
)
async def test_an_unknown_job_is_not_found(node: Node, path: str) -> None:
    reply = await node.client.get(path, headers=AUTH)
    assert (reply.status_code, reply.json()["code"]) == (404, "JOB_NOT_FOUND")
    assert reply.json()["error"].startswith("Job not found")


async def test_jobs_are_listed_newest_first_in_pages(node: Node) -> None:
    made = [await node.created() for _ in range(5)]
    seen: list[str] = []
    token = ""
    for size in ("page_size", "limit", "page_size"):
        reply = await node.client.get(f"/api/v1/jobs?{size}=2&page_token={token}", headers=AUTH)
        page = reply.json()
        assert page.keys() == {"jobs", "next_page_token"}
        seen += [job["id"] for job in page["jobs"]]
        token = page["next_page_token"]
    assert seen == made[::-1]
    assert token == ""


async def test_a_list_has_no_results_unless_they_are_asked_for(node: Node) -> None:
    await node.ended(await node.created("/api/v1/jobs/doubling", {"n": 1}))
    jobs = (await node.client.get("/api/v1/jobs", headers=AUTH)).json()["jobs"]
    assert "result" not in jobs[0]
    jobs = (await node.client.get("/api/v1/jobs?fields=result", headers=AUTH)).json()["jobs"]
    assert jobs == [{"result": {"twice": 2}}]


async def test_jobs_are_listed_by_status_and_blueprint(node: Node) -> None:
    failed = await node.created("/api/plain")
    finished = await node.created("/api/v1/jobs/doubling", {"n": 1})
    for job_id in (failed, finished):
        await node.ended(job_id)
    await node.created()

    async def ids(query: str) -> set[str]:
        reply = await node.client.get(f"/api/v1/jobs?{query}", headers=AUTH)
        return {job["id"] for job in reply.json()["jobs"]}

    assert await ids("status=failed") == {failed}
    assert await ids("status=failed&status=finished") == {failed, finished}
    assert await ids("status=failed,finished") == {failed, finished}
    assert await ids("blueprint=doubling") == {finished}
    assert await ids("blueprint=doubling&status=failed") == set()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("offset=10", "page_token"),
        ("status=done", "status"),
        ("status=", "status"),
        ("page_size=0", "page_size must be a whole number from 1 to 1000"),
        ("page_size=1001", "page_size must be a whole number from 1 to 1000"),
        ("limit=1001", "limit must be a whole number from 1 to 1000"),
        ("page_size=-1", "page_size"),
        ("page_size=ten", "page_size"),
        ("limit=1e3", "limit"),
        ("limit=1&page_size=1", "limit"),
        ("page_size=1&page_size=2", "page_size"),
        ("page_token=x", "page_token"),
        ("page_token=-1", "page_token"),
        ("blueprint=a&blueprint=b", "blueprint"),
        ("order=asc", "order"),
        ("fields=nothing", "fields"),
        ("&".join(["status=failed"] * 101), "more than 100"),
    ],
)
async def test_a_bad_list_is_refused_and_the_parameter_named(node: Node, query: str, says: str) -> None:
    reply = await node.client.get(f"/api/v1/jobs?{query}", headers=AUTH)
    assert reply.status_code == 400
    assert says in reply.json()["error"]


@pytest.mark.parametrize(
    "parameter", ["status", "page_size", "page_token", "offset", "created_after", "created_before", "fields", "nothing"]
)
async def test_what_is_wrong_with_a_long_parameter_is_said_in_few_words(node: Node, parameter: str) -> None:
    reply = await node.client.get(f"/api/v1/jobs?{parameter}={'x' * 50_000}", headers=AUTH)
    assert reply.status_code == 400
    assert parameter in reply.json()["error"]
    assert len(reply.content) < 1_000


async def test_pages_of_any_kind_are_turned_by_token_and_offset_is_no_parameter(node: Node) -> None:
    job = await node.created()
    for path in ("/api/v1/jobs", f"/api/v1/jobs/{job}/history", f"/api/v1/jobs/{job}/tree"):
        reply = await node.client.get(f"{path}?offset=1", headers=AUTH)
        assert reply.status_code == 400
        assert reply.json()["error"].startswith("offset is not supported; use page_token")
        known = (await node.client.get(f"{path}?order=asc", headers=AUTH)).json()["error"]
        assert "page_token" in known
        assert "offset" not in known


async def test_the_history_tells_what_happened_in_order(node: Node) -> None:
    job_id = await node.created("/api/v1/jobs/doubling", {"n": 1})
    await node.ended(job_id)
    history = (await node.client.get(f"/api/v1/jobs/{job_id}/history", headers=AUTH)).json()
    assert history["next_page_token"] == ""
    events = history["events"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["event_type"], events[-1]["event_type"]) == ("job_created", "job_completed")
    assert events[0].keys() == {
        "event_id",
        "job_id",
        "sequence",
        "timestamp",
        "event_type",
        "state",
        "previous_state",
        "next_state",
        "duration_ms",
        "worker_id",
        "attempt_number",
        "task_id",
        "context_snapshot",
    }
    assert len({event["event_id"] for event in events}) == len(events)
    paged: list[dict[str, Any]] = []
    token = ""
    while not paged or token:
        query = f"page_size=2&page_token={token}"
        page = (await node.client.get(f"/api/v1/jobs/{job_id}/history?{query}", headers=AUTH)).json()
        paged += page["events"]
        token = page["next_page_token"]
    assert paged == events


async def test_a_cancel_is_accepted_again_and_again_until_the_job_is_over(node: Node) -> None:
    job_id = await node.created()
    reply = await node.client.post(f"/api/v1/jobs/{job_id}/cancel", headers=AUTH)
    assert (reply.status_code, reply.json()) == (200, {"status": "cancellation_request_accepted"})
    assert (await node.ended(job_id))["status"] == "cancelled"
    over = await node.client.post(f"/api/v1/jobs/{job_id}/cancel", json={}, headers=AUTH)
    assert (over.status_code, over.json()["code"]) == (409, "JOB_TERMINATED")


async def test_a_cancel_takes_no_fields_but_a_reason(node: Node) -> None:
    job_id = await node.created()
    reply = await node.client.post(f"/api/v1/jobs/{job_id}/cancel", json={"why": "bored"}, headers=AUTH)
    assert reply.status_code == 400
    assert "why" in reply.json()["error"]
    unknown = await node.client.post("/api/v1/jobs/none/cancel", headers=AUTH)
    assert unknown.status_code == 404


async def test_a_task_that_was_ended_with_its_job_has_ended_when_that_did(node: Node) -> None:
    job_id = await node.created()
    path = f"/api/v1/jobs/{job_id}"

    async def task() -> tuple[str, float | None]:
        found = (await node.client.get(f"{path}/tree", headers=AUTH)).json()["nodes"][1]
        return found["status"], found["finished_at"]

    assert (await task())[1] is None
    await node.client.post(f"{path}/cancel", headers=AUTH)
    over = await node.ended(job_id)
    assert await task() == ("cancelled", over["finished_at"])


async def test_what_is_told_to_a_client_is_kept_by_no_cache_on_the_way(node: Node) -> None:
    job_id = await node.created()
    for path in ("jobs", f"jobs/{job_id}", f"jobs/{job_id}/history", "jobs/none", "nothing", "workers/catalog"):
        reply = await node.client.get(f"/api/v1/{path}", headers=AUTH)
        assert reply.headers.get_list("cache-control") == (["no-store"] if path != "nothing" else []), path
    assert "cache-control" not in (await node.client.get("/_public/status")).headers
