"""The machine: what happened to a job, or what its handler decided, as one change of it."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.decisions import AskedTask, Decision, DispatchParallel, DispatchTask, GoTo
from holon.domain.events import BranchesDone, CancelRequested, HistoryEvent, InboxEvent, TaskEnded, Woken
from holon.domain.job import Job, JobError, Status, Waiting
from holon.domain.machine import Change, Limits, branch_result, decide, end, handler_failed, started, succeeded
from holon.domain.reactions import react
from holon.domain.states import State
from holon.domain.task import Outcome, RetryPolicy, TaskError
from holon.domain.value import replace

NOW = 1_700_000_000_000
LIMITS = Limits(max_transitions=10, retry=RetryPolicy(3, 1_000, 60_000))
ANN = CancelRequested("ann")


async def _handler() -> None:
    """Never called: the machine looks only at what a handler decided."""


def state(name: str = "start", **fields: Any) -> State:
    given: dict[str, Any] = {
        "is_start": False,
        "is_end": False,
        "outcome": None,
        "is_aggregator": False,
        "wants": (),
    }
    return State(name, _handler, **given | fields)


START = state("start", is_start=True)
FINISH = state("finish", is_end=True, outcome="finished")
DEAD_END = state("dead_end", is_end=True, outcome="failed")


def job(**fields: Any) -> Job:
    given: dict[str, Any] = {"initial_data": {"n": 1}, "current_state": "start", "status": Status.RUNNING, "step": 4}
    return Job(id="0-a", blueprint="bp", owner="ann", **given | fields)


def waiting(aggregate_into: str | None = None, **transitions: str) -> Job:
    """A job that waits for the work of its step 4."""
    status = Status.WAITING_FOR_PARALLEL if aggregate_into else Status.WAITING_FOR_WORKER
    return job(status=status, step=5, waiting=Waiting(4, transitions, aggregate_into))


def ended(status: str = "success", code: str | None = None, tries: int = 1, step: int = 4) -> TaskEnded:
    error = None if code is None else TaskError(code, "it broke")
    return TaskEnded(step, f"0-a-{step}-0", Outcome(status, error=error, worker_id="w1"), tries)


def after(one: Job, event: InboxEvent, data: dict[str, Any] | None = None, details: Any = None) -> Change:
    change = react(one, event, data or {}, details, NOW)
    assert change is not None
    return change


def decided(decision: Decision | None, one: Job | None = None, at: State = START, returned: Any = None) -> Change:
    return decide(one or job(), at, decision, returned, LIMITS, NOW, 7)


def types(change: Change) -> list[str]:
    return [event.type for event in change.history]


def error_of(change: Change) -> JobError:
    assert change.job.error is not None
    return change.job.error


# What a handler decided -------------------------------------------------------------------------------------------


def test_go_to_moves_the_job_on_and_counts_it() -> None:
    change = decided(GoTo("next"), job(failures=2, transitions=3))
    assert (change.job.current_state, change.job.status) == ("next", Status.RUNNING)
    assert (change.job.transitions, change.job.failures) == (4, 0)
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


# Tasks ------------------------------------------------------------------------------------------------------------


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
    assert error_of(change).message == f"Worker returned unhandled status: {status}"


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
    said = "branch 0-a-4-1 before 'gather' failed and fail_fast is set: worker w1 says cancelled"
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


# Handlers that fail -----------------------------------------------------------------------------------------------


def test_a_failed_handler_runs_again_after_a_back_off() -> None:
    change = handler_failed(job(), JobError("HANDLER_FAILED", "boom"), LIMITS, NOW, 7, 0.5)
    assert (change.job.status, change.job.failures, change.wake_after) == (Status.WAITING_FOR_RETRY, 1, 500)
    assert (change.job.current_state, change.job.error) == ("start", None)
    again = after(change.job, Woken(4))
    assert (again.job.status, again.job.failures, again.job.waiting) == (Status.RUNNING, 1, None)


def test_a_handler_that_always_fails_puts_its_job_into_quarantine_after_four_attempts() -> None:
    one = job()
    for failures in range(1, 4):
        change = handler_failed(one, JobError("HANDLER_FAILED", "boom"), LIMITS, NOW, 7, 0.5)
        assert (change.job.status, change.job.failures) == (Status.WAITING_FOR_RETRY, failures)
        one = after(change.job, Woken(4)).job
    change = handler_failed(one, JobError("HANDLER_FAILED", "boom"), LIMITS, NOW, 7, 0.5)
    assert change.job.status is Status.QUARANTINED
    assert error_of(change).code == "HANDLER_FAILED"
    assert "4 attempts" in error_of(change).message
    assert "boom" in error_of(change).message
    assert types(change) == ["state_failed", "job_completed"]
    assert change.wake_after is None


def test_the_history_of_a_handler_counts_its_attempts() -> None:
    assert started(job(failures=2), NOW).attempt_number == 3
    change = handler_failed(job(failures=2), JobError("X", "y"), LIMITS, NOW, 7, 0.5)
    assert (change.history[0].attempt_number, change.history[0].duration_ms) == (3, 7)


# Cancel -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [job(), job(status=Status.PENDING), waiting(success="next"), waiting("gather")])
def test_a_cancel_ends_the_job_and_its_tasks(one: Job) -> None:
    change = after(one, ANN)
    assert (change.job.status, change.end_tasks, change.tasks) == (Status.CANCELLED, True, ())
    assert error_of(change) == JobError("CANCELLED", "cancelled by client 'ann'")
    assert types(change) == ["job_cancel_requested", "job_completed"]


@pytest.mark.parametrize(
    ("owner", "by", "who"),
    [
        ("default", "default", "client 'default'"),
        ("operator", "operator", "client 'operator'"),
        ("default", "operator", "the operator"),
        ("@root", "operator", "the operator"),
        ("@root", "@root", "the parent holon"),
    ],
)
def test_who_cancelled_a_job_is_told_in_its_error(owner: str, by: str, who: str) -> None:
    change = after(replace(job(), owner=owner), CancelRequested(by))
    assert error_of(change).message == f"cancelled by {who}"


def test_a_declared_cancelled_transition_lets_the_job_clean_up_and_end_cancelled() -> None:
    change = after(waiting(success="next", cancelled="clean"), ANN)
    assert (change.job.status, change.job.current_state, change.job.cancelling) == (Status.RUNNING, "clean", True)
    assert change.end_tasks
    done = decided(None, change.job, state("clean", is_end=True, outcome="finished"), {"ignored": 1})
    assert (done.job.status, done.job.result, error_of(done).code) == (Status.CANCELLED, None, "CANCELLED")


def test_a_clean_up_may_dispatch_tasks_of_its_own() -> None:
    cleaning = after(waiting(cancelled="clean"), ANN).job
    change = decided(DispatchTask(AskedTask("undo", {}), {"success": "end"}), cleaning)
    assert (len(change.tasks), change.end_tasks, change.job.cancelling) == (1, False, True)
    moved = after(replace(change.job, step=6), ended(step=5))
    assert (moved.job.current_state, moved.job.cancelling) == ("end", True)


def test_a_second_cancel_ends_the_clean_up_at_once() -> None:
    cleaning = after(waiting(cancelled="clean"), ANN).job
    busy = decided(DispatchTask(AskedTask("undo", {}), {"success": "end", "cancelled": "clean"}), cleaning).job
    for one in (cleaning, busy):
        change = after(one, ANN)
        assert (change.job.status, change.end_tasks) == (Status.CANCELLED, True)


@pytest.mark.parametrize("code", ["PERMANENT_ERROR", "INVALID_INPUT_ERROR", "DISPATCH_TIMEOUT"])
def test_a_clean_up_that_goes_wrong_ends_cancelled_too(code: str) -> None:
    cleaning = replace(waiting(success="end"), cancelling=True)
    change = after(cleaning, ended("failure", code))
    assert (change.job.status, error_of(change).code) == (Status.CANCELLED, "CANCELLED")
    assert types(change) == ["job_completed"]


def test_a_clean_up_whose_handler_always_fails_ends_cancelled() -> None:
    change = handler_failed(job(cancelling=True, failures=3), JobError("X", "boom"), LIMITS, NOW, 7, 0.5)
    assert change.job.status is Status.CANCELLED


@pytest.mark.parametrize("left", [-1, 0, 1])
@pytest.mark.parametrize(
    ("one", "event"),
    [
        (waiting(timeout="next", failure="next"), ended("failure", "RESULT_TIMEOUT")),
        (waiting(timeout="next", failure="next"), ended("failure", "PERMANENT_ERROR")),
        (waiting("gather"), BranchesDone(4, failed=1)),
        (waiting("gather"), BranchesDone(4, failed=1, fail_fast=True)),
    ],
)
def test_what_fails_when_the_jobs_time_is_over_ends_it_as_a_cancel_does(one: Job, event: InboxEvent, left: int) -> None:
    change = after(replace(one, deadline=NOW + left), event)
    assert (change.job.status is Status.CANCELLED) == (left <= 0)


def test_what_was_done_is_done_though_the_jobs_time_is_over_by_then() -> None:
    assert after(replace(waiting(success="next"), deadline=NOW), ended()).job.current_state == "next"
    assert after(replace(waiting("gather"), deadline=NOW), BranchesDone(4)).job.current_state == "gather"


def test_a_clean_up_is_left_alone_by_the_end_of_the_time_and_by_who_asks_for_it_once_more() -> None:
    cleaning = replace(waiting(failure="next"), deadline=NOW - 1, cancelling=True)
    assert after(cleaning, ended("failure", "RESULT_TIMEOUT")).job.status is Status.CANCELLED
    assert after(cleaning, ended("failure", "PERMANENT_ERROR")).job.current_state == "next"
    assert react(cleaning, CancelRequested("@above", insist=False), {}, None, NOW) is None
    assert after(cleaning, CancelRequested("@above")).job.status is Status.CANCELLED


# What changes nothing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.FINISHED, Status.FAILED, Status.CANCELLED, Status.QUARANTINED])
@pytest.mark.parametrize("event", [ended(), BranchesDone(4), Woken(4), ANN])
def test_nothing_happens_to_a_job_that_is_over(status: Status, event: InboxEvent) -> None:
    over = replace(waiting(success="next"), status=status)
    assert react(over, event, {}, None, NOW) is None


@pytest.mark.parametrize("event", [ended(step=3), BranchesDone(3), Woken(3), ended(step=5)])
@pytest.mark.parametrize("one", [waiting(success="next"), waiting("gather"), job()])
def test_an_event_of_another_step_is_stale(one: Job, event: InboxEvent) -> None:
    assert react(one, event, {}, None, NOW) is None


def test_an_event_of_another_kind_than_what_is_waited_for_is_stale() -> None:
    assert react(waiting("gather"), ended(), {}, None, NOW) is None
    assert react(waiting(success="next"), BranchesDone(4), {}, None, NOW) is None
    assert react(waiting(success="next"), Woken(4), {}, None, NOW) is None


@pytest.mark.parametrize("status", [Status.FINISHED, Status.FAILED, Status.CANCELLED, Status.QUARANTINED])
def test_every_end_is_told_once_with_its_status(status: Status) -> None:
    error = None if status is Status.FINISHED else JobError("CODE", "why")
    change = end(job(), status, error, NOW, result=1)
    assert (change.job.status, change.job.waiting) == (status, None)
    assert change.job.result == (1 if status is Status.FINISHED else None)
    [line] = change.history
    assert line.type == "job_completed"
    assert line.details["status"] == status
    assert line.details.get("code") == (error.code if error else None)


def test_a_change_never_touches_the_job_that_it_came_from() -> None:
    one = waiting(success="next")
    after(one, ended(), {"a": 1})
    assert one.state_history == {}
    assert one == waiting(success="next")
