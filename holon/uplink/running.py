"""The uplink: jobs of the parent's: each is followed to its end, and its lease has one final word."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from holon.domain.events import OUT_OF_TIME
from holon.domain.job import Job, Status
from holon.errors import HolonError, NotFound
from holon.ports import JobRecord
from holon.rxon.v1 import worker_pb2
from holon.uplink.books import Books, Delegation
from holon.uplink.changed import Changed
from holon.uplink.delegated import DEADLINE, Delegated
from holon.uplink.place import Place
from holon.uplink.summaries import Summaries
from holon.uplink.unknown import cancel_unknown
from holon.uplink.words import Words
from holon.wire.worker import UNSERVABLE
from holon.worker.leases import Lease
from holon.worker.outcome import cancelled
from holon.worker.reports import Reports

log = logging.getLogger(__name__)

LEASE_LOST = "LEASE_LOST"
# Nobody knows whether there is a job, and the parent was told of none.
UNSURE = "UNSURE"
# Why a job is stopped of which nobody hears any result: the parent has the task again.
_GIVEN_BACK = (LEASE_LOST, UNSURE, UNSERVABLE)
# Why a job is stopped whose parent has not asked for that: whoever looks at the job is to know.
_NOT_ASKED_FOR = {
    DEADLINE: OUT_OF_TIME,
    LEASE_LOST: "uplink: its task went back to the parent holon",
    UNSURE: "uplink: its task went back to the parent holon",
    UNSERVABLE: "uplink: its task went back to the parent holon, for nobody here can do it",
}
# Jobs come and go many at a time: how soon it is looked at what that changes.
LINGER_S = 0.002
# What was offered while its stream was being replaced is lost with that, and offered again at once.
_COMES_BACK_S = 0.5


class Running:
    """The jobs that do the parent's tasks, until nothing has to be known of them any more.

    Arguments:
        summaries: who tells how the jobs are done.
        group: its tasks are run in it.

    Attributes:
        changed: set whenever there are more or fewer jobs, or one has found its place.
    """

    def __init__(
        self, place: Place, books: Books, reports: Reports, summaries: Summaries, group: asyncio.TaskGroup
    ) -> None:
        self.changed = Changed(LINGER_S)
        self._place = place
        self._words = Words(place)
        self._books = books
        self._reports = reports
        self._summaries = summaries
        self._group = group
        self._jobs: dict[str, Delegated] = {}
        # Said, and not acknowledged; those of which the node has heard nothing yet.
        self._told: dict[Lease, Delegation] = {}

    def __repr__(self) -> str:
        return f"Running({len(self._jobs)}, told={len(self._told)})"

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
        return any(not one.stopping and not self._reports.leases.holds(one.entry.lease) for one in self)

    def may_know(self, task_id: str) -> bool:
        """Whether there may be anything of a task in the books."""
        return task_id in self._jobs or self._books.may_have(task_id)

    async def known(self, task_id: str) -> Delegation | None:
        """What the books have of a task."""
        running = self._jobs.get(task_id)
        return running.entry if running is not None else await self._books.find(task_id)

    async def restore(self, parent_id: Callable[[], str]) -> None:
        """Take up what the holon did for its parent before; raises StoreUnavailable."""
        self.start(cancel_unknown(self._place, parent_id, self._does), "unknown-jobs")
        for entry in await self._books.load():
            record = await self._record(entry)
            if record is None:
                # It ended before the job was made: nothing of it is known to anybody.
                await self.forget(entry)
                continue
            running = self._run(entry, await self._passed(record))
            if entry.withdrawn:
                self.stop(running, LEASE_LOST)
                continue
            self._reports.leases.take(entry.lease)
            self.limit(running)
            if entry.stopping:
                self.stop(running, entry.stopping)

    def _does(self, job_id: str) -> bool:
        """Whether a job does a task of the parent's."""
        return any(running.entry.job_id == job_id for running in self)

    async def exists(self, entry: Delegation) -> bool:
        """Whether there is the job that an entry names."""
        return await self._record(entry) is not None

    async def _record(self, entry: Delegation) -> JobRecord | None:
        try:
            return await self._place.jobs.get(entry.owner.name, entry.job_id)
        except NotFound:
            return None

    async def _passed(self, record: JobRecord) -> float:
        """How far a job was already; without its history, which may be elsewhere, that is not known."""
        try:
            return await self._place.jobs.passed(record)
        except HolonError as error:
            log.warning(
                "how far job %s was is not known: %s", record.job.id, error.message, extra={"job_id": record.job.id}
            )
            return 0.0

    def close(self) -> None:
        """This node links no more: the jobs go on, and nothing is done to them from here."""
        for running in self:
            running.leave()

    def give_back(self, running: Delegated, why: str) -> None:
        """Nobody here can do what a job waits for: the parent may find another."""
        task_id, job_id = running.entry.task_id, running.entry.job_id
        log.info("task %s is given back: %s", task_id, why, extra={"task_id": task_id, "job_id": job_id})
        running.why = why
        self.stop(running, UNSERVABLE)

    def stop_soon(self, running: Delegated, reason: str) -> None:
        """Stop a job; but one whose lease alone was lost goes on if the task comes back here within a moment."""
        if reason != LEASE_LOST:
            self.stop(running, reason)
            return
        lease = running.entry.lease

        def withdraw() -> None:
            if running.entry.lease == lease:
                self.stop(running, LEASE_LOST)

        running.soon(_COMES_BACK_S, withdraw)

    def settled(self, lease: Lease, committed: bool) -> None:
        """The parent has used a result, or does not need it: nothing has to be known of the task any more.

        But where its job was taken back, or is not the first of this generation, and the task may come again, that has
        to be.
        """
        entry = self._told.pop(lease, None)
        if entry is not None and entry.lease == lease:
            if committed or not (entry.run or entry.withdrawn):
                self._books.settle(entry)
            else:
                self.start(self._remember(entry), f"settled-{lease.task_id}")

    def outdated(self, lease: Lease) -> None:
        """The task has a newer lease: what is answered of the result of this one settles the task no more."""
        self._told.pop(lease, None)

    async def forget(self, entry: Delegation) -> None:
        """Nothing has to be known of a task any more."""
        try:
            await self._books.forget(entry)
        except HolonError as error:
            # It is found again at the next start, and its result answered as one that is not needed.
            facts = {"task_id": entry.task_id, "job_id": entry.job_id}
            log.warning("task %s stays in the books: %s", entry.task_id, error.message, extra=facts)

    def goes_on(self, entry: Delegation, begun: Job | None = None) -> Delegated:
        """There is a job for a task: see it to its end, under the lease that it has now.

        Arguments:
            begun: the job as it was created just now, where its one task is with a worker since then.
        """
        running = self._jobs.get(entry.task_id) or self._run(entry, begun=begun)
        self.limit(running)
        return running

    def _run(self, entry: Delegation, passed: float = 0.0, begun: Job | None = None) -> Delegated:
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
            passed,
            in_words=place.in_words,
        )
        self._jobs[entry.task_id] = running
        running.follow(begun)
        return running

    def _ended(self, running: Delegated, record: JobRecord | None) -> None:
        if not self._told_at_once(running, record):
            self.start(self._to_end(running, record), f"delegated-{running.entry.task_id}")

    def _told_at_once(self, running: Delegated, record: JobRecord | None) -> bool:
        """Tell the end of a job where nothing has to be waited for, as it nearly always is; whether it is told."""
        if record is None or running.stopping or not self._reports.leases.holds(running.entry.lease):
            return False
        word = self._words.at_once(record)
        if word is None or not self._summaries.add_at_hand(record, word):
            return False
        running.entry.withdrawn = False
        self._tell(running.entry, word)
        self._over(running)
        return True

    def _progress(self, entry: Delegation, percent: float | None, message: str) -> None:
        self._reports.progress(entry.lease, percent, message)

    def limit(self, running: Delegated) -> None:
        """Have a job stopped when the time for its task is over."""
        deadline = running.entry.deadline
        left = None if deadline is None else (deadline - self._place.store.now()) / 1000
        running.limit(left, lambda: self.stop(running, DEADLINE))

    def stop(self, running: Delegated, reason: str) -> None:
        """Cancel a job; the first reason counts."""
        if not running.stopping:
            running.stopping = reason
            self.changed.set()
            self.start(self._cancel(running), f"cancel-{running.entry.task_id}")

    async def _cancel(self, running: Delegated) -> None:
        entry, cleanup, now = running.entry, self._place.cleanup, self._place.store.now()
        if entry.stopping:
            # Noted by another node, or by this one before it started again.
            cleanup = max(0.0, (entry.cleans_until - now) / 1000)
        else:
            # Before it is done: the next offer of a task that is given back is to find that it must begin again.
            entry.withdrawn = running.stopping in _GIVEN_BACK
            entry.stopping, entry.cleans_until = running.stopping, now + round(cleanup * 1000)
            await self._write(entry)
        by = _NOT_ASKED_FOR.get(running.stopping, "")
        await running.cancel(by, insist=False)
        while not await running.ended(cleanup):
            job_id, cleanup = entry.job_id, self._place.cleanup
            log.warning("job %s has cleaned up for too long, and is ended", job_id, extra={"job_id": job_id})
            await running.cancel(by, insist=True)

    async def _to_end(self, running: Delegated, record: JobRecord | None) -> None:
        entry = running.entry
        was_cancelled = record is None or record.job.status is Status.CANCELLED
        if running.stopping in _GIVEN_BACK and was_cancelled:
            reason = UNSERVABLE if running.stopping == UNSERVABLE else "STALE_OFFER"
            words = running.why if self._place.in_words else ""
            why, cost = words or "the task was taken back", record.spent if record is not None else None
            counts = record is not None and record.job.budget is not None
            said = self._reports.reject(entry.lease, reason, why, cost=cost, counts=counts)
            if said or running.stopping == UNSURE or not await self._tell_lost(entry, record):
                await self._remember(entry)
        else:
            entry.withdrawn = False
            word = await self._words.of(entry, record, running.stopping)
            if record is not None:
                await self._summaries.add(entry, record, word)
            lost = bool(running.stopping) and was_cancelled
            if not self._tell(entry, word) and not (lost and await self._tell_lost(entry, record)):
                await self._remember(entry)
        self._over(running)

    def _over(self, running: Delegated) -> None:
        """The end of a job is told, or nobody waits for it."""
        del self._jobs[running.entry.task_id]
        running.leave()
        self._summaries.forget(running.entry)
        self.changed.set()
        running.over.set()

    def _tell(self, entry: Delegation, result: worker_pb2.TaskResult) -> bool:
        """The final word, kept until it is acknowledged. False where the lease is gone: the next offer asks for it."""
        lease = entry.lease
        if not self._reports.leases.holds(lease):
            return False
        self._told[lease] = entry
        self._reports.finish(lease, result)
        return True

    async def _tell_lost(self, entry: Delegation, record: JobRecord | None) -> bool:
        """Nobody waits for a word of a lease that was lost with its session; but what it cost counts, and its task may
        be over: then this is how it is shown. Until it is acknowledged, the entry stays as it is.

        False where there is nothing to be said.
        """
        if record is None:
            return False
        counts = record.spent is not None or record.job.budget is not None
        word = cancelled(record.spent or 0 if counts else None)
        await self._summaries.add(entry, record, word)
        if not (counts or word.HasField("summary")):
            return False
        self._told[entry.lease] = entry
        self._reports.finish_lost(entry.lease, word)
        return True

    async def _write(self, entry: Delegation) -> None:
        with _noted(entry):
            await self._books.write(entry)

    async def _remember(self, entry: Delegation) -> None:
        with _noted(entry):
            await self._books.remember(entry)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Have something done beside; not once the link ends, for then another node sees to it, or this one anew."""
        try:
            self._group.create_task(work, name=name)
        except RuntimeError:
            work.close()


@contextmanager
def _noted(entry: Delegation) -> Iterator[None]:
    try:
        yield
    except HolonError as error:
        facts = {"task_id": entry.task_id, "job_id": entry.job_id}
        log.warning("what became of task %s could not be noted: %s", entry.task_id, error.message, extra=facts)
