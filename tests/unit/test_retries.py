"""Retries: the table of error codes, and the back-off between tries."""

from __future__ import annotations

import pytest

from holon.domain.retries import Verdict, back_off, retry_after, verdict
from holon.domain.task import FAILURE, Outcome, RetryPolicy

POLICY = RetryPolicy(max_retries=3, first_ms=1_000, longest_ms=60_000)

TRANSIENT = (
    "TRANSIENT_ERROR",
    "RESOURCE_EXHAUSTED_ERROR",
    "TIMEOUT_ERROR",
    "INTERNAL_ERROR",
    "LIMIT_EXCEEDED_ERROR",
    "DEPENDENCY_MISSING_ERROR",
    "LATE_RESULT",
    "A_CODE_THAT_NOBODY_KNOWS",
    "",
)
PERMANENT = (
    "PERMANENT_ERROR",
    "SECURITY_ERROR",
    "DEPENDENCY_ERROR",
    "CONTRACT_VIOLATION_ERROR",
    "CONTRACT_VIOLATION",
    "LIMIT_EXCEEDED",
    "WORKER_LOST",
    "CHILD_QUARANTINED",
)
INVALID = ("INVALID_INPUT_ERROR", "INTEGRITY_MISMATCH_ERROR")
TIMED_OUT = ("DISPATCH_TIMEOUT", "RESULT_TIMEOUT")


def failed(code: str) -> Outcome:
    return Outcome.failed(code, "it broke", "w1")


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_transient_failure_is_tried_again_as_often_as_the_policy_says(code: str) -> None:
    assert [retry_after(failed(code), failures, POLICY, 0.5) for failures in range(5)] == [
        500,
        1_000,
        2_000,
        None,
        None,
    ]


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_transient_failure_without_tries_left_puts_its_job_into_quarantine(code: str) -> None:
    assert verdict(failed(code)) is Verdict.QUARANTINE


def test_a_failure_without_an_error_is_transient() -> None:
    assert retry_after(Outcome(FAILURE), 0, POLICY, 0.5) == 500
    assert verdict(Outcome(FAILURE)) is Verdict.QUARANTINE


@pytest.mark.parametrize("code", PERMANENT + INVALID + TIMED_OUT)
def test_what_cannot_get_better_is_not_tried_again(code: str) -> None:
    assert retry_after(failed(code), 0, POLICY, 0.5) is None


@pytest.mark.parametrize("code", PERMANENT)
def test_a_permanent_failure_puts_its_job_into_quarantine(code: str) -> None:
    assert verdict(failed(code)) is Verdict.QUARANTINE


@pytest.mark.parametrize("code", INVALID)
def test_invalid_input_fails_its_job(code: str) -> None:
    assert verdict(failed(code)) is Verdict.FAIL


@pytest.mark.parametrize("code", TIMED_OUT)
def test_a_dispatch_or_result_timeout_times_its_job_out(code: str) -> None:
    assert verdict(failed(code)) is Verdict.TIME_OUT


@pytest.mark.parametrize("status", ["success", "cancelled", "needs_review"])
def test_only_a_failure_is_tried_again(status: str) -> None:
    assert retry_after(Outcome(status), 0, POLICY, 0.5) is None


def test_a_policy_without_retries_makes_the_first_failure_final() -> None:
    assert retry_after(failed("TRANSIENT_ERROR"), 0, RetryPolicy(max_retries=0), 0.5) is None


def test_the_back_off_doubles_up_to_its_longest() -> None:
    longest = [back_off(POLICY, failures, 1.0) for failures in range(1, 9)]
    assert longest == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]


def test_the_jitter_is_full() -> None:
    assert back_off(POLICY, 3, 0.0) == 0
    assert back_off(POLICY, 3, 0.25) == 1_000


@pytest.mark.parametrize("code", ["CHILD_FAILED", "CANCELLED_BY_CHILD"])
def test_what_a_child_holon_has_tried_is_not_tried_again_and_fails_its_job(code: str) -> None:
    assert retry_after(failed(code), 0, POLICY, 0.5) is None
    assert verdict(failed(code)) is Verdict.END
