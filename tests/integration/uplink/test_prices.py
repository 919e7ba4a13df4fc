"""Who is given a task that may cost so much: who declares no more, and what it is paid."""

from __future__ import annotations

import pytest

from holon.domain.fleet import Skill
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from tests.integration.a_child import Leaf
from tests.integration.grpc_node import Node, json_payload, offering, result, update, updates
from tests.integration.holons_below import identity
from tests.integration.uplink.paying import DONE, above, paying

HOLON = types_pb2.CAPABILITY_HOLON


@pytest.fixture
def parent(parent: Node) -> Node:
    """It has work of which each task may cost 5."""
    parent.engine.blueprints.register_all([paying("above", "t", max_cost=5)])
    return parent


async def test_a_task_waits_for_who_declares_a_price_within_what_it_may_cost(parent: Node) -> None:
    await parent.worker("w1", offering("t", price=6))
    await parent.worker("w2", offering("t"))
    job_id = await above(parent)
    job = await parent.job(job_id)
    assert job.progress_message == (
        "waiting: no worker connected to this node with skill 't' declares a price of at most 5"
    )
    cheap = await parent.worker("w3", offering("t", price=5))
    given = await cheap.offer()
    assert (given.job_id, given.lineage.budget) == (job_id, 5)
    # The others have room for what they may have.
    await cheap.beat(1)
    for _ in range(2):
        await parent.create(skill="t")
    await parent.until(lambda: all(one.leases for one in parent.engine.dispatcher.sessions))


async def test_a_task_says_that_the_price_is_why_it_waits_where_only_they_are_cheap_who_do_not_take_its_params(
    parent: Node,
) -> None:
    needs_more = json_payload({"type": "object", "required": ["q"]})
    await parent.worker("w1", offering("t", price=5, input_schema=needs_more))
    await parent.worker("w2", offering("t", price=6))
    job = await parent.job(await above(parent))
    assert job.progress_message == (
        "waiting: no worker connected to this node with skill 't' that accepts these params declares a price of "
        "at most 5"
    )


async def test_a_worker_that_lowers_its_price_is_given_what_waited_for_that(parent: Node) -> None:
    worker = await parent.worker("w1", offering("t", price=6))
    job_id = await above(parent)
    await worker.beat(1)
    await worker.send(
        worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=1, offerings=[offering("t", price=4)]))
    )
    assert (await worker.offer()).job_id == job_id


async def test_a_holon_that_passes_no_limit_on_is_offered_no_task_that_has_one(parent: Node) -> None:
    old = await parent.worker(
        "child-1", offering("t", price=1), capabilities=[HOLON], holon_identity=identity("old"), instance_id="i1"
    )
    job_id = await above(parent)
    await old.beat(1)
    assert "declares a price of at most 5" in (await parent.job(job_id)).progress_message
    keeps = [HOLON, types_pb2.CAPABILITY_BUDGET]
    young = await parent.worker(
        "child-2", offering("t", price=1), capabilities=keeps, holon_identity=identity("young"), instance_id="i2"
    )
    given = await young.offer()
    assert (given.job_id, given.lineage.budget) == (job_id, 5)


@pytest.mark.parametrize("arrives", [True, False])
async def test_what_is_told_twice_of_a_task_that_was_given_back_is_charged_once(parent: Node, arrives: bool) -> None:
    first = await parent.worker("w1", offering("t", price=5))
    request = job_pb2.CreateJobRequest(blueprint_name="above", initial_data=json_payload({}), budget=20)
    created = await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)
    offer = await first.offer()
    if arrives:
        await first.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        await first.send(updates(update(offer, rejected=worker_pb2.TaskRejected(reason="STALE_OFFER", cost=3))))
        await parent.until(lambda: not any(one.leases for one in parent.engine.dispatcher.sessions))
    second = await parent.worker("w1", offering("t", price=5), credits=0)
    await second.send(updates(result(offer, status="cancelled", cost=3)))
    assert (await second.verdict()).verdict == worker_pb2.VERDICT_SUPERSEDED
    assert (await parent.job(created.job_id)).cost == 3


async def test_a_worker_that_says_nothing_is_paid_what_it_declares_and_none_more_than_the_cap(parent: Node) -> None:
    parent.engine.blueprints.register_all([paying("free", "t")])
    async with Leaf(parent.engine, "w1", Skill("t", price=3)) as leaf:
        for blueprint, said, cost in (("free", None, 3), ("free", 9, 9), ("above", 9, 5)):
            request = job_pb2.CreateJobRequest(blueprint_name=blueprint, initial_data=json_payload({}))
            job_id = (await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)).job_id
            await leaf.ends(await leaf.given(), DONE, cost=said)
            assert (await parent.ended(job_id)).cost == cost


async def test_what_is_given_back_costs_no_more_than_the_cap(parent: Node) -> None:
    async with Leaf(parent.engine, "w1", Skill("t", price=3)) as leaf:
        job_id = await above(parent)
        first = await leaf.given()
        assert parent.engine.workers.rejected(leaf.member, first.task_id, first.lease_id, again_after=0, cost=9)
        await leaf.ends(await leaf.given(), DONE, cost=1)
        assert (await parent.ended(job_id)).cost == 6
