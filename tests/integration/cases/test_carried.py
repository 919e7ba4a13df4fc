"""Acceptance: what a job carries is read by its owner, where it is asked for by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from holon import Blueprint
from holon.client import Client
from holon.context import ActionFactory
from holon.ports import MAX_PAGE_BYTES
from holon.rxon.v1 import job_pb2
from holon.wire.values import json_payload
from holon.worker import TaskError
from tests.integration.cases.site import GUARD, Start, create, ended, http, waits

BOTH = "initial_data,state_history"
LARGE = 450_000
JOBS = 8


def charging() -> Blueprint:
    """Notes something, and has a task charge what it was given; nothing is declared for when that fails."""
    bp = Blueprint("charging", api_endpoint="/jobs/charging", api_version="v1")

    @bp.handler(is_start=True)
    async def start(initial_data: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["seen"] = True
        actions.dispatch_task("charge", initial_data, {"success": "done"})

    @bp.handler(is_end=True)
    async def done() -> None: ...

    return bp


def filling() -> Blueprint:
    """Ends at once, with a state that is large; its result is that state."""
    bp = Blueprint("filling", api_endpoint="/jobs/filling", api_version="v1")

    @bp.handler(is_start=True, is_end=True)
    async def fill(state_history: dict[str, Any]) -> None:
        state_history["text"] = "x" * LARGE

    return bp


def parting() -> Blueprint:
    """Has many parts that are large, and keeps nothing of what they end with."""
    bp = Blueprint("parting", api_endpoint="/jobs/parting", api_version="v1")

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_parallel([{"blueprint_name": "filling"}] * JOBS, aggregate_into="over")

    @bp.aggregator
    async def over(actions: ActionFactory) -> None:
        actions.go_to("done")

    @bp.handler(is_end=True)
    async def done() -> None: ...

    return bp


async def test_what_a_job_carries_is_told_by_name_alone_while_it_waits_and_once_it_is_quarantined(start: Start) -> None:
    given = {"card": 4711, "large": 2**53 + 1}
    carried = {"initial_data": given, "state_history": {"seen": True}}
    async with start(charging()) as node, http(node) as door:
        job_id = await create(node, "charging", given)

        async def is_told(status: str) -> None:
            assert (await door.get(f"/api/v1/jobs/{job_id}?fields=status,{BOTH}")).json() == {
                "status": status
            } | carried
            (listed,) = (await door.get(f"/api/v1/jobs?fields=status,{BOTH}")).json()["jobs"]
            assert listed == {"status": status} | carried
            message = await _message(node.client, job_id, "state_history")
            assert message == job_pb2.Job(state_history=json_payload(b'{"seen":true}'))
            read, plain = await node.client.get_job(job_id, data=True), await node.client.get_job(job_id)
            assert {"initial_data": read.initial_data, "state_history": read.state_history} == carried
            # Besides, it is the job as ever, and nobody is shown them unasked.
            assert replace(read, initial_data=None, state_history=None) == plain
            for shown in (await door.get(f"/api/v1/jobs/{job_id}"), await door.get("/api/v1/jobs")):
                assert not re.search("initial_data|state_history|4711", shown.text.replace("no money on 4711", ""))

        await waits(node, job_id)
        await is_told("waiting_for_worker")
        worker = node.new_worker("w1")

        @worker.skill
        def charge(card: int) -> None:
            raise TaskError("PERMANENT_ERROR", f"no money on {card}")

        async with worker:
            await ended(node, job_id)
        await is_told("quarantined")


async def _message(client: Client, job_id: str, *fields: str) -> job_pb2.Job:
    """A job of exactly these fields."""
    request = job_pb2.GetJobRequest(job_id=job_id, fields=fields)
    return (await client._calls.call(client._stub.GetJob, request)).job


async def test_who_waits_for_the_end_of_a_job_is_told_what_it_carries_then(start: Start) -> None:
    async with start(charging()) as node, http(node) as door:
        worker = node.new_worker("w1")

        @worker.skill
        def charge(card: int) -> dict[str, int]:
            return {"charged": card}

        wanted = {"initial_data": {"card": 7}, "state_history": {"seen": True, "charged": 7}, "status": "finished"}
        job_id = await create(node, "charging", {"card": 7})
        async with worker:
            path, query = "/api/v1/jobs/charging", f"wait={min(GUARD, 30):g}&fields=status,{BOTH}"
            assert (await door.get(f"/api/v1/jobs/{job_id}?{query}")).json() == wanted
            made = await door.post(f"{path}?{query}", json={"initial_data": {"card": 7}})
            assert (made.status_code, made.json()) == (200, wanted)


@pytest.mark.parametrize("parts", [False, True], ids=["jobs", "parts"])
async def test_pages_of_jobs_that_carry_much_fit_into_a_message_whatever_is_shown(start: Start, parts: bool) -> None:
    async with start(filling(), parting()) as node, http(node) as door:
        above = ""
        if parts:
            above = await create(node, "parting")
            await ended(node, above)
        else:
            for _ in range(JOBS):
                await ended(node, await create(node, "filling"))

        async def over_http(token: str) -> tuple[list[Any], str]:
            query = {"fields": f"id,result,{BOTH}", "page_token": token, "blueprint": "filling"}
            page = await door.get("/api/v1/jobs", params=query | ({"parent_job_id": above} if above else {}))
            assert len(page.content) < MAX_PAGE_BYTES + LARGE
            shown = [(one["id"], len(one["result"]["text"]), one["state_history"]) for one in page.json()["jobs"]]
            return shown, page.json()["next_page_token"]

        async def by_grpc(token: str) -> tuple[list[Any], str]:
            fields = ["id", "result", *BOTH.split(",")]
            asked = job_pb2.ListJobsRequest(
                fields=fields, page_token=token, blueprint_name="filling", parent_job_id=above
            )
            page = await node.client._calls.call(node.client._stub.ListJobs, asked)
            return [(one.id, len(one.result.data), one.state_history.data) for one in page.jobs], page.next_page_token

        assert await _ids(over_http) == await _ids(by_grpc)


async def _ids(read: Callable[[str], Any]) -> list[str]:
    """What all pages show, which are more than one: each job once, with all that was asked for."""
    rows, token = await read("")
    pages = 1
    while token:
        more, token = await read(token)
        rows, pages = rows + more, pages + 1
    ids = [row[0] for row in rows]
    assert (len(ids), len(set(ids)), pages > 1) == (JOBS, JOBS, True)
    assert all(size >= LARGE and state for _, size, state in rows)
    return ids
