"""Acceptance: a job's history has a line for every attempt, also for those that ended without a result."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.client import HistoryEvent
from holon.rxon.v1 import worker_pb2
from holon.testing import RunningNode
from tests.integration.cases.site import GUARD, Start, a_wire, create, ended, failure, history, http, one_task, written
from tests.integration.grpc_node import Wire, heartbeat, result, update, updates

SHORT = {
    "HEARTBEAT_INTERVAL_SECONDS": 0.1,
    "WORKER_SILENCE_SECONDS": 0.9,
    "TASK_LEASE_SECONDS": 1.0,
    "TASK_OFFER_SECONDS": 0.25,
}
LOST = ("attempt_lost", "attempt_returned")


async def accepted(wire: Wire) -> worker_pb2.TaskOffer:
    """The next offer, which the worker takes."""
    offer = await wire.offer()
    await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
    return offer


async def finishes(node: RunningNode, job_id: str, worker_id: str = "w2") -> None:
    """Another worker does the task, and nothing of the job's history is missing."""
    async with a_wire(node, worker_id) as wire:
        await wire.send(updates(result(await wire.offer())))
        assert (await ended(node, job_id)).status == "finished"
    lines = await history(node, job_id)
    assert [line.sequence for line in lines] == list(range(1, len(lines) + 1))
    attempts = [line for line in lines if line.event_type in (*LOST, "task_finished")]
    assert [line.attempt_number for line in attempts] == list(range(1, len(attempts) + 1))
    (last,) = [line for line in attempts if line.event_type == "task_finished"]
    assert last.worker_id == worker_id


def told(line: HistoryEvent) -> tuple[Any, ...]:
    """What a line says of an attempt: its number, worker, reason, code and message."""
    known = line.context_snapshot
    return line.attempt_number, line.worker_id, known["reason"], known["code"], known["error"]


async def test_attempts_that_died_with_their_worker_are_told(start: Start) -> None:
    async with start(one_task(), **SHORT) as node:
        async with a_wire(node, "w1") as wire:
            job_id = await create(node, "one_task", {})
            task_id = (await accepted(wire)).task_id
        line = await written(node, job_id, "attempt_lost")
        message = "the session of worker w1 ended, and the worker did not resume the task"
        assert told(line) == (1, "w1", "worker_lost", "WORKER_LOST", message)
        assert (line.task_id, line.context_snapshot["skill"]) == (task_id, "t")
        async with http(node) as client:
            page = (await client.get(f"/api/v1/jobs/{job_id}/history")).json()["events"]
            (shown,) = [one for one in page if one["event_type"] == "attempt_lost"]
            assert (shown["attempt_number"], shown["worker_id"]) == (1, "w1")
            assert shown["context_snapshot"] == line.context_snapshot
        await finishes(node, job_id)


@pytest.mark.parametrize("taken", [True, False])
async def test_attempts_that_a_newer_process_of_the_worker_does_not_go_on_with_are_told(
    start: Start, taken: bool
) -> None:
    async with start(one_task()) as node, a_wire(node, "w1", instance_id="one") as wire:
        job_id = await create(node, "one_task", {})
        await (accepted(wire) if taken else wire.offer())
        async with a_wire(node, "w1", instance_id="two", credits=0):
            line = await written(node, job_id, "attempt_lost")
            message = "worker w1 opened a new session without the task"
            assert told(line) == (1, "w1", "worker_replaced", "WORKER_LOST", message)
            await finishes(node, job_id)


async def test_attempts_whose_lease_their_worker_does_not_renew_are_told(start: Start) -> None:
    async with start(one_task(), **SHORT) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        await accepted(wire)
        sequence, lines = 0, list[HistoryEvent]()
        async with asyncio.timeout(GUARD):
            while not lines:
                # It lives, and lists no lease.
                sequence += 1
                await wire.send(heartbeat(sequence, held=worker_pb2.HeldLeases()))
                lines = await history(node, job_id, "attempt_lost")
        message = "worker w1 is connected, but did not renew its lease in time"
        assert [told(line) for line in lines] == [(1, "w1", "lease_expired", "LEASE_EXPIRED", message)]


async def test_attempts_that_a_worker_does_not_begin_are_told(start: Start) -> None:
    async with start(one_task(), TASK_OFFER_SECONDS=0.25) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        await wire.offer()
        line = await written(node, job_id, "attempt_lost")
        message = "worker w1 did not accept the offer in time"
        assert told(line) == (1, "w1", "offer_expired", "OFFER_EXPIRED", message)
        await finishes(node, job_id)


@pytest.mark.parametrize(("reason", "code"), [("DRAINING", "DRAINING"), ("", "RETURNED")])
async def test_attempts_that_a_worker_gives_back_are_told(start: Start, reason: str, code: str) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        offer = await accepted(wire)
        await wire.send(updates(update(offer, rejected=worker_pb2.TaskRejected(reason=reason))))
        line = await written(node, job_id, "attempt_returned")
        assert told(line) == (1, "w1", "returned", code, "worker w1 returned the task")
        await finishes(node, job_id)


async def test_attempts_that_fail_and_are_tried_again_are_told_too(start: Start) -> None:
    async with start(one_task(), RETRY_BACKOFF_MIN_SECONDS=0.0) as node, a_wire(node, "w1") as wire:
        job_id = await create(node, "one_task", {})
        await wire.send(updates(result(await wire.offer(), **failure("TRANSIENT_ERROR", "not yet"))))
        await wire.verdict()
        await wire.send(updates(result(await wire.offer())))
        assert (await ended(node, job_id)).status == "finished"
        first, second = await history(node, job_id, "task_finished")
        assert (first.attempt_number, second.attempt_number) == (1, 2)
        known = first.context_snapshot
        assert (known["status"], known["code"], known["error"]) == ("failure", "TRANSIENT_ERROR", "not yet")
