"""The clock: milliseconds, forward only."""

from __future__ import annotations

import time

import pytest

from holon.clock import Calendar, Clock, ManualClock, SystemClock


def test_the_system_clock_tells_the_epoch_in_whole_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    now = SystemClock().now_ms()
    assert isinstance(now, int)
    assert before - 1 <= now <= time.time_ns() // 1_000_000 + 1


def test_a_step_of_the_wall_clock_does_not_move_the_system_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    first = clock.now_ms()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= clock.now_ms() - first < 60_000


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
def test_a_floor_lifts_the_clock_and_never_lowers_it(clock: Clock) -> None:
    floor = clock.now_ms() + 3_600_000
    clock.not_before(floor)
    lifted = clock.now_ms()
    assert lifted >= floor
    clock.not_before(floor - 1_000_000)
    assert clock.now_ms() >= lifted


def test_the_system_clock_goes_on_from_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10_000_000_000, 1_000_000_000))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(ticks))
    monkeypatch.setattr(time, "time_ns", lambda: 5_000_000_000)
    clock = SystemClock()  # reads the monotonic clock at 0 s
    clock.not_before(100_000)  # and at 1 s
    assert clock.now_ms() == 101_000


def test_the_manual_clock_moves_only_by_hand_and_only_forward() -> None:
    clock = ManualClock(1_000)
    assert clock.now_ms() == 1_000
    clock.advance(250)
    assert clock.now_ms() == 1_250
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)


def test_who_waits_for_a_time_of_the_manual_clock_is_told_when_it_moves() -> None:
    clock, told = ManualClock(1_000), []
    clock.on_jump(lambda: told.append(clock.now_ms()))
    clock.advance(250)
    clock.advance(1)
    assert (told, clock.wall_ms()) == ([1_250, 1_251], 1_251)


@pytest.mark.parametrize(("wall", "told"), [(1_000, 2_000), (3_000, 3_000)])
def test_certificates_count_by_the_wall_where_that_is_ahead(
    monkeypatch: pytest.MonkeyPatch, wall: int, told: int
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: wall * 1_000_000)
    assert Calendar(ManualClock(2_000)).now_ms() == told
