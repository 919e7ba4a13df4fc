"""Acceptance: events that handlers send, as those see them who read a job's history or watch it."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory
from tests.integration.cases.site import Start, create, ended, history, http


@dataclass
class Paid:
    amount: int


def selling(*amounts: Any) -> Blueprint:
    bp = Blueprint("sell", api_endpoint="/jobs/sell", api_version="v1")
    bp.event("paid", Paid)

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        for amount in amounts:
            actions.send_event("paid", {"amount": amount})
        actions.dispatch_task("t", {}, {"success": "done"}) if not amounts else actions.go_to("done")

    @bp.handler(is_end=True)
    async def done(actions: ActionFactory) -> None:
        actions.send_event("paid", {"amount": 100})

    return bp


def payloads(events: Any) -> list[Any]:
    return [event.context_snapshot["payload"] for event in events]


async def test_c34_events_stand_in_the_history_between_the_lines_of_their_state(start: Start) -> None:
    async with start(selling(1, 2)) as node:
        # The second job's steps are decided before it is stored.
        for _ in range(2):
            job = await node.run("sell", {})
            assert job.status == "finished"
            told = await history(node, job.id)
            assert [(event.event_type, event.state) for event in told] == [
                ("job_created", "start"),
                ("state_started", "start"),
                ("blueprint_event:paid", "start"),
                ("blueprint_event:paid", "start"),
                ("state_finished", "start"),
                ("state_started", "done"),
                ("blueprint_event:paid", "done"),
                ("state_finished", "done"),
                ("job_completed", "done"),
            ]
            assert payloads(event for event in told if event.event_type == "blueprint_event:paid") == [
                {"amount": amount} for amount in (1, 2, 100)
            ]
        async with http(node) as client:
            events = (await client.get(f"/api/v1/jobs/{job.id}/history")).json()["events"]
            assert events[2]["event_type"] == "blueprint_event:paid"
            assert events[2]["context_snapshot"] == {"payload": {"amount": 1}}


async def test_c34_who_watches_a_job_is_told_of_its_events(start: Start) -> None:
    async with start(selling(1)) as node:
        job_id = await create(node, "sell", {})
        async with aclosing(node.client.watch(job_id, after=0)) as updates:
            events = [update.event async for update in updates if update.event is not None]
        sent = [event for event in events if event.event_type == "blueprint_event:paid"]
        assert payloads(sent) == [{"amount": 1}, {"amount": 100}]


async def test_c34_a_payload_that_is_not_as_declared_is_the_handlers_failure(start: Start) -> None:
    async with start(selling(1, "two"), JOB_MAX_RETRIES=1, RETRY_BACKOFF_MIN_SECONDS=0.01) as node:
        job = await node.run("sell", {})
        assert job.error is not None
        assert (job.status, job.error.code) == ("quarantined", "EVENT_INVALID")
        assert "event 'paid' of blueprint 'sell' does not match its declaration: payload.amount" in job.error.message
        assert len(await history(node, job.id, "state_failed")) == 2
        assert await history(node, job.id, "blueprint_event:paid") == []


async def test_c34_a_node_that_is_not_strict_leaves_it_out_and_the_history_says_so(start: Start) -> None:
    async with start(selling(1, "two"), STRICT_EVENT_VALIDATION=False) as node:
        job = await node.run("sell", {})
        assert job.status == "finished"
        assert payloads(await history(node, job.id, "blueprint_event:paid")) == [{"amount": 1}, {"amount": 100}]
        (refused,) = await history(node, job.id, "event_refused")
        assert isinstance(refused.context_snapshot, dict)
        assert refused.context_snapshot["event"] == "paid"
        assert "payload.amount" in refused.context_snapshot["error"]


async def test_a_run_that_fails_sends_nothing_and_the_one_that_does_not_sends_once(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp", api_version="v1")
    runs = 0

    @bp.handler(is_start=True, is_end=True)
    async def begin(actions: ActionFactory) -> None:
        nonlocal runs
        runs += 1
        actions.send_event("run", runs)
        if runs < 3:
            raise OSError("not yet")

    async with start(bp, RETRY_BACKOFF_MIN_SECONDS=0.01) as node:
        job = await node.run("bp", {})
        assert (job.status, runs) == ("finished", 3)
        assert payloads(await history(node, job.id, "blueprint_event:run")) == [3]


async def test_events_of_the_largest_size_are_stored_and_read_back_as_they_were(start: Start) -> None:
    bp = Blueprint("bp", api_endpoint="/jobs/bp", api_version="v1")
    odd = {"text": "ü\0\n" * 2_000, "float": 1e22, "int": 2**63, "none": None, "nested": [[{"a": [1.0]}]]}

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.send_event("odd", odd)
        for n in range(99):
            actions.send_event("n", "x" * 300 + str(n))
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    async with start(bp) as node:
        job = await ended(node, await create(node, "bp", {}))
        assert job.status == "finished"
        assert payloads(await history(node, job.id, "blueprint_event:odd")) == [odd]
        assert payloads(await history(node, job.id, "blueprint_event:n")) == ["x" * 300 + str(n) for n in range(99)]
        # What a client makes of the lines that it was told is what the node makes of those that it has.
        (told, *_) = [one async for one in node.client.tree(job.id, digests=True)]
        assert told.digest is not None
        assert (await node.client.fingerprint(job.id)).sha256 == told.digest.sha256


async def test_c34_a_run_whose_decision_cannot_be_sends_nothing(start: Start) -> None:
    blueprint = Blueprint("runs_nothing", api_endpoint="/jobs/runs_nothing", api_version="v1")

    @blueprint.handler(is_start=True)
    async def begin(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.send_event("seen")
        actions.run_blueprint(initial_data["of"], {}, {"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    async with start(blueprint, JOB_MAX_RETRIES=0) as node:
        job = await ended(node, await create(node, "runs_nothing", {"of": "nothing"}))
        assert job.status == "quarantined"
        assert not [one for one in await history(node, job.id) if "event:" in one.event_type]
