"""The time of a store that nodes share."""

from __future__ import annotations

from holon.clock import ManualClock
from holon.storage.store_time import PROMPT_MS, StoreTime

NOON = 2_000_000_000_000


def at_noon() -> tuple[ManualClock, StoreTime]:
    clock = ManualClock()
    time = StoreTime(clock)
    time.ask()(NOON)
    return clock, time


def test_it_is_the_stores_and_goes_on_with_this_machines() -> None:
    clock, time = at_noon()
    assert time.now_ms() == NOON
    clock.advance(10)
    assert time.now_ms() == NOON + 10


def test_i6_it_stands_still_while_the_stores_clock_was_set_back() -> None:
    clock, time = at_noon()
    assert time.now_ms() == NOON
    time.ask()(NOON - 50)
    assert time.now_ms() == NOON
    clock.advance(60)
    assert time.now_ms() == NOON + 10


def test_a_slow_answer_tells_only_that_it_is_no_earlier() -> None:
    clock, time = at_noon()
    heard = time.ask()
    clock.advance(2 * PROMPT_MS)
    heard(NOON)
    assert time.now_ms() == NOON + 2 * PROMPT_MS
    heard(NOON + 5 * PROMPT_MS)
    assert time.now_ms() == NOON + 5 * PROMPT_MS


def test_i6_what_another_node_has_seen_is_not_in_the_future() -> None:
    clock, time = at_noon()
    time.not_before(NOON + 40)
    assert time.now_ms() == NOON + 40
    clock.advance(50)
    assert time.now_ms() == NOON + 50
