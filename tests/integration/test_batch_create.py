"""BatchCreateJobs: many jobs by one call, each by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
import pytest

from holon.engine import inputs
from holon.engine.handlers import Handlers
from holon.errors import ResourceExhausted, StoreUnavailable
from holon.ports import NewJob
from holon.rxon.v1 import job_pb2
from holon.transports.grpc import job_service
from tests.integration.cases.site import Passes
from tests.integration.grpc_node import ENDED, GUARD, Node, fields_of, json_payload, reason_of, result, updates

CODE = grpc.StatusCode


def creation(n: int = 0, **more: Any) -> job_pb2.CreateJobRequest:
    more.setdefault("blueprint_name", "relay")
    more.setdefault("initial_data", json_payload({"n": n}))
    return job_pb2.CreateJobRequest(**more)


async def create(node: Node, *requests: job_pb2.CreateJobRequest) -> list[job_pb2.BatchCreateJobsResult]:
    request = job_pb2.BatchCreateJobsRequest(requests=requests)
    answer = await node.call("BatchCreateJobs", request, job_pb2.BatchCreateJobsResponse.FromString)
    return list(answer.results)


async def refused(node: Node, *requests: job_pb2.CreateJobRequest) -> grpc.aio.AioRpcError:
    with pytest.raises(ENDED) as error:
        await create(node, *requests)
    return error.value


async def test_each_is_created_in_order_and_one_that_is_refused_leaves_the_others_alone(node: Node) -> None:
    made = await create(
        node,
        creation(1),
        creation(blueprint_name="nothing"),
        creation(2),
        creation(max_transitions=0),
        creation(initial_data=json_payload([])),
        creation(3),
    )
    assert [one.WhichOneof("outcome") for one in made] == ["created", "error", "created", "error", "error", "created"]
    errors = [one.error for one in made if one.HasField("error")]
    assert [error.reason for error in errors] == ["BLUEPRINT_NOT_FOUND", "INVALID_ARGUMENT", "INPUT_INVALID"]
    assert [error.code for error in errors] == [5, 3, 3]
    assert errors[1].field_violations[0].field == "max_transitions"
    jobs = [one.created.job_id for one in made if one.HasField("created")]
    page = await node.call("ListJobs", job_pb2.ListJobsRequest(), job_pb2.ListJobsResponse.FromString)
    assert [job.id for job in page.jobs] == jobs[::-1]


async def test_a_repeat_answers_with_the_same_jobs(node: Node) -> None:
    batch = [creation(n, request_id=f"order-{n}") for n in range(3)]
    first = await create(node, *batch)
    again = await create(node, *batch, creation(9, request_id="order-1"), creation(7, request_id="order-7"))
    assert [one.created.job_id for one in again[:3]] == [one.created.job_id for one in first]
    assert [one.created.existing for one in first] == [False] * 3
    assert [one.created.existing for one in again[:3]] == [True] * 3
    assert again[3].error.reason == "REQUEST_ID_REUSED"
    assert again[3].error.code == CODE.ALREADY_EXISTS.value[0]
    assert not again[4].created.existing


async def test_one_request_id_twice_in_a_batch_makes_one_job(node: Node) -> None:
    made = await create(node, creation(1, request_id="once"), creation(1, request_id="once"))
    assert made[0].created.job_id == made[1].created.job_id
    assert [one.created.existing for one in made] == [False, True]


async def test_a_whole_batch_is_done(node: Node) -> None:
    worker = await node.worker(credits=256)
    made = await create(node, *(creation(n) for n in range(256)))
    jobs = {one.created.job_id for one in made}
    assert len(jobs) == 256
    done: set[str] = set()
    while len(done) < 256:
        kind, said = await worker.next()
        if kind == "task_offers":
            done.add(said.job_id)
            await worker.send(updates(result(said, {"done": True})))
    assert done == jobs
    finished = job_pb2.ListJobsRequest(page_size=1000, statuses=["finished"])
    ended: set[str] = set()
    async with asyncio.timeout(GUARD):
        while len(ended) < 256:
            page = await node.call("ListJobs", finished, job_pb2.ListJobsResponse.FromString)
            ended = {job.id for job in page.jobs}
    assert ended == jobs


async def test_others_run_between_two_jobs_of_a_batch_that_take_long_to_look_at(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await node.worker(credits=1)
    await node.create()
    # Its handler has ended well: it is run with the creation of those that come.
    await worker.offer()
    passes, count = Passes(), 20
    monkeypatch.setattr("holon.turns.AT_ONCE_S", -1.0)
    for where, name in ((job_service, "creating_of"), (inputs, "input_of"), (Handlers, "run_now")):
        monkeypatch.setattr(where, name, passes.counted(name, getattr(where, name)))
    watching = asyncio.create_task(passes.run())
    made = await create(node, *map(creation, range(count)))
    watching.cancel()
    assert all(one.HasField("created") for one in made)
    assert passes.all == dict.fromkeys(("creating_of", "input_of", "run_now"), count)
    assert max(passes.most.values()) == 1


async def test_a_batch_over_the_limit_is_refused_and_an_empty_one_makes_nothing(node: Node) -> None:
    error = await refused(node, *(creation(n) for n in range(257)))
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, ["requests"])
    assert await create(node) == []
    page = await node.call("ListJobs", job_pb2.ListJobsRequest(), job_pb2.ListJobsResponse.FromString)
    assert not page.jobs


async def test_a_draining_node_takes_none_of_them(node: Node) -> None:
    node.clients.drain()
    error = await refused(node, creation())
    assert (error.code(), reason_of(error)) == (CODE.UNAVAILABLE, "DRAINING")


@pytest.mark.parametrize("first", [True, False])
async def test_where_all_is_at_one_place_a_batch_is_one_call_and_else_each_of_it_fails_alone(
    node: Node, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    store, sizes = node.engine.store, list[int]()
    create_jobs = store.create_jobs

    async def counted(items: Sequence[NewJob], *more: Any) -> Any:
        sizes.append(len(items))
        return await create_jobs(items, *more)

    monkeypatch.setattr(store, "create_jobs", counted)
    monkeypatch.setattr(store, "at_one_place", first)
    made = await create(node, creation(0), creation(1), creation(blueprint_name="nothing"), creation(2))
    assert [one.WhichOneof("outcome") for one in made] == ["created", "created", "error", "created"]
    assert sizes == ([3] if first else [1, 1, 1])


async def test_a_job_that_the_store_refuses_leaves_the_others_of_its_call_alone(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_jobs = node.engine.store.create_jobs

    async def picky(items: Sequence[NewJob], *more: Any) -> Any:
        if any(one.job.initial_data == {"n": 1} for one in items):
            raise ResourceExhausted("there is no room for a note")
        return await create_jobs(items, *more)

    monkeypatch.setattr(node.engine.store, "create_jobs", picky)
    made = await create(node, creation(0), creation(1), creation(2))
    assert [one.WhichOneof("outcome") for one in made] == ["created", "error", "created"]
    assert made[1].error.reason == "RESOURCE_EXHAUSTED"


async def test_all_of_a_call_that_the_store_could_not_take_are_told_when_to_try_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise StoreUnavailable("the store is away", retry_after=1.5)

    monkeypatch.setattr(node.engine.store, "create_jobs", away)
    made = await create(node, creation(0), creation(1))
    assert {(one.error.reason, one.error.retry_after.ToMilliseconds()) for one in made} == {("STORE_UNAVAILABLE", 1500)}


async def test_what_a_store_of_several_places_could_not_take_says_when_to_try_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.engine.store, "at_one_place", False)
    create_jobs, calls = node.engine.store.create_jobs, iter(range(100))

    async def shaky(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise StoreUnavailable("the store is away", retry_after=1.5)
        return await create_jobs(*arguments)

    monkeypatch.setattr(node.engine.store, "create_jobs", shaky)
    made = await create(node, creation(0), creation(1), creation(2))
    assert [one.WhichOneof("outcome") for one in made] == ["created", "error", "created"]
    assert made[1].error.reason == "STORE_UNAVAILABLE"
    assert made[1].error.retry_after.ToMilliseconds() == 1500
