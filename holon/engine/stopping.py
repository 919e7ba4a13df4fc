"""Stopping: jobs that a part of this node has cancelled, however long the store is away meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from holon.domain.client import Client
from holon.engine.jobs import Jobs
from holon.errors import FailedPrecondition, HolonError, NotFound

log = logging.getLogger(__name__)

_RETRY_S = 1.0


async def cancel(jobs: Jobs, owner: Client, job_id: str, by: str, *, insist: bool, facts: Mapping[str, str]) -> None:
    """Cancel a job; returns once that is asked for, or it is over anyway.

    Arguments:
        by: who asks, or why; empty: its owner.
        insist: whether it is to end at once if it cleans up already.
        facts: for the log.
    """
    while True:
        try:
            await jobs.cancel(owner, job_id, by=by, insist=insist)
        except (NotFound, FailedPrecondition):
            return
        except HolonError as error:
            log.warning("job %s is cancelled later: %s", job_id, error.message, extra=dict(facts))
            await asyncio.sleep(error.retry_after or _RETRY_S)
        else:
            return
