"""A task of the parent's whose time is over: its job is cancelled and cleans up, whoever in the child notices first."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from holon.context import ActionFactory, TaskItem
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Skill
from holon.domain.holarchy import HolonIdentity
from holon.domain.job import JobError, Status
from holon.domain.task import FAILURE, SUCCESS, Outcome, TaskError
from holon.engine import history_reader
from holon.uplink.running import Running
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.scripted_node import Certificates

ENDED_BY_TIME = JobError("CANCELLED", "cancelled by the end of its time")
OUT_OF_TIME = Outcome(FAILURE, error=TaskError("DEADLINE_EXCEEDED", "the task reached its time limit"))
SKILLS = Skill("a"), Skill("b")
BELOW = HolonIdentity("below", 1, "i")


def does(**ways: str) -> Blueprint:
    """A blueprint with a task that may have as long as the job, and that is then done in vain."""
    made = Blueprint("does")

    @made.handler("start", is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        asked: TaskItem = {"task_type": "a", "params": {}}
        if initial_data.get("branches"):
            actions.dispatch_parallel([asked, asked], aggregate_into="all", fail_fast=True)
        else:
            actions.dispatch_task("a", {}, {"success": "end", "timeout": "end", "failure": "end", **ways})

    @made.aggregator("all")
    async def everything(actions: ActionFactory) -> None:
        actions.go_to("end")

    @made.handler("end", is_end=True)
    async def end() -> None: ...

    @made.handler("clean")
    async def clean(actions: ActionFactory) -> None:
        actions.dispatch_task("b", {}, {"success": "end"})

    return made


@pytest.mark.parametrize("params", [{}, {"branches": True}])
async def test_a_holon_further_down_that_stops_before_this_one_ends_the_job_as_its_time_does(
    certificates: Certificates, params: dict[str, Any]
) -> None:
    async with a_child(certificates, [does()]) as child, Leaf(child.engine, "w", *SKILLS, holon=BELOW) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "does", params, time_left=Duration(nanos=400_000_000))
        given = await leaf.given()
        assert (await answer(stream)).HasField("accepted")
        await leaf.ends(given, OUT_OF_TIME)
        result = (await answer(stream)).result
        assert (result.status, result.error.code) == (FAILURE, "DEADLINE_EXCEEDED")
        assert not result.error.HasField("retryable")
        (record,) = await child.jobs()
        assert (record.job.status, record.job.error) == (Status.CANCELLED, ENDED_BY_TIME)


async def test_what_a_holon_further_down_had_less_time_for_than_the_job_is_no_end_of_that(
    certificates: Certificates,
) -> None:
    made = Blueprint("does")

    @made.handler("start", is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "lost", "timeout": "end"}, result_timeout_seconds=0.4)

    @made.handler("lost", is_end=True, outcome="failed")
    async def lost() -> None: ...

    @made.handler("end", is_end=True)
    async def end() -> dict[str, bool]:
        return {"consoled": True}

    async with a_child(certificates, [made]) as child, Leaf(child.engine, "w", Skill("a"), holon=BELOW) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "does", {}, time_left=Duration(seconds=100))
        given = await leaf.given()
        assert (await answer(stream)).HasField("accepted")
        await leaf.ends(given, OUT_OF_TIME)
        assert (await answer(stream)).result.data.data == b'{"consoled":true}'


@pytest.mark.parametrize("retryable", [None, False])
async def test_who_says_that_the_time_is_over_while_it_is_not_has_failed_like_any_other(
    certificates: Certificates, retryable: bool | None
) -> None:
    made = Blueprint("does")

    @made.handler("start", is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("a", {}, {"success": "end", "failure": "end"}, max_retries=0)

    @made.handler("end", is_end=True)
    async def end() -> dict[str, bool]:
        return {"consoled": True}

    too_early = Outcome(FAILURE, error=TaskError("DEADLINE_EXCEEDED", "of a call of mine", retryable=retryable))
    async with a_child(certificates, [made]) as child, Leaf(child.engine, "w", Skill("a"), holon=BELOW) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "does", {}, time_left=Duration(seconds=100))
        given = await leaf.given()
        assert (await answer(stream)).HasField("accepted")
        await leaf.ends(given, too_early)
        assert (await answer(stream)).result.data.data == b'{"consoled":true}'


async def test_a_job_whose_task_is_told_first_that_its_time_is_over_cleans_up_as_after_any_cancel(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The link is slower than the store, as on a machine that is busy.
    monkeypatch.setattr(Running, "limit", lambda *_: None)
    async with a_child(certificates, [does(cancelled="clean")]) as child, Leaf(child.engine, "w", *SKILLS) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "does", {}, time_left=Duration(nanos=300_000_000))
        await leaf.given()
        assert (await answer(stream)).HasField("accepted")
        cleaning = await leaf.given()
        assert cleaning.skill == "b"
        await leaf.ends(cleaning, Outcome(SUCCESS))
        result = (await answer(stream)).result
        assert (result.status, result.error.code) == (FAILURE, "DEADLINE_EXCEEDED")
        (record,) = await child.jobs()
        assert (record.job.status, record.job.error and record.job.error.message) == (
            Status.CANCELLED,
            "cancelled after its clean-up",
        )


async def test_a_job_with_a_long_history_is_told_as_out_of_time_as_well(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Running, "limit", lambda *_: None)
    monkeypatch.setattr(history_reader, "LINES", 1)
    async with a_child(certificates, [does()]) as child, Leaf(child.engine, "w", *SKILLS) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "does", {}, time_left=Duration(nanos=300_000_000))
        await leaf.given()
        assert (await answer(stream)).HasField("accepted")
        result = (await answer(stream)).result
        assert (result.status, result.error.code) == (FAILURE, "DEADLINE_EXCEEDED")
        assert [one.job.error for one in await child.jobs()] == [ENDED_BY_TIME]
