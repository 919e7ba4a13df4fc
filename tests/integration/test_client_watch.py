"""The client's watch: what it yields; and jobs that are created in batches."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from holon.client import Client, CreatedJob, Job, JobRequest
from holon.errors import NotFound, ResourceExhausted, Unauthenticated
from holon.testing import RunningNode, running_node
from tests.integration.client_site import GUARD, echo, told, working


@pytest.fixture
async def node() -> AsyncIterator[RunningNode]:
    async with running_node(echo()) as node:
        yield node


async def test_a_watch_yields_the_job_what_happens_to_it_and_the_job_as_it_ended(node: RunningNode) -> None:
    job_id = (await node.client.create_job("echo", {"n": 1})).job_id
    watching = asyncio.create_task(told(node.client, job_id, 0))
    async with working(node):
        updates = await watching
    assert updates[0].job is not None
    assert updates[0].job.id == job_id
    assert updates[-1].job == await node.client.get_job(job_id)
    assert updates[-1].job.status == "finished"
    history = [event async for event in node.client.history(job_id)]
    assert [update.event for update in updates if update.event is not None] == history
    progress = [update.progress for update in updates if update.progress is not None]
    assert all(one.current_state in ("start", "end") for one in progress)


async def test_waiting_for_a_job_sees_it_go_on(node: RunningNode) -> None:
    job_id = (await node.client.create_job("echo", {"n": 1})).job_id
    seen: list[Job] = []
    began = asyncio.Event()

    def see(job: Job) -> None:
        seen.append(job)
        began.set()

    waiting = asyncio.create_task(node.client.wait_for(job_id, timeout=GUARD, seen=see))
    await began.wait()
    async with working(node):
        job = await waiting
    assert job == seen[-1] == await node.client.get_job(job_id)
    assert seen[0].status == "waiting_for_worker"


async def test_calls_never_wait_behind_any_number_of_watches(node: RunningNode) -> None:
    job_id = (await node.client.create_job("echo")).job_id
    waiting = [asyncio.create_task(node.client.wait_for(job_id)) for _ in range(200)]
    async with asyncio.timeout(GUARD):
        while not repr(node.client._streams).endswith("streams=200)"):
            await node.client.get_job(job_id)
    assert (await node.client.get_job(job_id)).status == "waiting_for_worker"
    async with working(node):
        jobs = await asyncio.gather(*waiting)
    assert {job.status for job in jobs} == {"finished"}


async def test_jobs_are_created_in_batches_each_by_itself(node: RunningNode) -> None:
    asked = [JobRequest("echo", {"n": n}, request_id=f"r-{n}") for n in range(300)]
    asked.insert(7, JobRequest("nothing"))
    asked.insert(9, JobRequest("echo", {"text": "x" * 900_000}))
    made = await node.client.create_jobs(asked)
    refused = made.pop(7)
    assert isinstance(refused, NotFound)
    assert refused.code == "BLUEPRINT_NOT_FOUND"
    jobs = [one for one in made if isinstance(one, CreatedJob)]
    assert len({job.job_id for job in jobs}) == len(made) == 301
    again = await node.client.create_jobs([JobRequest("echo", {"n": n}, request_id=f"r-{n}") for n in (0, 299)])
    assert again == [CreatedJob(jobs[0].job_id, True), CreatedJob(jobs[-1].job_id, True)]
    assert await node.client.create_jobs([]) == []


async def test_a_job_that_no_call_takes_is_refused_in_its_place_and_those_around_it_are_made(node: RunningNode) -> None:
    asked = [JobRequest("echo", {"n": n}) for n in range(2)]
    asked.insert(1, JobRequest("echo", {"text": "x" * 5 * 2**20}))
    first, refused, last = await node.client.create_jobs(asked)
    assert isinstance(refused, ResourceExhausted)
    assert "Received message larger than max" in refused.message
    assert isinstance(first, CreatedJob)
    assert isinstance(last, CreatedJob)
    assert {job.id async for job in node.client.list_jobs()} == {first.job_id, last.job_id}


async def test_a_batch_is_sent_in_as_many_calls_as_a_node_with_small_messages_takes() -> None:
    async with running_node(echo(), GRPC_MESSAGE_MAX_BYTES=90_000, INLINE_PAYLOAD_MAX_BYTES=20_000) as node:
        asked = [JobRequest("echo", {"text": "x" * size}) for size in (19_000,) * 7 + (90_000,) + (19_000,) * 7]
        made = await node.client.create_jobs(asked)
        refused = [place for place, one in enumerate(made) if isinstance(one, ResourceExhausted)]
        assert refused == [7]
        created = {one.job_id for one in made if isinstance(one, CreatedJob)}
        assert {job.id async for job in node.client.list_jobs()} == created
        assert len(created) == 14


async def test_a_wrong_token_ends_a_watch(node: RunningNode) -> None:
    job_id = (await node.client.create_job("echo")).job_id
    async with Client(f"grpcs://localhost:{node.ports.client}", "wrong", node.folder / "ca.pem") as client:
        with pytest.raises(Unauthenticated):
            await told(client, job_id)


LEAVES = """
import asyncio, sys
from holon.client import Client

async def leave(url, token, ca, job_id):
    async with Client(url, token, ca) as client:
        watches = [client.watch(job_id) for _ in range(8)]
        for one in watches:
            await anext(one)
        return watches

kept = asyncio.run(leave(*sys.argv[1:]))
"""


async def test_watches_that_are_left_open_are_closed_at_the_end_of_the_loop_without_a_word(node: RunningNode) -> None:
    job_id = (await node.client.create_job("echo", {"n": 1})).job_id
    url, ca = f"grpcs://localhost:{node.ports.client}", str(node.folder / "ca.pem")
    # By itself: what gRPC has for a loop that is closed, it gives to another one of the process.
    leaver = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LEAVES, url, node.token, ca, job_id, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(GUARD):
        _, said = await leaver.communicate()
    assert (leaver.returncode, said.decode()) == (0, "")
