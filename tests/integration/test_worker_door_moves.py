"""The worker door: streams that end and come again, and what each of several streams of one worker may do."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.testing import running_node
from tests.integration.grpc_node import (
    Node,
    a_node,
    json_payload,
    offering,
    reason_of,
    result,
    update,
    updates,
)


async def test_a_resumed_lease_is_kept_and_one_that_went_elsewhere_is_dropped() -> None:
    async with a_node() as node:
        first = await node.worker("w1", credits=2)
        jobs = [await node.create(n=n) for n in range(2)]
        kept, given = await first.offer(), await first.offer()
        await first.send(updates(*(update(one, accepted=worker_pb2.TaskAccepted()) for one in (kept, given))))
        await first.beat()
        leases = [types_pb2.LeaseRef(task_id=one.task_id, lease_id=one.lease_id) for one in (kept, given)]
        leases[1].lease_id = "another"
        resume = worker_pb2.Resume(session_id=first.welcome.session_id, leases=leases)
        again = await node.worker("w1", credits=2, resume=resume)
        decisions = {one.task_id: one for one in again.welcome.leases}
        assert decisions[kept.task_id].decision == worker_pb2.LEASE_DECISION_KEEP
        assert decisions[kept.task_id].HasField("time_left")
        assert decisions[given.task_id].decision == worker_pb2.LEASE_DECISION_DROP
        assert decisions[given.task_id].reason == "stale_task"
        returned = await again.offer()
        assert (returned.task_id, returned.attempt) == (given.task_id, 2)
        await again.send(updates(result(kept), result(returned)))
        assert [(await again.verdict()).verdict for _ in range(2)] == [worker_pb2.VERDICT_COMMITTED] * 2
        assert {(await node.ended(job)).status for job in jobs} == {"finished"}


async def test_i3_a_task_that_was_accepted_in_time_stays_with_its_worker_however_short_offers_are() -> None:
    ask, begun = Blueprint("ask", api_version="v1", api_endpoint="/ask"), 0

    @ask.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("work", {}, {"success": "done"})

    @ask.handler(is_end=True)
    async def done() -> None:
        pass

    async with running_node(ask, TASK_OFFER_SECONDS=0.4) as node:
        worker = node.new_worker("w1")

        @worker.skill("work")
        async def work() -> dict[str, Any]:
            nonlocal begun
            begun += 1
            # Longer than accepts would wait for others at the longest.
            await asyncio.sleep(1.1)
            return {}

        async with worker:
            assert (await node.run("ask", {})).status == "finished"
    assert begun == 1


async def test_a_worker_that_vanishes_can_resume_what_it_had() -> None:
    async with a_node() as node:
        first = await node.worker("w1")
        job_id = await node.create(n=1)
        offer = await first.offer()
        first.call.cancel()
        await node.until(lambda: not list(node.engine.dispatcher.sessions))
        lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        again = await node.worker("w1", resume=worker_pb2.Resume(leases=[lease]))
        assert again.welcome.leases[0].decision == worker_pb2.LEASE_DECISION_KEEP
        await again.send(updates(result(offer)))
        assert (await again.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        assert (await node.ended(job_id)).status == "finished"


async def test_a_lease_that_is_kept_is_accepted_by_that() -> None:
    async with a_node() as node:
        first = await node.worker("w1")
        job_id = await node.create(n=1)
        offer = await first.offer()
        assert await tasks_of(node, job_id) == ["offered"]
        lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        again = await node.worker("w1", resume=worker_pb2.Resume(leases=[lease]))
        assert again.welcome.leases[0].decision == worker_pb2.LEASE_DECISION_KEEP
        assert await tasks_of(node, job_id) == ["running"]


async def test_for_a_lease_that_is_dropped_nothing_is_owed() -> None:
    async with a_node() as node:
        worker = await node.worker("w1", credits=1)
        job_id = await node.create(n=1)
        offer = await worker.offer()
        await worker.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        await node.worker("w1", credits=0)
        other = await node.worker("w2", credits=1)
        taken = await other.offer()
        lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        again = await node.worker("w1", credits=1, resume=worker_pb2.Resume(leases=[lease]))
        assert again.welcome.leases[0].decision == worker_pb2.LEASE_DECISION_DROP
        # It counts against no credit, though nothing was said of it.
        later = await node.create(n=2)
        assert (await again.offer()).job_id == later
        # What is said of it all the same disturbs nobody.
        await again.send(updates(result(offer, status="cancelled")))
        ack = await again.verdict()
        assert (ack.verdict, ack.reason) == (worker_pb2.VERDICT_SUPERSEDED, "stale_task")
        await again.send(updates(update(offer, rejected=worker_pb2.TaskRejected(reason="BUSY"))))
        assert (await again.refused()).error.reason == "TASK_NOT_HELD"
        await other.send(updates(result(taken)))
        assert (await node.ended(job_id)).status == "finished"


async def tasks_of(node: Node, job_id: str) -> list[str]:
    """The statuses of the tasks of a job."""
    request = job_pb2.GetJobTreeRequest(job_id=job_id)
    nodes = (await node.call("GetJobTree", request, job_pb2.GetJobTreeResponse.FromString)).nodes
    return [one.status for one in nodes if one.kind == types_pb2.TREE_NODE_KIND_TASK]


async def test_a_result_on_the_old_stream_ends_the_lease_that_the_new_one_resumed() -> None:
    async with a_node() as node:
        old = await node.worker("w1", credits=1, instance_id="a")
        await node.create(n=1)
        offer = await old.offer()
        lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        new = await node.worker("w1", credits=1, instance_id="a", resume=worker_pb2.Resume(leases=[lease]))
        assert new.welcome.leases[0].decision == worker_pb2.LEASE_DECISION_KEEP
        await old.send(updates(result(offer)))
        assert (await old.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        job_id = await node.create(n=2)
        assert (await new.offer()).job_id == job_id


async def test_an_acceptance_on_the_old_stream_does_not_stop_what_the_new_one_resumed() -> None:
    async with a_node() as node:
        old = await node.worker("w1", instance_id="a")
        await node.create(n=1)
        offer = await old.offer()
        lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        new = await node.worker("w1", instance_id="a", resume=worker_pb2.Resume(leases=[lease]))
        await old.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        assert (await old.refused()).error.reason == "TASK_NOT_HELD"
        await old.beat()
        await new.send(updates(result(offer)))
        assert (await new.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


async def test_a_heartbeat_on_the_old_stream_does_not_stop_what_the_new_one_resumed() -> None:
    async with a_node() as node:
        old = await node.worker("w1", instance_id="a")
        await node.create(n=1)
        offer = await old.offer()
        lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        new = await node.worker("w1", instance_id="a", resume=worker_pb2.Resume(leases=[lease]))
        await old.beat(held=worker_pb2.HeldLeases(leases=[lease]))
        await new.send(updates(result(offer)))
        assert (await new.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


@pytest.mark.parametrize("new_ends", [False, True])
async def test_a_result_on_the_old_stream_keeps_what_was_agreed(new_ends: bool) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    skill = offering(output_schema=json_payload(schema), price=50)
    async with a_node() as node:
        node.engine.blueprints.register_all([_within(100)])
        old = await node.worker("w1", skill, credits=2, instance_id="a")
        dear, wrong = await node.create("within", n=1), await node.create("within", n=2)
        offers = {(offer := await old.offer()).job_id: offer for _ in range(2)}
        leases = [types_pb2.LeaseRef(task_id=one.task_id, lease_id=one.lease_id) for one in offers.values()]
        resume = worker_pb2.Resume(leases=leases)
        new = await node.worker("w1", skill, credits=3, instance_id="a", resume=resume)
        # What was offered on the new one counts as much.
        late = await node.create("within", n=3)
        offers[late] = await new.offer()
        if new_ends:
            new.call.cancel()
            assert (await old.expect("go_away")).reason == "ROTATE"
        for job_id in (dear, late):
            await old.send(updates(result(offers[job_id], {"n": 1}, cost=10**9)))
            assert (await old.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
            assert (await node.ended(job_id)).cost == 100
        await old.send(updates(result(offers[wrong], {"n": "one"})))
        ack = await old.verdict()
        assert (ack.verdict, ack.error.reason) == (worker_pb2.VERDICT_INVALID, "SCHEMA_MISMATCH")


def _within(max_cost: int) -> Blueprint:
    within = Blueprint("within", api_version="v1", api_endpoint="/within")

    @within.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task("t", initial_data, {"success": "done", "failure": "done"}, max_cost=max_cost)

    @within.handler(is_end=True)
    async def done() -> None:
        pass

    return within


async def test_i6_a_late_hello_that_its_worker_gave_up_leaves_no_stream_without_offers() -> None:
    async with a_node() as node:
        serving = await node.worker("w1", instance_id="a")
        late = await node.worker("w1", instance_id="a")
        late.call.cancel()
        going = await serving.expect("go_away")
        assert (going.reason, going.time_left.seconds) == ("ROTATE", 0)
        again = await node.worker("w1", instance_id="a")
        job_id = await node.create(n=1)
        assert (await again.offer()).job_id == job_id


async def test_a_process_that_moved_and_left_its_older_stream_is_not_sent_away() -> None:
    async with a_node() as node:
        older = await node.worker("w1", instance_id="a")
        newer = await node.worker("w1", instance_id="a")
        await older.call.done_writing()
        while await older.call.read() is not grpc.aio.EOF:
            pass
        await node.until(lambda: "moved=0" in repr(node.engine.workers))
        newer.call.cancel()
        await node.until(lambda: "sessions=0, moved=0" in repr(node.engine.workers))


async def test_the_newest_session_of_a_worker_wins_and_the_older_one_is_sent_away_for_good() -> None:
    async with a_node() as node:
        first = await node.worker("w1")
        await node.create(n=1)
        offer = await first.offer()
        second = await node.worker("w1")
        assert (await first.expect("go_away")).reason == "REPLACED"
        end = await first.end()
        assert (end.code(), reason_of(end)) == (grpc.StatusCode.ABORTED, "SESSION_REPLACED")
        assert (await second.offer()).task_id == offer.task_id


async def test_when_another_process_takes_the_id_all_streams_of_the_one_before_are_sent_away_for_good() -> None:
    async with a_node() as node:
        streams = [await node.worker("w1", instance_id="a") for _ in range(3)]
        newest = await node.worker("w1", instance_id="b")
        for older in streams:
            assert (await older.expect("go_away")).reason == "REPLACED"
            end = await older.end()
            assert (end.code(), reason_of(end)) == (grpc.StatusCode.ABORTED, "SESSION_REPLACED")
        await node.until(lambda: "sessions=1, moved=0" in repr(node.engine.workers))
        await node.finishes_another(newest)
