"""Acceptance: reading jobs, their lists and their history, at both doors of clients."""

from __future__ import annotations

import asyncio
import base64
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.core import reads
from holon.domain.job import Job as DomainJob
from holon.errors import FailedPrecondition, InvalidArgument, NotFound
from holon.ports import NewJob, StoreSettings
from holon.storage.memory import MemoryStorage
from holon.storage.sqlite import SqliteStorage
from holon.stores.records import decode_job
from holon.testing import running_node
from tests.integration.cases.site import Passes, Start, create, ended, history, http, one_task
from tests.redis_server import RedisServer

FIELDS = {
    "terminal",
    "signal",
    "kept_signals",
    "budget",
    "parent_job_id",
    "approval",
    "cost",
    "id",
    "blueprint_name",
    "status",
    "current_state",
    "progress",
    "progress_message",
    "result",
    "error",
    "created_at",
    "updated_at",
    "finished_at",
}


def an_end(returned: Any, *, outcome: Any = None) -> Blueprint:
    bp = Blueprint("an_end", api_endpoint="/jobs/an_end", api_version="v1")

    @bp.handler(is_start=True, is_end=True, outcome=outcome)
    async def only(state_history: dict[str, Any]) -> Any:
        state_history["kept"] = True
        return returned

    return bp


@pytest.mark.parametrize(
    ("returned", "result"), [(None, {"kept": True}), ({"a": [1]}, {"a": [1]}), (0, 0), ("text", "text"), ([], [])]
)
async def test_a10_a_finished_job_shows_its_result_and_nothing_of_its_client(
    start: Start, returned: Any, result: Any
) -> None:
    async with start(an_end(returned)) as node, http(node) as door:
        job = await node.run("an_end", {"n": 1})
        reply = await door.get(f"/api/v1/jobs/{job.id}")
        shown = reply.json()
        assert shown.keys() == FIELDS
        assert (shown["status"], shown["result"], shown["error"]) == ("finished", result, None)
        assert (job.status, job.result, job.error, job.terminal) == ("finished", result, None, True)
        assert shown["created_at"] <= shown["updated_at"] <= shown["finished_at"]
        assert (shown["created_at"], shown["finished_at"]) == (job.created_at, job.finished_at)
        assert node.token not in reply.text
        assert "user-agent" not in reply.text.lower()


async def test_a10_a_failing_end_has_no_result_but_its_value_among_the_errors_details(start: Start) -> None:
    async with start(an_end({"why": "not today"}, outcome="failed")) as node, http(node) as door:
        job = await node.run("an_end", {})
        shown = (await door.get(f"/api/v1/jobs/{job.id}")).json()
        assert (shown["status"], shown["result"]) == ("failed", None)
        assert shown["error"]["code"] == "ENDED_FAILED"
        assert "ended in state 'only'" in shown["error"]["message"]
        assert shown["error"]["details"] == {"why": "not today"}
        assert job.result is None
        assert job.error is not None
        assert (job.error.code, job.error.details) == ("ENDED_FAILED", {"why": "not today"})


async def test_a_job_that_is_not_over_shows_neither_result_nor_error(start: Start) -> None:
    async with start(one_task()) as node, http(node) as door:
        job_id = await create(node, "one_task")
        shown = (await door.get(f"/api/v1/jobs/{job_id}")).json()
        assert (shown["result"], shown["error"], shown["finished_at"]) == (None, None, None)


async def test_a12_the_history_tells_in_order_what_happened_to_a_job_by_whom_and_how_long(start: Start) -> None:
    async with start(one_task()) as node, http(node) as door:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t() -> None: ...

        async with worker:
            job = await node.run("one_task", {})
        told = await history(node, job.id)
        assert [(event.event_type, event.state) for event in told] == [
            ("job_created", "start"),
            ("state_started", "start"),
            ("state_finished", "start"),
            ("task_dispatched", "start"),
            ("task_finished", None),
            ("state_started", "finished"),
            ("state_finished", "finished"),
            ("job_completed", "finished"),
        ]
        assert [event.sequence for event in told] == list(range(1, 9))
        assert [event.timestamp for event in told] == sorted(event.timestamp for event in told)
        assert len({event.event_id for event in told}) == 8
        dispatched, finished = told[3], told[4]
        assert (finished.worker_id, finished.attempt_number, finished.task_id) == ("w1", 1, dispatched.task_id)
        assert finished.duration_ms is not None
        assert finished.duration_ms >= 0
        assert finished.context_snapshot["status"] == "success"
        assert told[6].duration_ms is not None
        assert told[-1].context_snapshot == {"status": "finished"}

        shown = (await door.get(f"/api/v1/jobs/{job.id}/history")).json()
        assert [one["event_type"] for one in shown["events"]] == [event.event_type for event in told]
        assert [one["event_id"] for one in shown["events"]] == [event.event_id for event in told]
        assert shown["next_page_token"] == ""


async def test_a12_the_history_is_read_in_pages(start: Start) -> None:
    async with start(an_end(None)) as node, http(node) as door:
        job = await node.run("an_end", {})
        whole = [event.sequence for event in await history(node, job.id)]
        paged, token = [], ""
        while True:
            query = {"limit": "2"} | ({"page_token": token} if token else {})
            page = (await door.get(f"/api/v1/jobs/{job.id}/history", params=query)).json()
            assert 1 <= len(page["events"]) <= 2
            paged += [one["sequence"] for one in page["events"]]
            token = page["next_page_token"]
            if not token:
                break
        assert paged == whole
        assert [event.sequence async for event in node.client.history(job.id, page_size=1)] == whole


# Page tokens -----------------------------------------------------------------------------------------------------


def damaged(token: str) -> list[str]:
    """A token with a letter changed, cut, longer, written otherwise, and none at all."""
    changed = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    made_up = base64.urlsafe_b64encode(b'{"after": 1}').decode().rstrip("=")
    return [changed, token[:-4], f"{token}AAAA", f"{token}=", f" {token}", made_up, "1", "x", "\N{SNOWMAN}"]


async def test_a_page_token_shows_nothing_and_is_refused_where_it_was_not_made(start: Start) -> None:
    async with start(an_end(None), one_task()) as node, http(node) as door:
        jobs = [(await node.run("an_end", {})).id for _ in range(2)]
        lists = {
            "jobs": "/api/v1/jobs",
            "history": f"/api/v1/jobs/{jobs[0]}/history",
            "other history": f"/api/v1/jobs/{jobs[1]}/history",
            "blueprints": "/api/v1/blueprints",
        }
        pages = {name: (await door.get(path, params={"limit": "1"})).json() for name, path in lists.items()}
        tokens = {name: page["next_page_token"] for name, page in pages.items()}
        for name, path in lists.items():
            again = (await door.get(path, params={"limit": "1"})).json()["next_page_token"]
            assert again == tokens[name]
            sealed = base64.urlsafe_b64decode(again + "=" * (-len(again) % 4))
            assert not any(said.encode() in sealed for said in ("an_end", *jobs))
            for foreign in (*(token for other, token in tokens.items() if other != name), *damaged(again)):
                refused = await door.get(path, params={"limit": "1", "page_token": foreign})
                assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_ARGUMENT"), (name, foreign)
                assert [one["field"] for one in refused.json()["details"]] == ["page_token"]
        for foreign in (tokens["history"], *damaged(tokens["jobs"])):
            with pytest.raises(InvalidArgument, match="page_token"):
                await node.client.list_page(page_token=foreign)
        for foreign in (tokens["jobs"], tokens["other history"]):
            with pytest.raises(InvalidArgument, match="page_token"):
                await node.client.history_page(jobs[0], page_token=foreign)


async def test_a_page_token_is_good_at_every_node_of_a_store(redis: RedisServer) -> None:
    uri = f"{redis.uri(redis.database())}"
    async with running_node(an_end(None), STORAGE_URI=uri) as one, running_node(an_end(None), STORAGE_URI=uri) as other:
        made = {(await one.run("an_end", {})).id for _ in range(2)}
        first = await one.client.list_page(page_size=1)
        second = await other.client.list_page(page_size=1, page_token=first.next_page_token)
        assert {job.id for job in (*first.jobs, *second.jobs)} == made


# Fields and lists ------------------------------------------------------------------------------------------------


async def test_fields_select_what_is_shown_and_an_unknown_one_is_named(start: Start) -> None:
    async with start(an_end({"n": 1})) as node, http(node) as door:
        job_id = (await node.run("an_end", {})).id
        one = await door.get(f"/api/v1/jobs/{job_id}", params={"fields": "status,result"})
        assert one.json() == {"status": "finished", "result": {"n": 1}}
        listed = await door.get("/api/v1/jobs", params={"fields": "id"})
        assert listed.json()["jobs"] == [{"id": job_id}]
        for path in (f"/api/v1/jobs/{job_id}", "/api/v1/jobs"):
            refused = await door.get(path, params={"fields": "status,token"})
            assert refused.status_code == 400
            assert [fault["field"] for fault in refused.json()["details"]] == ["fields"]
            assert "'token'" in refused.json()["error"]


async def test_lists_are_newest_first_paged_and_filtered_and_carry_no_results(start: Start) -> None:
    async with start(an_end({"n": 1}), one_task()) as node, http(node) as door:
        over = [(await node.run("an_end", {})).id for _ in range(3)]
        open_ = [await create(node, "one_task") for _ in range(2)]
        newest_first = [*open_[::-1], *over[::-1]]

        paged, token = [], ""
        while True:
            query = {"page_size": "2"} | ({"page_token": token} if token else {})
            page = (await door.get("/api/v1/jobs", params=query)).json()
            assert 1 <= len(page["jobs"]) <= 2
            assert all("result" not in job for job in page["jobs"])
            paged += [job["id"] for job in page["jobs"]]
            token = page["next_page_token"]
            if not token:
                break
        assert paged == newest_first
        assert [job.id async for job in node.client.list_jobs(page_size=2)] == newest_first

        for query, wanted in (
            ({"status": "finished"}, over),
            ({"blueprint": "one_task"}, open_),
            ({"blueprint": "one_task", "status": "finished"}, []),
            ({"status": "finished,cancelled"}, over),
        ):
            listed = (await door.get("/api/v1/jobs", params=query)).json()["jobs"]
            assert [job["id"] for job in listed] == wanted[::-1]
        finished = [job async for job in node.client.list_jobs(statuses=["finished"], blueprint="an_end")]
        assert [job.id for job in finished] == over[::-1]
        assert all(job.result is None for job in finished)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"offset": "10"}, "offset"),
        ({"page_size": "0"}, "page_size"),
        ({"page_size": "1001"}, "page_size"),
        ({"page_size": "many"}, "page_size"),
        ({"page_token": "x"}, "page_token"),
        ({"status": "asleep"}, "status"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_list_that_cannot_be_given_is_refused_and_says_why(
    start: Start, query: dict[str, str], field: str
) -> None:
    async with start(an_end(None)) as node, http(node) as door:
        refused = await door.get("/api/v1/jobs", params=query)
        assert refused.status_code == 400
        assert [fault["field"] for fault in refused.json()["details"]] == [field]
        if "offset" in query:
            assert "page_token" in refused.json()["error"]


async def test_a_list_that_cannot_be_given_is_refused_by_grpc_with_the_same_fields(start: Start) -> None:
    async with start(an_end(None)) as node:
        for wrong, field in (({"page_size": 1001}, "page_size"), ({"page_token": "x"}, "page_token")):
            with pytest.raises(InvalidArgument) as error:
                await node.client.list_page(**wrong)
            assert [fault.field for fault in error.value.details] == [field]
        with pytest.raises(InvalidArgument) as error:
            await node.client.list_page(statuses=["asleep"])
        assert "'asleep'" in error.value.message


# Whose jobs they are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_i5_a_foreign_job_looks_like_one_that_does_not_exist(kind: str, tmp_path: Path) -> None:
    settings = StoreSettings(node_id="before")
    foreign = DomainJob(f"0-{uuid.uuid4().hex}", "one_task", "somebody-else", {}, "start")
    async with AsyncExitStack() as stack:
        file = tmp_path / "holon.db"
        store = MemoryStorage(settings) if kind == "memory" else SqliteStorage(file, settings)
        async with store:
            await store.create_jobs([NewJob(foreign, ())])
        given = {"storage": store} if isinstance(store, MemoryStorage) else {"STORAGE_URI": f"sqlite:///{file}"}
        node = await stack.enter_async_context(running_node(one_task(), **given))
        door = await stack.enter_async_context(http(node))
        mine = await create(node, "one_task")
        assert [job.id async for job in node.client.list_jobs()] == [mine]
        assert [job["id"] for job in (await door.get("/api/v1/jobs")).json()["jobs"]] == [mine]
        told = set()
        for job_id in (foreign.id, foreign.id[::-1], "never"):
            for method, path in (("GET", ""), ("GET", "/history"), ("POST", "/cancel")):
                reply = await door.request(method, f"/api/v1/jobs/{job_id}{path}")
                assert (reply.status_code, reply.json()["code"]) == (404, "JOB_NOT_FOUND")
                told.add(reply.json()["error"].replace(job_id, "..."))
            for call in (node.client.get_job, node.client.history_page, node.client.cancel_job):
                with pytest.raises(NotFound) as error:
                    await call(job_id)
                assert error.value.code == "JOB_NOT_FOUND"
                told.add(error.value.message.replace(job_id, "..."))
        assert len(told) == 1


async def test_a_job_that_is_over_cannot_be_cancelled(start: Start) -> None:
    async with start(an_end(None)) as node, http(node) as door:
        job = await node.run("an_end", {})
        reply = await door.post(f"/api/v1/jobs/{job.id}/cancel")
        assert (reply.status_code, reply.json()["code"]) == (409, "JOB_TERMINATED")
        with pytest.raises(FailedPrecondition) as error:
            await node.client.cancel_job(job.id)
        assert (error.value.code, error.value.message) == ("JOB_TERMINATED", reply.json()["error"])
        assert (await ended(node, job.id)).status == "finished"


async def test_health_and_status_need_no_token_and_say_nothing_of_jobs(start: Start) -> None:
    async with start(an_end(None)) as node, http(node, **{"X-Other": "1"}) as door:
        reply = await door.get("/_public/status")
        assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


async def test_actions_of_a_finished_step_are_in_the_history_even_while_the_job_waits(start: Start) -> None:
    bp = Blueprint("two_steps", api_endpoint="/jobs/two_steps")

    @bp.handler(is_start=True)
    async def start_(actions: ActionFactory) -> None:
        actions.go_to("ask")

    @bp.handler
    async def ask(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp) as node:
        job_id = await create(node, "two_steps")
        while not await history(node, job_id, "task_dispatched"):
            pass
        told = await history(node, job_id, "state_finished")
        assert [(event.state, event.next_state) for event in told] == [("start_", "ask"), ("ask", None)]


async def test_others_run_between_two_jobs_of_a_page_that_take_long_to_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, count = Passes(), 10
    async with start(one_task()) as node:
        jobs = [await create(node, "one_task", {"n": n}) for n in range(count)]
        monkeypatch.setattr("holon.turns.AT_ONCE_S", -1.0)
        monkeypatch.setattr(reads, "decode_job", passes.counted("decode_job", decode_job))
        watching = asyncio.create_task(passes.run())
        page = await node.client.list_page()
        watching.cancel()
        assert [job.id for job in page.jobs] == jobs[::-1]
    # What is kept in memory alone is of no size that would matter.
    assert passes.all in ({"decode_job": count}, {})
    assert passes.most in ({"decode_job": 1}, {})
