"""Acceptance: what the job above is told of a part of it, however deep, and what it may decide there."""

from __future__ import annotations

from typing import Any

import pytest

from holon import Blueprint
from holon.client import HistoryEvent
from holon.context import ActionFactory
from holon.errors import AlreadyExists, FailedPrecondition
from holon.testing import RunningNode
from holon.worker import Log, SendEvent
from tests.integration.cases.parts import above, part_of
from tests.integration.cases.site import Start, create, ended, fan_out, history, one_task, seen, waits
from tests.integration.cases.test_approvals import asking


def sending() -> Blueprint:
    """Sends an event of its own before its task's."""
    bp = Blueprint("sending")

    @bp.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.send_event("own", [1, 2])
        actions.dispatch_task("t", initial_data, {"success": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


async def told(node: RunningNode, job_id: str) -> list[HistoryEvent]:
    return [line for line in await history(node, job_id) if line.event_type.startswith("worker_event:")]


async def test_events_of_a_part_stand_once_in_the_history_of_each_job_above_before_its_end(start: Start) -> None:
    async with start(above("between"), above("sending", name="between"), sending()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(send_event: SendEvent) -> None:
            send_event("seen", {"n": 1})

        async with worker:
            job = await ended(node, await create(node, "above", {}))
        between = await part_of(node, job.id)
        lowest = await part_of(node, between)
        for job_id, path in ((job.id, [between, lowest]), (between, [lowest])):
            lines = await told(node, job_id)
            assert [(line.event_type, line.context_snapshot["payload"]) for line in lines] == [
                ("worker_event:own", {"value": [1, 2]}),
                ("worker_event:seen", {"n": 1}),
            ]
            assert [line.context_snapshot["job_ids"] for line in lines] == [path, path]
            assert "holon_ids" not in lines[0].context_snapshot
            assert lines[1].context_snapshot["origin_worker_id"] == "w1"
            # Before the job above goes on; how the part ended may be noted before that.
            goes_on = (await history(node, job_id, "state_started"))[-1]
            assert lines[-1].sequence < goes_on.sequence


async def test_what_parts_ask_is_decided_at_the_job_above_once_whichever_of_them_asks(start: Start) -> None:
    two = [{"blueprint_name": "between"}, {"blueprint_name": "asking"}]
    async with start(fan_out(two), above("asking", {"success": "finished"}, name="between"), asking()) as node:
        job_id = await create(node, "fan_out", {})
        await waits(node, job_id, "waiting_for_parallel")
        asked: list[HistoryEvent] = []
        async for update in node.client.watch(job_id, after=0):
            if update.event is not None and update.event.event_type == "worker_event:approval_requested":
                asked.append(update.event)
                if len(asked) == len(two):
                    break
        assert sorted(len(line.context_snapshot["job_ids"]) for line in asked) == [1, 2]
        questions = [line.context_snapshot["payload"] for line in asked]
        assert [one["decisions"] for one in questions] == [["yes", "no", "more"]] * 2
        for number, one in enumerate(questions):
            name = {"approval_id": one["approval_id"], "request_id": f"r{number}"}
            await node.client.resolve_approval(job_id, "yes", data={"n": number}, **name)
            # The same again changes nothing, and says so where it is another.
            await node.client.resolve_approval(job_id, "yes", data={"n": number}, **name)
            with pytest.raises(AlreadyExists, match="was used for another decision"):
                await node.client.resolve_approval(job_id, "no", **name)
            with pytest.raises(FailedPrecondition, match=r"is not open|has no open approval"):
                await node.client.resolve_approval(job_id, "yes", approval_id=one["approval_id"])
        job = await ended(node, job_id)
        assert sorted(one["data"]["n"] for one in job.result["results"]) == [0, 1]
        resolved = [line for line in await told(node, job_id) if line.event_type.endswith("approval_resolved")]
        assert {line.context_snapshot["payload"]["by"] for line in resolved} == {"default"}


async def test_a_question_of_no_part_is_refused_at_the_job_above(start: Start) -> None:
    async with start(above("asking"), asking()) as node:
        job_id, other = await create(node, "above", {}), await create(node, "asking", {})
        question = (await waits(node, other, "waiting_for_human")).approval
        assert question is not None
        with pytest.raises(FailedPrecondition, match=r"has no open approval|is not open"):
            await node.client.resolve_approval(job_id, "yes", approval_id=question.approval_id)
        await node.client.cancel_job(job_id)


async def test_lines_of_a_part_s_log_are_told_to_who_watches_the_job_above(start: Start) -> None:
    async with start(above("between"), above("one_task", name="between"), one_task()) as node:
        worker = node.new_worker("w1")

        @worker.skill("t")
        async def t(log: Log, send_event: SendEvent) -> None:
            log.info("deep", n=1)
            send_event("logged")

        job_id = await create(node, "above", {})
        lines: list[dict[str, Any]] = []
        watched = node.client.watch(job_id, logs=True)
        await anext(watched)
        async with worker:
            async for update in watched:
                if update.logs is not None:
                    lines += [{**line.fields, "text": line.text} for line in update.logs.lines]
        lowest = await part_of(node, await part_of(node, job_id))
        assert [(one["text"], one["n"], one["job_id"], one["holon_ids"]) for one in lines] == [("deep", 1, lowest, [])]


async def test_a_part_that_asks_again_is_told_of_each_time_once(start: Start) -> None:
    async with start(above("asking"), asking()) as node:
        job_id = await create(node, "above", {})
        part = await part_of(node, job_id)
        before = ""
        for answer in ("more", "more", "no"):
            waiting = await seen(node, part, lambda job: job.approval and job.approval.approval_id != before)  # noqa: B023
            assert waiting.approval is not None
            before = waiting.approval.approval_id
            await node.client.resolve_approval(part, answer, approval_id=before)
        job = await ended(node, job_id)
        assert (job.status, job.result) == ("finished", {"published": False})
        assert len(await told(node, job_id)) == 6
