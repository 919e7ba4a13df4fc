"""The client door: JobService as clients call it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from holon.rxon.v1 import job_pb2
from tests.integration.client_calls import create, creation, refused
from tests.integration.grpc_node import Node, fields_of, json_payload, reason_of, result, updates

CODE = grpc.StatusCode


async def test_a_job_is_created_read_and_finished(node: Node) -> None:
    created = await create(node, initial_data=json_payload({"n": 1}))
    assert not created.existing
    waiting = await node.job(created.job_id)
    assert (waiting.blueprint_name, waiting.terminal, waiting.owner) == ("relay", False, "default")
    assert not waiting.HasField("result")
    assert not waiting.HasField("finished_at")
    worker = await node.worker()
    await worker.send(updates(result(await worker.offer(), {"big": 2**53 + 1})))
    job = await node.ended(created.job_id)
    assert (job.status, job.current_state, job.terminal) == ("finished", "end", True)
    assert json.loads(job.result.data) == {"big": 2**53 + 1}
    assert job.created_at.ToMilliseconds() <= job.finished_at.ToMilliseconds()


async def test_the_same_request_id_answers_with_the_same_job_and_another_content_is_refused(node: Node) -> None:
    first = await create(node, request_id="once", initial_data=json_payload({"a": 1, "b": 2}))
    again = await create(node, request_id="once", initial_data=json_payload({"b": 2, "a": 1}))
    assert (again.job_id, again.existing) == (first.job_id, True)
    error = await refused(node, "CreateJob", creation(request_id="once", initial_data=json_payload({"a": 2})))
    assert (error.code(), reason_of(error)) == (CODE.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_job_that_waits_says_why(node: Node) -> None:
    job_id = await node.create(skill="rare")
    async with asyncio.timeout(10):
        while not (job := await node.job(job_id)).progress_message:
            pass
    assert (job.status, job.progress_message) == (
        "waiting_for_worker",
        "waiting: no worker connected to this node offers skill 'rare'",
    )


async def test_fields_select_what_is_read(node: Node) -> None:
    job_id = await node.create()
    request = job_pb2.GetJobRequest(job_id=job_id, fields=["id", "status"])
    job = (await node.call("GetJob", request, job_pb2.GetJobResponse.FromString)).job
    assert {field.name for field, _ in job.ListFields()} == {"id", "status"}
    error = await refused(node, "GetJob", job_pb2.GetJobRequest(job_id=job_id, fields=["colour"]))
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, ["fields"])


async def test_lists_are_paged_newest_first_and_filtered(node: Node) -> None:
    jobs = [await node.create(n=n) for n in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        request = job_pb2.ListJobsRequest(page_size=2, page_token=token, blueprint_name="relay")
        page = await node.call("ListJobs", request, job_pb2.ListJobsResponse.FromString)
        assert len(page.jobs) <= 2
        seen += [job.id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert seen == jobs[::-1]
    nothing = job_pb2.ListJobsRequest(statuses=["finished"])
    assert not (await node.call("ListJobs", nothing, job_pb2.ListJobsResponse.FromString)).jobs


async def test_lists_are_narrowed_by_time_and_by_whether_jobs_are_over(node: Node) -> None:
    async def listed(**which: Any) -> list[str]:
        request = job_pb2.ListJobsRequest(**which)
        return [job.id for job in (await node.call("ListJobs", request, job_pb2.ListJobsResponse.FromString)).jobs]

    over, alive = await node.create(), await node.create()
    await node.cancel(over)
    await node.ended(over)
    assert await listed(terminal=True) == [over]
    assert await listed(terminal=False) == [alive]
    assert await listed(terminal=True, statuses=["pending"]) == []
    assert await listed(terminal=True, statuses=["cancelled", "pending"]) == [over]
    first = await node.call("GetJob", job_pb2.GetJobRequest(job_id=over), job_pb2.GetJobResponse.FromString)
    at = first.job.created_at
    later = Timestamp(seconds=at.seconds + 3_600)
    assert await listed(created_after=at, created_before=later) == [alive, over]
    assert await listed(created_before=at) == await listed(created_after=later) == []


async def test_a_cancelled_job_ends_and_is_cancelled_once(node: Node) -> None:
    job_id = await node.create()
    await node.cancel(job_id)
    assert (await node.ended(job_id)).status == "cancelled"
    error = await refused(node, "CancelJob", job_pb2.CancelJobRequest(job_id=job_id))
    assert (error.code(), reason_of(error)) == (CODE.FAILED_PRECONDITION, "JOB_TERMINATED")


async def test_the_history_of_a_job_is_read_in_pages_and_from_a_sequence(node: Node) -> None:
    worker = await node.worker()
    job_id = await node.create()
    await worker.send(updates(result(await worker.offer(), {"n": 1})))
    await node.ended(job_id)
    whole = await node.history(job_id)
    assert [event.sequence for event in whole] == list(range(1, len(whole) + 1))
    kinds = [event.event_type for event in whole]
    assert (kinds[0], kinds[-1]) == ("job_created", "job_completed")
    assert {"state_started", "task_dispatched", "task_finished"} <= set(kinds)
    finished = whole[kinds.index("task_finished")]
    assert (finished.worker_id, finished.attempt_number) == ("w1", 1)
    assert len({event.event_id for event in whole}) == len(whole)

    paged: list[job_pb2.HistoryEvent] = []
    token = ""
    while True:
        request = job_pb2.GetJobHistoryRequest(job_id=job_id, page_size=3, page_token=token)
        page = await node.call("GetJobHistory", request, job_pb2.GetJobHistoryResponse.FromString)
        paged += page.events
        token = page.next_page_token
        if not token:
            break
    assert paged == whole
    later = job_pb2.GetJobHistoryRequest(job_id=job_id, after_sequence=2)
    assert (await node.call("GetJobHistory", later, job_pb2.GetJobHistoryResponse.FromString)).events == whole[2:]


async def test_the_health_of_each_service_of_a_door_is_that_of_the_door_and_of_others_there_is_none(node: Node) -> None:
    health: Any = health_pb2_grpc.HealthStub(node.channel)
    ask, answer = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
    for name in ("holon.rxon.v1.JobService", "holon.rxon.v1.NodeService"):
        assert (await health.Check(ask(service=name))).status == answer.SERVING
        assert (await health.Watch(ask(service=name)).read()).status == answer.SERVING
    other = ask(service="holon.rxon.v1.WorkerService")
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await health.Check(other)
    assert unknown.value.code() is CODE.NOT_FOUND
    assert (await health.Watch(other).read()).status == answer.SERVICE_UNKNOWN


async def test_a_draining_door_takes_no_new_jobs_and_says_so_in_its_health_which_needs_no_token(node: Node) -> None:
    health: Any = health_pb2_grpc.HealthStub(node.channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    node.clients.drain()
    async with asyncio.timeout(10):
        while (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING:
            pass
    error = await refused(node, "CreateJob", creation())
    assert (error.code(), reason_of(error)) == (CODE.UNAVAILABLE, "DRAINING")
    assert not (await node.call("ListJobs", job_pb2.ListJobsRequest(), job_pb2.ListJobsResponse.FromString)).jobs
