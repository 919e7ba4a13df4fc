"""The one clock: epoch milliseconds as an integer, injected wherever time is needed, so that tests can move it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

_NS_PER_MS = 1_000_000


class Time(Protocol):
    """What says the time. Reading it never blocks and is safe from any thread."""

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        ...


class Clock(Time, Protocol):
    """A time that never goes back: no answer is less than an earlier one."""

    def not_before(self, floor_ms: int) -> None:
        """Make every later answer at least `floor_ms` (epoch milliseconds), such as the last time a store wrote."""
        ...

    def wall_ms(self) -> int:
        """Return the wall time in milliseconds since the epoch. Schedules use it; it may be set back."""
        ...

    def on_jump(self, listener: Callable[[], object]) -> None:
        """Call this each time the clock is moved ahead, so that timers are checked again."""
        ...


class SystemClock:
    """Wall time read once and then advanced by the monotonic clock: a step of the wall clock moves nothing."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def __repr__(self) -> str:
        return f"SystemClock(now_ms={self.now_ms()})"

    def now_ms(self) -> int:
        return (time.monotonic_ns() + self._offset_ns) // _NS_PER_MS

    def not_before(self, floor_ms: int) -> None:
        self._offset_ns = max(self._offset_ns, floor_ms * _NS_PER_MS - time.monotonic_ns())

    def wall_ms(self) -> int:
        return Calendar(self).now_ms()

    def on_jump(self, listener: Callable[[], object]) -> None:
        """Nothing is called: this clock is never moved."""


class Calendar:
    """The time by which certificates count: a clock's, or the wall's where that is ahead.

    A clock that no step moves falls behind when the machine sleeps, and stays behind when it is set right; whoever
    issues certificates does not, and TLS goes by the wall.

    Arguments:
        clock: whose time it is at least.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __repr__(self) -> str:
        return f"Calendar({self._clock!r})"

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch; less than an earlier answer once the wall was set back."""
        return max(self._clock.now_ms(), time.time_ns() // _NS_PER_MS)


class ManualClock:
    """A clock for tests: it stands still until `advance` moves it.

    Arguments:
        now_ms: where it starts, in epoch milliseconds.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._listeners: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return f"ManualClock(now_ms={self._now_ms})"

    def now_ms(self) -> int:
        return self._now_ms

    def wall_ms(self) -> int:
        return self._now_ms

    def on_jump(self, listener: Callable[[], object]) -> None:
        self._listeners.append(listener)

    def not_before(self, floor_ms: int) -> None:
        self._now_ms = max(self._now_ms, floor_ms)

    def advance(self, ms: int) -> None:
        """Move the time forward by `ms` milliseconds; raise ValueError when that is negative.

        A node that has this clock is told at once, and does what has become due: in the loop's thread.
        """
        if ms < 0:
            raise ValueError(f"the clock cannot go back: advance({ms})")
        self._now_ms += ms
        for listener in self._listeners:
            listener()
