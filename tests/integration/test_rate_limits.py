"""Rate limits: who calls too often is told until when, and nobody else notices; no result is lost by them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from holon.clock import ManualClock
from holon.rxon.v1 import job_pb2, token_pb2, types_pb2, worker_pb2
from holon.storage.memory import MemoryStorage
from holon.testing import RunningNode, running_node
from tests.integration.cases.site import a_wire, create, ended, http, next_offer, one_task, wired
from tests.integration.grpc_node import ENDED, Wire, details_of, heartbeat, reason_of, result, update, updates
from transports.grpc.outgoing import MAX_REFUSALS

JOBS = "/api/v1/jobs"
CODE = grpc.StatusCode
BLOCKED = "orchestrator_ratelimit_blocked_total"


@asynccontextmanager
async def limited(limit: int = 3, **settings: Any) -> AsyncIterator[tuple[RunningNode, ManualClock]]:
    """A node whose windows are as long as the test likes: its store's clock is the test's."""
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    settings = {"RATE_LIMITING_ENABLED": True, "RATE_LIMIT_LIMIT": limit, "RATE_LIMIT_PERIOD": 60.0, **settings}
    async with running_node(one_task(), storage=storage, **settings) as node:
        clock.advance(-clock.now_ms() % 60_000)
        yield node, clock


async def figure(node: RunningNode, name: str) -> float:
    async with http(node) as door:
        text = (await door.get("/_public/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name}{{"))


async def call_grpc(node: RunningNode, token: str | None = None) -> None:
    secure = grpc.ssl_channel_credentials((node.folder / "ca.pem").read_bytes())
    async with grpc.aio.secure_channel(f"localhost:{node.ports.client}", secure) as channel:
        method: Any = channel.unary_unary("/holon.rxon.v1.JobService/ListJobs")
        await method(job_pb2.ListJobsRequest().SerializeToString(), metadata=(("x-client-token", token or node.token),))


# Clients --------------------------------------------------------------------------------------------------------------


async def test_a_client_over_its_limit_is_told_when_it_may_call_again() -> None:
    async with limited() as (node, clock), http(node) as door:
        clock.advance(20_500)
        assert [(await door.get(JOBS)).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = await door.get(JOBS)
        assert refused.json() == {"error": "Too Many Requests", "code": "RATE_LIMITED", "details": []}
        assert refused.headers["retry-after"] == "40"
        clock.advance(39_500)
        assert (await door.get(JOBS)).status_code == 200
        assert await figure(node, BLOCKED) == 2
        assert f'{BLOCKED}{{identifier="client",path="http"}} 2.0' in (await door.get("/_public/metrics")).text


async def test_no_other_path_method_or_spelling_gets_around_it() -> None:
    async with limited(1) as (node, _), http(node, **{"x-cLiEnT-tOkEn": node.token}) as door:
        assert (await door.get(JOBS)).status_code == 200
        for method, path in (
            ("GET", f"{JOBS}?limit=1"),
            ("GET", f"{JOBS}/0-nothing"),
            ("GET", f"{JOBS}/0-other/history"),
            ("POST", f"{JOBS}/0-nothing/cancel"),
            ("POST", f"{JOBS}/one_task"),
        ):
            assert (await door.request(method, path)).status_code == 429, path
        async with http(node) as other:
            assert (await other.get(JOBS)).status_code == 429


async def test_both_doors_of_clients_count_together() -> None:
    async with limited(2) as (node, clock), http(node) as door:
        assert (await door.get(JOBS)).status_code == 200
        await call_grpc(node)
        assert (await door.get(JOBS)).status_code == 429
        clock.advance(15_000)
        with pytest.raises(ENDED) as refused:
            await call_grpc(node)
        error = refused.value
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in details_of(error))
        assert retry.retry_delay.seconds == 45


async def test_what_is_public_and_who_is_nobody_is_not_counted() -> None:
    async with limited(1) as (node, _), http(node) as door, http(node, **{"X-Client-Token": "wrong"}) as stranger:
        for _ in range(3):
            assert (await door.get("/_public/status")).status_code == 200
            assert (await stranger.get(JOBS)).status_code == 401
            with pytest.raises(ENDED):
                await call_grpc(node, "wrong")
        assert (await door.get(JOBS)).status_code == 200
        secure = grpc.ssl_channel_credentials((node.folder / "ca.pem").read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{node.ports.client}", secure) as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert health_pb2.HealthCheckResponse.FromString(await check(b"")).status == 1


async def test_without_the_setting_nobody_is_counted() -> None:
    async with limited(1, RATE_LIMITING_ENABLED=False) as (node, _), http(node) as door:
        assert [(await door.get(JOBS)).status_code for _ in range(5)] == [200] * 5


# Workers --------------------------------------------------------------------------------------------------------------


async def said(wire: Wire, sequence: int) -> worker_pb2.SessionError:
    """What a worker is told of a message that is over the limit, once all before it has been read."""
    await wire.send(heartbeat(sequence))
    refusal = await wire.refused()
    assert (await wire.expect("heartbeat_ack")).sequence == sequence
    return refusal


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


async def test_what_is_said_of_a_lease_but_once_is_taken_over_the_limit() -> None:
    async with limited(1) as (node, _), a_wire(node, "w1") as wire:
        await create(node, "one_task", {"n": 1})
        offer = await next_offer(wire)
        await wire.send(NOTHING)
        # With a word that is refused in the same message.
        back = worker_pb2.TaskRejected(reason="BUSY", retry_after=Duration())
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


async def test_an_honest_worker_finishes_its_work_however_low_its_limit_is() -> None:
    storage = MemoryStorage()
    settings = {"RATE_LIMITING_ENABLED": True, "RATE_LIMIT_LIMIT": 3, "RATE_LIMIT_PERIOD": 1.0}
    async with running_node(one_task(), storage=storage, **settings) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(n: int) -> dict[str, int]:
            await asyncio.sleep(0.05 * n)
            return {"n": n}

        # What is asked for here is counted too, and by itself.
        jobs = [await create(node, "one_task", {"n": n}) for n in range(3)]
        async with worker, asyncio.timeout(20):
            while not all([await over(storage, job_id) for job_id in jobs]):  # noqa: ASYNC110  nothing tells it
                await asyncio.sleep(0.02)


async def over(storage: MemoryStorage, job_id: str) -> bool:
    """Whether a job is over, and well."""
    record = await storage.job(job_id)
    assert record is not None
    assert record.job.error is None
    return record.job.status.terminal


async def test_sessions_that_a_worker_opens_and_tokens_that_it_exchanges_are_counted_together() -> None:
    limited_to = (CODE.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    async with limited(100, RATE_LIMIT_HEARTBEAT_LIMIT=3) as (node, clock), a_wire(node, "w1") as wire:
        pair = node.certificate("w1")
        trusted, key, chain = (path.read_bytes() for path in (node.folder / "ca.pem", pair.key, pair.certificate))
        trust = grpc.ssl_channel_credentials(trusted, key, chain)
        async with grpc.aio.secure_channel(f"localhost:{node.ports.worker}", trust) as channel:
            exchange: Any = channel.unary_unary("/holon.rxon.v1.TokenService/ExchangeToken")

            async def exchanged(number: int) -> tuple[grpc.StatusCode, str]:
                request = token_pb2.ExchangeTokenRequest(
                    request_id=f"r{number}", certificate=token_pb2.CertificateCredential()
                )
                try:
                    await exchange(request.SerializeToString())
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
