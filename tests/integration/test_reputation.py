"""The reputation of workers, seen from a node's doors: what moves it, what does not, and what it decides."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from holon.rxon.v1 import node_pb2, types_pb2, worker_pb2
from tests.integration.grpc_node import Node, Wire, a_node, json_payload, offering, result, updates
from tests.integration.node_calls import finish, skills, workers


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with a_node(secure=False) as node:
        yield node


async def reputation(node: Node) -> float:
    [worker] = await workers(node)
    return worker.reputation


async def fails(node: Node, worker: Wire, code: str) -> None:
    job_id = await node.create()
    error = types_pb2.TaskError(code=code, message="it broke")
    await worker.send(updates(result(await worker.offer(), status="failure", error=error)))
    await worker.verdict()
    await node.ended(job_id)


async def test_failures_that_are_the_workers_own_lower_it_and_what_it_does_well_raises_it(node: Node) -> None:
    worker = await node.worker("w1", offering("t"))
    assert await reputation(node) == 1.0
    await fails(node, worker, "INVALID_INPUT_ERROR")
    assert await reputation(node) == 1.0
    await fails(node, worker, "PERMANENT_ERROR")
    assert await reputation(node) == pytest.approx(0.95, abs=1e-4)
    for _ in range(10):
        await node.create()
        await finish(worker, await worker.offer())
    assert await reputation(node) == pytest.approx(0.96, abs=1e-4)
    [skill] = await skills(node)
    assert skill.average_reputation == pytest.approx(0.96, abs=1e-4)


async def test_a_result_that_breaks_its_contract_counts_once_however_often_it_is_sent(node: Node) -> None:
    schema = json_payload({"type": "object", "required": ["n"]})
    worker = await node.worker("w1", offering("t", output_schema=schema))
    job_id = await node.create()
    offer = await worker.offer()
    await worker.send(updates(*[result(offer, {"m": 1})] * 2))
    await worker.send(updates(result(offer, {"m": 1})))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_INVALID
    for _ in range(2):
        await worker.verdict()
    await node.ended(job_id)
    assert await reputation(node) == pytest.approx(0.8, abs=1e-4)


async def test_under_the_threshold_nothing_comes_also_after_it_has_come_again(node: Node) -> None:
    worker = await node.worker("w1", offering("t"))
    for _ in range(15):
        await fails(node, worker, "SECURITY_ERROR")
    assert await reputation(node) == pytest.approx(0.25, abs=1e-3)
    job_id = await node.create()
    again = await node.worker("w1", offering("t"), instance_id="another process")
    await again.beat()
    job = await node.job(job_id)
    assert job.status == "waiting_for_worker"
    assert job.progress_message == "waiting: every worker with skill 't' that could do it has too low a reputation"
    better = await node.worker("w2", offering("t"))
    assert (await better.offer()).job_id == job_id
    by_name = {one.worker_id: one for one in await workers(node)}
    assert by_name["w1"].reputation < 0.3 < by_name["w2"].reputation == 1.0
    assert by_name["w1"].kind == node_pb2.WORKER_KIND_WORKER
