"""Children: what binds a job and its parts: neither the end of one nor the beginning of the other goes unnoticed."""

from __future__ import annotations

import asyncio
import logging

from holon.domain.change import Change
from holon.domain.children import JOB_ABOVE
from holon.domain.client import Client
from holon.domain.job import Job, Status
from holon.engine.jobs import Jobs
from holon.errors import FailedPrecondition, HolonError, NotFound, Unavailable
from holon.ports import Reads

log = logging.getLogger(__name__)

# So many parts of a job are cancelled at the same time.
AT_ONCE = 64
_WAITING_FOR_PARTS = (Status.WAITING_FOR_CHILD, Status.WAITING_FOR_PARALLEL)


class Bonds:
    """Asked by the runs of jobs. Both raise StoreUnavailable."""

    def __init__(self, jobs: Jobs, store: Reads) -> None:
        self._jobs = jobs
        self._store = store

    def __repr__(self) -> str:
        return f"Bonds({self._jobs!r})"

    async def cut(self, job: Job, change: Change) -> None:
        """Cancel the parts of a job that a change leaves behind, before that is written: a crash between repeats it.

        Those that are over stay as they are, and one that is not there yet finds out by itself.
        """
        owner = Client(job.owner)
        for first in range(0, len(change.cancels), AT_ONCE):
            some = change.cancels[first : first + AT_ONCE]
            await asyncio.gather(*(self._cancel(owner, part, insist=change.insists) for part in some))

    async def _cancel(self, owner: Client, part: str, *, insist: bool) -> None:
        try:
            await self._jobs.cancel(owner, part, by=JOB_ABOVE, insist=insist)
        except (NotFound, FailedPrecondition):
            return
        except Unavailable:
            raise
        except HolonError as error:
            # The node that has its task does it again.
            log.warning("job %s is cancelled later: %s", part, error.message, extra={"job_id": part})

    async def is_left(self, job: Job) -> bool:
        """Whether the job above does not wait for this part of it any more, which is about to begin."""
        # What is not over is in the store: where the job above is not, no database has to be asked.
        above = await self._store.job(job.parent_job_id)
        return above is None or job.id not in above.job.parts or above.job.status not in _WAITING_FOR_PARTS
