"""The uplink: the parent's tasks while this node links: each is one job, under the newest lease, until settled."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from holon.uplink.books import Books
from holon.uplink.delegated import Delegated
from holon.uplink.place import Place
from holon.uplink.running import Running
from holon.uplink.stopping import asked
from holon.uplink.summaries import Summaries
from holon.uplink.taking import Taking
from holon.worker.leases import Lease
from holon.worker.reports import Reports


@dataclass(slots=True)
class Held:
    """How many tasks there are, and how many of them have yet to find a place, or are over and have none any more.

    `uncounted` are those that the parent does not count any more: it dropped them with an old session; they clean up.
    `fanned` wait for the tasks of a fan-out, of which it is not seen whether they have found theirs.
    """

    held: int = 0
    unplaced: int = 0
    uncounted: int = 0
    fanned: int = 0

    def add(self, *, unplaced: bool, uncounted: bool = False, fanned: bool = False) -> None:
        """There is one more."""
        self.held += 1
        self.unplaced += unplaced
        self.uncounted += uncounted
        self.fanned += fanned

    @property
    def counted(self) -> int:
        """How many of them count against credits."""
        return self.held - self.uncounted


class Serving:
    """Does what the parent says, and knows how many of its tasks there are.

    Arguments:
        summaries: who tells how the jobs are done.
        group: its tasks are run in it.

    Attributes:
        jobs: what becomes of tasks that were taken.
        taking: what becomes of offers.
        changed: set whenever there are more or fewer jobs, or one has found its place; and once it is settled what
            becomes of an offer, but not when that comes.
    """

    def __init__(
        self, place: Place, books: Books, reports: Reports, summaries: Summaries, group: asyncio.TaskGroup
    ) -> None:
        self.jobs = Running(place, books, reports, summaries, group)
        self.taking = Taking(place, books, reports, self.jobs)
        self.changed = self.jobs.changed
        self._following = place.following
        self._leases = reports.leases
        self._summaries = summaries

    def __repr__(self) -> str:
        return f"Serving({self.jobs}, {self.taking})"

    @property
    def held(self) -> int:
        """How many of the parent's tasks there are."""
        return len(self.jobs) + len(self.taking.starting)

    def by_skill(self, here: Collection[str] = (), left: Collection[str] = ()) -> dict[str, Held]:
        """How many of them are of each skill.

        Arguments:
            here: the jobs that have places at workers of this node, whether that was seen or not.
            left: those that had some a moment ago: they are over, or their next task is about to take one.
        """
        found: dict[str, Held] = {}
        for running in self.jobs:
            job_id = running.entry.job_id
            unplaced = job_id not in here and (running.placeless or (job_id in left and not running.fanned))
            # One that may get its task back in a moment keeps the room for that.
            uncounted = running.why is not None and not self._leases.holds(running.entry.lease)
            held = found.setdefault(running.entry.skill, Held())
            held.add(unplaced=unplaced, uncounted=uncounted, fanned=running.fanned)
        for starting in self.taking.starting.values():
            found.setdefault(starting.skill, Held()).add(unplaced=True)
        return found

    def alive(self) -> list[Lease] | None:
        """The leases whose jobs the store has shown when it was asked last; None: all.

        One whose part of the store is away ends here, and another holon has the task: nobody knows how it fares here.
        """
        unseen = self._following.unseen
        if not unseen:
            return None
        leases = (running.entry.lease for running in self.jobs if running.entry.job_id not in unseen)
        return [lease for lease in leases if self._leases.holds(lease)]

    @property
    def waiting(self) -> list[Delegated]:
        """Those of whose job no worker has had any task, as far as was seen, and that are not being stopped."""
        return [
            running
            for running in self.jobs
            if (running.unplaced or running.fanned or running.part_waits) and not (running.was_placed or running.why)
        ]

    async def job_of(self, task_id: str) -> str:
        """The job that does a task, or did, while that is not settled; empty when none is known to."""
        known = await self.jobs.known(task_id)
        return "" if known is None else known.job_id

    def welcomed(self, parent_id: str, answer_in: float | None) -> None:
        """This parent is served, which wants its offers answered within so many seconds; None: as before."""
        self.taking.parent_id = parent_id
        if answer_in is not None:
            self.taking.answer_in = answer_in

    def stopped(self, lease: Lease, reason: str) -> None:
        """The parent wants the work to stop, or has given the task to somebody else."""
        starting, why = self.taking.starting.get(lease), asked(reason)
        if starting is not None:
            starting.why = why
        elif (running := self.jobs.get(lease.task_id)) is not None and running.entry.lease == lease:
            self.jobs.stop_soon(running, why)

    def settled(self, lease: Lease, committed: bool) -> None:
        """The parent has used a result, or does not need it."""
        self.jobs.telling.settled(lease, committed)

    def resumed(self, lease: Lease, time_left: float | None) -> None:
        """The lease goes on."""
        running = self.jobs.get(lease.task_id)
        if running is not None and running.entry.lease == lease:
            running.entry.ends_by(self.taking.deadline(time_left))
            self.jobs.limit(running)
            self._summaries.changed(running.entry)
            running.say_again()
