"""Timetables: the slots of a schedule, in zones whose clocks are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holon.engine.timetable import Every, OnDays, Timetable, said

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo"]


def at(text: str) -> int:
    """A time in epoch milliseconds; in UTC where it has no offset."""
    found = datetime.fromisoformat(text)
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def following(timetable: Timetable, after: str, count: int) -> list[str]:
    """The next slots after a time, in the timetable's zone."""
    slots, now = [], at(after)
    for _ in range(count):
        now = timetable.next(now)
        slots.append(said(timetable, now))
    return slots


def test_intervals_are_counted_from_the_epoch_whenever_a_node_starts() -> None:
    every = Every(5_000)
    assert every.next(0) == 5_000
    assert every.next(4_999) == 5_000
    assert every.next(5_000) == 10_000
    assert every.latest(4_999) == 0
    assert every.latest(5_000) == 5_000


def test_a_time_of_day_is_one_of_its_zone() -> None:
    moscow = OnDays(time(9, 30), ZoneInfo("Europe/Moscow"))
    assert moscow.next(at("2026-11-28T06:29:59")) == at("2026-11-28T06:30")
    assert moscow.next(at("2026-11-28T06:30")) == at("2026-11-29T06:30")
    assert moscow.latest(at("2026-11-28T06:30")) == at("2026-11-28T06:30")
    assert moscow.latest(at("2026-11-28T06:29:59")) == at("2026-11-27T06:30")


def test_a_time_that_a_day_does_not_have_is_as_much_later_as_clocks_are_put_forward() -> None:
    assert following(OnDays(time(2, 30), BERLIN), "2026-03-27T12:00", 3) == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-29T03:30:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_a_time_that_a_day_has_twice_is_the_first_and_only_that() -> None:
    assert following(OnDays(time(2, 30), BERLIN), "2026-10-23T12:00", 3) == [
        "2026-10-24T02:30:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]
    # In the second of the two hours it is over.
    assert OnDays(time(2, 30), BERLIN).latest(at("2026-10-25T02:45+01:00")) == at("2026-10-25T02:30+02:00")


def test_midnight_that_is_not_there_or_there_twice_is_a_slot_of_its_day() -> None:
    # Clocks are put forward at midnight, and back to 23:00.
    cairo = OnDays(time(0, 0), ZoneInfo("Africa/Cairo"))
    assert following(cairo, "2026-04-23T12:00", 2) == ["2026-04-24T01:00:00+03:00", "2026-04-25T00:00:00+03:00"]
    assert following(cairo, "2026-10-28T22:00", 2) == ["2026-10-30T00:00:00+02:00", "2026-10-31T00:00:00+02:00"]
    late = OnDays(time(23, 30), ZoneInfo("Africa/Cairo"))
    assert following(late, "2026-10-28T22:00", 2) == ["2026-10-29T23:30:00+03:00", "2026-10-30T23:30:00+02:00"]


def test_a_slot_that_the_clocks_move_over_midnight_is_found_on_the_other_side() -> None:
    # Clocks are put forward from 23:00 to midnight.
    nuuk = OnDays(time(23, 30), ZoneInfo("America/Nuuk"))
    assert nuuk.next(at("2024-03-31T00:10-01:00")) == at("2024-03-31T00:30-01:00")
    assert following(nuuk, "2024-03-31T12:00", 1) == ["2024-03-31T23:30:00-01:00"]
    # And back from a minute past midnight.
    st_johns = OnDays(time(0, 0), ZoneInfo("America/St_Johns"))
    assert st_johns.latest(at("2010-11-06T23:30-03:30")) == at("2010-11-07T00:00-02:30")
    assert st_johns.next(at("2010-11-07T00:00-03:30")) == at("2010-11-08T00:00-03:30")


def test_a_day_that_a_zone_leaves_out_has_no_slot_beside_that_of_the_next() -> None:
    # Samoa went over the date line, and had no 30 December.
    apia = OnDays(time(9, 0), ZoneInfo("Pacific/Apia"))
    assert following(apia, "2011-12-29T00:00", 3) == [
        "2011-12-29T09:00:00-10:00",
        "2011-12-31T09:00:00+14:00",
        "2012-01-01T09:00:00+14:00",
    ]


def test_days_of_the_week_are_those_of_the_zone() -> None:
    # Sunday evening in UTC is Monday morning there.
    tokyo = OnDays(time(7, 0), ZoneInfo("Asia/Tokyo"), weekdays=frozenset({0, 4}))
    assert following(tokyo, "2026-11-26T00:00", 3) == [
        "2026-11-27T07:00:00+09:00",
        "2026-11-30T07:00:00+09:00",
        "2026-12-04T07:00:00+09:00",
    ]


def test_a_month_without_such_a_day_has_no_slot() -> None:
    assert [slot[:10] for slot in following(OnDays(time(1), UTC, dates=frozenset({31})), "2026-01-31T00:00", 4)] == [
        "2026-01-31",
        "2026-03-31",
        "2026-05-31",
        "2026-07-31",
    ]
    both = OnDays(time(1), UTC, dates=frozenset({1, 29}))
    assert [slot[5:10] for slot in following(both, "2026-02-01T00:00", 3)] == ["02-01", "03-01", "03-29"]


@given(
    moment=st.integers(at("1970-01-10"), at("2100-01-01")),
    hour=st.integers(0, 23),
    minute=st.sampled_from([0, 1, 30, 59]),
    zone=st.sampled_from(ZONES),
    dates=st.frozensets(st.integers(1, 31), max_size=2),
)
def test_the_slot_before_and_the_one_after_have_none_between(
    moment: int, hour: int, minute: int, zone: str, dates: frozenset[int]
) -> None:
    timetable = OnDays(time(hour, minute), ZoneInfo(zone), dates=dates)
    before, after = timetable.latest(moment), timetable.next(moment)
    assert before <= moment < after
    assert timetable.next(before) == after
    assert timetable.latest(after) == after
    assert timetable.latest(after - 1) == before
    if not dates:
        # Once each day, however the clocks are moved; where a whole day is left out, or clocks are at their widest, the
        # two are as far apart.
        assert timedelta(hours=22) <= timedelta(milliseconds=after - before) <= timedelta(hours=50)


@pytest.mark.parametrize(
    ("timetable", "text"),
    [
        (Every(90_000), "every 90 s"),
        (OnDays(time(2), BERLIN), "daily at 02:00 (Europe/Berlin)"),
        (OnDays(time(2), UTC, weekdays=frozenset({4, 0})), "on mon, fri at 02:00 (UTC)"),
        (OnDays(time(2, 5), UTC, dates=frozenset({15, 1})), "on the days 1, 15 of each month at 02:05 (UTC)"),
    ],
)
def test_a_timetable_is_told_to_people(timetable: Timetable, text: str) -> None:
    assert str(timetable) == text
