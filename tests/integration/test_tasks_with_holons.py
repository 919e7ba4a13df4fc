"""The worker door: tasks that holons have: how long each stays with who is cut off, and what ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.rxon.v1 import types_pb2, worker_pb2
from tests.integration.admission import admission
from tests.integration.grpc_node import (
    GUARD,
    a_node,
    hello,
    offering,
    result,
    update,
    updates,
)
from tests.integration.holons_below import comes, identity


def patient() -> Blueprint:
    """Its task says what becomes of it when nothing is heard of who has it."""
    blueprint = Blueprint("patient", "/patient")

    @blueprint.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(
            "t", {}, transitions={"success": "end"}, on_lost=initial_data["on_lost"], timeout_seconds=600
        )

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


@pytest.mark.parametrize(("on_lost", "replaced"), [(0.5, True), ("wait", False), (None, True)])
async def test_a_task_says_how_long_it_stays_with_a_holon_that_is_cut_off(
    tmp_path: Path, on_lost: float | str | None, replaced: bool
) -> None:
    rules = admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"')
    async with a_node(admission=rules, lease=0.3, child_lease=0.6) as node:
        node.engine.blueprints.register(patient())
        child = await comes(node, identity())
        await child.beat(credits=2)
        job_id = await node.create("patient", on_lost=on_lost)
        offer = await child.offer()
        # And then another, which stays no longer than any does.
        await node.create("patient", on_lost=None)
        usual = await child.offer()
        # Where the task says so, it says for how long, and never below what any task has.
        assert offer.HasField("lease_duration") == (on_lost is not None)
        assert not on_lost or offer.lease_duration.ToMilliseconds() >= 300
        await child.send(updates(*(update(one, accepted=worker_pb2.TaskAccepted()) for one in (offer, usual))))
        await child.beat(2)
        child.call.cancel()
        await node.until(lambda: not list(node.engine.dispatcher.sessions))
        other = await node.worker("w1", offering("t"), credits=2)
        again = [await other.offer() for _ in range(2 if replaced else 1)]
        assert {one.attempt for one in again} == {2}
        assert {one.task_id for one in again} == ({offer.task_id, usual.task_id} if replaced else {usual.task_id})
        if replaced:
            return
        # Nobody else gets it when nothing is heard for longer than that; and who had it goes on.
        assert (await node.engine.store.counts()).leased == 2
        wire = await node.stream("child")
        held = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        resume = worker_pb2.Resume(leases=[held])
        await wire.send(hello(offering("t"), instance_id="i1", holon_identity=identity(), resume=resume))
        (kept,) = (await wire.expect("welcome")).leases
        assert kept.decision == worker_pb2.LEASE_DECISION_KEEP
        assert (await node.job(job_id)).status == "waiting_for_worker"


async def test_a_task_that_waits_for_who_has_it_goes_to_another_once_they_are_back_without_it() -> None:
    async with a_node() as node:
        node.engine.blueprints.register(patient())
        first = await node.worker("w1", offering("t"))
        await node.create("patient", on_lost="wait")
        offer = await first.offer()
        await first.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        await first.beat()
        first.call.cancel()
        await node.until(lambda: not list(node.engine.dispatcher.sessions))
        other = await node.worker("w2", offering("t"))
        assert (await node.engine.store.counts()).leased == 1
        # A process of the same worker that knows nothing of it.
        await node.worker("w1", offering("u"))
        again = await other.offer()
        assert (again.task_id, again.attempt) == (offer.task_id, 2)


async def test_that_a_task_is_with_who_is_to_keep_it_is_stored_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a node that dies before it has told the store would have another do it."""
    async with a_node() as node:
        # What is not urgent waits for longer than this test.
        monkeypatch.setattr(node.engine.touches, "_every", GUARD)
        node.engine.blueprints.register(patient())
        wire = await node.worker("w1", offering("t"))
        await node.create("patient", on_lost="wait")
        offer = await wire.offer()
        told = asyncio.Event()
        touch = node.engine.store.touch

        async def touched(*what: Any) -> Any:
            if any(one.lease.lease_id == offer.lease_id for one in what[0].accepts):
                told.set()
            return await touch(*what)

        monkeypatch.setattr(node.engine.store, "touch", touched)
        await wire.send(updates(update(offer, accepted=worker_pb2.TaskAccepted())))
        async with asyncio.timeout(GUARD / 2):
            await told.wait()


def limited(ways: dict[str, str]) -> Blueprint:
    """Its task may take so long in all, and so long at each attempt."""
    blueprint = Blueprint("limited", "/limited")

    @blueprint.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(
            "t",
            {},
            transitions={"success": "end", **ways},
            result_timeout_seconds=initial_data["in_all"],
            timeout_seconds=initial_data["each"],
        )

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    @blueprint.handler(is_end=True)
    async def late() -> None: ...

    return blueprint


@pytest.mark.parametrize(
    ("ways", "is_holon", "in_all", "each", "seen"),
    [
        ({}, True, 50, 500, ("failed", "RESULT_TIMEOUT")),
        ({"timeout": "late"}, True, 50, 500, ("finished", "")),
        # Tried again, as what is told of it may pass.
        ({"timeout": "late"}, True, 500, 50, None),
        ({"timeout": "late"}, True, None, 50, None),
        # It is not over yet, whatever that one meant.
        ({"timeout": "late"}, True, 500, 5_000, None),
        # No plain worker has a word on that.
        ({"timeout": "late"}, False, 50, 500, None),
    ],
)
async def test_a_holon_that_stops_at_a_tasks_result_timeout_ends_the_task_as_that(
    tmp_path: Path,
    ways: dict[str, str],
    is_holon: bool,
    in_all: int | None,
    each: int,
    seen: tuple[str, str] | None,
) -> None:
    rules, clock = admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"'), ManualClock()
    async with a_node(admission=rules, clock=clock) as node:
        node.engine.blueprints.register(limited(ways))
        worker = await (comes(node, identity()) if is_holon else node.worker("w1", offering("t")))
        job_id = await node.create("limited", in_all=in_all, each=each)
        offer = await worker.offer()
        clock.advance(45_000)
        error = types_pb2.TaskError(code="DEADLINE_EXCEEDED", message="the task reached its time limit")
        await worker.send(updates(result(offer, status="failure", error=error)))
        assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        if seen is not None:
            job = await node.ended(job_id)
            assert (job.status, job.error.code) == seen
            return
        task = await node.engine.store.task(offer.task_id)
        assert task is not None
        assert (task.state != "over", task.generation) == (True, 2)
