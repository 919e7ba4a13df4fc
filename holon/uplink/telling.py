"""The uplink: how jobs of the parent's ended: each lease has one final word, which is known until it is heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from holon.domain.job import Status
from holon.engine.told_above import extent_of
from holon.errors import HolonError, StoreUnavailable
from holon.ports import JobRecord
from holon.rxon.v1 import worker_pb2
from holon.telemetry.seldom import Seldom
from holon.uplink.books import Books
from holon.uplink.delegated import Delegated
from holon.uplink.delegation import Delegation
from holon.uplink.events import Events
from holon.uplink.place import Place
from holon.uplink.stopping import Why
from holon.uplink.summaries import Summaries
from holon.uplink.words import Words
from holon.wire.worker import UNSERVABLE
from holon.worker.leases import Lease
from holon.worker.outcome import cancelled
from holon.worker.reports import Reports

log = logging.getLogger(__name__)


class Telling:
    """Tells the parent how its tasks ended.

    Arguments:
        summaries: who tells how the jobs are done.
        events: who tells of what happened in them.
        start: has something done beside.
    """

    def __init__(
        self,
        place: Place,
        books: Books,
        reports: Reports,
        summaries: Summaries,
        events: Events,
        start: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        self._in_words = place.in_words
        self._words = Words(place)
        self._books = books
        self._reports = reports
        self._summaries = summaries
        self._events = events
        self._start = start
        # By task: what was told, and is not acknowledged; those of which the node has heard nothing yet.
        self._told: dict[str, Delegation] = {}
        self._away = Seldom(log)

    def __repr__(self) -> str:
        return f"Telling(told={len(self._told)})"

    def told(self, task_id: str) -> Delegation | None:
        """The delegation whose end was told, while the parent has not acknowledged that."""
        return self._told.get(task_id)

    def outdated(self, task_id: str) -> Delegation | None:
        """The task has another job, or its end is to be told anew: what is answered of the old word settles nothing.

        Returns:
            whose that was.
        """
        return self._told.pop(task_id, None)

    def not_outdated(self, entry: Delegation) -> None:
        """There is no other job after all: what is answered of its word, or was meanwhile, counts."""
        self._told[entry.task_id] = entry
        self.not_moved(entry)

    def at_once(self, running: Delegated, record: JobRecord | None) -> bool:
        """Tell the end of a job where nothing has to be waited for, as it nearly always is; whether it is told."""
        if record is None or running.why or record.job.events or not self._reports.leases.holds(running.entry.lease):
            return False
        word = self._words.at_once(record)
        if word is None or not self._summaries.add_at_hand(record, word):
            return False
        running.entry.withdrawn = False
        self._tell(running.entry, word)
        return True

    async def tell(self, running: Delegated, record: JobRecord | None) -> None:
        """Tell the end of any job; None: it is gone. Where nobody is to be told, the next offer of its task asks."""
        entry, why = running.entry, running.why
        if record is not None and record.job.events:
            # Of a task that is over nobody could take them.
            told: Lease | None = None
            while told != entry.lease:
                # While the parent takes them, the task may come again: they are told anew under that lease.
                told = entry.lease
                await self._events.tell(entry, extent_of(record), last=True)
        was_cancelled = record is None or record.job.status is Status.CANCELLED
        if why is not None and why.gives_back and was_cancelled:
            lease = entry.lease
            known = self._give_back(running, why, record) or why is Why.UNSURE
            if why is Why.UNSURE and record is None:
                # It was not made, or is another's under the same key: that is found once the key is used again, and
                # may have to be stopped then.
                entry.withdrawn, entry.stopping, entry.cleans_until = False, "", 0
            if known or not await self._tell_lost(entry, lease, record):
                await self._remember(entry, lease)
            return
        entry.withdrawn = False
        word = await self._words.of(entry, record, why)
        if record is not None:
            await self._summaries.add(entry, record, word)
        # Perhaps it is a newer one by now.
        lease = entry.lease
        if self._tell(entry, word):
            return
        if why is None or not was_cancelled or not await self._tell_lost(entry, lease, record):
            await self._remember(entry, lease)

    def settled(self, lease: Lease, committed: bool) -> None:
        """The parent has used a result, or does not need it: nothing has to be known of the task any more.

        But where its job was taken back, or is not the first of this generation, and the task may come again, that has
        to be.
        """
        entry = self._told.get(lease.task_id)
        if entry is None or entry.lease != lease:
            return
        if committed or not (entry.run or entry.withdrawn):
            del self._told[lease.task_id]
            self._books.settle(entry)
        else:
            self._start(self._remember_told(entry, lease), f"settled-{lease.task_id}")

    def not_moved(self, entry: Delegation) -> None:
        """A newer lease of what is over could not be noted: it is told, or remembered, as before."""
        if entry.lease not in self._reports.leases:
            self._start(self._remember_told(entry, entry.lease), f"not-moved-{entry.task_id}")

    async def forget(self, entry: Delegation) -> None:
        """Nothing has to be known of a task any more."""
        try:
            await self._books.forget(entry)
        except HolonError as error:
            # It is found again at the next start, and its result answered as one that is not needed.
            log.warning("task %s stays stored: %s", entry.task_id, error.message, extra=entry.facts)

    def _tell(self, entry: Delegation, result: worker_pb2.TaskResult) -> bool:
        """The final word, kept until it is acknowledged. False where the lease is gone: the next offer asks for it."""
        lease = entry.lease
        if not self._reports.leases.holds(lease):
            return False
        self._told[lease.task_id] = entry
        self._reports.finish(lease, result)
        return True

    def _give_back(self, running: Delegated, why: Why, record: JobRecord | None) -> bool:
        """Have the parent find another for it; False where the lease is gone."""
        reason = UNSERVABLE if why is Why.UNSERVABLE else "STALE_OFFER"
        words = running.reason if self._in_words else ""
        cost = record.spent if record is not None else None
        counts = record is not None and record.job.budget is not None
        return self._reports.reject(
            running.entry.lease, reason, words or "the parent took the task back", cost=cost, counts=counts
        )

    async def _tell_lost(self, entry: Delegation, lease: Lease, record: JobRecord | None) -> bool:
        """Nobody waits for a word of a lease that was lost with its session; but what it cost counts, and its task may
        be over: then this is how it is shown. Until it is acknowledged, the entry stays as it is.

        False where there is nothing to be said, or the task has another lease by now.
        """
        if record is None:
            return False
        counts = record.spent is not None or record.job.budget is not None
        word = cancelled(record.spent or 0 if counts else None)
        await self._summaries.add(entry, record, word)
        if not (counts or word.HasField("summary")) or entry.lease != lease:
            return False
        self._told[lease.task_id] = entry
        self._reports.finish_lost(lease, word)
        return True

    async def _remember_told(self, entry: Delegation, lease: Lease) -> None:
        await self._remember(entry, lease)
        if self._told.get(lease.task_id) is entry and entry.lease == lease:
            del self._told[lease.task_id]

    async def _remember(self, entry: Delegation, lease: Lease) -> None:
        """Nothing is owed under this lease; the task may come again."""
        while True:
            try:
                await self._books.remember(entry, lease)
            except StoreUnavailable as error:
                # Else it would be owed until the next start, and its job kept.
                message = "the end of task %s is stored later"
                self._away.warn(message, entry.task_id, why=error.message, **entry.facts)
                await asyncio.sleep(error.again_after)
            except HolonError as error:
                message = "the end of task %s could not be stored: %s"
                log.warning(message, entry.task_id, error.message, extra=entry.facts)
                return
            else:
                return
