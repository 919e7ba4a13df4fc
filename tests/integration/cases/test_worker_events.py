"""Acceptance: what a worker wants a job to know while its task runs."""

from __future__ import annotations

import asyncio
from typing import Any

from holon.testing import RunningNode
from holon.worker import Cancelled, SendEvent
from tests.integration.cases.site import SUCCESS_ONLY, Start, create, ended, fan_out, history, numbered, one_task


async def test_c34_an_event_that_the_blueprint_waits_for_moves_the_job_on_and_stops_the_task(start: Start) -> None:
    blueprint = one_task({"success": "finished", "failure": "on_fail"}, event_transitions={"odd": "finished"})
    async with start(blueprint) as node:
        worker = node.new_worker("w1")
        stopped = asyncio.Event()

        @worker.skill("t")
        async def t(send_event: SendEvent, cancelled: Cancelled) -> None:
            send_event("seen", {"n": 1})
            send_event("odd", {"why": "too many"})
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        async with worker:
            job = await ended(node, await create(node, "one_task", {}))
            assert (job.status, job.result) == ("finished", {"why": "too many"})
            async with asyncio.timeout(60):
                await stopped.wait()
            lines = [one for one in await history(node, job.id) if one.event_type.startswith("worker_event:")]
            told: list[Any] = [(one.event_type, one.context_snapshot["payload"], one.worker_id) for one in lines]
            assert told == [("worker_event:seen", {"n": 1}, "w1"), ("worker_event:odd", {"why": "too many"}, "w1")]


async def test_a_skill_shows_the_events_that_it_declares_and_sends_no_others(start: Start) -> None:
    async with start(one_task(SUCCESS_ONLY)) as node:
        worker = node.new_worker("w1")
        schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}

        @worker.skill("t", events={"seen": schema, "noted": None})
        def t(event: str, payload: dict[str, Any], send_event: SendEvent) -> dict[str, bool]:
            send_event("noted")
            send_event(event, payload)
            return {"sent": True}

        async with worker:
            await worker.ready()
            [skill] = [one async for one in node.client.node.list_skills()]
            assert [(one.type, one.schema) for one in skill.events] == [("seen", schema), ("noted", None)]

            job = await ended(node, await create(node, "one_task", {"event": "seen", "payload": {"n": 1}}))
            assert await told(node, job.id) == [("noted", None), ("seen", {"n": 1})]
            # What needs a validator is for the node: that event is left out, and its task goes on.
            job = await ended(node, await create(node, "one_task", {"event": "seen", "payload": {"n": 10}}))
            assert (job.status, await told(node, job.id)) == ("finished", [("noted", None)])
            for event, says in (("seen", "lacks 'n'"), ("other", "not declared by skill 't' (seen, noted)")):
                job = await ended(node, await create(node, "one_task", {"event": event, "payload": {}}))
                # No try more: it would send the same.
                assert (job.status, job.error and job.error.code) == ("quarantined", "PERMANENT_ERROR")
                assert says in str(job.error)


async def told(node: RunningNode, job_id: str) -> list[tuple[str, Any]]:
    """The events that workers told of a job, with their payloads."""
    lines = [one for one in await history(node, job_id) if one.event_type.startswith("worker_event:")]
    return [(one.event_type.partition(":")[2], one.context_snapshot.get("payload")) for one in lines]


async def test_c34_events_of_branches_are_told_and_change_nothing(start: Start) -> None:
    async with start(fan_out(numbered(3))) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(n: int, send_event: SendEvent) -> dict[str, int]:
            send_event("seen", {"n": n})
            return {"n": n}

        async with worker:
            job = await ended(node, await create(node, "fan_out", {}))
            assert [one["data"] for one in job.result["results"]] == [{"n": 0}, {"n": 1}, {"n": 2}]
            lines = [one for one in await history(node, job.id) if one.event_type == "worker_event:seen"]
            assert sorted(one.context_snapshot["payload"]["n"] for one in lines) == [0, 1, 2]
