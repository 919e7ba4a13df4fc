"""Retention: jobs that ended long ago, or before too many others, are deleted with all that is theirs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from holon.errors import StoreUnavailable

log = logging.getLogger(__name__)

BATCH = 500
LONGEST_PAUSE_S = 300.0


class Retention:
    """Deletes ended jobs by age and by count, in small batches that others run between.

    Arguments:
        purge: deletes jobs that ended before a time, at most so many; answers with how many.
        now: the store's clock.
        keep_ms: how long a job is kept after its end.
        surplus: when the newest of those ended that are too many; None when none is.
    """

    def __init__(
        self,
        purge: Callable[[int, int], Awaitable[int]],
        now: Callable[[], int],
        keep_ms: int,
        surplus: Callable[[], Awaitable[int | None]] | None = None,
    ) -> None:
        self._purge = purge
        self._now = now
        self._keep_ms = keep_ms
        self._surplus = surplus
        self._again = asyncio.Event()

    def look_again(self) -> None:
        """The time has jumped: delete what is too old now."""
        self._again.set()

    async def run(self) -> None:
        """Delete what is too old or too much, for ever."""
        pause = min(LONGEST_PAUSE_S, self._keep_ms / 2_000)
        while True:
            try:
                before = self._now() - self._keep_ms
                if self._surplus is not None and (newest := await self._surplus()) is not None:
                    before = max(before, newest + 1)
                purged = BATCH
                while purged >= BATCH:
                    purged = await self._purge(before, BATCH)
                    # A store in memory waits for nothing.
                    await asyncio.sleep(0)
            except StoreUnavailable as error:
                log.warning("old jobs cannot be deleted: %s", error.message)
            try:
                async with asyncio.timeout(pause):
                    await self._again.wait()
            except TimeoutError:
                pass
            self._again.clear()
