"""The worker SDK: the times at which something happens to calls. Nearly all of them are over before that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from holon.worker.call import Call


class Alarm:
    """One timer of the loop for all calls: a timer for each would be made and dropped with every task.

    Arguments:
        calls: which may have a time set; they are few, for each has a slot.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, calls: Callable[[], Collection[Call]]) -> None:
        self._loop = loop
        self._calls = calls
        self._timer: asyncio.TimerHandle | None = None

    def set(self, call: Call, seconds: float, then: Callable[[Call], None]) -> None:
        """Have `then` called in so many seconds, in place of what was set before."""
        at = self._loop.time() + seconds
        call.due = at, then
        if self._timer is None or at < self._timer.when():
            self._arm(at)

    def drop(self, call: Call) -> None:
        """Nothing happens to a call by time any more. The timer stays: it finds the next one."""
        call.due = None

    def close(self) -> None:
        """Nothing happens to any call any more."""
        if self._timer:
            self._timer.cancel()

    def _arm(self, at: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        for call in tuple(self._calls()):
            if call.due is not None and call.due[0] <= now:
                (_, then), call.due = call.due, None
                then(call)
        times = [call.due[0] for call in self._calls() if call.due is not None]
        if times:
            self._arm(min(times))
