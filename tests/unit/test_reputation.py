"""Reputation: what results make of it, that several at once are as one by one, and how it comes back."""

from __future__ import annotations

import random

import pytest

from holon.domain.fleet import Reason
from holon.domain.reputation import Move, Rules, Standing, bounded
from holon.domain.task import CANCELLED, SUCCESS, Outcome

HOUR = 3_600_000
RULES = Rules(threshold=0.3)


@pytest.mark.parametrize(
    ("code", "broken", "by", "of_holon"),
    [
        ("PERMANENT_ERROR", False, -0.05, 0.0),
        ("SECURITY_ERROR", False, -0.05, 0.0),
        ("DEPENDENCY_ERROR", False, -0.05, 0.0),
        ("CONTRACT_VIOLATION", True, -0.2, -0.2),
        # What others below a holon broke is not its own.
        ("CONTRACT_VIOLATION_ERROR", False, -0.2, 0.0),
        ("TIMEOUT_ERROR", False, -0.05, 0.0),
        ("LIMIT_EXCEEDED", True, 0.0, 0.0),
        ("TRANSIENT_ERROR", False, 0.0, 0.0),
        ("INVALID_INPUT_ERROR", False, 0.0, 0.0),
        ("CHILD_FAILED", False, 0.0, 0.0),
        ("WHAT", False, 0.0, 0.0),
    ],
)
def test_a_failure_costs_what_it_says_of_its_worker(code: str, broken: bool, by: float, of_holon: float) -> None:
    failed = Outcome.failed(code, "")
    assert RULES.by(failed, broken=broken, is_holon=False) == by
    assert RULES.by(failed, broken=broken, is_holon=True) == of_holon


def test_what_is_done_is_rewarded_and_what_is_cancelled_is_not() -> None:
    for is_holon in (False, True):
        assert RULES.by(Outcome(SUCCESS), broken=False, is_holon=is_holon) == 0.001
        assert RULES.by(Outcome("a word of its own"), broken=False, is_holon=is_holon) == 0.001
        assert RULES.by(Outcome(CANCELLED), broken=False, is_holon=is_holon) == 0.0


def test_several_results_at_once_make_of_a_reputation_what_they_make_one_after_the_other() -> None:
    dice = random.Random(7)
    for _ in range(200):
        value = start = dice.random()
        move = Move()
        for by in dice.choices((0.001, 0.4, -0.05, -0.7), k=dice.randrange(1, 9)):
            value, move = bounded(value + by), move.then(by)
        assert move.of(start) == pytest.approx(value)


def test_the_reasons_are_counted_by_code_until_the_reputation_is_the_best_again() -> None:
    move = (
        Move().then(-0.05, Reason("A", 1, 5)).then(0.001).then(-0.05, Reason("B", 1, 6)).then(-0.05, Reason("B", 1, 9))
    )
    assert move.reasons == (Reason("B", 2, 9), Reason("A", 1, 5))
    low = Standing(0.9, 1_000, (Reason("A", 3, 2),))
    assert low.moved(move, 2_000).reasons == (Reason("A", 4, 5), Reason("B", 2, 9))
    assert low.moved(move, 1_000 + HOUR).reasons == move.reasons


def test_a_reputation_comes_back_three_tenths_an_hour_up_to_the_best() -> None:
    bad = Standing(0.1, 1_000)
    assert bad.now(1_000 + HOUR) == pytest.approx(0.4)
    assert bad.now(1_000 + 20 * HOUR) == 1.0
    # A clock that is behind takes nothing away.
    assert bad.now(0) == 0.1
    back = bad.reaches(0.3)
    assert back == 1_000 + HOUR * 2 // 3
    assert (RULES.trusts(bad.now(back - 1)), RULES.trusts(bad.now(back))) == (False, True)
    moved = bad.moved(Move().then(0.5), 1_000 + HOUR)
    assert moved.value == pytest.approx(0.9)
    assert moved.at == 1_000 + HOUR


def test_by_default_the_worst_is_trusted() -> None:
    assert Rules().trusts(0.0)
    assert not RULES.trusts(0.0)
