"""The uplink: offers of tasks that are here already: the job that a task has goes on under the newer lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holon.errors import HolonError
from holon.rxon.v1 import worker_pb2
from holon.uplink.asked import Terms
from holon.uplink.books import Books
from holon.uplink.delegated import Stage
from holon.uplink.delegation import Delegation
from holon.uplink.running import Running
from holon.uplink.stopping import Why
from holon.worker.leases import Lease
from holon.worker.outcome import cancelled
from holon.worker.reports import Reports


class Moving:
    """Moves leases forward.

    Arguments:
        accept: told that the job of an entry goes on under this lease.
    """

    def __init__(
        self, books: Books, reports: Reports, running: Running, accept: Callable[[Delegation, Lease], None]
    ) -> None:
        self._books = books
        self._reports = reports
        self._running = running
        self._accept = accept

    def __repr__(self) -> str:
        return f"Moving({self._running!r})"

    async def made_way(self, known: Delegation, offer: worker_pb2.TaskOffer, until: float) -> bool:
        """Whether nothing is left of what must be over before the offer is taken.

        Arguments:
            until: how long that is waited for, on the loop's clock.
        """
        running = self._running.get(known.task_id)
        if running is None or known.does(offer):
            return True
        self._running.stop(running, Why.LEASE_LOST)
        return await running.ended(until - asyncio.get_running_loop().time())

    async def moved(self, entry: Delegation, lease: Lease, offer: worker_pb2.TaskOffer, terms: Terms) -> bool:
        """Have the job that does a task go on under this lease, or tell again what came of it; False: there is none.

        Raises:
            HolonError: that cannot be noted; what runs is stopped.
        """
        if not entry.does(offer):
            return False
        if self._running.get(entry.task_id) is None and not await self._running.exists(entry):
            return False
        before = entry.lease
        await self._note(entry, offer, terms)
        told = self._reports.reject(before, "STALE_OFFER", "the task is here under a newer lease")
        if not told and offer.lineage.HasField("budget"):
            # Lost with its session; what the job costs is told under the newer one, and the parent waits for both.
            self._reports.finish_lost(before, cancelled(0))
        if self._reports.leases.result(lease) is None:
            self._running.telling.outdated(entry.task_id)
            self._accept(entry, lease)
        return True

    async def _note(self, entry: Delegation, offer: worker_pb2.TaskOffer, terms: Terms) -> None:
        """The task is under this lease now, here and in the books. If its job ends meanwhile, that is told under it."""
        before, attempt, deadline = entry.lease, entry.attempt, entry.deadline
        entry.goes_on_under(offer.lease_id, offer.attempt, deadline)
        entry.ends_by(terms.until)
        try:
            await self._books.write(entry)
        except HolonError:
            if self._reports.leases.result(entry.lease) is None:
                entry.goes_on_under(before.lease_id, attempt, deadline)
                self._refused(entry)
            raise

    def _refused(self, entry: Delegation) -> None:
        running = self._running.get(entry.task_id)
        if running is None or running.stage is Stage.ENDS:
            self._running.telling.not_moved(entry)
        else:
            # The parent gives the task to others now: nobody would stop the job for a lease that was never taken.
            self._running.stop(running, Why.LEASE_LOST)
