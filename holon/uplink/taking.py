"""The uplink: the parent's offers: each becomes a job, moves the lease of one, or is given back with the reason."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from holon.domain.job import Job, Status
from holon.domain.value import Value
from holon.engine.jobs import Accepted
from holon.errors import HolonError, InvalidArgument, NotFound
from holon.ports import JobRecord, Note
from holon.rxon.v1 import worker_pb2
from holon.uplink.alone import Alone
from holon.uplink.asked import Terms, creating_of, terms_of, time_for
from holon.uplink.books import Books, Delegation, origin_key, owner_of
from holon.uplink.place import Place
from holon.uplink.running import LEASE_LOST, UNSURE, Running
from holon.uplink.tenure import TenureLost
from holon.wire.values import MAX_ID
from holon.wire.worker import UNSERVABLE
from holon.worker.leases import Lease
from holon.worker.outcome import INVALID_INPUT_ERROR, cancelled, failure
from holon.worker.reports import BUSY_S, Reports

log = logging.getLogger(__name__)

# An offer that is looked at, and a newer one.
_OF_ONE_TASK = 2


@dataclass(slots=True)
class Starting:
    """An offer that is being looked at; `reason` is why it is to stop already."""

    skill: str
    reason: str = ""


class Refusal(Value):
    """Why an offer is given back, and after how many seconds it may come again; None: when the parent likes.

    Zero: it crossed our word of fewer credits, and may come again with more.
    """

    reason: str
    message: str
    again_after: float | None = None


class Taking:
    """Takes offers, or gives them back.

    Attributes:
        answer_in: how many seconds an offer may wait for its answer; the parent says it, as who it is.
        closed: whether no more jobs are begun, for this node leaves.
        lacking: called when an offer came for which there are no credits any more.
    """

    def __init__(self, place: Place, books: Books, reports: Reports, running: Running) -> None:
        self.answer_in = 5.0
        self.parent_id = ""
        self.closed = False
        self.lacking: Callable[[], None] = lambda: None
        self._place = place
        self._books = books
        self._reports = reports
        self._running = running
        self._starting: dict[Lease, Starting] = {}
        # How many of those are of one task.
        self._of_task: dict[str, int] = {}
        # Held while an offer of a task is looked at.
        self._alone = Alone()
        # Those of them that are to be jobs of their own.
        self._creating = 0

    def __repr__(self) -> str:
        return f"Taking({len(self._starting)})"

    @property
    def starting(self) -> Mapping[Lease, Starting]:
        """Those of which it is not settled yet what becomes of them."""
        return self._starting

    def offered(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        """A task is offered: make it a job, or give it back."""
        of_task = self._of_task.get(lease.task_id, 0)
        if of_task >= _OF_ONE_TASK:
            self._reports.reject(lease, "BUSY", "other offers of the task are being looked at")
            return
        self._starting[lease] = Starting(offer.skill)
        self._of_task[lease.task_id] = of_task + 1
        self._running.changed.set()
        self._running.start(self._take(lease, offer), f"offer-{lease.task_id}")

    def deadline(self, seconds_left: float | None) -> int:
        """When a job is to be stopped that may take so many seconds, in milliseconds of the store's clock."""
        lasts = self._place.result_timeout if seconds_left is None else time_for(seconds_left)
        return self._place.store.now() + lasts

    async def _take(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        try:
            # Where the stream was replaced, the task is offered again while its first offer is looked at.
            await self._alone.take(lease.task_id)
            try:
                refusal = await self._begin(lease, offer)
            finally:
                self._alone.leave(lease.task_id)
        except HolonError as error:
            refusal = Refusal("BUSY", f"the holon cannot take it now: {error.message}", again_after=BUSY_S)
        except TenureLost:
            raise
        except Exception:
            # The outermost frame of what a parent asks for: one offer is no reason to lose the others.
            log.exception("an offer of the parent could not be read", extra={"task_id": lease.task_id[:MAX_ID]})
            refusal = Refusal("UNSUITABLE", "the holon failed to read the offer; its log says why")
        finally:
            self._started(lease)
            self._running.changed.set()
        if refusal is None:
            return
        if refusal.again_after == 0:
            # The parent hears first that there are no credits for it, so it may offer it as soon as there are.
            self.lacking()
        self._reports.reject(lease, refusal.reason, refusal.message, again_after=refusal.again_after)

    async def _begin(self, lease: Lease, offer: worker_pb2.TaskOffer) -> Refusal | None:
        """Have a job do the task; else why it is given back."""
        try:
            terms = terms_of(offer, self._place.store.now(), self._place.result_timeout)
        except InvalidArgument as error:
            return Refusal("UNSUITABLE", error.message)
        loop = asyncio.get_running_loop()
        until = loop.time() + self.answer_in / 2
        known = await self._running.known(offer.task_id)
        if known is not None:
            if (offer.generation, offer.attempt) <= (known.generation, known.attempt):
                return Refusal("STALE_OFFER", f"this holon has had attempt {known.attempt} of the task")
            if not await self._made_way(known, offer, until):
                return Refusal("BUSY", "an earlier attempt of the task is still being stopped here", again_after=BUSY_S)
        if known is not None and await self._goes_on(known, offer):
            before = known.lease
            await self._move_noted(known, offer, terms)
            told = self._reports.reject(before, "STALE_OFFER", "the task is here under a newer lease")
            if not told and offer.lineage.HasField("budget"):
                # Lost with its session; what the job costs is told under the newer one, and the parent waits for both.
                self._reports.finish_lost(before, cancelled(0))
            self._accept(known, lease)
            return None
        if self.closed:
            return Refusal("DRAINING", "this node of the holon is leaving", again_after=0)
        if len(self._running) + self._creating >= self._place.max_jobs:
            full = f"{self._place.max_jobs} tasks are under way, as many as there may be"
            return Refusal("BUSY", full, again_after=BUSY_S if self._running.coming_back else 0)
        if self._place.offerings.lacks(offer.skill):
            return Refusal(UNSERVABLE, "no worker here has a skill that it needs", again_after=0)
        if loop.time() > until:
            return Refusal("BUSY", "the holon was too slow to take it", again_after=BUSY_S)
        self._creating += 1
        try:
            return await self._create(known, lease, offer, terms)
        finally:
            self._creating -= 1

    async def _made_way(self, known: Delegation, offer: worker_pb2.TaskOffer, until: float) -> bool:
        """Whether nothing is left of what must be over before the offer is taken."""
        running = self._running.get(known.task_id)
        if running is None or (known.generation == offer.generation and not known.withdrawn):
            return True
        self._running.stop(running, LEASE_LOST)
        return await running.ended(until - asyncio.get_running_loop().time())

    async def _goes_on(self, known: Delegation, offer: worker_pb2.TaskOffer) -> bool:
        """Whether the job that did the task before does it still, or again tells what came of it."""
        if known.generation != offer.generation or known.withdrawn:
            return False
        return self._running.get(known.task_id) is not None or await self._running.exists(known)

    async def _create(
        self, known: Delegation | None, lease: Lease, offer: worker_pb2.TaskOffer, terms: Terms
    ) -> Refusal | None:
        if known is not None:
            self._running.outdated(known.lease)
        again = known is not None and known.generation == offer.generation
        entry = self._entry(offer, terms, offer.attempt if again else 0)
        followed = False
        self._place.following.expect(entry.job_id)
        try:
            record, begun = await self._job_of(entry, offer, terms)
            if record is not None and record.job.status is Status.CANCELLED:
                # An earlier one, withdrawn so long ago that it is not remembered: the task begins anew.
                self._place.following.leave(entry.job_id)
                entry = self._entry(offer, terms, offer.attempt)
                self._place.following.expect(entry.job_id)
                _, begun = await self._job_of(entry, offer, terms)
            followed = True
        except NotFound as error:
            await self._running.forget(entry)
            return Refusal("UNKNOWN_SKILL", error.message)
        except InvalidArgument as error:
            await self._running.forget(entry)
            self._reports.finish(lease, failure(INVALID_INPUT_ERROR, error.message))
            return None
        except (HolonError, TenureLost):
            # The store may have made the job all the same: it is looked for, and stopped.
            followed = True
            self._running.stop(self._running.goes_on(entry), UNSURE)
            raise
        finally:
            if not followed:
                self._place.following.leave(entry.job_id)
        self._accept(entry, lease, begun)
        return None

    def _entry(self, offer: worker_pb2.TaskOffer, terms: Terms, run: int) -> Delegation:
        key = origin_key(offer.task_id, offer.generation, run)
        return Delegation(
            self.parent_id,
            offer.task_id,
            self._place.store.new_job_id(owner_of(self.parent_id).name, key),
            offer.generation,
            offer.attempt,
            offer.lease_id,
            run,
            terms.until,
            skill=offer.skill,
        )

    async def _job_of(
        self, entry: Delegation, offer: worker_pb2.TaskOffer, terms: Terms
    ) -> tuple[JobRecord | None, Job | None]:
        """Have the job that an entry names, and the entry in the books with it.

        Answers with the job that was there already, which the entry names then; else with the new one, if it has begun.
        """
        key = origin_key(entry.task_id, entry.generation, entry.run)
        place = self._place

        async def made(note: Note) -> Accepted:
            asked = creating_of(offer, terms, key, entry.job_id, place.max_priority, place.allowed_skills, note)
            return await place.jobs.create_for_parent(entry.owner, asked)

        accepted = await self._books.write_with_job(entry, made)
        if not accepted.existing:
            return None, accepted.begun
        if accepted.job_id != entry.job_id:
            self._place.following.leave(entry.job_id)
            entry.job_id = accepted.job_id
            await self._books.write(entry)
        return await self._place.jobs.get(entry.owner.name, entry.job_id), None

    async def _move_noted(self, entry: Delegation, offer: worker_pb2.TaskOffer, terms: Terms) -> None:
        """The task is under this lease now, here and in the books; where they refuse, its job is stopped."""
        before = entry.lease, entry.attempt, entry.deadline
        self._running.outdated(entry.lease)
        entry.lease_id, entry.attempt = offer.lease_id, offer.attempt
        entry.ends_by(terms.until)
        try:
            await self._books.write(entry)
        except HolonError:
            # The parent gives the task to others now: nobody would stop the job for a lease that was never taken.
            (_, entry.lease_id), entry.attempt, entry.deadline = before
            running = self._running.get(entry.task_id)
            if running is not None:
                self._running.stop(running, LEASE_LOST)
            raise

    def _accept(self, entry: Delegation, lease: Lease, begun: Job | None = None) -> None:
        """The job is in the store: say so, and see it to its end."""
        starting = self._started(lease)
        self._reports.accept(lease)
        running = self._running.goes_on(entry, begun)
        if starting is not None and starting.reason:
            self._running.stop_soon(running, starting.reason)

    def _started(self, lease: Lease) -> Starting | None:
        """It is settled what becomes of an offer."""
        starting = self._starting.pop(lease, None)
        if starting is not None:
            left = self._of_task.pop(lease.task_id) - 1
            if left:
                self._of_task[lease.task_id] = left
        return starting
