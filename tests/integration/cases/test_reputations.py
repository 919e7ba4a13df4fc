"""Acceptance: the reputation of workers, by skill: what lowers it, how it is shown, and whom it excludes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from holon import Blueprint
from holon.client import ReputationInfo
from holon.context import ActionFactory
from holon.rxon.v1 import worker_pb2
from holon.testing import RunningNode
from tests.integration.cases.site import (
    GUARD,
    LOOK_S,
    Start,
    a_wire,
    create,
    ended,
    failure,
    http,
    next_offer,
    one_task,
    seen,
    written,
)
from tests.integration.cases.test_attempts import SHORT, accepted
from tests.integration.grpc_node import Wire, offering, result, updates

# Above what 14 failures leave, and what they leave where nothing comes back meanwhile.
STRICT = {"REPUTATION_MIN_THRESHOLD": 0.9}


def asked() -> Blueprint:
    """Asks for the skill that its data names, and ends as the task does."""
    bp = Blueprint("asked", api_endpoint="/jobs/asked", api_version="v1")

    @bp.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        ways = {"success": "finished", "declined": "finished"} if initial_data.get("may_decline") else None
        seconds = initial_data.get("seconds")
        actions.dispatch_task(
            initial_data["skill"], {}, ways or {"success": "finished"}, timeout_seconds=seconds, max_retries=0
        )

    @bp.handler(is_end=True)
    async def finished() -> None: ...

    return bp


async def gives(node: RunningNode, wire: Wire, skill: str = "t", *, may_decline: bool = False, **outcome: Any) -> None:
    """A worker does one task of a skill, with this outcome."""
    job_id = await create(node, "asked", {"skill": skill, "may_decline": may_decline})
    await wire.send(updates(result(await next_offer(wire), **outcome)))
    await ended(node, job_id)


async def shown(node: RunningNode, worker_id: str, *expected: tuple[str, float, dict[str, int]]) -> None:
    """Wait until a worker's reputations are shown so: by skill the value, and how often each reason came."""
    found: list[Any] | None = None
    wanted = [(skill, pytest.approx(value, abs=0.005), reasons) for skill, value, reasons in expected]
    async with asyncio.timeout(GUARD):
        while found != wanted:
            # The workers of another node are as it told of them last.
            await asyncio.sleep(LOOK_S)
            of_worker = [one async for one in node.client.node.list_workers() if one.worker_id == worker_id]
            found = [_told(one) for one in of_worker[0].reputations] if of_worker else None


def _told(one: ReputationInfo) -> tuple[str, float, dict[str, int]]:
    return one.skill, one.reputation, {reason.code: reason.count for reason in one.reasons}


async def test_e17_by_default_no_number_of_failures_excludes_a_worker(start: Start) -> None:
    async with start(asked()) as node, a_wire(node, "w1") as wire:
        for _ in range(22):
            await gives(node, wire, **failure("PERMANENT_ERROR"))
        await shown(node, "w1", ("t", 0.0, {"PERMANENT_ERROR": 22}))
        await gives(node, wire)


async def test_e17_below_the_threshold_of_a_skill_a_worker_gets_tasks_of_its_other_skills(start: Start) -> None:
    async with start(asked(), **STRICT) as node, a_wire(node, "w1", offering("t"), offering("u")) as wire:
        for _ in range(3):
            await gives(node, wire, **failure("PERMANENT_ERROR", "no luck"))
        waiting = await create(node, "asked", {"skill": "t"})
        await gives(node, wire, "u")
        why = "waiting: every suitable worker with skill 't' has too low a reputation"
        await seen(node, waiting, lambda job: job.progress_message == why)
        await shown(node, "w1", ("t", 0.85, {"PERMANENT_ERROR": 3}))
        (worker,) = [one async for one in node.client.node.list_workers()]
        assert [one.excluded for one in worker.reputations] == [True]
        # To come again changes nothing; and another worker is there for it.
        async with a_wire(node, "w1", offering("t"), offering("u")) as again, a_wire(node, "w2") as better:
            await better.send(updates(result(await next_offer(better))))
            assert (await ended(node, waiting)).status == "finished"
            await gives(node, again, "u")


async def test_e18_what_is_done_raises_it_and_a_declared_status_is_done(start: Start) -> None:
    async with start(asked()) as node, a_wire(node, "w1", offering("t", statuses=["declined"])) as wire:
        await gives(node, wire, may_decline=True, status="declined")
        await shown(node, "w1")
        await gives(node, wire, **failure("PERMANENT_ERROR"))
        await shown(node, "w1", ("t", 0.95, {"PERMANENT_ERROR": 1}))
        for _ in range(10):
            await gives(node, wire, may_decline=True, status="declined")
        await shown(node, "w1", ("t", 0.96, {"PERMANENT_ERROR": 1}))


@asynccontextmanager
async def beating(wire: Wire) -> AsyncIterator[None]:
    """Its worker is not silent."""

    async def beat() -> None:
        for sequence in count(1):
            await wire.beat(sequence)
            await asyncio.sleep(SHORT["WORKER_SILENCE_SECONDS"] / 3)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_e17_lost_leases_are_failures_and_count_once_for_a_session_that_ended(start: Start) -> None:
    async with start(asked(), **SHORT) as node:
        async with a_wire(node, "w1", offering("t"), offering("u")) as wire:
            jobs = [await create(node, "asked", {"skill": "t"}) for _ in range(2)]
            for _ in jobs:
                await accepted(wire)
        for job_id in jobs:
            await written(node, job_id, "attempt_lost")
        async with (
            a_wire(node, "w1", offering("t"), offering("u"), credits=0) as again,
            beating(again),
            http(node) as client,
        ):
            await shown(node, "w1", ("t", 0.95, {"WORKER_LOST": 1}))
            (worker,) = (await client.get("/api/v1/workers")).json()["workers"]
            (told,) = worker["reputations"]
            assert (told["skill"], told["reputation"], told["excluded"]) == ("t", worker["reputation"], False)
            (reason,) = told["reasons"]
            near = pytest.approx(worker["connected_at"], abs=GUARD)
            assert reason == {"code": "WORKER_LOST", "count": 1, "last_at": near}


async def test_e17_an_execution_timeout_is_a_failure_for_its_skill(start: Start) -> None:
    async with start(asked()) as node, a_wire(node, "w1", offering("t"), offering("u")) as wire:
        job_id = await create(node, "asked", {"skill": "u", "seconds": 0.2})
        await accepted(wire)
        error = (await ended(node, job_id)).error
        assert error is not None
        assert error.code == "TIMEOUT_ERROR"
        await shown(node, "w1", ("u", 0.95, {"TIMEOUT_ERROR": 1}))


async def test_e17_a_timeout_that_its_worker_tells_counts_as_well(start: Start) -> None:
    async with start(asked()) as node, a_wire(node, "w1") as wire:
        await gives(node, wire, **failure("TIMEOUT_ERROR"))
        await shown(node, "w1", ("t", 0.95, {"TIMEOUT_ERROR": 1}))


async def test_e17_what_a_worker_gives_back_or_does_not_begin_lowers_nothing(start: Start) -> None:
    # The rejection must be there before its offer expires, also on a busy machine.
    async with start(asked(), one_task(), TASK_OFFER_SECONDS=1) as node, a_wire(node, "w1", credits=1) as wire:
        job_id = await create(node, "one_task", {})
        await wire.offer()
        await written(node, job_id, "attempt_lost")
        async with a_wire(node, "w2") as other:
            offer = await next_offer(other)
            rejected = worker_pb2.TaskRejected(reason="BUSY")
            await other.send(
                updates(worker_pb2.TaskUpdate(task_id=offer.task_id, lease_id=offer.lease_id, rejected=rejected))
            )
            await written(node, job_id, "attempt_returned")
            await shown(node, "w1")
            await shown(node, "w2")
