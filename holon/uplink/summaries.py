"""The uplink: what the parent is told of how its jobs are done: with each result, and now and then while they run."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from holon.domain.tally import Tally
from holon.domain.tree import Disclose, Summary
from holon.engine.jobs import Jobs
from holon.engine.trees import Trees
from holon.errors import HolonError
from holon.ports import JobRecord
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.uplink.alone import Alone
from holon.uplink.delegation import Delegation
from holon.wire.trees import fill_summary
from holon.worker.reports import Reports

log = logging.getLogger(__name__)

# A job that runs is told of so often at most, and not before it has run for a moment.
EVERY_S = 10.0
_FIRST_S = 0.5
_PAUSE_S = 0.25
# So long a result waits for what is told beside it: a database of history may not answer at all.
_PATIENCE_S = 5.0


@dataclass(slots=True)
class _Job:
    """A job that runs: its history as far as it was read, whether there is something new, and when that is told."""

    entry: Delegation
    due: float
    changed: bool = False
    tally: Tally | None = None


class Summaries:
    """Tells the parent of its jobs, as far as this holon discloses how they are done.

    Arguments:
        trees: who knows what a job is made of.
        jobs: who knows where it stands.
        reports: where the parent is told.
    """

    def __init__(self, trees: Trees, jobs: Jobs, disclose: Disclose, reports: Reports) -> None:
        self._trees = trees
        self._jobs = jobs
        self._silent = disclose is Disclose.NONE
        self._reports = reports
        self._running: dict[str, _Job] = {}
        # Two who read the same lines of a job would count them twice.
        self._alone = Alone()
        self._some = asyncio.Event()

    def __repr__(self) -> str:
        return f"Summaries(running={len(self._running)})"

    def changed(self, entry: Delegation) -> None:
        """Something has happened to a job, or its parent may not know what did."""
        if not self._silent:
            self._of(entry).changed = True
            self._some.set()

    def add_at_hand(self, record: JobRecord, result: worker_pb2.TaskResult) -> bool:
        """The same as `add`, where it takes no call of the store; whether that is so."""
        if self._silent:
            return True
        summary = self._trees.summary_at_hand(record)
        if summary is not None:
            fill_summary(result.summary, summary)
        return summary is not None

    async def add(self, entry: Delegation, record: JobRecord, result: worker_pb2.TaskResult) -> None:
        """Have a result say how its job was done; where that cannot be read soon, it says nothing of it."""
        if self._silent:
            return
        job = self._of(entry)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                fill_summary(result.summary, await self._summary(job, record))
        except TimeoutError:
            message = "the summary of job %s is left out, because its history could not be read within %g s"
            log.warning(message, entry.job_id, _PATIENCE_S, extra=entry.facts)
        except HolonError as error:
            log.warning("the summary of job %s is left out: %s", entry.job_id, error.message, extra=entry.facts)

    def forget(self, entry: Delegation) -> None:
        """A job is over, and its end was told."""
        self._running.pop(entry.task_id, None)

    async def run(self) -> None:
        """Tell what is new of jobs that run, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = min((job.due for job in self._running.values() if job.changed), default=None)
            try:
                async with asyncio.timeout_at(due):
                    await self._some.wait()
            except TimeoutError:
                pass
            self._some.clear()
            for job in [job for job in self._running.values() if job.changed and job.due <= loop.time()]:
                job.changed, job.due = False, loop.time() + EVERY_S
                await self._tell(job)
            await asyncio.sleep(_PAUSE_S)

    def _of(self, entry: Delegation) -> _Job:
        job = self._running.get(entry.task_id)
        if job is None or job.entry is not entry:
            due = asyncio.get_running_loop().time() + _FIRST_S
            job = self._running[entry.task_id] = _Job(entry, due)
        return job

    async def _tell(self, job: _Job) -> None:
        entry = job.entry
        try:
            record = await self._jobs.get(entry.owner, entry.job_id)
            if not record.job.status.terminal:
                message = types_pb2.JobSummary()
                fill_summary(message, await self._summary(job, record))
                self._reports.summary(entry.lease, message)
        except HolonError as error:
            log.debug("the progress of job %s cannot be reported: %s", entry.job_id, error.message, extra=entry.facts)

    async def _summary(self, job: _Job, record: JobRecord) -> Summary:
        job_id = job.entry.job_id
        if job.tally is None:
            job.tally = Tally(job_id)
        await self._alone.take(job_id)
        try:
            await self._trees.read_on(job.tally, record)
        finally:
            self._alone.leave(job_id)
        return await self._trees.summary(record, job.tally)
