"""Lanes: what shares something goes on a few at a time, and what finds no room is told when its turn comes."""

from __future__ import annotations

from typing import Final

# What is known of how long one takes before one has ended, and how much the last one counts, of it and those before.
FIRST_MS: Final = 100.0
_NEW = 0.2
SOONEST_MS: Final = 1_000
LATEST_MS: Final = 600_000
# Lanes in which nothing goes on are forgotten past so many, unless somebody's turn in them is yet to come.
MOST_IDLE = 10_000


class _Lane:
    __slots__ = ("booked", "running", "takes")

    def __init__(self) -> None:
        self.running = 0
        self.takes = FIRST_MS
        # Until when all that goes on is booked, by the caller's clock.
        self.booked = 0.0


class Lanes:
    """How many go on in each lane. Times are milliseconds.

    Arguments:
        most: how many go on in one at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lanes: dict[str, _Lane] = {}

    def __repr__(self) -> str:
        return f"Lanes({ ({name: lane.running for name, lane in self._lanes.items() if lane.running}) })"

    def has_room(self, name: str) -> bool:
        """Whether one more can go on."""
        lane = self._lanes.get(name)
        return lane is None or lane.running < self._most

    def enter(self, name: str) -> None:
        """One more goes on; `leave` ends it."""
        self._lane(name).running += 1

    def leave(self, name: str, took: float, now: int) -> None:
        """One has ended, after so long."""
        lane = self._lanes[name]
        lane.running -= 1
        lane.takes += (took - lane.takes) * _NEW
        if len(self._lanes) > MOST_IDLE:
            self._lanes = {one: kept for one, kept in self._lanes.items() if kept.running or kept.booked > now}

    def turn(self, name: str, now: int) -> int:
        """After how long there is room for another for which there is none now: each gets a turn of its own.

        So the more wait, and the longer each takes, the later it is: nobody comes in vain again and again.
        """
        lane = self._lane(name)
        lane.booked = max(lane.booked, now) + lane.takes / self._most
        return round(min(max(lane.booked - now, SOONEST_MS), LATEST_MS))

    def _lane(self, name: str) -> _Lane:
        return self._lanes.setdefault(name, _Lane())
