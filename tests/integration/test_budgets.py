"""What a job may cost: what is no budget is refused at every door, in the same words, and makes no job."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from holon.client import Client, CreatedJob, JobRequest
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.errors import InvalidArgument
from holon.rxon.v1 import job_pb2, types_pb2
from holon.rxon.v1.job_pb2_grpc import JobServiceStub
from tests.integration.a_child import a_child, answer, offered
from tests.integration.client_doors import client_door
from tests.integration.http_node import AUTH, GUARD, TOKEN, Node, running
from tests.integration.scripted_node import make_certificates

SAYS = "give a whole number from 0 to 9007199254740991, in millionths of the cost unit"


@dataclass
class Doors:
    """Those of one node, at which each asks for a job with a budget: what is said of it; empty when it is taken."""

    node: Node
    url: str
    folder: Path

    async def http(self, budget: Any) -> str:
        body = json.dumps({"initial_data": {}, "budget": budget})
        reply = await self.node.client.post("/api/v1/jobs/waiting", content=body, headers=AUTH)
        if reply.status_code == 202:
            return ""
        told = reply.json()
        assert (reply.status_code, told["code"], told["details"][0]["field"]) == (400, "INVALID_ARGUMENT", "budget")
        return str(told["error"])

    async def grpc(self, budget: int) -> str:
        async with grpc.aio.insecure_channel(self.url.removeprefix("grpc://")) as channel:
            stub: Any = JobServiceStub(channel)
            request = job_pb2.CreateJobRequest(
                blueprint_name="waiting", initial_data=types_pb2.Payload(data=b"{}"), budget=budget
            )
            try:
                await stub.CreateJob(request, metadata=(("x-client-token", TOKEN),))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                return str(error.details())
        return ""

    async def python(self, budget: Any) -> str:
        async with Client(self.url, TOKEN, timeout=GUARD) as client:
            try:
                await client.create_job("waiting", budget=budget)
            except InvalidArgument as error:
                return error.message
        return ""

    async def command(self, budget: str) -> str:
        run = ("-c", "from holon.cli import main; main()", "jobs", "create", "waiting", "--budget", budget)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *run,
            env={**os.environ, "HOLON_URL": self.url, "HOLON_TOKEN": TOKEN},
            cwd=self.folder,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await asyncio.wait_for(process.communicate(), GUARD)
        assert process.returncode == (2 if told else 0)
        return told.decode().strip().removeprefix("holon: ")

    async def made(self) -> int:
        """How many jobs there are."""
        return len((await self.node.client.get("/api/v1/jobs", headers=AUTH)).json()["jobs"])


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with running() as node, client_door(node.engine, None, TOKEN) as door:
        yield Doors(node, f"grpc://127.0.0.1:{door.port}", tmp_path)


async def told_of_offer(budget: int, folder: Path) -> str:
    """What a child says of a parent's offer with such a budget."""
    anything = Blueprint("anything")

    @anything.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.go_to("end")

    @anything.handler(is_end=True)
    async def end() -> None: ...

    async with a_child(make_certificates(folder), [anything]) as child:
        stream = await child.linked()
        await offered(stream, "t1", "anything", {}, lineage=types_pb2.Lineage(budget=budget))
        rejected = (await answer(stream)).rejected
        assert (rejected.reason, await child.jobs()) == ("UNSUITABLE", [])
        return str(rejected.message)


@pytest.mark.parametrize("budget", [-1, 2**53, -(2**63), 2**63 - 1])
async def test_a_number_that_is_no_budget_is_refused_by_every_door_in_the_same_words(
    doors: Doors, tmp_path: Path, budget: int
) -> None:
    said = f"budget is {budget}; {SAYS}"
    assert await doors.http(budget) == said
    assert await doors.grpc(budget) == said
    assert await doors.python(budget) == said
    assert await doors.command(str(budget)) == said
    assert await told_of_offer(budget, tmp_path) == f"lineage.{said}"
    assert await doors.made() == 0


@pytest.mark.parametrize("budget", [1.5, -0.5, "1", True, [1], {"a": 1}, "x" * 10_000])
async def test_what_is_no_number_is_so_too_where_it_can_be_said(doors: Doors, budget: Any) -> None:
    said = f"budget is {json.dumps(budget)[:64]}; {SAYS}"
    assert await doors.http(budget) == said
    assert await doors.python(budget) == said
    assert await doors.made() == 0


@pytest.mark.parametrize("text", ["1.5", "nan", "much"])
async def test_a_command_is_refused_in_these_words_too(doors: Doors, text: str) -> None:
    shown = '"much"' if text == "much" else text
    assert await doors.command(text) == f"budget is {shown}; {SAYS}"


async def test_a_whole_number_may_be_written_with_a_point_at_every_door_that_knows_any(doors: Doors) -> None:
    assert [await doors.http(5.0), await doors.grpc(5), await doors.python(5.0), await doors.command("5.0")] == [""] * 4
    listed = (await doors.node.client.get("/api/v1/jobs", headers=AUTH)).json()["jobs"]
    assert [one["budget"] for one in listed] == [5] * 4


async def test_one_job_that_cannot_be_sent_leaves_the_others_of_its_batch_alone(doors: Doors) -> None:
    async with Client(doors.url, TOKEN, timeout=GUARD) as client:
        asked = [JobRequest("waiting"), JobRequest("waiting", budget=-1), JobRequest("waiting", {"a": {1}})]
        first, wrong, unwritable, last = await client.create_jobs([*asked, JobRequest("waiting", budget=7)])
        assert isinstance(first, CreatedJob)
        assert isinstance(wrong, InvalidArgument)
        assert isinstance(unwritable, InvalidArgument)
        assert isinstance(last, CreatedJob)
        assert (await client.get_job(last.job_id)).budget == 7
