"""What is known of jobs: the store is asked first, which has what lives; then the database of history, if there is one.

What moves from one to the other meanwhile is in the second before it leaves the first, so it is always found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from heapq import merge
from typing import Any

import orjson

from holon.domain.events import HistoryEvent, tells_event
from holon.domain.job import CARRIED, TERMINAL
from holon.domain.value import Value, replace
from holon.engine.job_errors import not_found
from holon.engine.lines import page_of_lines
from holon.engine.page_tokens import PageTokens
from holon.engine.paging import MAX_PAGE
from holon.errors import FailedPrecondition
from holon.ports import MAX_PAGE_BYTES, HistoryStorage, JobFilter, JobRecord, Reads, WorkerEvent

# How many jobs are looked up in the store at the same time.
AT_ONCE = 64


class _Place(Value):
    """Where a list goes on: below this number in the store, and before this (creation, id) in history; None: anew."""

    number: int | None = None
    before: tuple[int, str] | None = None


class Records:
    """Reads of jobs and their history, wherever they are.

    Every method raises StoreUnavailable when the store is away, or history is and is needed.
    """

    def __init__(self, store: Reads, history: HistoryStorage | None, pages: PageTokens) -> None:
        self._pages = pages
        self._store = store
        self._history = history
        # Where a job is looked for, in this order.
        self._places: tuple[Reads | HistoryStorage, ...] = (store,) if history is None else (store, history)

    async def job(self, job_id: str) -> JobRecord | None:
        """One job."""
        for place in self._places:
            if (record := await place.job(job_id)) is not None:
                return record
        return None

    async def job_of(self, job_id: str, sees: Callable[[str], bool]) -> JobRecord:
        """One job for somebody who may see it. It takes the same reads to refuse an unknown job and a foreign one.

        Arguments:
            sees: whether that is so, by who owns the job.
        Raises:
            NotFound: (JOB_NOT_FOUND) there is no such job, or it is another's.
        """
        for place in self._places:
            record = await place.job(job_id)
            if record is not None and sees(record.job.owner):
                return record
        raise not_found(job_id)

    async def job_ids(self, owner: str, prefix: str, limit: int) -> list[str]:
        """The first ids, in order, of an owner's jobs that begin with a prefix; see `holon.ports.Reads`."""
        found = set(await self._store.job_ids(owner, prefix, limit))
        if self._history is not None:
            found |= set(await self._history.job_ids(owner, prefix, limit))
        return sorted(found)[:limit]

    async def history(self, job_id: str, after: int, limit: int, newest: int) -> Sequence[tuple[int, HistoryEvent]]:
        """A page of a job's history, oldest first.

        Arguments:
            newest: the number of the last line that is asked for; there may be more by now.
        """
        lines = await self._store.history(job_id, after, limit)
        if self._history is None or _whole(lines, after, limit, newest):
            return lines
        moved = await self._history.history(job_id, after, limit)
        return sorted((dict(moved) | dict(lines)).items())[:limit]

    async def lines(self, record: JobRecord, after: int = 0) -> AsyncIterator[HistoryEvent]:
        """The lines of a job's history after one, by its number, oldest first, up to what its record says."""
        while lines := await self.history(record.job.id, after, MAX_PAGE, record.sequence):
            after = lines[-1][0]
            for _, line in lines:
                yield line

    async def events(self, record: JobRecord) -> AsyncIterator[HistoryEvent]:
        """The lines of a job's history that tell of events, oldest first. It is read no further than that: of most jobs
        not at all.
        """
        # Of a job that is not in the store any more, how many these are is not known.
        left = record.job.events if record.number else -1
        if not left:
            return
        async for line in self.lines(record):
            if tells_event(line):
                yield line
                left -= 1
                if not left:
                    return

    async def jobs(
        self, which: JobFilter, token: str, size: int, fields: Collection[str] = ()
    ) -> tuple[Sequence[JobRecord], str]:
        """A page of jobs, newest first, and the token of the next page (empty: that was all).

        Arguments:
            token: of the page before; empty for the first.
            fields: what is shown of each, by name.
        Raises:
            InvalidArgument: the token is none.
        """
        tokens = self._pages.of("jobs", which.owner)
        place = _place_of(tokens.place(token))
        live, more = await self._store.jobs(replace(which, before=place.number), size)
        # What is not over is in the store, always.
        if self._history is None or (which.statuses and not TERMINAL.intersection(which.statuses)):
            # The store has counted a state once, of which a result may be part.
            shown = live if CARRIED.isdisjoint(fields) else _bounded(live, size, fields)
            if len(shown) < len(live):
                more = shown[-1].number
            return shown, "" if more is None else tokens.token((more, None))
        if not live and more is not None:
            # What the store has looked at cannot be opened, nor is it known of when that is.
            return [], tokens.token((more, place.before))
        floor = live[-1].created_at if more is not None else None
        gone, more_gone = await self._gone(self._history, which, place.before, size, floor, live)
        page = _bounded(merge(live, gone, key=lambda one: -one.created_at), size, fields)
        if len(page) == len(live) + len(gone) and more is None and not more_gone:
            return page, ""
        return page, tokens.token(_after(page, live, gone, more)) if page else ""

    async def _gone(
        self,
        history: HistoryStorage,
        which: JobFilter,
        before: tuple[int, str] | None,
        size: int,
        floor: int | None,
        live: Sequence[JobRecord],
    ) -> tuple[list[JobRecord], bool]:
        """The next jobs that only history has, and whether it may have more.

        Arguments:
            floor: no job created before this time is wanted yet.
            live: the jobs of the store's page.
        """
        known = {record.job.id for record in live}
        gone: list[JobRecord] = []
        while len(gone) < size and sum(map(weight_of, gone)) <= MAX_PAGE_BYTES:
            page = await history.jobs(which, before, size)
            wanted = [one for one in page if floor is None or one.created_at >= floor]
            gone += await self._without_live([one for one in wanted if one.job.id not in known])
            if len(wanted) < len(page):
                return gone, True
            if not page:
                return gone, False
            before = (page[-1].created_at, page[-1].job.id)
        return gone, True

    async def _without_live(self, records: Sequence[JobRecord]) -> list[JobRecord]:
        """Those of the jobs that the store does not have; the others it shows itself, as they are."""
        gone = []
        for at in range(0, len(records), AT_ONCE):
            some = records[at : at + AT_ONCE]
            found = await asyncio.gather(*(self._store.job(one.job.id) for one in some))
            gone += [one for one, live in zip(some, found, strict=True) if live is None]
        return gone

    async def of_worker(self, owner: str, worker_id: str, token: str, size: int) -> tuple[Sequence[WorkerEvent], str]:
        """A page of what a worker had part in, newest first, and the token of the next page (empty: that was all).

        What is not moved yet is not in it.

        Raises:
            InvalidArgument: the token is none.
            FailedPrecondition: (HISTORY_NOT_KEPT) there is no database of history.
        """
        history = self._history
        if history is None:
            raise FailedPrecondition(
                "only a history database knows the history of a worker, and this node has none; set "
                "HISTORY_DATABASE_URI",
                code="HISTORY_NOT_KEPT",
            )
        tokens = self._pages.of("worker-history", owner, worker_id)
        place = tokens.place(token)
        start = None if place is None else (place[0], place[1], place[2])

        async def read(last: WorkerEvent | None, limit: int) -> Sequence[WorkerEvent]:
            before = start if last is None else (last.event.time, last.job_id, last.sequence)
            return await history.of_worker(owner, worker_id, before, limit)

        page, more = await page_of_lines(read, lambda line: line.event, size)
        last = page[-1] if more else None
        return page, "" if last is None else tokens.token((last.event.time, last.job_id, last.sequence))


def weight_of(record: JobRecord, fields: Collection[str] = ()) -> int:
    """How many bytes a job has of what may be large: its result, its error, what it said of its progress.

    Arguments:
        fields: what is shown of it, by name; what it carries counts where it is.
    """
    error = record.job.error
    failure = None if error is None else (error.message, error.details)
    carried = [getattr(record, name) for name in CARRIED.intersection(fields)]
    return len(orjson.dumps((record.job.result, failure, record.progress_message, carried)))


def _bounded(records: Iterable[JobRecord], size: int, fields: Collection[str]) -> list[JobRecord]:
    """The first of the jobs: so many at most, and no more than a page may have bytes."""
    page: list[JobRecord] = []
    weight = 0
    for record in records:
        weight += weight_of(record, fields)
        if len(page) == size or (page and weight > MAX_PAGE_BYTES):
            break
        page.append(record)
    return page


def _whole(lines: Sequence[tuple[int, HistoryEvent]], after: int, limit: int, newest: int) -> bool:
    """Whether a page of the store's lacks nothing that was moved."""
    if [number for number, _ in lines] != list(range(after + 1, after + 1 + len(lines))):
        return False
    return len(lines) == limit or after + len(lines) >= newest


def _after(
    page: Sequence[JobRecord], live: Sequence[JobRecord], gone: Sequence[JobRecord], more: int | None
) -> tuple[int, tuple[int, str]]:
    """Where the next page goes on: below this number in the store, and before this in history."""
    shown = {record.job.id for record in page}
    from_store = [record for record in live if record.job.id in shown]
    from_history = [record for record in gone if record.job.id in shown]
    if len(from_store) == len(live):
        # Numbers begin with 1: below that there is nothing.
        number = 1 if more is None else more
    elif from_store:
        number = from_store[-1].number
    else:
        number = live[0].number + 1
    # All that history has of later times was shown, or is the store's to show.
    last = page[-1].created_at
    before = (last + 1, "")
    if from_history and from_history[-1].created_at == last:
        before = (last, from_history[-1].job.id)
    return number, before


def _place_of(place: Any) -> _Place:
    """A place as its token holds it; None: the list begins."""
    number, before = (None, None) if place is None else place
    return _Place(number, None if before is None else (before[0], before[1]))
