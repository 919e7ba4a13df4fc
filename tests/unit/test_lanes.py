"""Lanes: a few at a time in each, and for the others a turn of their own."""

from __future__ import annotations

from holon.engine.lanes import FIRST_MS, LATEST_MS, MOST_IDLE, SOONEST_MS, Lanes


def test_a_lane_takes_so_many_and_others_are_free_meanwhile() -> None:
    lanes = Lanes(2)
    for _ in range(2):
        assert lanes.has_room("a")
        lanes.enter("a")
    assert not lanes.has_room("a")
    assert lanes.has_room("b")
    lanes.leave("a", 5.0, 0)
    assert lanes.has_room("a")


def test_each_that_waits_gets_a_turn_of_its_own_later_the_more_they_are_and_the_longer_each_takes() -> None:
    quick, slow = Lanes(2), Lanes(2)
    for lanes, took in ((quick, 10.0), (slow, 10_000.0)):
        for _ in range(50):
            lanes.enter("a")
            lanes.leave("a", took, 0)
    assert [quick.turn("a", 0) for _ in range(3)] == [SOONEST_MS] * 3
    turns = [slow.turn("a", 0) for _ in range(3)]
    assert 4_900 < turns[0] <= 5_000
    assert turns[2] > 2.9 * turns[0]
    assert slow.turn("b", 0) == SOONEST_MS
    for _ in range(1_000):
        last = slow.turn("a", 0)
    assert last == LATEST_MS
    # What was booked goes by with the time.
    assert slow.turn("a", 10 * LATEST_MS) <= 5_000


def test_lanes_in_which_nothing_goes_on_are_forgotten() -> None:
    lanes = Lanes(1)
    lanes.enter("stays")
    for _ in range(MOST_IDLE):
        lanes.turn("booked", 0)
    for number in range(MOST_IDLE + 1):
        lanes.enter(f"host-{number}")
        lanes.leave(f"host-{number}", FIRST_MS, 0)
    lanes.enter("one")
    lanes.leave("one", FIRST_MS, 0)
    assert len(lanes._lanes) < 10
    assert not lanes.has_room("stays")
    assert lanes.turn("booked", 0) == LATEST_MS
