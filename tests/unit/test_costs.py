"""What work may cost: only who declares a price within it does it, and on the way down it only becomes less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.change import Limits
from holon.domain.costs import MOST_COST, Cost, costing
from holon.domain.decisions import Decision
from holon.domain.job import Job, Status
from holon.domain.machine import decide
from holon.domain.states import Handler, State
from holon.domain.task import RetryPolicy, TaskSpec
from holon.errors import BlueprintError, InvalidArgument
from holon.ports import Offer
from holon.rxon.v1 import worker_pb2
from holon.wire.worker import offer_message
from holon.worker.outcome import Result, TaskError, failure_of, result_of
from holon.worker.skill import skill_of


async def handler() -> None:
    """Never called: the machine looks only at what a handler decided, and a skill's price at nothing of it."""


START = State("start", (Handler(handler),), is_start=True, is_end=False, outcome=None, is_aggregator=False)


def tasks_of(decision: Decision | None) -> Sequence[TaskSpec]:
    job = Job("0-a", "bp", "ann", {}, "start", Status.RUNNING)
    return decide(job, START, decision, None, Limits(10, RetryPolicy()), 1_700_000_000_000, 0).tasks


@pytest.mark.parametrize("asked", [None, 0, 5])
def test_a_task_may_cost_what_its_handler_says(asked: Cost) -> None:
    actions = ActionFactory()
    actions.dispatch_task("a", {}, {"success": "end"}, max_cost=asked)
    assert [task.max_cost for task in tasks_of(actions.decision)] == [asked]
    actions = ActionFactory()
    actions.dispatch_parallel([{"task_type": "a", "max_cost": asked}, {"task_type": "a"}], "end")
    assert [task.max_cost for task in tasks_of(actions.decision)] == [asked, None]


@pytest.mark.parametrize("cost", [-1, MOST_COST + 1, True, 1.5, "1", float("nan")])
def test_what_is_no_cost_is_refused_wherever_it_is_given(cost: Any) -> None:
    with pytest.raises(
        InvalidArgument, match=r"^max_cost is .*; give a whole number from 0 to 9007199254740991, in mil"
    ):
        costing("max_cost", cost)
    with pytest.raises(BlueprintError, match=r"dispatch_task: max_cost is .*; give a whole number"):
        ActionFactory().dispatch_task("a", {}, {}, max_cost=cost)
    with pytest.raises(BlueprintError, match=r"dispatch_parallel: task 0: max_cost is .*; give a whole number"):
        ActionFactory().dispatch_parallel([{"task_type": "a", "max_cost": cost}], "end")
    with pytest.raises(BlueprintError, match=r"blueprint 'a': price is .*; give a whole number"):
        Blueprint("a", price=cost)
    with pytest.raises(InvalidArgument, match=r"handler cannot be a skill: its price is .*; give a whole number"):
        skill_of(handler, price=cost)


@pytest.mark.parametrize("price", [None, 0, 7])
def test_a_skill_declares_its_price_and_a_free_one_is_not_one_without(price: Cost) -> None:
    offering = skill_of(handler, price=price).offering()
    assert (offering.price if offering.HasField("price") else None) == price


@pytest.mark.parametrize("max_cost", [None, 0, 7])
def test_an_offer_tells_what_its_task_may_cost(max_cost: Cost) -> None:
    offer = Offer("w1", "s1", "t", "l", "j", "a", "", "", b"", 0.0, 1, 1, None, None, RetryPolicy(), max_cost=max_cost)
    sent = worker_pb2.TaskOffer.FromString(offer_message(offer).SerializeToString())
    assert (sent.lineage.budget if sent.lineage.HasField("budget") else None) == max_cost


@pytest.mark.parametrize("cost", [None, 0, 7])
def test_a_handler_says_what_its_success_or_its_failure_cost(cost: Cost) -> None:
    for result in (result_of(Result(cost=cost), frozenset()), failure_of(TaskError("X", "x", cost=cost))):
        assert (result.cost if result.HasField("cost") else None) == cost


def test_what_is_no_cost_fails_the_task_that_says_so() -> None:
    result = result_of(Result(cost=-1), frozenset())
    assert (result.status, result.error.code) == ("failure", "PERMANENT_ERROR")
    assert "the cost that the handler reported: cost is -1; give a whole number" in result.error.message
