"""Children: what binds a job and its part: neither the end of one nor the beginning of the other goes unnoticed."""

from __future__ import annotations

import logging

from holon.domain.children import JOB_ABOVE
from holon.domain.client import Client
from holon.domain.job import Job, Status
from holon.domain.machine import Change
from holon.engine.jobs import Jobs
from holon.engine.records import Records
from holon.errors import FailedPrecondition, HolonError, NotFound, Unavailable

log = logging.getLogger(__name__)


class Bonds:
    """Asked by the runs of jobs. Both raise StoreUnavailable."""

    def __init__(self, jobs: Jobs, records: Records) -> None:
        self._jobs = jobs
        self._records = records

    def __repr__(self) -> str:
        return f"Bonds({self._jobs!r})"

    async def cut(self, job: Job, change: Change) -> None:
        """Cancel the part of a job that a change leaves behind, before that is written: a crash between repeats it.

        One that is not there yet finds out by itself.
        """
        try:
            await self._jobs.cancel(Client(job.owner), change.cancels, by=JOB_ABOVE, insist=change.insists)
        except (NotFound, FailedPrecondition):
            return
        except Unavailable:
            raise
        except HolonError as error:
            # The node that has its task does it again.
            facts = {"job_id": change.cancels}
            log.warning("job %s is cancelled later: %s", change.cancels, error.message, extra=facts)

    async def is_left(self, job: Job) -> bool:
        """Whether the job above does not wait for this part of it any more, which is about to begin."""
        above = await self._records.job(job.parent_job_id)
        return above is None or above.job.child_job_id != job.id or above.job.status is not Status.WAITING_FOR_CHILD
