"""Which skills a job may use: what is allowed only shrinks, and a step that asks for more sends nothing."""

from __future__ import annotations

from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.change import Change, Limits
from holon.domain.decisions import AskedTask, Decision, DispatchParallel, DispatchTask
from holon.domain.job import Job, Status
from holon.domain.machine import decide
from holon.domain.policy import LONGEST_SKILL, MOST_SKILLS, Allowed, allowing
from holon.domain.states import Handler, State
from holon.domain.task import RetryPolicy
from holon.errors import BlueprintError, ConfigError, InvalidArgument
from holon.ports import Offer
from holon.rxon.v1 import worker_pb2
from holon.uplink.settings import allowed_to_parent
from holon.wire.worker import offer_message, resumed_leases


async def _handler() -> None:
    """Never called: the machine looks only at what a handler decided."""


START = State("start", (Handler(_handler),), is_start=True, is_end=False, outcome=None, is_aggregator=False)


def decided(decision: Decision, allowed: Allowed, **fields: Any) -> Change:
    job = Job("0-a", "bp", "ann", {}, "start", Status.RUNNING, allowed_skills=allowed, **fields)
    return decide(job, START, decision, None, Limits(10, RetryPolicy()), 1_700_000_000_000, 0)


def dispatched(**fields: Any) -> Decision:
    """What a handler decides that gives one task."""
    actions = ActionFactory()
    actions.dispatch_task("a", {}, {"success": "end"}, **fields)
    assert actions.decision is not None
    return actions.decision


@pytest.mark.parametrize(
    "decision",
    [
        DispatchTask(AskedTask("b", {}), {"success": "end", "failure": "mend", "cancelled": "mend"}),
        DispatchParallel((AskedTask("a", {}), AskedTask("b", {}), AskedTask("c", {})), "end"),
    ],
)
def test_a_step_that_asks_for_another_skill_sends_nothing_and_ends_its_job(decision: Decision) -> None:
    change = decided(decision, ("a", "x"))
    assert (change.tasks, change.fan_out, change.job.status) == ((), False, Status.FAILED)
    assert change.job.error is not None
    assert change.job.error.code == "POLICY_DENIED"
    assert (
        "'start' dispatched a task for skill 'b', but the job may only use 'a', 'x'. Nothing was dispatched"
        in change.job.error.message
    )
    assert [line.type for line in change.history] == ["state_finished", "job_completed"]


def test_a_job_that_may_use_nothing_says_so() -> None:
    change = decided(dispatched(), ())
    assert change.job.error is not None
    assert "the job may only use none." in change.job.error.message


def test_a_long_list_of_skills_is_told_in_part() -> None:
    change = decided(dispatched(), allowing("x", [f"s{n:02}" for n in range(12)]))
    assert change.job.error is not None
    assert "'s09' and 2 more." in change.job.error.message


def test_clean_up_after_a_cancel_may_use_no_more_than_the_job() -> None:
    change = decided(dispatched(), ("b",), cancelling=True)
    assert (change.tasks, change.job.status) == ((), Status.CANCELLED)


def test_a_task_is_left_its_own_skill_whatever_else_it_may_use() -> None:
    (task,) = decided(dispatched(allowed_skills=["c", "d", "c"]), ("a", "b", "c")).tasks
    assert task.allowed_skills == ("a", "c")
    (task,) = decided(dispatched(allowed_skills=[]), None).tasks
    assert task.allowed_skills == ("a",)
    (task,) = decided(dispatched(), ("a", "b")).tasks
    assert task.allowed_skills == ("a", "b")


def test_each_branch_is_left_what_it_says() -> None:
    actions = ActionFactory()
    actions.dispatch_parallel([{"task_type": "a", "allowed_skills": ["b"]}, {"task_type": "b"}], "end")
    assert actions.decision is not None
    tasks = decided(actions.decision, ("a", "b", "c")).tasks
    assert [task.allowed_skills for task in tasks] == [("a", "b"), ("a", "b", "c")]


@pytest.mark.parametrize(
    ("skills", "reason"),
    [
        ("abc", "is a text; give a list"),
        ({"a": 1}, "is an object; give a list"),
        (7, "is a number; give a list"),
        ([1], "invalid skill name"),
        ([""], "invalid skill name"),
        (["x" * (LONGEST_SKILL + 1)], "invalid skill name"),
        (["\ud800"], "invalid skill name"),
        ([f"s{n}" for n in range(MOST_SKILLS + 1)], "over the limit of 256"),
    ],
)
def test_what_is_no_list_of_skills_is_refused(skills: Any, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^allowed {reason}|^allowed has .*{reason}") as error:
        allowing("allowed", skills)
    assert [one.field for one in error.value.details] == ["allowed"]
    with pytest.raises(BlueprintError, match=f"dispatch_task: allowed_skills .*{reason}"):
        dispatched(allowed_skills=skills)


@pytest.mark.parametrize("allowed", [None, (), ("a", "b")])
def test_an_offer_tells_its_limit_and_an_empty_one_is_not_none(allowed: Allowed) -> None:
    offer = Offer("w1", "s1", "t", "l", "j", "a", "", "", b"", 0.0, 1, 1, None, None, RetryPolicy(), "", None, allowed)
    sent = worker_pb2.TaskOffer.FromString(offer_message(offer).SerializeToString())
    told = tuple(sent.lineage.skill_limit.skills) if sent.lineage.HasField("skill_limit") else None
    assert told == allowed
    # A reader that takes an empty message for none still sees this one.
    assert sent.lineage.skill_limit.no_skills == (allowed == ())


def test_an_offer_whose_time_is_up_does_not_read_as_one_without_a_limit() -> None:
    offer = Offer("w1", "s1", "t", "l", "j", "a", "", "", b"", 0.0, 1, 1, 0, 5, RetryPolicy(), "", None, None)
    assert offer_message(offer).time_left.ToMilliseconds() == 1
    (lease,) = resumed_leases([offer], [])
    assert lease.time_left.ToMilliseconds() == 1


def test_a_limit_for_the_parent_is_one_or_keeps_the_node_from_starting() -> None:
    assert allowed_to_parent(()) is None
    assert allowed_to_parent(("b", "a")) == ("a", "b")
    with pytest.raises(ConfigError, match="UPLINK_ALLOWED_SKILLS has an invalid skill name"):
        allowed_to_parent(("x" * 129,))


def test_a_full_list_has_room_for_the_tasks_own_skill_only_if_that_is_in_it() -> None:
    names = [f"s{n}" for n in range(MOST_SKILLS - 1)]
    dispatched(allowed_skills=["a", *names])
    with pytest.raises(BlueprintError, match="has 257 skills"):
        dispatched(allowed_skills=["b", *names])
