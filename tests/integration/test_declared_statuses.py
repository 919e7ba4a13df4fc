"""A worker that declares statuses of its own is given those tasks whose job goes on by no others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.rxon.v1 import worker_pb2
from tests.integration.grpc_node import Node, Wire, a_node, offering, result, updates


def sorting() -> Blueprint:
    blueprint = Blueprint("sorting", api_endpoint="/jobs/sorting", api_version="v1")

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        ways = {"success": "kept", "failure": "lost", "timeout": "lost", "skipped": "left", "twice": "left"}
        actions.dispatch_task("t", {}, ways)

    @blueprint.handler(is_end=True)
    async def kept() -> None: ...

    @blueprint.handler(is_end=True)
    async def left() -> dict[str, bool]:
        return {"left": True}

    @blueprint.handler(is_end=True, outcome="failed")
    async def lost() -> None: ...

    return blueprint


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with a_node() as it:
        it.engine.blueprints.register_all([sorting()])
        yield it


async def answers(worker: Wire, offer: worker_pb2.TaskOffer, status: str) -> None:
    await worker.send(updates(result(offer, {}, status)))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


async def test_a_task_waits_for_who_declares_all_statuses_that_its_job_goes_on_by(node: Node) -> None:
    await node.worker("w1", offering("t", statuses=["skipped", "other"]))
    job_id = await node.create("sorting")
    assert (await node.job(job_id)).progress_message == (
        "waiting: no worker connected to this node with skill 't' declares the status 'twice', for which the job has a "
        "transition"
    )
    worker = await node.worker("w2", offering("t", statuses=["twice", "other", "skipped"]))
    offer = await worker.offer()
    assert offer.job_id == job_id
    await answers(worker, offer, "skipped")
    assert b'"left":true' in (await node.ended(job_id)).result.data


async def test_why_it_waits_names_the_declared_status_that_may_be_meant(node: Node) -> None:
    await node.worker("w1", offering("t", statuses=["skiped", "twice"]))
    job_id = await node.create("sorting")
    assert (await node.job(job_id)).progress_message.endswith(
        "for which the job has a transition (did you mean 'skiped'?)"
    )


async def test_who_declares_none_may_be_asked_for_any(node: Node) -> None:
    worker = await node.worker("w1", offering("t"))
    job_id = await node.create("sorting")
    await answers(worker, await worker.offer(), "twice")
    assert b'"left":true' in (await node.ended(job_id)).result.data


async def test_what_waited_goes_to_a_worker_that_declares_more(node: Node) -> None:
    worker = await node.worker("w1", offering("t", statuses=["other"]))
    job_id = await node.create("sorting")
    assert "declares the status 'skipped'" in (await node.job(job_id)).progress_message
    more = worker_pb2.Catalog(sequence=1, offerings=[offering("t", statuses=["skipped", "twice"])])
    await worker.send(worker_pb2.SessionRequest(catalog=more))
    assert (await worker.offer()).job_id == job_id


async def test_a_job_that_goes_on_by_common_statuses_alone_is_for_whoever_has_the_skill(node: Node) -> None:
    worker = await node.worker("w1", offering("t", statuses=["other"]))
    job_id = await node.create()
    await answers(worker, await worker.offer(), "success")
    assert (await node.ended(job_id)).status == "finished"
