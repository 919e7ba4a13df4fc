"""The worker door: sessions of workers, on the wire, as they should be."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from holon.rxon.v1 import types_pb2, worker_pb2
from tests.integration.grpc_node import (
    WORKER_TOKEN,
    a_node,
    hello,
    json_payload,
    offering,
    result,
    update,
    updates,
)

DOC = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


async def test_a_worker_is_known_by_its_certificate_and_finishes_a_job() -> None:
    async with a_node() as node:
        job_id = await node.create(n=3)
        worker = await node.worker("w1")
        offer = await worker.offer()
        assert json.loads(offer.params.data) == {"n": 3}
        assert (offer.job_id, offer.skill, offer.generation, offer.attempt) == (job_id, "t", 1, 1)
        assert offer.HasField("time_left")
        await worker.send(updates(result(offer, {"doubled": 6})))
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        job = await node.ended(job_id)
        assert (job.status, json.loads(job.result.data)) == ("finished", {"doubled": 6})
        assert [session.worker_id for session in node.engine.dispatcher.sessions] == ["w1"]


async def test_welcome_says_the_terms_of_the_session() -> None:
    async with a_node(heartbeat=2.0, silence=6.0, lease=9.0, offer=3.0) as node:
        welcome = (await node.worker()).welcome
        assert (welcome.node_id, welcome.holon_id) == ("node-1", "holon-1")
        seconds = [
            each.ToTimedelta().total_seconds()
            for each in (
                welcome.heartbeat_interval,
                welcome.silence_timeout,
                welcome.lease_duration,
                welcome.accept_timeout,
            )
        ]
        assert seconds == [2.0, 6.0, 9.0, 3.0]
        assert list(welcome.capabilities) == [
            types_pb2.CAPABILITY_RESUME,
            types_pb2.CAPABILITY_CANCEL,
            types_pb2.CAPABILITY_EVENTS,
        ]
        assert (welcome.max_message_bytes, welcome.max_payload_bytes) == (4 * 2**20, 2**20)
        assert welcome.HasField("session_expires_at")
        assert not welcome.catalog_needed


async def test_the_minimal_worker_of_the_documentation_serves_a_real_node() -> None:
    source = re.search(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert source
    program: dict[str, Any] = {"__name__": "minimal_worker"}
    exec(compile(source[1], str(DOC), "exec"), program)
    async with a_node(secure=False) as node:
        job_id = await node.create(skill="double", n=21)
        channel = await node.worker_channel(None)
        session = asyncio.create_task(program["session"](channel))
        assert json.loads((await node.ended(job_id)).result.data) == {"doubled": 42}
        session.cancel()
        await asyncio.wait((session,))


async def test_a_catalog_hash_is_answered_with_the_wish_for_the_catalog() -> None:
    async with a_node() as node:
        worker = await node.stream("w1")
        await worker.send(worker_pb2.SessionRequest(hello=worker_pb2.Hello(catalog_hash="a-fingerprint")))
        assert (await worker.expect("welcome")).catalog_needed
        await node.create()
        await worker.send(worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=1, offerings=[offering()])))
        assert (await worker.offer()).skill == "t"


async def test_a_new_catalog_replaces_the_earlier_one_and_an_older_one_is_ignored() -> None:
    async with a_node() as node:
        worker = await node.worker("w1", offering("a"), credits=4)
        await node.create(skill="b")
        await worker.send(worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=2, offerings=[offering("b")])))
        assert (await worker.offer()).skill == "b"
        await worker.send(worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=1, offerings=[offering("a")])))
        await worker.beat()
        await node.create(skill="a")
        await node.create(skill="b")
        assert (await worker.offer()).skill == "b"


# Credits ---------------------------------------------------------------------------------------------------------


async def test_i4_a_worker_never_holds_more_tasks_than_it_granted() -> None:
    async with a_node() as node:
        worker = await node.worker(credits=3)
        jobs = [await node.create(n=n) for n in range(20)]
        held: list[worker_pb2.TaskOffer] = []
        done = 0
        while done < len(jobs):
            kind, said = await worker.next()
            if kind == "task_offers":
                held.append(said)
                assert len(held) <= 3
                if len(held) == 3 or done + len(held) == len(jobs):
                    await worker.send(updates(*(result(offer) for offer in held[1:] or held)))
            else:
                assert said.verdict == worker_pb2.VERDICT_COMMITTED
                held = [offer for offer in held if offer.lease_id != said.lease_id]
                done += 1
                if held and done + len(held) == len(jobs):
                    await worker.send(updates(*(result(offer) for offer in held)))
        assert {(await node.ended(job)).status for job in jobs} == {"finished"}


async def test_credits_are_absolute_and_the_newest_wins() -> None:
    async with a_node() as node:
        worker = await node.worker(credits=0)
        for n in range(5):
            await node.create(n=n)
        await worker.beat(1)
        await worker.beat(2, credits=2)
        first, _ = await worker.offer(), await worker.offer()
        await worker.beat(3, credits=1)
        await worker.send(updates(result(first)))
        await worker.verdict()
        await worker.beat(4)
        await worker.beat(5, credits=2)
        await worker.offer()


async def test_a_rejected_task_goes_to_another_worker_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    async with a_node() as node:
        first = await node.worker("w1")
        await node.create(n=1)
        offer = await first.offer()
        rejected = worker_pb2.TaskRejected(reason="UNKNOWN_SKILL", message="there is\nno t")
        await first.send(updates(update(offer, rejected=rejected)))
        await first.beat()
        second = await node.worker("w2")
        again = await second.offer()
        assert (again.task_id, again.attempt, again.generation) == (offer.task_id, 2, 1)
    told = f"task {offer.task_id} of skill 't' was returned by worker w1: UNKNOWN_SKILL: there is no t"
    assert caplog.messages.count(told) == 1


@pytest.mark.parametrize(("said", "charged"), [(None, None), (7, 7)])
async def test_a_job_is_charged_what_a_task_cost_that_was_rejected(said: int | None, charged: int | None) -> None:
    async with a_node() as node:
        worker = await node.worker("w1")
        job_id = await node.create(n=1)
        offer = await worker.offer()
        await worker.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        await worker.send(updates(update(offer, rejected=worker_pb2.TaskRejected(reason="DRAINING", cost=said))))
        await worker.beat()
        await (await node.worker("w2")).offer()
        job = await node.job(job_id)
        assert (job.cost if job.HasField("cost") else None) == charged


async def test_a_task_that_is_rejected_until_there_is_a_credit_comes_again_with_the_next() -> None:
    async with a_node() as node:
        worker = await node.worker("w1")
        await node.create(n=1)
        offer = await worker.offer()
        rejected = worker_pb2.TaskRejected(reason="BUSY")
        rejected.retry_after.SetInParent()
        await worker.beat(2, credits=0)
        await worker.send(updates(update(offer, rejected=rejected)))
        await worker.beat(3, credits=1)
        again = await worker.offer()
        assert (again.task_id, again.attempt, again.generation) == (offer.task_id, 2, 1)


async def test_a_task_that_is_rejected_for_a_moment_comes_again_after_that_to_who_alone_can_do_it() -> None:
    async with a_node() as node:
        worker = await node.worker("w1")
        await node.create(n=1)
        for attempt in (1, 2):
            offer = await worker.offer()
            assert offer.attempt == attempt
            rejected = worker_pb2.TaskRejected(reason="BUSY")
            rejected.retry_after.FromMilliseconds(100)
            rejected_at = asyncio.get_running_loop().time()
            await worker.send(updates(update(offer, rejected=rejected)))
        again = await worker.offer()
        assert (again.task_id, again.attempt) == (offer.task_id, 3)
        assert asyncio.get_running_loop().time() >= rejected_at + 0.1
        # Less than no time is none, and more than a lease no more than that.
        rejected.retry_after.FromMilliseconds(-5)
        await worker.send(updates(update(again, rejected=rejected)))
        again = await worker.offer()
        assert again.attempt == 4
        rejected.retry_after.FromMilliseconds(2**50)
        await worker.send(updates(update(again, rejected=rejected)))
        await worker.beat()


async def test_a_task_too_large_for_a_worker_goes_to_another() -> None:
    async with a_node() as node:
        narrow = await node.worker("w1", max_message_bytes=64 * 1024)
        await node.create(wide="x" * 100_000)
        await narrow.beat()
        wide = await node.worker("w2")
        assert len((await wide.offer()).params.data) > 100_000
        await narrow.beat(2)


# What is told of a task ------------------------------------------------------------------------------------------


async def test_progress_is_shown_with_the_job() -> None:
    async with a_node() as node:
        worker = await node.worker()
        job_id = await node.create(n=1)
        offer = await worker.offer()
        progress = worker_pb2.TaskProgress(percent=40, message="almost half")
        logs = worker_pb2.TaskLogs(lines=[types_pb2.LogLine(text="a line")])
        await worker.send(updates(update(offer, progress=progress), update(offer, logs=logs)))
        await worker.beat()
        await node.engine.touches.flush()
        job = await node.job(job_id)
        assert (job.progress, job.progress_message, job.status) == (40, "almost half", "waiting_for_worker")


async def test_a_failure_is_tried_again_and_its_error_is_told() -> None:
    async with a_node() as node:
        worker = await node.worker()
        job_id = await node.create(n=1)
        offer = await worker.offer()
        error = types_pb2.TaskError(code="PERMANENT_ERROR", message="no such file", details=json_payload({"a": 1}))
        await worker.send(updates(result(offer, status="failure", error=error)))
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        job = await node.ended(job_id)
        assert (job.status, job.error.code) == ("failed", "ENDED_FAILED")


async def test_a_worker_without_certificates_is_known_by_what_it_claims() -> None:
    async with a_node(secure=False) as node:
        worker = await node.stream(None, (("authorization", f"Bearer {WORKER_TOKEN}"),))
        await worker.send(hello(worker_id="claimed-1"))
        assert not (await worker.expect("welcome")).HasField("session_expires_at")
        assert [session.worker_id for session in node.engine.dispatcher.sessions] == ["claimed-1"]
