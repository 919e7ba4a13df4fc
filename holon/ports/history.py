"""Ports: history in a database of its own: what is moved there, and what it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holon.domain.events import HistoryEvent
from holon.domain.value import Value
from holon.ports.reads import JobFilter, JobRecord


class Notice(Value, gc=True):
    """What one commit told of a job: lines that follow each other, the first under the number `first`.

    `id` settles it. `record` is the job as it is now: as it was after these lines, or further on.
    """

    id: str
    record: JobRecord
    first: int
    events: tuple[HistoryEvent, ...]


class WorkerEvent(Value, gc=True):
    """A line of history that a worker had part in, with its job and its number there."""

    job_id: str
    sequence: int
    event: HistoryEvent


class HistoryStorage(Protocol):
    """Where history is kept when not in the store. Times are epoch milliseconds of the store's clock.

    Every operation raises `StoreUnavailable` (HISTORY_UNAVAILABLE) while the database is away.
    """

    async def add(self, notices: Sequence[Notice]) -> None:
        """Keep lines of history, and their jobs as they are, all or none; durable when this returns.

        A line is known by its job and its number: one that is there already stays as it is, so a batch may come again.
        """
        ...

    async def job(self, job_id: str) -> JobRecord | None:
        """One job as it was when last told of, without its initial data and its state history."""
        ...

    async def jobs(self, which: JobFilter, before: tuple[int, str] | None, limit: int) -> Sequence[JobRecord]:
        """A page of jobs as `job` shows them, newest first, after the (creation, id) that the page before ended at.

        It ends at `limit` jobs, or before their results, errors and messages have more than MAX_PAGE_BYTES together; an
        empty one says that there are no more. The filter's own `before` is the store's, and means nothing here.
        """
        ...

    async def job_ids(self, owner: str, prefix: str, limit: int) -> Sequence[str]:
        """The first ids, in order, of an owner's jobs that begin with a prefix; see `Reads.job_ids`."""
        ...

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        """A page of a job's history, oldest first, after the line of this number."""
        ...

    async def of_worker(
        self, owner: str, worker_id: str, before: tuple[int, str, int] | None, limit: int
    ) -> Sequence[WorkerEvent]:
        """A page of what a worker had part in among an owner's jobs, newest first.

        Arguments:
            before: the (time, job, number) of the last line of the page before.
        """
        ...

    async def purge(self, finished_before: int, limit: int) -> int:
        """Forget jobs that ended before this time, with their history; how many were."""
        ...
