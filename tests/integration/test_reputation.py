"""The reputation of workers, seen from a node's doors: what moves it, and what does not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from holon.rxon.v1 import types_pb2, worker_pb2
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
    [shown] = (await workers(node))[0].reputations
    assert (shown.skill, shown.excluded, [(one.code, one.count) for one in shown.reasons]) == (
        "t",
        False,
        [("PERMANENT_ERROR", 1)],
    )
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
