"""Retention: jobs that ended long ago are deleted, with all that is theirs."""

from __future__ import annotations

import asyncio
import logging

from holon.errors import StoreUnavailable
from holon.ports import Storage

log = logging.getLogger(__name__)

BATCH = 500
LONGEST_PAUSE_S = 300.0


class Retention:
    """Deletes ended jobs by age, in small batches that others run between.

    Arguments:
        keep_ms: how long a job is kept after its end.
    """

    def __init__(self, store: Storage, keep_ms: int) -> None:
        self._store = store
        self._keep_ms = keep_ms

    async def run(self) -> None:
        """Delete what is too old, for ever."""
        pause = min(LONGEST_PAUSE_S, self._keep_ms / 2_000)
        while True:
            try:
                purged = BATCH
                while purged == BATCH:
                    purged = await self._store.purge(self._store.now() - self._keep_ms, BATCH)
            except StoreUnavailable as error:
                log.warning("cannot delete old jobs: %s", error.message)
            await asyncio.sleep(pause)
