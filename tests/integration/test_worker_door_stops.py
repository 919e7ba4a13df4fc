"""The worker door: what a worker is to stop, and how it is told."""

from __future__ import annotations

import json

import pytest

from holon.rxon.v1 import types_pb2, worker_pb2
from tests.integration.grpc_node import (
    a_node,
    heartbeat,
    result,
    update,
    updates,
)


async def test_a_cancel_reaches_the_worker_and_its_lease_counts_until_the_final_word() -> None:
    async with a_node() as node:
        worker = await node.worker()
        job_id = await node.create(n=1)
        offer = await worker.offer()
        await worker.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        await node.create(n=2)
        await node.cancel(job_id)
        stop = await worker.expect("stop_tasks")
        assert (stop.task_id, stop.lease_id, stop.reason) == (offer.task_id, offer.lease_id, "CANCELLED")
        assert (await node.ended(job_id)).status == "cancelled"
        await worker.beat()
        await worker.send(updates(result(offer, status="cancelled")))
        kinds = {}
        for _ in range(2):
            kind, said = await worker.next()
            kinds[kind] = said
        assert kinds["update_acks"].verdict == worker_pb2.VERDICT_SUPERSEDED
        assert kinds["update_acks"].reason == "job_cancelled"
        assert json.loads(kinds["task_offers"].params.data) == {"n": 2}


async def test_a_worker_that_cannot_stop_is_not_told_to() -> None:
    async with a_node() as node:
        worker = await node.worker(capabilities=[])
        job_id = await node.create(n=1)
        offer = await worker.offer()
        await node.cancel(job_id)
        assert (await node.ended(job_id)).status == "cancelled"
        await node.engine.touches.flush()
        await worker.send(updates(result(offer)))
        assert (await worker.verdict()).reason == "job_cancelled"


async def test_an_offer_that_is_not_answered_goes_back_and_the_worker_is_told() -> None:
    async with a_node(offer=0.2) as node:
        first = await node.worker("w1")
        await node.create(n=1)
        offer = await first.offer()
        second = await node.worker("w2")
        again = await second.offer()
        assert (again.task_id, again.attempt) == (offer.task_id, 2)
        await first.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        stop = await first.expect("stop_tasks")
        assert (stop.lease_id, stop.reason) == (offer.lease_id, "LEASE_LOST")


@pytest.mark.parametrize("accepts", [False, True])
async def test_who_stops_what_it_lost_and_says_cancelled_cancels_nothing(accepts: bool) -> None:
    async with a_node(offer=0.2) as node:
        first = await node.worker("w1")
        job_id = await node.create(n=1)
        offer = await first.offer()
        assert (await first.expect("stop_tasks")).reason == "LEASE_LOST"
        if accepts:  # it crossed the stop: nobody else has the task yet, so it is this worker's again
            await first.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
            await node.engine.touches.flush()
        await first.send(updates(result(offer, status="cancelled")))
        ack = await first.verdict()
        assert (ack.verdict, ack.reason) == (worker_pb2.VERDICT_SUPERSEDED, "stale_task")
        second = await node.worker("w2")
        again = await second.offer()
        assert again.task_id == offer.task_id
        await second.send(updates(result(again)))
        assert (await node.ended(job_id)).status == "finished"


@pytest.mark.parametrize("breaks", [False, True])
async def test_who_is_asked_to_stop_and_moves_to_another_stream_cancels_nothing_either(breaks: bool) -> None:
    async with a_node(offer=0.2) as node:
        first = await node.worker("w1", instance_id="one")
        job_id = await node.create(n=1)
        offer = await first.offer()
        assert (await first.expect("stop_tasks")).reason == "LEASE_LOST"
        lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        resume = worker_pb2.Resume(session_id=first.welcome.session_id, leases=[lease])
        if breaks:
            first.call.cancel()
            await node.until(lambda: not node.engine.dispatcher.sessions)
        moved = await node.worker("w1", instance_id="one", resume=resume)
        await moved.send(updates(result(offer, status="cancelled")))
        assert (await moved.verdict()).reason == "stale_task"
        second = await node.worker("w2")
        await second.send(updates(result(await second.offer())))
        assert (await node.ended(job_id)).status == "finished"


async def test_who_accepts_a_lease_that_it_does_not_hold_is_to_stop() -> None:
    async with a_node() as node:
        worker = await node.worker()
        await node.create(n=1)
        offer = await worker.offer()
        await worker.send(updates(update(offer, rejected=worker_pb2.TaskRejected(reason="BUSY"))))
        await worker.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        stop = await worker.expect("stop_tasks")
        assert (stop.task_id, stop.lease_id, stop.reason) == (offer.task_id, offer.lease_id, "LEASE_LOST")
        refused = await worker.refused()
        assert (refused.error.reason, refused.lease_id) == ("TASK_NOT_HELD", offer.lease_id)
        await worker.beat()


async def test_a_lease_that_a_heartbeat_lists_and_nobody_gave_is_to_be_stopped() -> None:
    async with a_node() as node:
        worker = await node.worker()
        lease = types_pb2.LeaseRef(task_id="0-unknown-0-0", lease_id="invented")
        await worker.send(heartbeat(held=worker_pb2.HeldLeases(leases=[lease])))
        assert (await worker.expect("stop_tasks")).reason == "LEASE_LOST"
        await worker.expect("heartbeat_ack")


async def test_i4_control_goes_before_data_and_a_stopped_offer_that_was_not_sent_never_is() -> None:
    async with a_node() as node:
        worker = await node.worker(credits=100)
        wide = "x" * 200_000
        jobs = [await node.create(n=n, wide=wide) for n in range(80)]
        await node.until(lambda: sum(len(each.leases) for each in node.engine.dispatcher.sessions) == 80)
        await worker.send(heartbeat(7))
        await node.cancel(jobs[-1])
        await node.ended(jobs[-1])
        await node.until(lambda: sum(len(each.leases) for each in node.engine.dispatcher.sessions) == 79)
        said = [await worker.next() for _ in range(80)]
        kinds = [kind for kind, _ in said]
        assert kinds.index("heartbeat_ack") < 70
        offered = [json.loads(one.params.data)["n"] for kind, one in said if kind == "task_offers"]
        assert offered == list(range(79))
        assert "stop_tasks" not in kinds
