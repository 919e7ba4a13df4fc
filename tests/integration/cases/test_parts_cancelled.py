"""Jobs that run other blueprints, and are cancelled: their parts end with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.engine.children.doing import Doing
from holon.engine.jobs import Jobs
from tests.integration.cases.parts import WAYS, above, part_of
from tests.integration.cases.site import (
    GUARD,
    LOOK_S,
    Start,
    create,
    ended,
    happened,
    one_task,
    seen,
    waits,
)


async def test_a_cancel_reaches_the_worker_of_a_part_of_a_part(start: Start) -> None:
    async with start(above("second"), above(name="second"), one_task()) as node:
        worker = node.new_worker("w1")
        began, stopped = asyncio.Event(), asyncio.Event()

        @worker.skill("t")
        async def t() -> None:
            began.set()
            try:
                await asyncio.sleep(GUARD)
            finally:
                stopped.set()

        async with worker:
            job_id = await create(node, "above", {})
            await happened(began)
            await node.client.cancel_job(job_id)
            assert (await ended(node, job_id)).status == "cancelled"
            await happened(stopped)
            second = await part_of(node, job_id)
            for one in (second, await part_of(node, second)):
                part = await ended(node, one)
                assert (part.status, part.error and part.error.message) == (
                    "cancelled",
                    "cancelled by the job above it",
                )


def cleans(name: str, runs: str = "") -> Blueprint:
    """Cleans up by a task when it is cancelled."""
    bp = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        if runs:
            actions.run_blueprint(runs, {}, {"success": "end", "cancelled": "clean_up"})
        else:
            actions.dispatch_task("t", {}, {"success": "end", "cancelled": "clean_up"})

    @bp.handler()
    async def clean_up(actions: ActionFactory) -> None:
        actions.dispatch_task("clean", {}, {"success": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


async def test_a_part_cleans_up_beside_the_job_above_and_a_second_cancel_ends_both(start: Start) -> None:
    async with start(cleans("above", "part"), cleans("part")) as node:
        job_id = await create(node, "above", {})
        await waits(node, job_id, "waiting_for_child")
        part = await part_of(node, job_id)
        await waits(node, part)
        await node.client.cancel_job(job_id)
        for one in (job_id, part):
            await seen(node, one, lambda job: (job.current_state, job.status) == ("clean_up", "waiting_for_worker"))
        await node.client.cancel_job(job_id)
        for one in (job_id, part):
            assert (await ended(node, one)).status == "cancelled"


async def test_a_part_that_cleans_up_for_too_long_is_ended(start: Start) -> None:
    async with start(above("part"), cleans("part"), CLEANUP_TIMEOUT=0.2) as node:
        job_id = await create(node, "above", {})
        await waits(node, job_id, "waiting_for_child")
        part = await part_of(node, job_id)
        await waits(node, part)
        await node.client.cancel_job(job_id)
        assert (await ended(node, job_id)).status == "cancelled"
        assert (await ended(node, part)).status == "cancelled"


@pytest.mark.parametrize("declared", [False, True])
async def test_a_part_that_was_cancelled_by_itself_leads_to_cancelled(start: Start, declared: bool) -> None:
    async with start(above(ways=WAYS if declared else None), one_task()) as node:
        job_id = await create(node, "above", {})
        await waits(node, job_id, "waiting_for_child")
        part = await part_of(node, job_id)
        await waits(node, part)
        await node.client.cancel_job(part)
        job = await ended(node, job_id)
        if declared:
            assert (job.status, job.current_state) == ("finished", "withdrawn")
        else:
            assert (job.status, job.error and job.error.message) == (
                "cancelled",
                f"its child job {part} was cancelled",
            )


async def test_a_part_that_begins_after_the_end_of_the_job_above_ends_before_its_first_handler(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    creates, goes_on, ran = Jobs.create_all, asyncio.Event(), asyncio.Event()

    async def later(*given: Any) -> Any:
        await goes_on.wait()
        return await creates(*given)

    async def nobody(_: Doing) -> None:
        """As if the node had ended just then."""

    part = Blueprint("part")

    @part.handler(is_start=True, is_end=True)
    async def only() -> None:
        ran.set()

    monkeypatch.setattr(Jobs, "create_all", later)
    monkeypatch.setattr(Doing, "stop", nobody)
    async with start(above("part"), part) as node:
        job_id = await create(node, "above", {})
        await waits(node, job_id, "waiting_for_child")
        await node.client.cancel_job(job_id)
        assert (await ended(node, job_id)).status == "cancelled"
        goes_on.set()
        async with asyncio.timeout(GUARD):
            while len(page := (await node.client.list_page()).jobs) < 2:  # noqa: ASYNC110  it looks from outside
                await asyncio.sleep(LOOK_S)
        assert (await ended(node, page[0].id)).status == "cancelled"
        assert not ran.is_set()


async def test_whoever_waits_to_cancel_a_part_that_could_not_be_made_waits_no_more(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    makes, told, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    stop = Doing.stop

    async def broken(*_: Any) -> Any:
        makes.set()
        await happened(go_on)
        raise RuntimeError("what nobody thought of")

    async def stops(doing: Doing) -> None:
        told.set()
        await stop(doing)

    monkeypatch.setattr(Jobs, "create_all", broken)
    monkeypatch.setattr(Doing, "stop", stops)
    async with start(above(), one_task()) as node:
        job_id = await create(node, "above", {})
        await happened(makes)
        await node.client.cancel_job(job_id)
        await happened(told)
        go_on.set()
        assert (await ended(node, job_id)).status == "cancelled"
        async with asyncio.timeout(GUARD):
            while [one for one in asyncio.all_tasks() if one.get_name().startswith("part-")]:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
