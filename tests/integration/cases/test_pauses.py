"""Acceptance: a job pauses for a time, and then goes on."""

from __future__ import annotations

from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from tests.integration.cases.parts import above, part_of
from tests.integration.cases.site import Start, create, ended, history, http, seen, waits


def pausing(seconds: float) -> Blueprint:
    bp = Blueprint("pausing", api_endpoint="/jobs/pausing", api_version="v1")

    @bp.handler(is_start=True)
    async def start(state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["before"] = 1
        actions.sleep(seconds, "after")

    @bp.handler
    async def after(before: int, state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["after"] = before + 1
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_d12_a_job_goes_on_when_its_pause_is_over_and_not_before(start: Start, seconds: float) -> None:
    async with start(pausing(seconds)) as node:
        job = await ended(node, await create(node, "pausing", {}))
        assert (job.status, job.result) == ("finished", {"before": 1, "after": 2})
        began, *_ = await history(node, job.id, "timer_started")
        _, again, _ = await history(node, job.id, "state_started")
        assert (began.state, began.next_state, again.state) == ("start", "after", "after")
        assert began.context_snapshot["until"] == pytest.approx(began.timestamp + seconds)
        assert again.timestamp - began.timestamp >= seconds


async def test_d12_a_job_says_until_when_it_pauses_and_can_be_cancelled(start: Start) -> None:
    async with start(pausing(86_400 * 3_650)) as node, http(node) as door:
        job_id = await create(node, "pausing", {})
        job = await waits(node, job_id, "waiting_for_timer")
        assert job.progress_message.startswith("waiting until 20")
        seen = (await door.get(f"/api/v1/jobs/{job_id}")).json()
        assert (seen["status"], seen["progress_message"]) == ("waiting_for_timer", job.progress_message)
        assert (await node.client.node.stats()).jobs["waiting_for_timer"] == 1
        await node.client.cancel_job(job_id)
        job = await ended(node, job_id)
        assert (job.status, job.current_state) == ("cancelled", "start")


async def test_d12_what_its_part_waited_for_is_not_said_of_a_job_that_is_over(start: Start) -> None:
    async with start(above("pausing"), pausing(86_400)) as node:
        job_id = await create(node, "above", {})
        job = await seen(node, job_id, lambda one: bool(one.progress_message))
        assert job.progress_message.startswith(f"in job {await part_of(node, job_id)}: waiting until 20")
        await node.client.cancel_job(job_id)
        job = await ended(node, job_id)
        assert (job.status, job.progress_message) == ("cancelled", "")
