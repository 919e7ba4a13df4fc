"""The machine: what happened to a job, or what its handler decided, as one change of it."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.branches import branch_result, succeeded
from holon.domain.decisions import AskedTask, DispatchParallel, DispatchTask, GoTo
from holon.domain.events import BranchesDone, HistoryEvent, TaskEvent, Woken
from holon.domain.job import JobError, Status, Waiting
from holon.domain.machine import handler_failed
from holon.domain.reactions import react
from holon.domain.task import Outcome, TaskError
from holon.domain.value import replace
from tests.unit.machine import (
    DEAD_END,
    FINISH,
    LIMITS,
    NOW,
    after,
    decided,
    ended,
    error_of,
    job,
    state,
    types,
    waiting,
)

# What a handler decided -------------------------------------------------------------------------------------------


def test_go_to_moves_the_job_on_and_counts_it() -> None:
    change = decided(GoTo("next"), job(failures=2, lost=1, transitions=3))
    assert (change.job.current_state, change.job.status) == ("next", Status.RUNNING)
    assert (change.job.transitions, change.job.failures, change.job.lost) == (4, 0, 0)
    assert change.history == (HistoryEvent("state_finished", NOW, "start", next_state="next", duration_ms=7),)
    assert change.tasks == ()


def test_a_handler_that_decides_nothing_outside_an_end_state_fails_its_job() -> None:
    change = decided(None)
    assert change.job.status is Status.FAILED
    assert error_of(change).code == "NO_DECISION"
    assert "start" in error_of(change).message


@pytest.mark.parametrize("name", ["finish", "failed_in_name_only", "rejected"])
def test_an_end_state_is_a_success_whatever_its_name(name: str) -> None:
    change = decided(None, at=state(name, is_end=True, outcome="finished"), returned={"answer": 42})
    assert (change.job.status, change.job.result, change.job.error) == (Status.FINISHED, {"answer": 42}, None)
    assert types(change) == ["state_finished", "job_completed"]


def test_an_end_state_that_returns_nothing_answers_with_the_state_history() -> None:
    change = decided(None, job(state_history={"a": 1}), FINISH)
    assert change.job.result == {"a": 1}


@pytest.mark.parametrize("returned", [0, "", [], False])
def test_an_end_state_may_return_what_counts_as_false(returned: Any) -> None:
    assert decided(None, job(state_history={"a": 1}), FINISH, returned).job.result == returned


def test_a_failing_end_keeps_what_it_returned_as_details_of_the_error() -> None:
    change = decided(None, at=DEAD_END, returned={"why": "because"})
    assert (change.job.status, change.job.result) == (Status.FAILED, None)
    assert change.job.error == JobError("ENDED_FAILED", "ended in state 'dead_end'", {"why": "because"})


def test_a_job_that_changes_its_state_too_often_fails() -> None:
    last = decided(GoTo("next"), job(transitions=9))
    assert last.job.status is Status.RUNNING
    change = decided(GoTo("next"), last.job)
    assert change.job.status is Status.FAILED
    assert error_of(change).code == "TOO_MANY_TRANSITIONS"
    assert "10" in error_of(change).message


def test_the_limit_of_transitions_does_not_keep_a_job_from_ending() -> None:
    assert decided(None, job(transitions=10), FINISH).job.status is Status.FINISHED


def test_a_job_may_be_created_with_a_lower_limit_of_transitions_and_with_no_higher_one() -> None:
    for most, last in ((3, 2), (99, 9)):
        assert decided(GoTo("next"), job(transitions=last, max_transitions=most)).job.status is Status.RUNNING
        change = decided(GoTo("next"), job(transitions=last + 1, max_transitions=most))
        assert f"({min(most, 10)})" in error_of(change).message


# Tasks ------------------------------------------------------------------------------------------------------------


def test_a_task_that_says_no_priority_has_its_job_s_and_none_is_over_what_the_job_may_have() -> None:
    silent, low = DispatchTask(AskedTask("t", {}), {}), DispatchTask(AskedTask("t", {}, priority=-2.0), {})

    def priority(decision: DispatchTask, **fields: float) -> float:
        [task] = decided(decision, job(**fields)).tasks
        return task.priority

    assert (priority(silent), priority(silent, default_priority=4.0), priority(low, default_priority=4.0)) == (0, 4, -2)
    assert (priority(silent, priority=3.0, default_priority=4.0), priority(low, priority=3.0)) == (3, 1)
    [branch] = decided(DispatchParallel((AskedTask("t", {}),), "met"), job(default_priority=4.0)).tasks
    assert branch.priority == 4


def test_a_dispatch_makes_one_task_and_waits_for_it() -> None:
    asked = DispatchTask(AskedTask("resize", {"x": 1}, priority=2.0), {"success": "next", "failure": "sorry"})
    change = decided(asked)
    [task] = change.tasks
    assert (task.id, task.index, task.skill, task.params, task.priority) == ("0-a-4-0", 0, "resize", {"x": 1}, 2.0)
    assert (task.execution_timeout, task.dispatch_timeout, task.result_timeout) == (0, None, None)
    assert (task.retry, task.branch) == (LIMITS.retry, False)
    assert change.job.status is Status.WAITING_FOR_WORKER
    assert change.job.waiting == Waiting(4, {"success": "next", "failure": "sorry"})
    assert not change.fan_out
    assert types(change) == ["state_finished", "task_dispatched"]
    assert change.history[1].task_id == task.id


def test_the_timeouts_of_a_job_are_those_of_its_tasks_and_explicit_ones_win() -> None:
    one = job(dispatch_timeout=5_000, result_timeout=6_000)
    [task] = decided(DispatchTask(AskedTask("a", {}), {}), one).tasks
    assert (task.dispatch_timeout, task.result_timeout) == (5_000, 6_000)
    asked = DispatchTask(
        AskedTask("a", {}, timeout_seconds=1.5, dispatch_timeout_seconds=2.5, result_timeout_seconds=0.0001), {}
    )
    [task] = decided(asked, one).tasks
    assert (task.execution_timeout, task.dispatch_timeout, task.result_timeout) == (1_500, 2_500, 1)


def test_no_task_has_longer_than_its_job_but_for_those_of_a_clean_up() -> None:
    one = job(deadline=NOW + 5_000)
    asked = [DispatchTask(AskedTask("a", {}, result_timeout_seconds=seconds), {}) for seconds in (None, 3, 9)]
    assert [decided(ask, one).tasks[0].result_timeout for ask in asked] == [5_000, 3_000, 5_000]
    [branch] = decided(DispatchParallel((AskedTask("a", {}),), "join"), one).tasks
    assert branch.result_timeout == 5_000
    over, cleaning = replace(one, deadline=NOW - 1), replace(one, cancelling=True)
    assert [decided(asked[0], each).tasks[0].result_timeout for each in (over, cleaning)] == [1, None]


def test_success_follows_its_transition_and_its_data_is_merged() -> None:
    one = replace(waiting(success="next"), state_history={"kept": 1, "old": 1})
    change = after(one, ended(), {"old": 2, "new": 3})
    assert (change.job.current_state, change.job.status, change.job.waiting) == ("next", Status.RUNNING, None)
    assert change.job.state_history == {"kept": 1, "old": 2, "new": 3}


def test_a_status_of_the_workers_own_follows_its_transition_and_its_data_is_merged() -> None:
    change = after(waiting(success="next", needs_review="review"), ended("needs_review"), {"a": 1})
    assert (change.job.current_state, change.job.state_history) == ("review", {"a": 1})


@pytest.mark.parametrize("status", ["success", "needs_review"])
def test_a_status_without_a_transition_fails_the_job(status: str) -> None:
    change = after(waiting(other="next"), ended(status))
    assert change.job.status is Status.FAILED
    said = "Worker returned unhandled status: {}; state 'start' has transitions for 'other'"
    assert error_of(change).message == said.format(status)


def test_a_workers_own_cancelled_ends_its_job_cancelled_unless_it_is_declared() -> None:
    change = after(waiting(success="next"), ended("cancelled"))
    assert (change.job.status, error_of(change).code) == (Status.CANCELLED, "CANCELLED")
    change = after(waiting(cancelled="clean"), ended("cancelled"))
    assert (change.job.status, change.job.current_state, change.job.cancelling) == (Status.RUNNING, "clean", False)


@pytest.mark.parametrize("code", ["TRANSIENT_ERROR", "PERMANENT_ERROR", "CONTRACT_VIOLATION", "WORKER_LOST", None])
def test_a_final_failure_follows_its_transition_when_one_is_declared(code: str | None) -> None:
    change = after(waiting(failure="sorry"), ended("failure", code, tries=4), details={"more": 1})
    assert (change.job.status, change.job.current_state, change.job.error) == (Status.RUNNING, "sorry", None)
    seen = change.job.state_history["error"]
    assert (seen["code"], seen["details"]) == (code or "UNKNOWN_ERROR", {"more": 1})


@pytest.mark.parametrize("code", ["TRANSIENT_ERROR", "PERMANENT_ERROR", "CONTRACT_VIOLATION", "WORKER_LOST", None])
def test_a_final_failure_without_a_transition_puts_the_job_into_quarantine(code: str | None) -> None:
    change = after(waiting(success="next", timeout="late"), ended("failure", code))
    assert (change.job.status, error_of(change).code) == (Status.QUARANTINED, code or "UNKNOWN_ERROR")
    assert types(change) == ["job_completed"]


def test_the_error_says_after_how_many_attempts() -> None:
    change = after(waiting(), ended("failure", "TRANSIENT_ERROR", tries=4))
    assert error_of(change).message == "Task failed after 4 attempts: TRANSIENT_ERROR: it broke"
    assert "attempts" not in error_of(after(waiting(), ended("failure", "PERMANENT_ERROR"))).message


@pytest.mark.parametrize("code", ["INVALID_INPUT_ERROR", "INTEGRITY_MISMATCH_ERROR"])
def test_invalid_input_fails_the_job_at_once_even_with_a_failure_transition(code: str) -> None:
    change = after(waiting(failure="sorry"), ended("failure", code))
    assert (change.job.status, error_of(change).code) == (Status.FAILED, code)


@pytest.mark.parametrize("code", ["DISPATCH_TIMEOUT", "RESULT_TIMEOUT"])
def test_a_timeout_follows_its_own_transition_and_never_that_of_a_failure(code: str) -> None:
    change = after(waiting(failure="sorry", timeout="late"), ended("failure", code))
    assert (change.job.status, change.job.current_state) == (Status.RUNNING, "late")
    change = after(waiting(failure="sorry"), ended("failure", code))
    assert (change.job.status, error_of(change).code) == (Status.FAILED, code)


def test_an_execution_timeout_is_a_failure_like_others() -> None:
    change = after(waiting(failure="sorry", timeout="late"), ended("failure", "TIMEOUT_ERROR", tries=4))
    assert change.job.current_state == "sorry"


# Fan-out ----------------------------------------------------------------------------------------------------------


def test_a_fan_out_makes_a_task_of_every_branch_in_order() -> None:
    asked = DispatchParallel(
        (AskedTask("a", {"n": 0}), AskedTask("b", {"n": 1}, priority=3.0)), "gather", fail_fast=True
    )
    change = decided(asked)
    assert [(task.id, task.index, task.skill, task.priority) for task in change.tasks] == [
        ("0-a-4-0", 0, "a", 0.0),
        ("0-a-4-1", 1, "b", 3.0),
    ]
    assert all(task.branch for task in change.tasks)
    assert (change.fan_out, change.fail_fast) == (True, True)
    assert change.job.status is Status.WAITING_FOR_PARALLEL
    assert change.job.waiting == Waiting(4, {}, "gather")


def test_a_fan_out_of_nothing_goes_straight_to_its_aggregator() -> None:
    change = decided(DispatchParallel((), "gather"))
    assert (change.job.current_state, change.job.status, change.job.waiting) == ("gather", Status.RUNNING, None)
    assert (change.tasks, change.fan_out, change.job.aggregates) == ((), False, None)


@pytest.mark.parametrize("failed", [0, 1, 5])
def test_branches_done_run_the_aggregator_whatever_failed(failed: int) -> None:
    change = after(waiting("gather"), BranchesDone(4, failed=failed))
    assert (change.job.current_state, change.job.status) == ("gather", Status.RUNNING)
    assert change.job.aggregates == 4


def test_the_aggregator_keeps_its_results_while_it_is_tried_again_and_no_longer() -> None:
    gathering = after(waiting("gather"), BranchesDone(4)).job
    failed = handler_failed(gathering, JobError("X", "y"), LIMITS, NOW, 1, 0.5).job
    again = after(failed, Woken(gathering.step)).job
    assert again.aggregates == 4
    assert decided(GoTo("next"), again).job.aggregates is None


def test_fail_fast_fails_the_job_and_ends_its_other_branches() -> None:
    branch = ("0-a-4-1", Outcome("cancelled", worker_id="w1"))
    change = react(waiting("gather"), BranchesDone(4, failed=1, fail_fast=True), {}, None, NOW, branch)
    assert change is not None
    assert (change.job.status, error_of(change).code, change.end_tasks) == (Status.FAILED, "BRANCH_FAILED", True)
    said = "branch 0-a-4-1 before 'gather' failed and fail_fast is set: worker w1 ended as cancelled"
    assert error_of(change).message == said


def test_results_that_are_too_large_together_fail_the_job() -> None:
    change = after(waiting("gather"), BranchesDone(4, too_large=True))
    assert (change.job.status, error_of(change).code) == (Status.FAILED, "LIMIT_EXCEEDED")


def test_a_branch_result_has_the_shape_that_aggregators_see() -> None:
    outcome = Outcome("failure", error=TaskError("CODE", "text"), worker_id="w1")
    assert branch_result("0-a", "0-a-4-1", outcome, None, {"d": 1}) == {
        "job_id": "0-a",
        "task_id": "0-a-4-1",
        "worker_id": "w1",
        "status": "failure",
        "data": None,
        "error": {"code": "CODE", "message": "text", "details": {"d": 1}},
    }
    good = branch_result("0-a", "0-a-4-0", Outcome("success"), {"n": 1}, None)
    assert (good["worker_id"], good["data"], good["error"]) == (None, {"n": 1}, None)


def test_a_branch_did_well_unless_it_failed_or_was_cancelled() -> None:
    statuses = ("success", "needs_review", "failure", "cancelled")
    assert [succeeded(Outcome(status)) for status in statuses] == [True, True, False, False]


# What happens while a task runs -----------------------------------------------------------------------------------


def occurred(kind: str, **more: Any) -> TaskEvent:
    return TaskEvent(4, "0-a-4-0", "e1", kind, b"", "w1", NOW - 5, **more)


def test_an_event_that_nobody_waits_for_is_told_and_changes_nothing_else() -> None:
    before = waiting(success="next")
    change = after(before, occurred("seen", holon_ids=("h",), job_ids=("j",)), {"n": 1})
    assert change.job == replace(before, events=1)
    assert (change.end_tasks, change.wake_after) == (False, None)
    [line] = change.history
    assert (line.type, line.worker_id, line.task_id, line.state) == ("worker_event:seen", "w1", "0-a-4-0", "start")
    assert line.details == {
        "event_id": "e1",
        "occurred": NOW - 5,
        "payload": {"n": 1},
        "holon_ids": ["h"],
        "job_ids": ["j"],
    }


def test_an_event_that_the_job_waits_for_moves_it_on_with_what_it_says_and_ends_the_task() -> None:
    before = waiting(success="next")
    before = replace(before, waiting=Waiting(4, {"success": "next"}, events={"odd": "review"}), state_history={"a": 1})
    change = after(before, occurred("odd"), {"b": 2})
    assert (change.job.current_state, change.job.status, change.job.waiting) == ("review", Status.RUNNING, None)
    assert (change.job.state_history, change.end_tasks) == ({"a": 1, "b": 2}, True)
    assert types(change) == ["worker_event:odd"]


def test_an_event_of_an_earlier_step_or_of_a_job_that_is_over_is_stale() -> None:
    later = replace(waiting(success="next"), waiting=Waiting(6, {}, events={"odd": "review"}))
    assert react(later, occurred("odd"), {}, None, NOW) is None
    assert react(job(status=Status.FINISHED), occurred("odd"), {}, None, NOW) is None


def test_an_event_of_a_branch_is_told() -> None:
    assert types(after(waiting("gather"), occurred("seen"))) == ["worker_event:seen"]
