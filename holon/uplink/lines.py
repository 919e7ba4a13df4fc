"""The uplink: the history of a job of the parent's, read a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from holon.domain.events import HistoryEvent
from holon.engine.jobs import Jobs
from holon.errors import HolonError, NotFound
from holon.uplink.delegation import Delegation

# So many lines of a job's history are looked at together: all of those of a job of one task.
_LINES = 1_000
_RETRY_S = 1.0


async def page_of(jobs: Jobs, entry: Delegation, token: str = "") -> tuple[Sequence[tuple[int, HistoryEvent]], str]:
    """Lines of a job's history with their numbers, and where the next begin; empty: that was all, or it is gone.

    Arguments:
        token: where they begin: from a page before, or after which number; empty: at the first.
    """
    while True:
        try:
            return await jobs.history(entry.owner, entry.job_id, _LINES, token)
        except NotFound:
            return [], ""
        except HolonError as error:
            await asyncio.sleep(error.retry_after or _RETRY_S)
