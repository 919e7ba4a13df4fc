"""The domain: the reputation of workers, by skill: what results and lost leases make of it, and how it comes back."""

from __future__ import annotations

import math

from holon.domain.fleet import Reason, SkillReputation
from holon.domain.task import CANCELLED, CONTRACT_VIOLATION, FAILURE, TIMEOUT_ERROR, Outcome
from holon.domain.value import Value

# Every worker begins with this for each of its skills, and comes back to it.
BEST = 1.0
WORST = 0.0
# A reputation recovers by this much an hour. A threshold therefore stops a worker for minutes, and one that only fails
# gets a task now and then.
RECOVERS_PER_HOUR = 0.3
# Reputations are shown with this many digits: they move all the time.
DIGITS = 4
_HOUR_MS = 3_600_000
# The rounding error of sums of these numbers.
_EPSILON = 1e-9

_VIOLATIONS = frozenset({CONTRACT_VIOLATION, "CONTRACT_VIOLATION_ERROR"})
# The worker says with these codes that it cannot do what it offers, or not in time.
_OWN_FAILURES = frozenset({"PERMANENT_ERROR", "SECURITY_ERROR", "DEPENDENCY_ERROR", TIMEOUT_ERROR})


class Rules(Value):
    """The threshold below which a worker gets no tasks of a skill, and by how much results move its reputation."""

    threshold: float = 0.0
    violation: float = 0.2
    failure: float = 0.05
    success: float = 0.001

    def by(self, outcome: Outcome, *, broken: bool, is_holon: bool) -> float:
        """By how much a result moves its worker's reputation for the task's skill.

        A holon passes on failures of the workers below it. Only contracts that it breaks itself count.

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


class Move(Value, gc=True):
    """What several results, one after the other, make of a reputation that only the store knows.

    Each sum is bounded by the best and the worst. A move is therefore an amount, and the bounds of what it comes to.
    `reasons` are those of the failures among them.
    """

    by: float = 0.0
    least: float = WORST
    most: float = BEST
    reasons: tuple[Reason, ...] = ()

    def then(self, by: float, reason: Reason | None = None) -> Move:
        """This, and one more result after it."""
        reasons = self.reasons if reason is None else _together(self.reasons, (reason,))
        return Move(self.by + by, bounded(self.least + by), bounded(self.most + by), reasons)

    def of(self, reputation: float) -> float:
        """What it makes of a reputation."""
        return min(self.most, max(self.least, reputation + self.by))


class Standing(Value, gc=True):
    """A reputation as the last result left it, with its reasons, and when that was (epoch milliseconds).

    It recovers from there.
    """

    value: float
    at: int
    reasons: tuple[Reason, ...] = ()

    def now(self, now: int) -> float:
        """The reputation at a time."""
        return bounded(self.value + max(0, now - self.at) * RECOVERS_PER_HOUR / _HOUR_MS)

    def reaches(self, value: float) -> int:
        """When it has recovered to a value, if nothing moves it (epoch milliseconds)."""
        return self.at + max(0, math.ceil((value - self.value) * _HOUR_MS / RECOVERS_PER_HOUR - _EPSILON))

    def moved(self, move: Move, now: int) -> Standing:
        """As a move at a time leaves it. Reasons are forgotten once the reputation is the best again."""
        before = self.now(now)
        reasons = self.reasons if before < BEST else ()
        return Standing(move.of(before), max(self.at, now), _together(reasons, move.reasons))


def rounded(one: SkillReputation) -> SkillReputation:
    """A reputation as it is shown."""
    return SkillReputation(one.skill, round(one.value, DIGITS), one.trusted, one.reasons)


def bounded(value: float) -> float:
    """A reputation within its bounds."""
    return min(BEST, max(WORST, value))


def _together(*groups: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Reasons with one entry for each code, the most frequent first."""
    found: dict[str, Reason] = {}
    for one in (reason for group in groups for reason in group):
        known = found.get(one.code)
        if known is not None:
            one = Reason(one.code, known.count + one.count, max(known.last_at, one.last_at))
        found[one.code] = one
    return tuple(sorted(found.values(), key=lambda one: (-one.count, one.code)))
