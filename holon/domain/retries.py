"""The domain: which failures are tried again, when, and what becomes of the others."""

from __future__ import annotations

from enum import Enum

from holon.domain.task import (
    CANCELLED_BY_CHILD,
    CHILD_FAILED,
    CHILD_QUARANTINED,
    CONTRACT_VIOLATION,
    DISPATCH_TIMEOUT,
    FAILURE,
    INVALID_INPUT_ERROR,
    LIMIT_EXCEEDED,
    RESULT_TIMEOUT,
    TRANSIENT_ERROR,
    WORKER_LOST,
    Outcome,
    RetryPolicy,
    TaskError,
)
from holon.domain.texts import MAX_ERROR_MESSAGE, clipped
from holon.domain.value import replace


class Verdict(Enum):
    """What a final failure does to its job when no transition is declared for it.

    END fails it as FAIL does; but a `failure` transition is followed before that.
    """

    QUARANTINE = "quarantine"
    FAIL = "fail"
    END = "end"
    TIME_OUT = "time out"


# Every code that is not here is transient, as is a failure without any code.
PERMANENT = frozenset(
    {
        "PERMANENT_ERROR",
        "SECURITY_ERROR",
        "DEPENDENCY_ERROR",
        "CONTRACT_VIOLATION_ERROR",
        CONTRACT_VIOLATION,
        LIMIT_EXCEEDED,
        WORKER_LOST,
        CHILD_QUARANTINED,
    }
)
# Whoever owns the work has tried it as often as it may be: not again, and nothing is wrong with the task.
ENDED = frozenset({CHILD_FAILED, CANCELLED_BY_CHILD})
INVALID = frozenset({INVALID_INPUT_ERROR, "INTEGRITY_MISMATCH_ERROR"})
TIMED_OUT = frozenset({DISPATCH_TIMEOUT, RESULT_TIMEOUT})
_NO_WORKERS = TIMED_OUT | ENDED | {WORKER_LOST, CHILD_QUARANTINED}


def word_of_worker(error: TaskError) -> TaskError:
    """What a worker that is no holon says of a failure, as what it may say.

    Whether another try may help is not its word, the code says so; and a code that only the node or a holon gives is
    one that is not known: TRANSIENT_ERROR, with the code in the message.
    """
    if error.code in _NO_WORKERS:
        message = clipped(f"{error.code}: {error.message}", MAX_ERROR_MESSAGE)
        return replace(error, code=TRANSIENT_ERROR, message=message, retryable=None)
    return error if error.retryable is None else replace(error, retryable=None)


def lost_share(error: TaskError | None) -> bool:
    """Whether a task failed because lost attempts used up its share of a budget."""
    return error is not None and error.code == LIMIT_EXCEEDED and error.retryable is True


def back_off(policy: RetryPolicy, failures: int, chance: float) -> int:
    """Milliseconds to wait before the next try, with full jitter.

    Arguments:
        failures: how many tries have failed by now, at least 1.
        chance: a random number in [0, 1).
    """
    ceiling = min(policy.longest_ms, policy.first_ms << min(failures - 1, 30))
    return round(ceiling * chance)


def retry_after(outcome: Outcome, failures: int, policy: RetryPolicy, chance: float) -> int | None:
    """Milliseconds until the task is tried again, or None when this outcome is final.

    Arguments:
        failures: how many outcomes of this task were answered with a retry before this one.
        chance: a random number in [0, 1).
    """
    if outcome.status != FAILURE:
        return None
    code = outcome.error.code if outcome.error else ""
    again = outcome.error.retryable if outcome.error else None
    if again is None:
        again = code not in PERMANENT | ENDED
    if not again or code in INVALID | TIMED_OUT or failures >= policy.max_retries:
        return None
    return back_off(policy, failures + 1, chance)


def verdict(outcome: Outcome) -> Verdict:
    """What this final failure does to its job when no transition is declared for it."""
    code = outcome.error.code if outcome.error else ""
    if code in INVALID:
        return Verdict.FAIL
    if code in TIMED_OUT:
        return Verdict.TIME_OUT
    if code in ENDED:
        return Verdict.END
    return Verdict.QUARANTINE
