"""The core: its operations as the calls of a store, for every store over the core."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from holon.clock import Clock
from holon.core import creations, endings, jobs, leases, outcomes, reads, rekeying, shared, steps, timers, touches
from holon.core.documents import check_document
from holon.core.tables import Tables
from holon.domain.events import InboxEvent
from holon.domain.matching import Need
from holon.domain.task import Outcome
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
    Opened,
    Opening,
    Put,
    Result,
    Seat,
    Step,
    StoreSettings,
    TaskRecord,
    Touch,
    Touched,
)
from holon.storage.hints import Hints
from holon.storage.outbox import Outbox, too_much_waits
from holon.storage.windows import Windows
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

    spread = 0
    at_one_place = True

    def __init__(self, settings: StoreSettings, clock: Clock, seal: Seal | None = None) -> None:
        self._settings = settings
        self._clock = clock
        # It is asked several times a job.
        self.now = clock.now_ms
        self._seal = seal or Seal()
        self._hints = Hints()
        self._outbox = Outbox(settings)
        self._windows = Windows()

    @abstractmethod
    async def _do(
        self, operation: Callable[[Tables, int], T], ids: Collection[str] = (), *, new_work: bool = False
    ) -> T:
        """Run an operation of the core at the store's time; durable when this returns.

        Arguments:
            ids: jobs and tasks that it is about.
            new_work: whether it only adds work, and is the first to be refused.
        """

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

    def is_as_created(self, job_id: str) -> bool:  # noqa: ARG002  it keeps no copies
        return False

    def unwatch(self, job_id: str) -> None:
        self._hints.watched.discard(job_id)

    # Steps -----------------------------------------------------------------------------------------------------

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        for new in items:
            if new.note is not None:
                check_document(new.note.kind, new.note.put.key, new.note.put.value)
        if self._outbox.full:
            ids = [one.job.id for one in items]
            known = await self._do(lambda tables, now: creations.repeats(tables, items, seats, now), ids)
            if known is None:
                raise too_much_waits(self._outbox.bytes)
            return known
        encoded = with_states(items, self._settings.max_state_bytes)
        return await self._do(
            lambda tables, now: creations.create_jobs(tables, encoded, want, seats, now),
            [one.job.id for one in items],
            new_work=True,
        )

    async def made(self, owner: str, request_id: str) -> tuple[str, bytes] | None:
        return await self._do(lambda tables, _: creations.made(tables, owner, request_id))

    async def append(
        self,
        job_id: str,
        event: InboxEvent,
        dedup_key: str,
        want: int,
        request_key: str = "",
        most: int | None = None,
    ) -> tuple[Appended, Sequence[Claim]]:
        return await self._do(
            lambda tables, now: jobs.append(tables, job_id, event, (dedup_key, request_key), want, most, now), [job_id]
        )

    async def unread(self, job_id: str) -> Sequence[InboxEvent]:
        return await self._do(lambda tables, _: reads.unread(tables, job_id), [job_id])

    async def claim(self, want: int) -> Sequence[Claim]:
        return await self._do(lambda tables, now: jobs.claim(tables, want, now))

    async def keep(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._do(lambda tables, now: jobs.keep(tables, claims, now), [one for one, _ in claims])

    async def release(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._do(lambda tables, _: jobs.release(tables, claims), [one for one, _ in claims])

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        state = encode_state(step.job, self._settings.max_state_bytes, as_it_was=step.as_it_was)
        return await self._do(lambda tables, now: steps.commit(tables, step, state, want, seats, now), [step.job.id])

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
        return await self._do(lambda tables, now: touches.touch(tables, touch, seats, now), _named(touch))

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        encoded = with_step_states(results, self._settings.max_state_bytes)
        ids = [one.task_id for one in results]
        return await self._do(lambda tables, now: outcomes.complete(tables, encoded, worker_id, want, seats, now), ids)

    async def fire(self, limit: int, want: int) -> Fired:
        return await self._do(lambda tables, now: timers.fire(tables, limit, want, random.random, now))

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
        check_document(kind, key)
        return await self._do(lambda tables, now: shared.document(tables, kind, key, now))

    async def documents(self, kind: str) -> Sequence[Document]:
        check_document(kind)
        return await self._do(lambda tables, now: shared.documents(tables, kind, now))

    async def put_document(
        self, kind: str, key: str, value: bytes | None, *, version: int, expires_in: int | None = None
    ) -> int | None:
        check_document(kind, key, value)
        return await self._do(
            lambda tables, now: shared.put_document(tables, kind, key, value, version, expires_in, now)
        )

    async def put_documents(self, kind: str, puts: Sequence[Put]) -> Sequence[int | None]:
        for one in puts:
            check_document(kind, one.key, one.value)
        return await self._do(
            lambda tables, now: [
                shared.put_document(tables, kind, one.key, one.value, one.version, one.expires_in, now) for one in puts
            ]
        )

    async def count(self, items: Sequence[Count]) -> Sequence[Counted]:
        # One process owns the store, so this is all of them.
        now = self.now()
        return [self._windows.count(item, now) for item in items]


def _named(said: Touch) -> list[str]:
    """The tasks that messages of sessions are about."""
    refs = (*said.extends, *(one.lease for part in (said.accepts, said.handbacks, said.progress) for one in part))
    return [ref.task_id for ref in refs]
