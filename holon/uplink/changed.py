"""The uplink: what tells that there is something to look at, a moment after it came."""

from __future__ import annotations

import asyncio


class Changed:
    """Set by many, and heard by one task a moment after the first of them: what comes meanwhile is heard with it.

    Who sets it does not wake anybody: what has to be done for a job comes first, and what changes by that, after it.

    Arguments:
        linger: how long that moment is, in seconds.
    """

    def __init__(self, linger: float) -> None:
        self._linger = linger
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._by = self._not_before = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Changed(since={self._since}, heard={self._waiter is not None})"

    def set(self) -> None:
        """Something has changed."""
        if self._since is None:
            self._since = self._loop.time()
            if self._waiter is not None:
                self._arm()

    async def heard(self, by: float, not_before: float) -> None:
        """Wait until a moment after it was set. On cancel it is not heard.

        Arguments:
            by: when this returns although it was not set, on the loop's clock.
            not_before: when this returns at the earliest if it was.
        """
        self._by, self._not_before = by, not_before
        self._waiter = self._loop.create_future()
        self._arm()
        try:
            await self._waiter
        finally:
            self._waiter = None
            if self._timer is not None:
                self._timer.cancel()
        self._since = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self._by if self._since is None else min(self._by, max(self._since + self._linger, self._not_before))
        self._timer = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
