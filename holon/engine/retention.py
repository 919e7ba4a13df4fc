"""Retention: jobs that ended long ago, or before too many others, are deleted with all that is theirs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from holon.errors import StoreUnavailable

log = logging.getLogger(__name__)

BATCH = 500
LONGEST_PAUSE_S = 300.0


class Kept(Protocol):
    """What keeps jobs that have ended."""

    async def purge(self, finished_before: int, limit: int) -> int:
        """Delete jobs that ended before this time; how many were."""
        ...


class Retention:
    """Deletes ended jobs by age and by count, in small batches that others run between.

    Arguments:
        kept: where they are deleted.
        now: the store's clock.
        keep_ms: how long a job is kept after its end.
        surplus: when the newest of those ended that are too many; None when none is.
    """

    def __init__(
        self,
        kept: Kept,
        now: Callable[[], int],
        keep_ms: int,
        surplus: Callable[[], Awaitable[int | None]] | None = None,
    ) -> None:
        self._kept = kept
        self._now = now
        self._keep_ms = keep_ms
        self._surplus = surplus

    async def run(self) -> None:
        """Delete what is too old or too much, for ever."""
        pause = min(LONGEST_PAUSE_S, self._keep_ms / 2_000)
        while True:
            try:
                before = self._now() - self._keep_ms
                if self._surplus is not None and (newest := await self._surplus()) is not None:
                    before = max(before, newest + 1)
                purged = BATCH
                while purged == BATCH:
                    purged = await self._kept.purge(before, BATCH)
            except StoreUnavailable as error:
                log.warning("cannot delete old jobs: %s", error.message)
            await asyncio.sleep(pause)
