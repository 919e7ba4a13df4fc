"""The uplink: offers that become new jobs, many of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from holon.domain.job import Status
from holon.domain.value import Value
from holon.engine.requests import Accepted, Creating
from holon.errors import HolonError, InvalidArgument, NotFound
from holon.ports import Note
from holon.rxon.v1 import worker_pb2
from holon.uplink.asked import Terms, creating_of
from holon.uplink.books import Books
from holon.uplink.delegation import Delegation, origin_key, owner_of
from holon.uplink.place import Place
from holon.uplink.running import Running
from holon.uplink.stopping import Why
from holon.uplink.tenure import TenureLost
from holon.worker.leases import Lease
from holon.worker.outcome import INVALID_INPUT_ERROR, failure
from holon.worker.reports import Reports


class Refusal(Value):
    """Why an offer is given back, and after how many seconds it may come again; None: when the parent likes.

    Zero: it crossed our word of fewer credits, and may come again with more.
    """

    reason: str
    message: str
    again_after: float | None = None


@dataclass(slots=True)
class New:
    """The job that is to be made for an offer, with the key that makes its creation repeatable.

    `followed`: whether somebody sees to it: it is there, or may be.
    """

    lease: Lease
    offer: worker_pb2.TaskOffer
    terms: Terms
    entry: Delegation
    key: str
    followed: bool = False


# What became of one: None, or why it is given back; or what went wrong.
Outcome: TypeAlias = Refusal | Exception | None


class Making:
    """Has new jobs do tasks.

    Arguments:
        accept: told that the job of an entry is there, under this lease.
    """

    def __init__(
        self,
        place: Place,
        books: Books,
        reports: Reports,
        running: Running,
        accept: Callable[[Delegation, Lease], None],
    ) -> None:
        self._place = place
        self._books = books
        self._reports = reports
        self._running = running
        self._accept = accept

    def __repr__(self) -> str:
        return f"Making({self._running!r})"

    def new(self, lease: Lease, offer: worker_pb2.TaskOffer, terms: Terms, parent_id: str, run: int) -> New:
        """The job that is to be made for an offer.

        Arguments:
            run: as in `Delegation`.
        """
        key = origin_key(offer.task_id, offer.generation, run)
        entry = Delegation(
            parent_id,
            offer.task_id,
            self._place.store.new_job_id(owner_of(parent_id).name, key),
            offer.generation,
            offer.attempt,
            offer.lease_id,
            run,
            terms.until,
            skill=offer.skill,
        )
        return New(lease, offer, terms, entry, key)

    async def make(self, jobs: Sequence[New]) -> Sequence[Outcome]:
        """Have jobs of one parent made, for different tasks; what goes wrong with one leaves the others alone.

        Raises:
            TenureLost: the link is another node's.
        """
        following = self._place.following
        for one in jobs:
            following.expect(one.entry.job_id)
        try:
            made = await self._books.write_with_jobs([one.entry for one in jobs], partial(self._create, jobs))
            return [await self._tried(one, accepted) for one, accepted in zip(jobs, made, strict=True)]
        finally:
            for one in jobs:
                if not one.followed:
                    following.leave(one.entry.job_id)

    async def _create(self, jobs: Sequence[New], notes: Sequence[Note]) -> Sequence[Accepted | HolonError]:
        asked = [self._asked(one, note) for one, note in zip(jobs, notes, strict=True)]
        good = [one for one in asked if isinstance(one, Creating)]
        made = iter(await self._place.jobs.create_for_parent(jobs[0].entry.owner, good))
        return [next(made) if isinstance(one, Creating) else one for one in asked]

    def _asked(self, one: New, note: Note) -> Creating | HolonError:
        place, job_id = self._place, one.entry.job_id
        try:
            return creating_of(
                one.offer,
                one.terms,
                one.key,
                job_id,
                place.max_priority,
                place.allowed_skills,
                note,
                passed=place.offerings.passes(one.offer.skill),
            )
        except HolonError as error:
            return error

    async def _tried(self, one: New, made: Accepted | HolonError) -> Outcome:
        try:
            return await self._made(one, made)
        except Exception as error:  # noqa: BLE001  whoever offered it is told
            return error

    async def _made(self, one: New, made: Accepted | HolonError) -> Outcome:
        entry = one.entry
        if isinstance(made, Accepted):
            try:
                if made.existing:
                    return await self._was_made(one, made.job_id)
            except (HolonError, TenureLost):
                self._stop_if_made(one)
                raise
            one.followed = True
            self._accept(entry, one.lease)
            return None
        if isinstance(made, NotFound):
            await self._running.telling.forget(entry)
            return Refusal("UNKNOWN_SKILL", made.message)
        if isinstance(made, InvalidArgument):
            await self._running.telling.forget(entry)
            self._reports.finish(one.lease, failure(INVALID_INPUT_ERROR, made.message))
            return None
        self._stop_if_made(one)
        raise made

    async def _was_made(self, one: New, job_id: str) -> Outcome:
        """An earlier call has made the job."""
        entry, place = one.entry, self._place
        if job_id != entry.job_id:
            place.following.leave(entry.job_id)
            entry.job_id = job_id
            await self._books.write(entry)
        record = await place.jobs.get(entry.owner, entry.job_id)
        if record.job.status is Status.CANCELLED and entry.run != entry.attempt:
            # Withdrawn so long ago that it is not remembered: the task begins anew.
            [outcome] = await self.make([self.new(one.lease, one.offer, one.terms, entry.parent, entry.attempt)])
            return outcome
        one.followed = True
        self._accept(entry, one.lease)
        return None

    def _stop_if_made(self, one: New) -> None:
        """The store may have made the job all the same: it is looked for, and stopped."""
        one.followed = True
        self._running.stop(self._running.goes_on(one.entry), Why.UNSURE)
