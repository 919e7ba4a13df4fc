"""Jobs that somebody read lately, as they are committed: whoever asks again is answered without a read of the file.

It is kept on the event loop. The writer looks into it after each commit, and has the jobs it finds there told anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from holon.ports import JobRecord
from holon.storage.ledger.reads import job_record
from holon.storage.ledger.rows import FanOut, JobRow, Row, TaskRow
from holon.storage.ledger.tables import Tables

# How many, and how large a job's state may be to be kept: together a bound in bytes.
MAX_JOBS = 1_000
MAX_STATE = 16 * 2**10

Told = Sequence[tuple[str, JobRecord | None]]


class Reading:
    """One read of the file; what it says counts only while nothing newer is known."""

    __slots__ = ()


class Known:
    """The jobs, each as it was last committed, or that its first read is on its way."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobRecord | Reading] = {}

    def __repr__(self) -> str:
        return f"Known({len(self._jobs)})"

    # On the event loop -----------------------------------------------------------------------------------------

    def job(self, job_id: str) -> JobRecord | Reading:
        """A job as it is committed; else the file is to be read, and from here on what is committed of it is told."""
        known = self._jobs.get(job_id)
        if known is None:
            if len(self._jobs) >= MAX_JOBS:
                del self._jobs[next(iter(self._jobs))]
            known = self._jobs[job_id] = Reading()
        return known

    def read(self, job_id: str, reading: Reading, record: JobRecord | None, size: int) -> None:
        """What the file said, with the size of the state in bytes; what was told meanwhile is newer, and stays."""
        if self._jobs.get(job_id) is reading:
            if record is None or size > MAX_STATE:
                del self._jobs[job_id]
            else:
                self._jobs[job_id] = record

    def told(self, jobs: Told) -> None:
        """The writer has committed these; None is one that is not to be kept."""
        for job_id, record in jobs:
            if record is None:
                self._jobs.pop(job_id, None)
            elif job_id in self._jobs:
                self._jobs[job_id] = record

    def forget(self) -> None:
        """Jobs were deleted."""
        self._jobs.clear()

    # In the writer's thread ------------------------------------------------------------------------------------

    def committed(self, tables: Tables) -> Told:
        """Those among a transaction's jobs that are to be told. Called when it is committed, and not yet done."""
        if not self._jobs:
            return ()
        rows = {_job_of(row, tables) for row in tables.changed()}
        return [
            (row.id, job_record(tables, row) if len(row.state) <= MAX_STATE else None)
            for row in rows
            if row is not None and row.id in self._jobs
        ]


def _job_of(row: Row, tables: Tables) -> JobRow | None:
    if isinstance(row, JobRow):
        return row
    # A job is told with its task's need; the tasks of a job that is over change nothing of it.
    return tables.jobs.get(row.job_id) if isinstance(row, TaskRow | FanOut) else None
