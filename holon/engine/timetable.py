"""Timetables: the slots at which a schedule's jobs are due. Each node, and each run of it, comes to the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Protocol

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = timedelta(days=1)
# A 31st is at most 61 days after the one before; and a day is looked at on each side, for the hours that zones move.
_FAR = 64


class Timetable(Protocol):
    """When jobs are due: slots, in epoch milliseconds. Two timetables are equal where they have the same ones.

    Attributes:
        zone: the time zone that it is told in.
    """

    @property
    def zone(self) -> tzinfo: ...

    def next(self, after: int) -> int:
        """The first slot that is later than a time."""
        ...

    def latest(self, until: int) -> int:
        """The last slot that is not later than a time."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """A slot each so many milliseconds, counted from the epoch and not from when a node started."""

    interval: int

    @property
    def zone(self) -> tzinfo:
        """As `Timetable.zone`."""
        return UTC

    def __str__(self) -> str:
        return f"every {self.interval // 1000} s"

    def next(self, after: int) -> int:
        """As `Timetable.next`."""
        return self.latest(after) + self.interval

    def latest(self, until: int) -> int:
        """As `Timetable.latest`."""
        return until // self.interval * self.interval


@dataclass(frozen=True, slots=True)
class OnDays:
    """A slot at a time of each day that is one of these, in a zone.

    A time that a day does not have, because clocks are put forward over it, is as much later as they are put forward. A
    time that a day has twice, because they are put back, is the first of the two (RFC 5545 says both).

    Attributes:
        weekdays: 0 is Monday; empty: all of them.
        dates: days of the month; empty: all of them. A month that has no such day has no slot for it.
    """

    at: time
    zone: tzinfo
    weekdays: frozenset[int] = frozenset()
    dates: frozenset[int] = frozenset()

    def __str__(self) -> str:
        at = f"at {self.at:%H:%M} ({self.zone})"
        if self.weekdays:
            return f"on {', '.join(WEEKDAYS[day] for day in sorted(self.weekdays))} {at}"
        if self.dates:
            return f"on the days {', '.join(map(str, sorted(self.dates)))} of each month {at}"
        return f"daily {at}"

    def next(self, after: int) -> int:
        """As `Timetable.next`."""
        # Where clocks are put forward over midnight, the slot of a day may be on the next one.
        day = self._day_of(after) - _DAY
        for _ in range(_FAR):
            if self._has(day) and (slot := self._slot(day)) > after:
                return slot
            day += _DAY
        raise AssertionError(f"{self!r} has no slot")

    def latest(self, until: int) -> int:
        """As `Timetable.latest`."""
        day = self._day_of(until) + _DAY
        for _ in range(_FAR):
            if self._has(day) and (slot := self._slot(day)) <= until:
                return slot
            day -= _DAY
        raise AssertionError(f"{self!r} has no slot")

    def _day_of(self, at: int) -> date:
        return datetime.fromtimestamp(at / 1000, self.zone).date()

    def _has(self, day: date) -> bool:
        return (not self.weekdays or day.weekday() in self.weekdays) and (not self.dates or day.day in self.dates)

    def _slot(self, day: date) -> int:
        # Of a time that is there twice or not at all, this takes the offset from before the change.
        return round(datetime.combine(day, self.at, self.zone).timestamp() * 1000)


def said(timetable: Timetable, slot: int) -> str:
    """A slot for people, in the timetable's zone, with its offset."""
    return datetime.fromtimestamp(slot / 1000, timetable.zone).isoformat(timespec="seconds")
