"""The core: its operations as the calls of a store, for every store over the core."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from holon.clock import Clock
from holon.core import creations, endings, jobs, leases, outcomes, reads, rekeying, steps, timers, touches
from holon.core.tables import Tables
from holon.domain.events import InboxEvent
from holon.domain.matching import Need
from holon.domain.task import Outcome
from holon.errors import HolonError, StoreUnavailable
from holon.ports import (
    Appended,
    Claim,
    Committed,
    Completed,
    Count,
    Counted,
    Created,
    Document,
    Fired,
    Hint,
    Leased,
    NewJob,
    Note,
    Opened,
    Opening,
    Put,
    Result,
    Seat,
    Step,
    Stop,
    StoreSettings,
    TaskRecord,
    Touch,
    Touched,
)
from holon.storage.hints import Hints
from holon.storage.outbox import Outbox
from holon.storage.promises import Promises
from holon.storage.shared_records import SharedRecords
from holon.stores.port import RowStore
from holon.stores.sealing import Seal
from holon.stores.states import encode_state, with_states, with_step_states

T = TypeVar("T")


class CoreCalls(ABC):
    """The calls that change a store, and those that only the core in memory can answer.

    Arguments:
        settings: who this node is, and its durations.
        clock: what says the time.
        seal: for what leaves memory; None leaves that as it is.
    """

    shared = False
    at_one_place = True
    _promises: Promises
    _tables: Tables

    def __init__(self, settings: StoreSettings, clock: Clock, seal: Seal | None = None) -> None:
        self._settings = settings
        self._clock = clock
        # It is asked several times a job.
        self.now = clock.now_ms
        self._seal = seal or Seal()
        self._hints = Hints()
        self._outbox = Outbox(settings)
        self._shared = SharedRecords(self._ask, self._changed, self.now, alone=lambda: self.exclusive)

    @property
    @abstractmethod
    def exclusive(self) -> bool:
        """Whether no other process can take the store while this one has it open."""

    @abstractmethod
    async def _do(
        self, operation: Callable[[Tables, int], T], ids: Collection[str] = (), *, new_work: bool = False
    ) -> T:
        """Run an operation of the core at the store's time; durable when this returns.

        Arguments:
            ids: jobs and tasks that it is about.
            new_work: whether it only adds work, and is the first to be refused.
        """

    @abstractmethod
    def _checked(self, *, new_work: bool = False) -> Tables:
        """The rows in memory. Raises StoreUnavailable if `_do` would."""

    @abstractmethod
    def _no_new_jobs(self) -> HolonError | None:
        """Why new jobs are refused at the moment; None if they are not."""

    @abstractmethod
    async def _ask(self, call: Callable[[RowStore], Awaitable[T]], /) -> T:
        """The reply of the row store to a call that concerns no shard.

        Raises:
            StoreUnavailable: there is none in time; it may have been carried out.
        """

    @abstractmethod
    def _changed(self, kinds: frozenset[str]) -> None:
        """Documents of these kinds have changed."""

    @abstractmethod
    async def _fetch_requests(self, items: Sequence[NewJob]) -> None:
        """Have the jobs at hand that the request ids of these items have made."""

    def configure(self, settings: StoreSettings, seal: Seal | None = None) -> None:
        """Take the node's settings, and its seal if there is one; before the store is opened."""
        self._settings = settings
        self._seal = seal or self._seal
        self._outbox = Outbox(settings)

    @property
    def history_backlog(self) -> int:
        """How many bytes of history wait to be moved."""
        return self._outbox.bytes

    def hear(self, told: Callable[[Hint], None]) -> Callable[[], object]:
        return self._hints.hear(told)

    async def watch(self, job_id: str) -> None:
        # Hints are told together with what a read answers from: what was told before this, a read shows.
        self._hints.watched.add(job_id)

    def expect(self, job_id: str, *, history: bool) -> bool:  # noqa: ARG002  it takes no file
        self._hints.watched.add(job_id)
        return True

    def unwatch(self, job_id: str) -> None:
        self._hints.watched.discard(job_id)

    # Steps -----------------------------------------------------------------------------------------------------

    async def create_jobs(self, items: Sequence[NewJob], seats: Sequence[Seat] = ()) -> Created:
        await self._fetch_requests(items)
        refusal = self._no_new_jobs()
        repeats = refusal is not None
        if refusal is not None and not all(creations.is_repeat(self._checked(), new) for new in items):
            raise refusal
        encoded = with_states(items, self._settings.max_state_bytes)
        if any(new.note is not None or new.quota is not None for new in items):
            return await self._promises.whole(lambda: self._create_noted(encoded, seats, new_work=not repeats))
        return await self._do(
            lambda tables, now: creations.create_jobs(tables, encoded, seats, now),
            [one.job.id for one in items],
            new_work=not repeats,
        )

    async def _create_noted(
        self, encoded: Sequence[tuple[NewJob, bytes]], seats: Sequence[Seat], *, new_work: bool
    ) -> Created:
        """Create jobs of which some have a note or a quota: those are in the store before the jobs."""
        items = [new for new, _ in encoded]
        # A call that is refused counts nothing.
        self._checked(new_work=new_work)
        notes: Sequence[int | None] = ()
        if any(new.note is not None for new in items):
            notes = await self._shared.write([new.note for new in items])
        over = await self._over_quota(items, notes)
        # What they have made may have left memory meanwhile.
        await self._fetch_requests(items)
        return await self._do(
            lambda tables, now: creations.create_jobs(tables, encoded, seats, now, notes, over),
            [one.job.id for one in items],
            new_work=new_work,
        )

    async def _over_quota(self, items: Sequence[NewJob], notes: Sequence[int | None]) -> Collection[int]:
        """Count jobs against their quotas; the places of those whose quota is used up."""
        tables, places = self._checked(), dict[object, list[int]]()
        for place, new in enumerate(items):
            outdated = new.note is not None and notes[place] is None
            if new.quota is not None and not outdated and not creations.is_repeat(tables, new):
                # Items of one request make one job.
                name = place if new.request_id is None else (new.job.owner, new.request_id)
                places.setdefault(name, []).append(place)
        quotas = [quota for some in places.values() if (quota := items[some[0]].quota) is not None]
        granted = await self._shared.count_jobs(quotas)
        return {place for some, one in zip(places.values(), granted, strict=True) if not one for place in some}

    async def append(
        self,
        job_id: str,
        event: InboxEvent,
        dedup_key: str,
        request_key: str = "",
        most: int | None = None,
    ) -> Appended:
        return await self._do(
            lambda tables, _: jobs.append(tables, job_id, event, (dedup_key, request_key), most), [job_id]
        )

    async def unread(self, job_id: str) -> Sequence[InboxEvent]:
        return await self._do(lambda tables, _: reads.unread(tables, job_id), [job_id])

    async def release(self, claim: Claim, *, counted: bool = False) -> None:
        job_id = claim.job.id
        await self._do(lambda tables, _: jobs.release(tables, job_id, claim.claim_id, counted=counted), [job_id])

    async def commit(self, step: Step, seats: Sequence[Seat]) -> Committed:
        state = encode_state(step.job, self._settings.max_state_bytes, as_it_was=step.as_it_was)
        return await self._do(lambda tables, now: steps.commit(tables, step, state, seats, now), [step.job.id])

    async def spawn(self, job_id: str, step: int) -> None:
        await self._do(lambda tables, now: steps.spawn(tables, job_id, step, now), [job_id])

    # Leases ----------------------------------------------------------------------------------------------------

    async def open_session(self, opening: Opening) -> Opened:
        return await self._do(
            lambda tables, now: leases.open_session(tables, opening, now), [one for one, _ in opening.resumed]
        )

    async def close_session(self, worker_id: str, session_id: str) -> None:
        await self._do(lambda tables, _: leases.close_session(tables, worker_id, session_id))

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        return await self._do(lambda tables, now: leases.lease(tables, seats, now))

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        stops: list[Stop] = []

        def operation(tables: Tables, now: int) -> Touched:
            touched = touches.touch(tables, touch, seats, now)
            stops.extend(touched.stops)
            return touched

        try:
            return await self._do(operation, _named(touch))
        except StoreUnavailable:
            # The caller did not get them, so the next call has them again.
            touches.put_back(self._tables, stops)
            raise

    async def complete(self, results: Sequence[Result], worker_id: str, seats: Sequence[Seat]) -> Completed:
        encoded = with_step_states(results, self._settings.max_state_bytes)
        ids = [one.task_id for one in results]
        return await self._do(lambda tables, now: outcomes.complete(tables, encoded, worker_id, seats, now), ids)

    async def fire(self, limit: int) -> Fired:
        return await self._do(lambda tables, now: timers.fire(tables, limit, random.random, now))

    def pass_on(self, job_id: str, words: bytes) -> None:  # noqa: B027  nothing is to be done
        """One process owns the store: there is no other node."""

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        return await self._do(lambda tables, _: rekeying.queued(tables, skill))

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        return await self._do(lambda tables, _: reads.queued_tasks(tables, key, after, limit))

    async def task(self, task_id: str) -> TaskRecord | None:
        return await self._do(lambda tables, _: reads.task(tables, task_id), [task_id])

    async def needs(self, keys: Collection[str] | None = None) -> Mapping[str, Need]:
        return await self._do(lambda tables, _: rekeying.needs(tables, keys))

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        await self._do(lambda tables, _: rekeying.rekey(tables, moves), [one for one, _ in moves])

    async def end_queued(self, key: str, ends: Sequence[tuple[str, Outcome]]) -> None:
        await self._do(lambda tables, now: endings.end_queued(tables, key, ends, now), [one for one, _ in ends])

    # What nodes share ------------------------------------------------------------------------------------------

    async def document(self, kind: str, key: str) -> Document | None:
        return await self._shared.document(kind, key)

    async def documents(self, kind: str) -> Sequence[Document]:
        return await self._shared.documents(kind)

    async def put_document(
        self, kind: str, key: str, value: bytes | None, *, version: int, expires_in: int | None = None
    ) -> int | None:
        [written] = await self._write(kind, [Put(key, value, version, expires_in)])
        return written

    async def put_documents(self, kind: str, puts: Sequence[Put]) -> Sequence[int | None]:
        return await self._write(kind, puts)

    async def _write(self, kind: str, puts: Sequence[Put]) -> Sequence[int | None]:
        # A writer that is cancelled still learns of the new versions.
        return await self._promises.whole(lambda: self._shared.write([Note(kind, put) for put in puts]))

    async def count(self, items: Sequence[Count]) -> Sequence[Counted]:
        return await self._shared.count(items)


def _named(said: Touch) -> list[str]:
    """The tasks that messages of sessions are about."""
    refs = (*said.extends, *(one.lease for part in (said.accepts, said.handbacks, said.progress) for one in part))
    return [ref.task_id for ref in refs]
