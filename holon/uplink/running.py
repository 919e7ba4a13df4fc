"""The uplink: jobs of the parent's: each is followed to its end, and stopped when it must be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from holon.domain.events import HistoryEvent
from holon.domain.log_lines import Logged
from holon.engine.told_above import lines_above
from holon.errors import HolonError, NotFound
from holon.ports import JobRecord
from holon.uplink.books import Books
from holon.uplink.changed import Changed
from holon.uplink.delegated import Delegated, Stage
from holon.uplink.delegation import Delegation
from holon.uplink.events import Events
from holon.uplink.place import Place
from holon.uplink.stopping import Why, noted
from holon.uplink.summaries import Summaries
from holon.uplink.telling import Telling
from holon.uplink.unknown import cancel_unknown
from holon.wire.log_lines import line_message
from holon.worker.reports import Reports

log = logging.getLogger(__name__)

# Jobs come and go many at a time: how soon it is looked at what that changes.
LINGER_S = 0.01
# What was offered while its stream was being replaced is lost with that, and offered again at once.
_COMES_BACK_S = 0.5
# So long a link waits for the history of one job, to tell how far that was.
_HISTORY_S = 10.0


class Running:
    """The jobs that do the parent's tasks, until their ends are told.

    Arguments:
        summaries: who tells how the jobs are done.
        group: its tasks are run in it.

    Attributes:
        changed: set whenever there are more or fewer jobs, or one has found its place.
        telling: who tells how they ended.
    """

    def __init__(
        self, place: Place, books: Books, reports: Reports, summaries: Summaries, group: asyncio.TaskGroup
    ) -> None:
        self.changed = Changed(LINGER_S)
        self._place = place
        self._books = books
        self._reports = reports
        self._summaries = summaries
        self._group = group
        self._jobs: dict[str, Delegated] = {}
        self._events = Events(place, reports)
        self.telling = Telling(place, books, reports, summaries, self._events, self.start)

    def __repr__(self) -> str:
        return f"Running({len(self._jobs)}, {self.telling})"

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Delegated]:
        return iter(self._jobs.values())

    def get(self, task_id: str) -> Delegated | None:
        """The job that does a task now."""
        return self._jobs.get(task_id)

    @property
    def coming_back(self) -> bool:
        """Whether a job may get its task back in a moment. Until then the parent has one credit more than there is."""
        return any(one.why is None and not self._reports.leases.holds(one.entry.lease) for one in self)

    def may_know(self, task_id: str) -> bool:
        """Whether there may be anything of a task in the books."""
        return task_id in self._jobs or self._books.may_have(task_id)

    async def known(self, task_id: str) -> Delegation | None:
        """What there is of a task, here or in the books."""
        running = self._jobs.get(task_id)
        if running is not None:
            return running.entry
        return self.telling.told(task_id) or await self._books.find(task_id)

    async def restore(self, parent_id: Callable[[], str]) -> None:
        """Take up what the holon did for its parent before; raises StoreUnavailable."""
        self.start(cancel_unknown(self._place, parent_id, self._does), "unknown-jobs")
        for entry in await self._books.load():
            passed = 0.0
            try:
                record = await self._record(entry)
            except HolonError as error:
                # It alone cannot be read just now, and is followed as one that the store does not show.
                log.warning("job %s continues later: %s", entry.job_id, error.message, extra=entry.facts)
            else:
                if record is None:
                    # It ended before the job was made: nothing of it is known to anybody.
                    await self.telling.forget(entry)
                    continue
                passed = await self._passed(record)
            if not entry.withdrawn:
                self._reports.leases.take(entry.lease)
            running = self._run(entry, passed, Why.LEASE_LOST if entry.withdrawn else noted(entry.stopping))
            self.limit(running)

    def _does(self, job_id: str) -> bool:
        """Whether a job does a task of the parent's."""
        return any(running.entry.job_id == job_id for running in self)

    async def exists(self, entry: Delegation) -> bool:
        """Whether there is the job that an entry names."""
        return await self._record(entry) is not None

    async def _record(self, entry: Delegation) -> JobRecord | None:
        try:
            return await self._place.jobs.get(entry.owner, entry.job_id)
        except NotFound:
            return None

    async def _passed(self, record: JobRecord) -> float:
        """How far a job was already, as far as its history can be read now."""
        told: list[HistoryEvent] = []
        reached, upto = 0, 0 if record.job.status.terminal else record.sequence
        try:
            async with asyncio.timeout(_HISTORY_S):
                while reached < upto:
                    page = await self._place.reader.page(record.job.id, reached, upto)
                    # A fan-out has a line for each branch.
                    told += (line for _, line in page.lines if line.type != "task_finished")
                    reached = page.reached
        except TimeoutError:
            job_id = record.job.id
            log.warning(
                "the progress of job %s is not known, because reading its history takes too long",
                job_id,
                extra={"job_id": job_id},
            )
        return self._place.jobs.passed(record, told) if told else 0.0

    def close(self) -> None:
        """This node links no more: the jobs go on, and nothing is done to them from here."""
        for running in self:
            running.leave()

    def give_back(self, running: Delegated, why: str) -> None:
        """Nobody here can do what a job waits for: the parent may find another."""
        if running.stage is not Stage.GOES_ON:
            return
        entry = running.entry
        log.info("task %s is returned: %s", entry.task_id, why, extra=entry.facts)
        running.reason = why
        self.stop(running, Why.UNSERVABLE)

    def stop_soon(self, running: Delegated, why: Why) -> None:
        """Stop a job; but one whose lease alone was lost goes on if the task comes back here within a moment."""
        if why is not Why.LEASE_LOST:
            self.stop(running, why)
            return
        lease = running.entry.lease

        def withdraw() -> None:
            if running.entry.lease == lease:
                self.stop(running, why)

        running.soon(_COMES_BACK_S, withdraw)

    def goes_on(self, entry: Delegation) -> Delegated:
        """There is a job for a task: see it to its end, under the lease that it has now."""
        running = self._jobs.get(entry.task_id) or self._run(entry)
        if running.extent.events:
            self._occurred(running)
        self.limit(running)
        return running

    def _run(self, entry: Delegation, passed: float = 0.0, why: Why | None = None) -> Delegated:
        place = self._place
        told = self._summaries.changed
        running = Delegated(
            place.jobs,
            place.following,
            entry,
            self._progress,
            self.changed.set,
            told,
            self._ended,
            self._logged,
            self._occurred,
            passed,
            in_words=place.in_words,
        )
        self._jobs[entry.task_id] = running
        if why is not None:
            self.stop(running, why)
        running.follow()
        return running

    def _ended(self, running: Delegated, record: JobRecord | None) -> None:
        if self.telling.at_once(running, record):
            self._over(running)
        else:
            self.start(self._to_end(running, record), f"delegated-{running.entry.task_id}")

    def _progress(self, entry: Delegation, percent: float | None, message: str) -> None:
        self._reports.progress(entry.lease, percent, message)

    def _occurred(self, running: Delegated) -> None:
        self.start(self._events.tell(running.entry, running.extent), f"events-{running.entry.task_id}")

    def _logged(self, entry: Delegation, logged: Logged) -> None:
        lines = lines_above(logged, entry.job_id, self._place.holon_id)
        self._reports.logs(entry.lease, [line_message(line) for line in lines])

    def limit(self, running: Delegated) -> None:
        """Have a job stopped when the time for its task is over."""
        deadline = running.entry.deadline
        left = None if deadline is None else (deadline - self._place.store.now()) / 1000
        running.limit(left, lambda: self.stop(running, Why.DEADLINE))

    def stop(self, running: Delegated, why: Why) -> None:
        """Cancel a job that is not over; the first reason counts."""
        if running.stops(why):
            self.changed.set()
            self.start(self._cancel(running, why), f"cancel-{running.entry.task_id}")

    async def _cancel(self, running: Delegated, why: Why) -> None:
        entry, cleanup, now = running.entry, self._place.cleanup, self._place.store.now()
        if entry.stopping:
            # Noted by another node, or by this one before it started again.
            cleanup = max(0.0, (entry.cleans_until - now) / 1000)
        else:
            # Before it is done: the next offer of a task that is given back is to find that it must begin again.
            entry.stops(why, now + round(cleanup * 1000))
            await self._note(running)
        await running.cancel(why.by, insist=False)
        # One that is over may wait for its end to be noted.
        while not await running.ended(cleanup) and running.stage is not Stage.ENDS:
            job_id, cleanup = entry.job_id, self._place.cleanup
            log.warning("job %s took too long for its clean-up, and is ended", job_id, extra={"job_id": job_id})
            await running.cancel(why.by, insist=True)

    async def _note(self, running: Delegated) -> None:
        entry = running.entry
        try:
            await self._books.write(entry, unless=running.over.is_set)
        except HolonError as error:
            message = "the state of task %s could not be stored: %s"
            log.warning(message, entry.task_id, error.message, extra=entry.facts)

    async def _to_end(self, running: Delegated, record: JobRecord | None) -> None:
        await self.telling.tell(running, record)
        self._over(running)
        if self._reports.leases.holds(running.entry.lease):
            # The task came again meanwhile: the end is told under that lease too.
            self._run(running.entry)

    def _over(self, running: Delegated) -> None:
        """The end of a job is told, or nobody waits for it."""
        del self._jobs[running.entry.task_id]
        running.leave()
        self._summaries.forget(running.entry)
        self._events.over(running.entry)
        self.changed.set()
        running.over.set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Have something done beside; not once the link ends, for then another node sees to it, or this one anew."""
        try:
            self._group.create_task(work, name=name)
        except RuntimeError:
            work.close()
