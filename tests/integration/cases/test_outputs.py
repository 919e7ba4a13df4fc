"""Acceptance: what an end's handler says that it returns holds for the result of every job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.errors import BlueprintError
from tests.integration.cases.site import Start, history, http


@dataclass
class Line:
    sku: str
    amount: int


@dataclass
class Order:
    lines: list[Line]


class Refused(TypedDict):
    why: str


def ordering(name: str = "order") -> Blueprint:
    """Ends as its `initial_data` says: `as` is the end, `gives` what that returns."""
    bp = Blueprint(name, api_version="v1", api_endpoint=f"/jobs/{name}")

    @bp.handler(is_start=True)
    async def start(initial_data: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["lines"] = [{"sku": "a", "amount": "many"}]
        actions.go_to(initial_data.get("as", "ordered"))

    @bp.handler("ordered", is_end=True).when("context.initial_data.built == true")
    async def built() -> Order:
        return Order([Line("a", 2)])

    @bp.handler("ordered")
    async def as_given(initial_data: dict[str, Any]) -> Order:
        result: Order = initial_data["gives"]
        return result

    @bp.handler(is_end=True, status="refused")
    async def refused(initial_data: dict[str, Any]) -> Refused | list[str]:
        result: Refused = initial_data["gives"]
        return result

    @bp.handler(is_end=True)
    async def anything(initial_data: dict[str, Any]) -> dict[str, int] | None:
        result: dict[str, int] = initial_data["gives"]
        return result

    @bp.handler(is_end=True, outcome="failed")
    async def lost(initial_data: dict[str, Any]) -> Refused:
        result: Refused = initial_data["gives"]
        return result

    return bp


@pytest.mark.parametrize(
    ("asked", "violation"),
    [
        ({"gives": {"lines": [{"sku": "a", "amount": 1}, {"sku": "b"}]}}, ("result.lines.1.amount", "is required")),
        # The result is the state history.
        ({"gives": None}, ("result.lines.0.amount", 'value is not of type "integer"')),
        ({"as": "refused", "gives": {"why": "late", "who": "ann"}}, ("result.who", "is not allowed")),
    ],
)
async def test_a_result_that_is_not_what_its_end_promises_fails_the_job_for_good(
    start: Start, asked: dict[str, Any], violation: tuple[str, str]
) -> None:
    async with start(ordering()) as node:
        job = await node.run("order", asked)
        assert job.error is not None
        assert (job.status, job.error.code, job.result) == ("failed", "CONTRACT_VIOLATION", None)
        field, reason = violation
        assert {"field": field, "reason": reason} in job.error.details
        end = asked.get("as", "ordered")
        assert job.error.message.startswith(
            f"the result of state {end!r} does not match the return type of its handler"
        )
        # Nothing says that it would return anything else the next time.
        assert [line.state for line in await history(node, job.id, "state_started")] == ["start", end]


@pytest.mark.parametrize(
    ("asked", "status", "result"),
    [
        ({"gives": {"lines": []}}, "finished", {"lines": []}),
        ({"built": True}, "finished", {"lines": [{"sku": "a", "amount": 2}]}),
        ({"as": "refused", "gives": ["late"]}, "finished", ["late"]),
        # A hint that allows None promises nothing, for the state history is the result then.
        ({"as": "anything", "gives": {"n": "no number"}}, "finished", {"n": "no number"}),
        # What has failed says what it can.
        ({"as": "lost", "gives": {"n": 1}}, "failed", None),
    ],
)
async def test_what_was_promised_or_is_no_success_is_told_as_it_is(
    start: Start, asked: dict[str, Any], status: str, result: Any
) -> None:
    async with start(ordering()) as node:
        job = await node.run("order", asked)
        assert (job.status, job.result) == (status, result)
        if job.error is not None:
            assert (job.error.code, job.error.details) == ("ENDED_FAILED", asked["gives"])


async def test_every_door_tells_what_the_jobs_of_a_blueprint_end_with(start: Start) -> None:
    lines = Blueprint("lines", api_version="v1", api_endpoint="/jobs/lines")

    @lines.handler(is_start=True, is_end=True)
    async def only() -> list[Line]:
        return [Line("a", 1)]

    async with start(lines, ordering()) as node, http(node) as client:
        found = {one["name"]: one for one in (await client.get("/api/v1/blueprints")).json()["blueprints"]}
        schema = found["lines"]["output_schema"]
        assert (schema["type"], schema["items"]["required"]) == ("array", ["sku", "amount"])
        # It has several ends.
        assert found["order"]["output_schema"] is None
        listed = {one.name: one.output_schema async for one in node.client.node.list_blueprints()}
        assert listed == {"lines": schema, "order": None}
        assert (await node.client.node.get_blueprint("lines")).output_schema == schema


def test_a_promise_that_cannot_be_read_is_found_before_any_job_runs() -> None:
    from holon import OrchestratorEngine

    bp = Blueprint("bytes")

    @bp.handler(is_start=True, is_end=True)
    async def only() -> bytes:
        return b""

    with pytest.raises(
        BlueprintError, match=r"only \(.*test_outputs.py:\d+\): returns: JSON cannot hold the type hint <class 'bytes'>"
    ):
        OrchestratorEngine().register_blueprint(bp)
