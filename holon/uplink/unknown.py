"""The uplink: jobs of the parent's that nobody knows of, for a node ended just as they were made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from holon.engine.requests import Listing
from holon.errors import FailedPrecondition, HolonError, NotFound
from holon.telemetry.seldom import Seldom
from holon.uplink.delegation import owner_of
from holon.uplink.place import Place

log = logging.getLogger(__name__)

# A parent that is linked again has offered by then what it still wants.
UNKNOWN_AFTER_S = 60.0
_NOT_WANTED = "uplink: the parent holon does not know it"


async def cancel_unknown(place: Place, parent_id: Callable[[], str], known: Callable[[str], bool]) -> None:
    """Stop jobs that were made just as a node ended, before they were noted, and that the parent has not offered again
    within UNKNOWN_AFTER_S: it gave their tasks to others.

    Arguments:
        parent_id: who the parent is, once that time is over.
        known: whether the parent has asked for a job, by its id.
    """
    began, away = place.store.now(), Seldom(log)
    await asyncio.sleep(UNKNOWN_AFTER_S)
    owner, token = owner_of(parent_id()), ""
    while True:
        try:
            page, following = await place.jobs.list(owner.name, Listing(terminal=False, page_token=token))
            for job_id in (one.job.id for one in page if one.created_at < began and not one.job.parent_job_id):
                # The parent may ask for it while others are being cancelled. A job's parts are that job's to end.
                if known(job_id):
                    continue
                log.warning(
                    "job %s is cancelled, because the parent does not know it", job_id, extra={"job_id": job_id}
                )
                with suppress(NotFound, FailedPrecondition):
                    await place.jobs.cancel(owner, job_id, by=_NOT_WANTED, insist=False)
        except HolonError as error:
            away.warn("jobs that the parent does not know are cancelled later", why=error.message)
            await asyncio.sleep(error.again_after)
        else:
            token = following
            if not token:
                return
