"""Limits of skills and costs, any two of them: together they allow what each allows alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holon.domain.change import Limits
from holon.domain.costs import MOST_COST, Cost, least, total
from holon.domain.decisions import AskedTask, DispatchTask
from holon.domain.job import Job, Status
from holon.domain.machine import decide
from holon.domain.policy import Allowed, allowing, both, denied
from holon.domain.states import Handler, State
from holon.domain.task import RetryPolicy

ALLOWED = st.none() | st.lists(st.sampled_from("abcde"), max_size=5).map(lambda names: allowing("x", names))
COSTS = st.none() | st.integers(0, MOST_COST)


async def handler() -> None:
    """Never called: the machine looks only at what a handler decided."""


START = State("start", (Handler(handler),), is_start=True, is_end=False, outcome=None, is_aggregator=False)


@given(one=ALLOWED, other=ALLOWED, skill=st.sampled_from("abcde"))
def test_two_limits_together_allow_what_each_allows_alone(one: Allowed, other: Allowed, skill: str) -> None:
    together = denied(both(one, other), [skill]) is None
    assert together == (denied(one, [skill]) is None and denied(other, [skill]) is None)


@given(allowed=ALLOWED, asked=ALLOWED)
def test_a_task_may_never_use_what_its_job_may_not(allowed: Allowed, asked: Allowed) -> None:
    decision = DispatchTask(AskedTask("a", {}, allowed_skills=asked), {})
    job = Job("0-a", "bp", "ann", {}, "start", Status.RUNNING, allowed_skills=allowed)
    change = decide(job, START, decision, None, Limits(10, RetryPolicy()), 1_700_000_000_000, 0)
    if allowed is not None and "a" not in allowed:
        assert change.tasks == ()
        return
    (task,) = change.tasks
    left = task.allowed_skills
    assert allowed is None or (left is not None and set(left) <= set(allowed))
    assert asked is None or (left is not None and set(left) <= set(asked))


@given(one=COSTS, other=COSTS, price=st.integers(0, MOST_COST))
def test_what_may_be_paid_under_two_limits_may_be_paid_under_each(one: Cost, other: Cost, price: int) -> None:
    def allows(limit: Cost) -> bool:
        return limit is None or price <= limit

    assert allows(least(one, other)) == (allows(one) and allows(other))


@given(costs=st.lists(COSTS, max_size=5))
def test_a_sum_is_of_what_is_known_and_stays_what_every_program_can_tell(costs: list[Cost]) -> None:
    summed: Cost = None
    for cost in costs:
        summed = total(summed, cost)
    known = [cost for cost in costs if cost is not None]
    assert summed == (min(sum(known), MOST_COST) if known else None)
