"""The uplink: the parent's tasks while this node links: each is one job, under the newest lease, until settled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from holon.domain.events import HistoryEvent
from holon.domain.job import Status
from holon.domain.value import value
from holon.engine.jobs import Jobs
from holon.engine.watching import Watching
from holon.errors import HolonError, InvalidArgument, NotFound
from holon.ports import JobRecord, Storage
from holon.rxon.v1 import worker_pb2
from holon.uplink.asked import creating_of, time_for, wrong
from holon.uplink.books import Books, Delegation, origin_key, owner_of
from holon.uplink.delegated import DEADLINE, Delegated
from holon.uplink.offerings import Offerings
from holon.uplink.outcomes import passed_on, result_of
from holon.uplink.summaries import Summaries
from holon.uplink.tenure import TenureLost
from holon.wire.values import MAX_ID, seconds
from holon.worker.leases import Lease
from holon.worker.outcome import INVALID_INPUT_ERROR, cancelled, failure
from holon.worker.reports import Reports

log = logging.getLogger(__name__)

# Of the history of a job of one task.
_LINES = 1_000
_RETRY_S = 1.0
LEASE_LOST = "LEASE_LOST"
UNSERVABLE = "UNSERVABLE"
# Why a job is stopped of which nobody hears any result: the parent has the task again.
_GIVEN_BACK = (LEASE_LOST, UNSERVABLE)
# What was offered while its stream was being replaced is lost with that, and offered again at once.
_COMES_BACK_S = 0.5


@value
class Place:
    """Where the parent's jobs run. `holon_id` is this holon's; times are milliseconds, but `cleanup`: seconds."""

    store: Storage
    jobs: Jobs
    watching: Watching
    offerings: Offerings
    holon_id: str
    max_jobs: int
    result_timeout: int
    max_priority: float = 100.0
    cleanup: float = 30.0


@dataclass(slots=True)
class Held:
    """How many tasks count against credits, and how many of them have yet to find a place."""

    held: int = 0
    unplaced: int = 0

    def add(self, *, unplaced: bool) -> None:
        """There is one more."""
        self.held += 1
        self.unplaced += unplaced


@dataclass(slots=True)
class _Starting:
    """An offer that is being looked at; `reason` is why it is to stop already."""

    skill: str
    reason: str = ""


class Serving:
    """Takes the parent's offers, and answers each lease with one final word.

    Arguments:
        summaries: who tells how the jobs are done.
        group: its tasks are run in it.

    Attributes:
        answer_in: how many seconds an offer may wait for its answer; the parent says it, as who it is.
        changed: set whenever there are more or fewer tasks, or one has found its place.
    """

    def __init__(
        self, place: Place, books: Books, reports: Reports, summaries: Summaries, group: asyncio.TaskGroup
    ) -> None:
        self.answer_in = 5.0
        self.parent_id = ""
        self.changed = asyncio.Event()
        self._place = place
        self._books = books
        self._reports = reports
        self._summaries = summaries
        self._group = group
        self._running: dict[str, Delegated] = {}
        # Said, and not acknowledged; those of which the node has heard nothing yet.
        self._told: dict[Lease, Delegation] = {}
        self._starting: dict[Lease, _Starting] = {}
        # Those of them that are to be jobs of their own.
        self._creating = 0

    def __repr__(self) -> str:
        return f"Serving(running={len(self._running)}, starting={len(self._starting)}, told={len(self._told)})"

    @property
    def held(self) -> int:
        """How many of the parent's tasks count against its credits."""
        return len(self._running) + len(self._starting)

    def by_skill(self) -> dict[str, Held]:
        """How many of them are of each skill."""
        found: dict[str, Held] = {}
        for running in self._running.values():
            found.setdefault(running.entry.skill, Held()).add(unplaced=running.unplaced)
        for starting in self._starting.values():
            found.setdefault(starting.skill, Held()).add(unplaced=True)
        return found

    @property
    def waiting(self) -> list[Delegated]:
        """Those whose job has yet to find a place, and is not being stopped."""
        return [running for running in self._running.values() if running.unplaced and not running.stopping]

    def give_back(self, running: Delegated, why: str) -> None:
        """Nobody here can do what a job waits for: the parent may find another."""
        task_id, job_id = running.entry.task_id, running.entry.job_id
        log.info("task %s is given back: %s", task_id, why, extra={"task_id": task_id, "job_id": job_id})
        running.why = why
        self._stop(running, UNSERVABLE)

    async def restore(self) -> None:
        """Take up what the holon did for its parent before; raises StoreUnavailable."""
        for entry in await self._books.load():
            if not await self._has_job(entry):
                # It ended before the job was made: nothing of it is known to anybody.
                await self._forget(entry)
                continue
            running = self._run(entry)
            if entry.withdrawn:
                self._stop(running, LEASE_LOST)
            else:
                self._reports.leases.take(entry.lease)
                self._limit(running)

    async def _has_job(self, entry: Delegation) -> bool:
        try:
            await self._place.jobs.get(entry.owner.name, entry.job_id)
        except NotFound:
            return False
        return True

    # What the parent says ------------------------------------------------------------------------------------------

    def offered(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        """A task is offered: make it a job, or give it back."""
        if any(lease.task_id == other.task_id for other in self._starting):
            self._reports.reject(lease, "BUSY", "another offer of the task is being looked at")
            return
        self._starting[lease] = _Starting(offer.skill)
        self.changed.set()
        self._start(self._take(lease, offer), f"offer-{lease.task_id}")

    def stopped(self, lease: Lease, reason: str) -> None:
        """The parent wants the work to stop, or has given the task to somebody else."""
        if lease in self._starting:
            self._starting[lease].reason = reason
        elif (running := self._running.get(lease.task_id)) is not None and running.entry.lease == lease:
            self._stop_soon(running, reason)

    def _stop_soon(self, running: Delegated, reason: str) -> None:
        """Stop a job; but one whose lease alone was lost goes on if the task comes back here within a moment."""
        if reason != LEASE_LOST:
            self._stop(running, reason)
            return
        lease = running.entry.lease

        def withdraw() -> None:
            if running.entry.lease == lease:
                self._stop(running, LEASE_LOST)

        running.soon(_COMES_BACK_S, withdraw)

    def resumed(self, lease: Lease, time_left: float | None) -> None:
        """The lease goes on."""
        running = self._running.get(lease.task_id)
        if running is not None and running.entry.lease == lease:
            running.entry.deadline = self._deadline(time_left)
            self._limit(running)
            self._summaries.changed(running.entry)

    def settled(self, lease: Lease, committed: bool) -> None:
        """The parent has used a result, or does not need it: nothing has to be known of the task any more.

        But where its job is not the first of this generation, and the task may come again, that has to be.
        """
        entry = self._told.pop(lease, None)
        if entry is not None and entry.lease == lease:
            done = self._forget(entry) if committed or not entry.run else self._remember(entry)
            self._start(done, f"settled-{lease.task_id}")

    async def _forget(self, entry: Delegation) -> None:
        try:
            await self._books.forget(entry)
        except HolonError as error:
            # It is found again at the next start, and its result answered as one that is not needed.
            facts = {"task_id": entry.task_id, "job_id": entry.job_id}
            log.warning("task %s stays in the books: %s", entry.task_id, error.message, extra=facts)

    # An offer ------------------------------------------------------------------------------------------------------

    async def _take(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        try:
            refusal = await self._begin(lease, offer)
        except HolonError as error:
            refusal = ("BUSY", f"the holon cannot take it now: {error.message}")
        except TenureLost:
            raise
        except Exception:
            # The outermost frame of what a parent asks for: one offer is no reason to lose the others.
            log.exception("an offer of the parent could not be read", extra={"task_id": lease.task_id[:MAX_ID]})
            refusal = ("UNSUITABLE", "the holon failed to read the offer; its log says why")
        finally:
            self._starting.pop(lease, None)
            self.changed.set()
        if refusal is not None:
            self._reports.reject(lease, *refusal)

    async def _begin(self, lease: Lease, offer: worker_pb2.TaskOffer) -> tuple[str, str] | None:
        """Have a job do the task; else the reason and message with which it is given back."""
        if why := wrong(offer):
            return "UNSUITABLE", why
        loop = asyncio.get_running_loop()
        until = loop.time() + self.answer_in / 2
        known = await self._known(offer.task_id)
        if known is not None:
            if (offer.generation, offer.attempt) <= (known.generation, known.attempt):
                return "STALE_OFFER", f"this holon has had attempt {known.attempt} of the task"
            if not await self._made_way(known, offer, until):
                return "BUSY", "an earlier attempt of the task is still being stopped here"
        if known is not None and await self._goes_on(known, offer):
            before = known.lease
            self._move(known, offer)
            await self._books.write(known)
            self._reports.reject(before, "STALE_OFFER", "the task is here under a newer lease")
            self._accept(known, lease)
            return None
        if len(self._running) + self._creating >= self._place.max_jobs:
            return "BUSY", f"{self._place.max_jobs} tasks are under way, as many as there may be"
        if self._place.offerings.lacks(offer.skill):
            return UNSERVABLE, "no worker here has a skill that it needs"
        if loop.time() > until:
            return "BUSY", "the holon was too slow to take it"
        self._creating += 1
        try:
            return await self._create(known, lease, offer)
        finally:
            self._creating -= 1

    async def job_of(self, task_id: str) -> str:
        """The job that does a task, or did, while that is not settled; empty when none is known to."""
        known = await self._known(task_id)
        return "" if known is None else known.job_id

    async def _known(self, task_id: str) -> Delegation | None:
        running = self._running.get(task_id)
        return running.entry if running is not None else await self._books.find(task_id)

    async def _made_way(self, known: Delegation, offer: worker_pb2.TaskOffer, until: float) -> bool:
        """Whether nothing is left of what must be over before the offer is taken."""
        running = self._running.get(known.task_id)
        if running is None or (known.generation == offer.generation and not known.withdrawn):
            return True
        self._stop(running, LEASE_LOST)
        return await running.ended(until - asyncio.get_running_loop().time())

    async def _goes_on(self, known: Delegation, offer: worker_pb2.TaskOffer) -> bool:
        """Whether the job that did the task before does it still, or again tells what came of it."""
        if known.generation != offer.generation or known.withdrawn:
            return False
        return known.task_id in self._running or await self._has_job(known)

    async def _create(
        self, known: Delegation | None, lease: Lease, offer: worker_pb2.TaskOffer
    ) -> tuple[str, str] | None:
        again = known is not None and known.generation == offer.generation
        entry = self._entry(offer, offer.attempt if again else 0)
        # Before the job: whenever this process ends, a job of the parent's is one that the books know.
        await self._books.write(entry)
        try:
            record = await self._job_of(entry, offer)
            if record is not None and record.job.status is Status.CANCELLED:
                # An earlier one, withdrawn so long ago that it is not remembered: the task begins anew.
                entry = self._entry(offer, offer.attempt)
                await self._books.write(entry)
                await self._job_of(entry, offer)
        except NotFound as error:
            await self._forget(entry)
            return "UNKNOWN_SKILL", error.message
        except InvalidArgument as error:
            await self._forget(entry)
            self._reports.finish(lease, failure(INVALID_INPUT_ERROR, error.message))
            return None
        except HolonError:
            # The store may have made the job all the same: it is looked for, and stopped.
            self._stop(self._run(entry), LEASE_LOST)
            raise
        self._accept(entry, lease)
        return None

    def _entry(self, offer: worker_pb2.TaskOffer, run: int) -> Delegation:
        key = origin_key(offer.task_id, offer.generation, run)
        entry = Delegation(
            self.parent_id,
            offer.task_id,
            self._place.store.new_job_id(owner_of(self.parent_id).name, key),
            offer.generation,
            offer.attempt,
            offer.lease_id,
            run,
            skill=offer.skill,
        )
        self._move(entry, offer)
        return entry

    async def _job_of(self, entry: Delegation, offer: worker_pb2.TaskOffer) -> JobRecord | None:
        """Have the job that an entry names; answers with the one that was there already, which it names then."""
        key = origin_key(entry.task_id, entry.generation, entry.run)
        asked = creating_of(offer, key, entry.job_id, self._place.max_priority)
        accepted = await self._place.jobs.create_for_parent(entry.owner, asked)
        if not accepted.existing:
            return None
        if accepted.job_id != entry.job_id:
            entry.job_id = accepted.job_id
            await self._books.write(entry)
        return await self._place.jobs.get(entry.owner.name, entry.job_id)

    def _move(self, entry: Delegation, offer: worker_pb2.TaskOffer) -> None:
        """The task is under this lease now."""
        entry.lease_id, entry.attempt = offer.lease_id, offer.attempt
        entry.deadline = self._deadline(seconds(offer.time_left) if offer.HasField("time_left") else None)

    def _deadline(self, seconds_left: float | None) -> int:
        """When a job is to be stopped that may take so many seconds."""
        lasts = self._place.result_timeout if seconds_left is None else time_for(seconds_left)
        return self._place.store.now() + lasts

    def _accept(self, entry: Delegation, lease: Lease) -> None:
        """The job is in the store: say so, and see it to its end."""
        starting = self._starting.pop(lease, None)
        if self._reports.leases.holds(lease):
            self._reports.accept(lease)
        running = self._running.get(entry.task_id)
        if running is None:
            running = self._run(entry)
        self._limit(running)
        if starting is not None and starting.reason:
            self._stop_soon(running, starting.reason)

    # A job ---------------------------------------------------------------------------------------------------------

    def _run(self, entry: Delegation) -> Delegated:
        place = self._place
        told = self._summaries.changed
        running = Delegated(place.jobs, place.watching, entry, self._progress, self.changed.set, told)
        self._running[entry.task_id] = running
        self._start(self._to_end(running), f"delegated-{entry.task_id}")
        return running

    def _progress(self, entry: Delegation, percent: float | None, message: str) -> None:
        self._reports.progress(entry.lease, percent, message)

    def _limit(self, running: Delegated) -> None:
        deadline = running.entry.deadline
        left = None if deadline is None else (deadline - self._place.store.now()) / 1000
        running.limit(left, lambda: self._stop(running, DEADLINE))

    def _stop(self, running: Delegated, reason: str) -> None:
        if not running.stopping:
            running.stopping = reason
            self._start(self._cancel(running), f"cancel-{running.entry.task_id}")

    async def _cancel(self, running: Delegated) -> None:
        if running.stopping in _GIVEN_BACK:
            # Before it is done: the next offer of this task is to find that it must begin again.
            running.entry.withdrawn = True
            await self._write(running.entry)
        await running.cancel()
        while not await running.ended(self._place.cleanup):
            job_id = running.entry.job_id
            log.warning("job %s has cleaned up for too long, and is ended", job_id, extra={"job_id": job_id})
            await running.cancel()

    async def _to_end(self, running: Delegated) -> None:
        record = await running.follow()
        entry = running.entry
        was_cancelled = record is None or record.job.status is Status.CANCELLED
        if running.stopping in _GIVEN_BACK and was_cancelled:
            reason = UNSERVABLE if running.stopping == UNSERVABLE else "STALE_OFFER"
            self._reports.reject(entry.lease, reason, running.why or "the task was taken back")
            await self._remember(entry)
        else:
            entry.withdrawn = False
            word = await self._word(running, record)
            if record is not None:
                await self._summaries.add(entry, record, word)
            if not self._tell(entry, word):
                await self._remember(entry)
        del self._running[entry.task_id]
        self._summaries.forget(entry)
        self.changed.set()
        running.over.set()

    async def _word(self, running: Delegated, record: JobRecord | None) -> worker_pb2.TaskResult:
        if record is None:
            return failure("TRANSIENT_ERROR", f"job {running.entry.job_id} is gone from the holon that had it")
        if record.job.status is Status.CANCELLED and running.stopping:
            if running.stopping == DEADLINE:
                return failure(DEADLINE, "the time for the task was over, and its job was cancelled")
            return cancelled()
        if self._place.offerings.passes(record.job.blueprint):
            result = passed_on(record.job, await self._lines(running.entry))
            if result is not None:
                return result
        return result_of(record, self._place.holon_id, self._place.offerings)

    async def _lines(self, entry: Delegation) -> list[HistoryEvent]:
        while True:
            try:
                lines, _ = await self._place.jobs.history(entry.owner.name, entry.job_id, _LINES)
            except NotFound:
                return []
            except HolonError as error:
                await asyncio.sleep(error.retry_after or _RETRY_S)
            else:
                return [line for _, line in lines]

    def _tell(self, entry: Delegation, result: worker_pb2.TaskResult) -> bool:
        """The final word, kept until it is acknowledged. False where the lease is gone: the next offer asks for it."""
        if not self._reports.leases.holds(entry.lease):
            return False
        self._told[entry.lease] = entry
        self._reports.finish(entry.lease, result)
        return True

    async def _write(self, entry: Delegation) -> None:
        with _noted(entry):
            await self._books.write(entry)

    async def _remember(self, entry: Delegation) -> None:
        with _noted(entry):
            await self._books.remember(entry)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._group.create_task(work, name=name)


@contextmanager
def _noted(entry: Delegation) -> Iterator[None]:
    try:
        yield
    except HolonError as error:
        facts = {"task_id": entry.task_id, "job_id": entry.job_id}
        log.warning("what became of task %s could not be noted: %s", entry.task_id, error.message, extra=facts)
