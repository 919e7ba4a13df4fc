"""The machine: failing handlers, cancels, clean-ups, and what comes when a job is over."""

from __future__ import annotations

import pytest

from holon.domain.decisions import AskedTask, DispatchTask
from holon.domain.events import BranchesDone, CancelRequested, InboxEvent, Woken
from holon.domain.job import Job, JobError, Status
from holon.domain.machine import end, handler_failed, started
from holon.domain.reactions import react
from holon.domain.value import replace
from tests.unit.machine import ANN, LIMITS, NOW, after, decided, ended, error_of, job, state, types, waiting

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
        ("@scheduler", "ops", "client 'ops'"),
        ("@scheduler", "operator", "the operator"),
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
