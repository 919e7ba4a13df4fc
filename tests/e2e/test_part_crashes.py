"""A job that is a part of another, under SIGKILL at each of its moments: nothing is lost, and nothing runs twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.dying import PROGRAM
from tests.e2e.processes import Node, ended_with_test, until, work_log
from tests.e2e.quick import QUICK
from tests.redis_server import RedisServer

BLUEPRINTS = """
from holon import Blueprint

whole = Blueprint("whole", api_endpoint="/jobs/whole", api_version="v1")
part = Blueprint("part")


@whole.handler("start", is_start=True)
async def run(initial_data, actions):
    if "parts" in initial_data:
        actions.dispatch_parallel(
            [{"blueprint_name": "part", "initial_data": one} for one in initial_data["parts"]], "gather"
        )
    else:
        actions.run_blueprint("part", initial_data, {"success": "end", "cancelled": "end"})


@whole.handler("gather")
async def gather(aggregation_results, state_history, actions):
    state_history["echo"] = [one["data"]["echo"] for one in aggregation_results.values()]
    actions.go_to("end")


@whole.handler("end", is_end=True)
async def end(state_history):
    return {"echo": state_history.get("echo")}


@part.handler("start", is_start=True)
async def ask(initial_data, actions):
    actions.dispatch_task("echo", initial_data, {"success": "end"})


@part.handler("end", is_end=True)
async def told():
    pass
"""


class Mortal(Node):
    """A node that dies at a moment, once."""

    program = PROGRAM


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "blueprints"
    folder.mkdir()
    (folder / "whole.py").write_text(BLUEPRINTS)
    return folder


async def jobs_of(node: Node) -> Counter[str]:
    """How many jobs there are of each blueprint."""
    reply = await node.api.get("/api/v1/jobs")
    return Counter(one["blueprint_name"] for one in reply.json()["jobs"])


@pytest.mark.parametrize(
    ("moment", "count", "parts"), [("taken", 1, 1), ("made", 2, 3), ("over", 2, 3), ("told above", 1, 1)]
)
async def test_i1_i2_a_job_and_its_parts_end_once_wherever_the_node_is_killed(
    tmp_path: Path, store: str, moment: str, count: int, parts: int
) -> None:
    dies = {"DIE_AT": moment, "DIE_COUNT": count, "DIE_ONCE": tmp_path / "died"}
    node = Mortal(tmp_path, folder_of(tmp_path), **QUICK, **dies, STORAGE_URI=store, INSTANCE_ID="a")
    worker = node.worker("w1", "echo_worker.py")
    async with ended_with_test(node, worker):
        await node.start()
        await worker.start()
        supervisor = asyncio.create_task(node.process.restarted())
        each = [{"n": n, "seconds": 0.1} for n in range(parts)]
        job_id = await node.create("/jobs/whole", {"parts": each} if parts > 1 else each[0])
        job = await node.ended(job_id)
        assert (job["status"], job["result"]) == ("finished", {"echo": [*range(parts)] if parts > 1 else 0})
        assert (tmp_path / "died").exists()
        assert await jobs_of(node) == {"whole": 1, "part": parts}
        assert Counter(line["what"] for line in work_log(tmp_path, "w1")) == {"begin": parts, "end": parts}
        supervisor.cancel()


async def test_i7_a_cancel_of_both_goes_on_after_the_node_was_killed_between_them(tmp_path: Path, store: str) -> None:
    dies = {"DIE_AT": "cut", "DIE_COUNT": 1, "DIE_ONCE": tmp_path / "died"}
    node = Mortal(tmp_path, folder_of(tmp_path), **QUICK, **dies, STORAGE_URI=store, INSTANCE_ID="a")
    async with ended_with_test(node):
        await node.start()
        supervisor = asyncio.create_task(node.process.restarted())
        job_id = await node.create("/jobs/whole", {"parts": [{"n": 1}, {"n": 2}]})
        await until(lambda: _is_there(node, "waiting_for_parallel", 2), "the parts are there")
        parts = [one["id"] for one in await _jobs(node) if one["blueprint_name"] == "part"]
        with contextlib.suppress(httpx.TransportError):
            await node.api.post(f"/api/v1/jobs/{job_id}/cancel")
        assert (await node.ended(job_id))["status"] == "cancelled"
        for part in parts:
            assert (await node.ended(part))["status"] == "cancelled"
        assert (tmp_path / "died").exists()
        supervisor.cancel()


async def _jobs(node: Node) -> list[dict[str, Any]]:
    reply = await node.api.get("/api/v1/jobs")
    found: list[dict[str, Any]] = reply.json()["jobs"]
    return found


async def _is_there(node: Node, above: str = "waiting_for_child", parts: int = 1) -> bool:
    return Counter(one["status"] for one in await _jobs(node)) == {above: 1, "waiting_for_worker": parts}


@pytest.mark.own_store("its nodes share a Redis")
async def test_i6_another_node_goes_on_with_the_part_of_a_job_of_one_that_died(tmp_path: Path) -> None:
    server = RedisServer()
    blueprints = folder_of(tmp_path)
    first, second = ((tmp_path / name) for name in ("first", "second"))
    first.mkdir()
    second.mkdir()
    shared = {**QUICK, "STORAGE_URI": server.uri()}
    one = Node(first, blueprints, **shared, INSTANCE_ID="one")
    other = Node(second, blueprints, **shared, INSTANCE_ID="other", CLIENT_TOKEN=one.token)
    other.api.headers["X-Client-Token"] = one.token
    worker = other.worker("w1", "echo_worker.py")
    try:
        async with ended_with_test(one), ended_with_test(other, worker):
            # Alone it gets all of it.
            await one.start()
            job_id = await one.create("/jobs/whole", {"n": 3})
            await until(lambda: _is_there(one), "the part waits for a worker")
            await one.process.end()
            await other.start()
            await worker.start()
            job = await other.ended(job_id)
            assert (job["status"], job["result"]) == ("finished", {"echo": 3})
            assert await jobs_of(other) == {"whole": 1, "part": 1}
    finally:
        server.close()
