"""The domain: the reputation of workers, 0 to 1: what results make of it, and how it comes back by itself."""

from __future__ import annotations

import math

from holon.domain.task import CANCELLED, CONTRACT_VIOLATION, FAILURE, Outcome
from holon.domain.value import Value

# Every worker begins with this, and comes back to it.
BEST = 1.0
WORST = 0.0
# What comes back in an hour, of whatever is missing. A worker stands just below the threshold when it gets no more
# tasks: a failure that was not its own is to cost it minutes, and one that only fails is to get a task that seldom.
RECOVERS_PER_HOUR = 0.3
# With so many it is shown: it moves all the time.
DIGITS = 4
_HOUR_MS = 3_600_000
# What adding such numbers up may be off by.
_EPSILON = 1e-9

_VIOLATIONS = frozenset({CONTRACT_VIOLATION, "CONTRACT_VIOLATION_ERROR"})
# Failures that are the worker's own: it cannot do what it offers.
_OWN_FAILURES = frozenset({"PERMANENT_ERROR", "SECURITY_ERROR", "DEPENDENCY_ERROR"})


class Rules(Value):
    """Under which reputation a worker gets no tasks, and by how much results move it."""

    threshold: float = 0.3
    violation: float = 0.2
    failure: float = 0.05
    success: float = 0.001

    def by(self, outcome: Outcome, *, broken: bool, is_holon: bool) -> float:
        """By how much a final word on a task moves its worker's reputation.

        What a holon tells of a failure is the word of whoever failed below: only what it breaks itself counts.

        Arguments:
            broken: the result broke its contract, and the outcome is the failure in its place.
            is_holon: the worker is a holon.
        """
        if outcome.status != FAILURE:
            return 0.0 if outcome.status == CANCELLED else self.success
        code = outcome.error.code if outcome.error is not None else ""
        if code in _VIOLATIONS and (broken or not is_holon):
            return -self.violation
        return -self.failure if code in _OWN_FAILURES and not is_holon else 0.0

    def trusts(self, reputation: float) -> bool:
        """Whether a worker of this reputation gets tasks."""
        return reputation >= self.threshold - _EPSILON


class Move(Value):
    """What several results one after the other make of a reputation that is known to the store alone.

    Each is bounded by the best and the worst: so this is an amount, and bounds of what it comes to.
    """

    by: float = 0.0
    least: float = WORST
    most: float = BEST

    def then(self, by: float) -> Move:
        """This, and one more result after it."""
        return Move(self.by + by, bounded(self.least + by), bounded(self.most + by))

    def of(self, reputation: float) -> float:
        """What it makes of a reputation."""
        return min(self.most, max(self.least, reputation + self.by))


class Standing(Value):
    """A reputation as the last result left it, and when that was (epoch milliseconds). It comes back from there."""

    value: float
    at: int

    def now(self, now: int) -> float:
        """What it is at a time."""
        return bounded(self.value + max(0, now - self.at) * RECOVERS_PER_HOUR / _HOUR_MS)

    def reaches(self, value: float) -> int:
        """When it has come back to a value, if nothing moves it (epoch milliseconds)."""
        return self.at + max(0, math.ceil((value - self.value) * _HOUR_MS / RECOVERS_PER_HOUR - _EPSILON))

    def moved(self, move: Move, now: int) -> Standing:
        """As results that are told at a time leave it."""
        return Standing(move.of(self.now(now)), max(self.at, now))


def bounded(value: float) -> float:
    """A reputation that is within its bounds."""
    return min(BEST, max(WORST, value))
