"""Rate limits of workers: who says too much is told until when; no work is lost by them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage.memory import MemoryStorage
from holon.testing import RunningNode, running_node
from holon.transports.grpc.outgoing import MAX_REFUSALS
from holon.worker import SendEvent
from tests.integration.cases.site import a_wire, create, ended, next_offer, one_task, wired, written
from tests.integration.grpc_node import (
    Wire,
    heartbeat,
    json_payload,
    reason_of,
    result,
    update,
    updates,
)
from tests.integration.holon_line import tree_of
from tests.integration.holons_below import identity
from tests.integration.hostile_trees.trees import ANY, BELOW, job_node
from tests.integration.hostile_trees.trees import said as said_of
from tests.integration.test_rate_limits import BLOCKED, CODE, figure, limited
from tests.integration.test_worker_events import event
from tests.integration.test_worker_events import frame as told
from tests.integration.token_calls import CERTIFICATE, exchange, renewal, welcomed


async def said(wire: Wire, sequence: int) -> worker_pb2.SessionError:
    """What a worker is told of a message that is over the limit, once all before it has been read."""
    await wire.send(heartbeat(sequence))
    refusal = await wire.refused()
    assert (await wire.expect("heartbeat_ack")).sequence == sequence
    return refusal


@asynccontextmanager
async def channel_of(node: RunningNode, worker_id: str) -> AsyncIterator[grpc.aio.Channel]:
    """A worker's way to the node, beside its stream."""
    pair = node.certificate(worker_id)
    trusted, key, chain = (path.read_bytes() for path in (node.folder / "ca.pem", pair.key, pair.certificate))
    trust = grpc.ssl_channel_credentials(trusted, key, chain)
    async with grpc.aio.secure_channel(f"localhost:{node.ports.worker}", trust) as channel:
        yield channel


# A message that says nothing, and counts.
NOTHING = worker_pb2.SessionRequest(events=worker_pb2.WorkerEvents())


async def test_a_worker_over_its_limit_is_told_in_band_and_its_stream_goes_on() -> None:
    async with limited(2) as (node, clock), a_wire(node, "w1") as wire:
        clock.advance(48_000)
        for _ in range(3):
            await wire.send(NOTHING)
        refusal = await said(wire, 1)
        assert (refusal.frame, refusal.error.reason, refusal.error.code) == (4, "RATE_LIMITED", 8)
        assert refusal.error.retry_after.seconds == 12
        clock.advance(12_000)
        await wire.send(NOTHING)
        await wire.beat(2)


async def test_heartbeats_have_a_limit_of_their_own() -> None:
    async with limited(1, RATE_LIMIT_HEARTBEAT_LIMIT=3) as (node, _), a_wire(node, "w1") as wire:
        await wire.send(NOTHING)
        for sequence in range(3):
            await wire.beat(sequence)
        await wire.send(heartbeat(4))
        assert (await wire.refused()).error.reason == "RATE_LIMITED"
        assert await figure(node, f"{BLOCKED}") == 1


async def test_workers_of_one_address_do_not_disturb_each_other() -> None:
    async with limited(2) as (node, _), a_wire(node, "w1") as loud, a_wire(node, "w2") as quiet:
        for _ in range(10):
            await loud.send(NOTHING)
        assert (await loud.refused()).error.reason == "RATE_LIMITED"
        await quiet.send(NOTHING)
        await quiet.beat()


async def test_a_result_over_the_limit_is_sent_again_and_counts_then() -> None:
    async with limited(4, TASK_OFFER_SECONDS=20.0) as (node, clock), a_wire(node, "w1") as wire:
        clock.advance(54_000)
        job = await create(node, "one_task", {"n": 1})
        offer = await next_offer(wire)
        for _ in range(4):
            await wire.send(NOTHING)
        await wire.beat()
        clock.advance(3_000)
        await wire.send(updates(result(offer, {"done": 1})))
        ack = await wire.verdict()
        assert (ack.task_id, ack.lease_id, ack.verdict) == (offer.task_id, offer.lease_id, worker_pb2.VERDICT_RETRY)
        assert (ack.error.reason, ack.error.retry_after.seconds) == ("RATE_LIMITED", 3)
        # That alone is the answer: it is no mistake of the worker.
        await wire.beat(2)
        # Beside what is refused it gets its verdict all the same.
        await wire.send(updates(update(offer, progress=worker_pb2.TaskProgress(percent=5)), result(offer, {"done": 1})))
        refused, answered = await wire.refused(), await wire.verdict()
        assert (refused.error.reason, answered.verdict) == ("RATE_LIMITED", worker_pb2.VERDICT_RETRY)
        clock.advance(3_000)
        await wire.send(updates(result(offer, {"done": 1})))
        assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        assert (await ended(node, job)).status == "finished"


@pytest.mark.parametrize(
    "at_once", [{"retry_after": Duration()}, {"retry_at_once": True}], ids=lambda one: next(iter(one))
)
async def test_what_is_said_of_a_lease_but_once_is_taken_over_the_limit(at_once: dict[str, Any]) -> None:
    async with limited(1) as (node, _), a_wire(node, "w1") as wire:
        await create(node, "one_task", {"n": 1})
        offer = await next_offer(wire)
        await wire.send(NOTHING)
        # With a word that is refused in the same message.
        back = worker_pb2.TaskRejected(reason="BUSY", **at_once)
        await wire.send(
            updates(update(offer, progress=worker_pb2.TaskProgress(percent=5)), update(offer, rejected=back))
        )
        assert (await wire.refused()).error.reason == "RATE_LIMITED"
        again = await wire.offer()
        assert (again.task_id, again.lease_id != offer.lease_id) == (offer.task_id, True)
        # The lease that it takes is no more its own: so it is read.
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        assert (await wire.expect("stop_tasks")).lease_id == offer.lease_id
        assert (await wire.refused()).error.reason == "TASK_NOT_HELD"


async def test_a_heartbeat_over_the_limit_counts_though_it_is_not_answered() -> None:
    async with limited(1, RATE_LIMIT_HEARTBEAT_LIMIT=1) as (node, _), a_wire(node, "w1", credits=0) as wire:
        await wire.beat()
        await create(node, "one_task", {"n": 1})
        await wire.send(heartbeat(2, credits=1))
        assert (await wire.refused()).error.reason == "RATE_LIMITED"
        offer = await wire.offer()
        unknown = types_pb2.LeaseRef(task_id=offer.task_id, lease_id="another")
        await wire.send(heartbeat(3, held=worker_pb2.HeldLeases(leases=[unknown])))
        assert (await wire.refused()).error.reason == "RATE_LIMITED"
        assert (await wire.expect("stop_tasks")).lease_id == "another"


async def test_events_over_the_limit_are_each_to_be_sent_again() -> None:
    async with limited(2) as (node, clock), a_wire(node, "w1") as wire:
        clock.advance(57_000)
        job_id = await create(node, "one_task", {"n": 1})
        offer = await next_offer(wire)
        for _ in range(2):
            await wire.send(NOTHING)
        await wire.beat()
        two = told(event(offer, "e1", "one"), event(offer, "e2", "two"))
        await wire.send(two)
        acks = [await wire.expect("event_acks") for _ in range(2)]
        assert [(ack.event_id, ack.error.reason) for ack in acks] == [("e1", "RATE_LIMITED"), ("e2", "RATE_LIMITED")]
        assert [ack.error.retry_after.seconds for ack in acks] == [3, 3]
        # That is their answer; only what has no id, or is more than a batch has, is refused by its message.
        await wire.beat(2)
        for wrong in (told(event(offer, "")), told(*(event(offer, f"e{n}") for n in range(257)))):
            await wire.send(wrong)
            assert (await wire.refused()).error.reason == "RATE_LIMITED"
        clock.advance(3_000)
        await wire.send(two)
        assert not any([(await wire.expect("event_acks")).HasField("error") for _ in range(2)])
        await wire.send(updates(result(offer, {})))
        assert (await ended(node, job_id)).status == "finished"


async def test_what_the_node_has_asked_a_holon_for_is_taken_over_the_limit_and_comes_once(tmp_path: Path) -> None:
    rules = tmp_path / "workers.toml"
    rules.write_text('["child"]\nkind = "holon"\ncn = "child"\n')
    holon: dict[str, Any] = {"instance_id": "i1", "holon_identity": identity(BELOW)}
    holon["capabilities"] = [types_pb2.CAPABILITY_CANCEL, types_pb2.CAPABILITY_HOLON]
    async with (
        limited(6, WORKERS_CONFIG_PATH=str(rules)) as (node, _),
        a_wire(node, "child", **holon) as wire,
        asyncio.TaskGroup() as group,
    ):
        job_id = await create(node, "one_task", {"n": 1})
        offer = await next_offer(wire)
        question = {"approval_id": "q1", "message": "Go on?", "decisions": ["yes"]}
        way: dict[str, Any] = {"holon_ids": [BELOW], "job_ids": [ANY], "payload": json_payload(question)}
        await wire.send(told(event(offer, "e1", "approval_requested", **way)))
        assert not (await wire.expect("event_acks")).HasField("error")
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        for _ in range(4):
            await wire.send(NOTHING)
        await wire.beat()
        shown = group.create_task(tree_of(node.client, job_id))
        page = worker_pb2.TreePage(request_id=(await wire.expect("tree_request")).request_id, nodes=[job_node()])
        await wire.send(said_of(page))
        assert [(one.holon_id, one.offline) for one in await shown if one.job_id == ANY] == [(BELOW, False)]
        # One call, for those of clients are counted too.
        await written(node, job_id, "worker_event:approval_requested")
        decided = group.create_task(node.client.resolve_approval(job_id, "yes", approval_id="q1"))
        command = (await wire.expect("resolve_request")).command_id
        reply = worker_pb2.CommandReply(command_id=command, result=types_pb2.Payload())
        replies = worker_pb2.SessionRequest(command_replies=worker_pb2.CommandReplies(replies=[reply]))
        await wire.send(replies)
        assert (await decided).id == job_id
        # Nobody waits for these any more: they count.
        for again in (said_of(page), replies):
            await wire.send(again)
            assert (await wire.refused()).error.reason == "RATE_LIMITED"


async def test_a_worker_goes_on_by_a_new_token_whatever_it_has_said() -> None:
    async with limited(1) as (node, _), channel_of(node, "w1") as channel:
        given = await exchange(channel, certificate=CERTIFICATE)
        wire = await welcomed(channel, given.access_token)
        for _ in range(2):
            await wire.send(NOTHING)
        assert (await wire.refused()).error.reason == "RATE_LIMITED"
        await wire.send(renewal(given.access_token))
        assert (await wire.expect("reauthenticated")).HasField("session_expires_at")


async def test_an_honest_worker_finishes_its_work_however_low_its_limit_is() -> None:
    storage = MemoryStorage()
    settings = {"RATE_LIMITING_ENABLED": True, "RATE_LIMIT_LIMIT": 3, "RATE_LIMIT_PERIOD": 1.0}
    async with running_node(one_task(), storage=storage, clock=None, **settings) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(n: int, send_event: SendEvent) -> dict[str, int]:
            for step in range(3):
                send_event(f"step-{step}")
                # Else they share a message.
                await asyncio.sleep(0.05 * n)
            return {"n": n}

        # What is asked for here is counted too, and by itself.
        jobs = [await create(node, "one_task", {"n": n}) for n in range(3)]
        async with worker, asyncio.timeout(20):
            while not all([await over(storage, job_id) for job_id in jobs]):  # noqa: ASYNC110  nothing tells it
                await asyncio.sleep(0.02)
        for job_id in jobs:
            record = await storage.job(job_id)
            assert record is not None
            assert record.job.events == 3


async def over(storage: MemoryStorage, job_id: str) -> bool:
    """Whether a job is over, and well."""
    record = await storage.job(job_id)
    assert record is not None
    assert record.job.error is None
    return record.job.status.terminal


async def test_sessions_that_a_worker_opens_and_tokens_that_it_exchanges_are_counted_together() -> None:
    limited_to = (CODE.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    async with (
        limited(100, RATE_LIMIT_HEARTBEAT_LIMIT=3) as (node, clock),
        a_wire(node, "w1") as wire,
        channel_of(node, "w1") as channel,
    ):

        async def exchanged(number: int) -> tuple[grpc.StatusCode, str]:
            try:
                await exchange(channel, f"r{number}", certificate=CERTIFICATE)
            except grpc.aio.AioRpcError as error:
                return error.code(), reason_of(error)
            return CODE.OK, ""

        assert [await exchanged(n) for n in range(3)] == [(CODE.OK, ""), (CODE.OK, ""), limited_to]
        async with a_wire(node, "w2"), wired(node, "w1") as again:
            error = await again.end()
            assert (error.code(), reason_of(error)) == limited_to
        # The session that is there goes on.
        await wire.beat()
        clock.advance(60_000)
        assert await exchanged(4) == (CODE.OK, "")


async def test_a_worker_may_leave_at_any_time() -> None:
    async with limited(1) as (node, _), a_wire(node, "w1") as wire:
        for _ in range(2):
            await wire.send(NOTHING)
        assert (await wire.refused()).error.reason == "RATE_LIMITED"
        await wire.send(worker_pb2.SessionRequest(drain=worker_pb2.Drain(reason="going home")))
        await wire.close()
        with pytest.raises(EOFError, match="OK"):
            await wire.frame()


async def test_whoever_is_over_its_limit_is_told_so_as_often_as_it_is_and_its_session_goes_on() -> None:
    async with limited(1, RATE_LIMIT_HEARTBEAT_LIMIT=1) as (node, _), a_wire(node, "w1") as wire:
        await wire.beat()
        for n in range(2 * MAX_REFUSALS):
            await wire.send(heartbeat(n) if n % 2 else NOTHING)
        refused = [(await wire.refused()).error.reason for _ in range(2 * MAX_REFUSALS - 1)]
        assert set(refused) == {"RATE_LIMITED"}
        await wire.send(worker_pb2.SessionRequest())
        assert (await wire.refused()).error.reason == "UNKNOWN_MESSAGE"
