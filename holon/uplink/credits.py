"""The uplink: how many of the parent's tasks this holon may hold: what it has, and one that would start at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from holon.engine.session import Session
from holon.engine.slots import Slots
from holon.uplink.serving import Serving

# Workers come, go and get other work without a word to the uplink; how soon that counts.
LOOK_S = 1.0


class Credits:
    """Grants the parent credits: absolute, and never the free places alone, for those are gone once they are granted.

    One more at a time, while a place would be idle: jobs that are not placed yet will take one each.

    Arguments:
        slots: where handlers run.
        sessions: of this holon's own workers.
        most: how many tasks it holds at most.
        grant: tells the parent.
    """

    def __init__(
        self,
        serving: Serving,
        slots: Slots,
        sessions: Callable[[], Collection[Session]],
        most: int,
        grant: Callable[[int], None],
    ) -> None:
        self._serving = serving
        self._slots = slots
        self._sessions = sessions
        self._most = most
        self._grant = grant
        self._granted = -1
        self._closed = False

    def __repr__(self) -> str:
        return f"Credits(granted={self._granted}, closed={self._closed})"

    @property
    def due(self) -> int:
        """How many there may be now."""
        if self._closed:
            return 0
        # Without any worker it is not known whether there is a place: then no job may wait for one.
        sessions = self._sessions()
        idle = sum(max(0, session.free) for session in sessions) if sessions else 1
        idle = min(idle, self._slots.limit - self._slots.taken)
        more = idle > self._serving.unplaced
        return min(self._most, self._serving.held + more)

    def close(self) -> None:
        """Grant no more."""
        self._closed = True
        self._serving.changed.set()

    async def run(self) -> None:
        """Grant what is due, whenever that may have changed, until cancelled."""
        while True:
            self._serving.changed.clear()
            if (due := self.due) != self._granted:
                self._granted = due
                self._grant(due)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._serving.changed.wait()
            except TimeoutError:
                pass
