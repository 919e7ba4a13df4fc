"""The store in Redis, as the engine sees it: its partitions together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from holon.clock import Clock
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.task import Outcome
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import (
    MAX_PAGE_BYTES,
    Appended,
    Claim,
    Committed,
    Completed,
    Counts,
    Created,
    Fired,
    Hint,
    JobFilter,
    JobRecord,
    Leased,
    NewJob,
    Notice,
    Opened,
    Opening,
    Quota,
    Result,
    Seat,
    Step,
    StoreSettings,
    TaskRecord,
    Touch,
    Touched,
)
from holon.randomness import random_id
from holon.storage.hints import Hints
from holon.storage.outbox import TAKE_BYTES
from holon.storage.redis.calls import Calls
from holon.storage.redis.claimed import Claimed
from holon.storage.redis.cluster import CLUSTERS, Cluster, Slot
from holon.storage.redis.keys import SHARED, Keys
from holon.storage.redis.lane import RETRY_AFTER_S
from holon.storage.redis.link import SharedLink
from holon.storage.redis.opening import find_store
from holon.storage.redis.partition import Partition
from holon.storage.redis.partitions import Partitions, at_once
from holon.storage.redis.quotas import Quotas
from holon.storage.redis.server import Place, Server, Strictness
from holon.storage.redis.several import Several
from holon.storage.redis.shared import SharedCalls
from holon.storage.redis.shares import Shares
from holon.storage.redis.visits import Visits
from holon.storage.sealing import Seal
from holon.telemetry.metrics import StoreMetrics


class RedisStorage(SharedCalls):
    """A store that many nodes share.

    It has one partition or more. A job is in one of them, which its id begins with, with all that is its own; what is
    asked of a job or a task is asked there. What is about all jobs is asked of every partition, in turn or at once.

    Arguments:
        uri: where the server is: `redis://[USER:PASSWORD@]HOST:PORT/DATABASE`, `rediss://...`, `unix:///PATH`, or one
            that sentinels name, see `Server`; or a cluster, see `Cluster`.
        settings: who this node is, and its durations; the node sets them when it is given a store without.
        clock: what says the time, for tests; None: the server's clock.
        partitions: how many there are; it stays what the first node says.
        replicas: how many of its replicas must have a call before it is answered.
        synced: whether it must be on the disk too, there and at the server itself.
        seal: what jobs carry is sealed with it; the node sets it when it is given a store without.
    Raises:
        ConfigError: the URI is none of these.
    """

    def __init__(
        self,
        uri: str,
        settings: StoreSettings | None = None,
        clock: Clock | None = None,
        *,
        partitions: int = 1,
        replicas: int = 0,
        synced: bool = False,
        seal: Seal | None = None,
    ) -> None:
        self._uri = uri
        self._settings = settings or StoreSettings(node_id="redis")
        self._clock = clock
        self._seal = seal or Seal()
        self._strictness = Strictness(replicas, synced)
        self._server = Cluster(uri) if uri.startswith(CLUSTERS) else Server(uri)
        self._count = partitions
        self._shares: Shares | None = None
        self._visits: Visits | None = None
        self._of_several: Several | None = None
        self._hints = Hints()
        self.metrics = StoreMetrics()
        self._opened = AsyncExitStack()
        self._open: Partitions | None = None
        self._beside: Calls | None = None
        self._link_beside: SharedLink | None = None

    def __repr__(self) -> str:
        return f"RedisStorage({self._server}, {self._open})"

    def configure(self, settings: StoreSettings, seal: Seal | None = None) -> None:
        """Take the node's settings, and its seal if there is one; before the store is opened."""
        self._settings = settings
        self._seal = seal or self._seal

    async def __aenter__(self) -> Self:
        """Connect, and take over from an earlier process of this node.

        Raises:
            ConfigError: the server cannot be reached, is too old or set up to lose data, or holds another store.
        """
        places = self._places()
        found = await find_store(places, self._strictness)
        if self._clock is not None:
            self._clock.not_before(max(one.time for one in found))
        backlog = self._settings.history_backlog
        settings = replace(self._settings, history_backlog=None if backlog is None else backlog // self._count)
        claimed: Claimed | None = None
        if self._count > 1:
            self._shares = Shares(self._count)
            claimed = Claimed(settings.claim, self.now, lambda: self._hints.give(Hint(ready=True)))
        self._open = Partitions(
            [
                Partition(
                    number,
                    self._count,
                    place,
                    one,
                    settings,
                    self._seal,
                    self._clock,
                    self._strictness,
                    self._shares,
                    claimed,
                    self._told,
                    self._hints,
                    self.metrics,
                )
                for number, (place, one) in enumerate(zip(places, found, strict=True))
            ]
        )
        if claimed is not None:
            self._visits = Visits(self._open, claimed)
            self._of_several = Several(self._open, self._visits)
        links = [one.link for one in self._open]
        async with AsyncExitStack() as opened:
            self._beside = links[0].about(SHARED)
            if isinstance(self._server, Cluster):
                self._beside = self._link_beside = await opened.enter_async_context(
                    links[0].beside(Slot(self._server, SHARED), SHARED)
                )
            for partition in self._open:
                partition.draw_on(Quotas(self._beside, partition.number, links))
                await opened.enter_async_context(partition)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was asked for, and disconnect."""
        await self._opened.aclose()

    def _places(self) -> list[Place]:
        """Where each partition is."""
        server = self._server
        if isinstance(server, Cluster):
            return [Slot(server, Keys(number)) for number in range(self._count)]
        return [server] * self._count

    @property
    def _shared(self) -> Calls:
        if self._beside is None:
            raise StoreUnavailable("the store is not open")
        return self._beside

    @property
    def _store_id(self) -> str:
        return self._partitions.first.link.id

    @property
    def _several(self) -> Several:
        if self._of_several is None:
            raise StoreUnavailable("the store is not open")
        return self._of_several

    @property
    def _partitions(self) -> Partitions:
        if self._open is None:
            raise StoreUnavailable("the store is not open")
        return self._open

    @property
    def waiting(self) -> int:
        """How many calls wait to be sent."""
        return sum(one.calls_waiting for one in self._open or ())

    def hurry(self) -> None:
        for one in self._open or ():
            one.hurry()
        if self._link_beside is not None:
            self._link_beside.hurry()

    async def failure(self) -> None:
        """Wait until the store is closed, or broken for good.

        Raises:
            StoreUnavailable: what is at the other end is not this store any more; only a restart helps.
        """
        waits = [asyncio.ensure_future(one.failure()) for one in self._partitions]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def now(self) -> int:
        return self._partitions.first.now()

    def hints(self) -> AsyncIterator[Hint]:
        return self._hints.listen()

    def _told(self, partition: Partition, hint: Hint) -> None:
        if hint.due is not None:
            hint = replace(hint, due=self._partitions.here(partition, hint.due))
        self._hints.give(hint)

    # Steps -----------------------------------------------------------------------------------------------------

    def new_job_id(self, owner: str, request_id: str | None = None) -> str:
        partitions = self._partitions
        partition = partitions.for_new() if request_id is None else partitions.for_request(owner, request_id)
        return f"{partition.number}-{random_id()}"

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        parts = self._partitions.split(items, lambda item: item.job.id)
        if len(parts) == 1:
            [partition] = parts
            created = await partition.create_jobs(items, want, seats)
            if self._visits is None or not seats:
                return created
            return replace(created, leased=self._visits.with_others(seats, created.leased))
        return await self._partitions.whole(self._several.create_jobs(items, parts, want, seats))

    async def append(
        self, job_id: str, event: InboxEvent, dedup_key: str, want: int
    ) -> tuple[Appended, Sequence[Claim]]:
        return await self._partitions.of(job_id).append(job_id, event, dedup_key, want)

    async def claim(self, want: int) -> Sequence[Claim]:
        if self._visits is None:
            return await self._partitions.first.claim(want)
        return await self._partitions.whole(self._visits.claim(want))

    async def keep(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs(Partition.keep, claims)

    async def release(self, claims: Sequence[tuple[str, str]]) -> Sequence[bool]:
        return await self._pairs(Partition.release, claims)

    async def _pairs(
        self,
        call: Callable[[Partition, Sequence[tuple[str, str]]], Awaitable[Sequence[bool]]],
        claims: Sequence[tuple[str, str]],
    ) -> Sequence[bool]:
        parts = self._partitions.split(claims, lambda claim: claim[0])
        if len(parts) == 1:
            [partition] = parts
            return await call(partition, claims)
        replies = await self._partitions.whole(at_once([call(*part) for part in parts.items()]))
        said: dict[tuple[str, str], bool] = {}
        for some, answers in zip(parts.values(), replies, strict=True):
            said |= zip(some, answers, strict=True)
        return tuple(said[claim] for claim in claims)

    async def commit(self, step: Step, want: int, seats: Sequence[Seat]) -> Committed:
        partition = self._partitions.of(step.job.id)
        committed = await partition.commit(step, want, seats)
        if self._visits is None:
            return committed
        return replace(committed, leased=self._visits.with_others(seats, committed.leased))

    async def spawn(self, job_id: str, step: int, seats: Sequence[Seat]) -> Leased:
        partition = self._partitions.of(job_id)
        leased = await partition.spawn(job_id, step, seats)
        return self._visits.with_others(seats, leased) if self._visits else leased

    async def branches(self, job_id: str, step: int) -> Sequence[tuple[str, Outcome]]:
        return await self._partitions.of(job_id).branches(job_id, step)

    # Leases ----------------------------------------------------------------------------------------------------

    async def open_session(self, opening: Opening) -> Opened:
        if self._shares is None:
            return (await self._partitions.first.open_session(opening, None))[0]
        self._shares.opened(opening.session_id, opening.credits)
        return await self._partitions.whole(self._several.open_session(opening))

    async def close_session(self, worker_id: str, session_id: str) -> None:
        if self._shares is not None:
            self._shares.closed(session_id)
        await self._partitions.every(lambda one: one.close_session(worker_id, session_id))

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        if self._visits is None:
            return await self._partitions.first.lease(seats)
        return await self._partitions.whole(self._visits.lease(seats))

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        if self._shares is None:
            [partition] = self._partitions
            touched = await partition.touch(touch, seats)
            partition.stops_taken()
            return touched
        for _, session_id, granted in touch.credits:
            self._shares.granted(session_id, granted)
        touched, failure = await self._partitions.whole(self._several.touch(touch, seats))
        if failure is not None:
            # Whoever was not told is asked again soon, and nobody else has to wait for it.
            soon = failure.retry_after or RETRY_AFTER_S
            asyncio.get_running_loop().call_later(soon, self._hints.give, Hint(stops=True))
        return touched

    async def complete(self, results: Sequence[Result], worker_id: str, want: int, seats: Sequence[Seat]) -> Completed:
        if self._visits is None:
            return await self._partitions.first.complete(results, worker_id, want, seats)
        parts = self._partitions.split(results, lambda result: result.task_id)
        if len(parts) > 1:
            several = self._several.complete(results, parts, worker_id, want, seats)
            return await self._partitions.whole(several)
        [partition] = parts or [self._partitions.first]
        completed = await partition.complete(results, worker_id, want, self._visits.turn_of(partition, seats))
        return replace(completed, leased=self._visits.with_others(seats, completed.leased))

    async def fire(self, limit: int, want: int, seats: Sequence[Seat]) -> Fired:
        if self._visits is None:
            return await self._partitions.first.fire(limit, want, seats)
        return await self._partitions.whole(self._visits.fire(limit, want, seats))

    async def task(self, task_id: str) -> TaskRecord | None:
        return await self._partitions.of(task_id).task(task_id)

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        together: dict[str, tuple[Need, int]] = {}
        for found in await self._partitions.every(lambda one: one.queued(skill)):
            for key, (need, count) in found.items():
                together[key] = need, count + (together[key][1] if key in together else 0)
        return together

    async def needs(self) -> Mapping[str, Need]:
        return {key: need for found in await self._partitions.every(Partition.needs) for key, need in found.items()}

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        pages = await self._partitions.every(lambda one: one.queued_tasks(key, after, limit))
        return sorted((task for page in pages for task in page), key=lambda task: task.id)[:limit]

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        parts = self._partitions.split(moves, lambda move: move[0])
        await self._partitions.whole(at_once([partition.rekey(some) for partition, some in parts.items()]))

    # The outbox ------------------------------------------------------------------------------------------------

    @property
    def history_backlog(self) -> int:
        """How many bytes of history wait to be moved, as of a second ago or so."""
        return sum(one.history_backlog for one in self._partitions)

    async def take(self, limit: int) -> Sequence[Notice]:
        if self._visits is None:
            return (await self._partitions.first.take(limit, TAKE_BYTES))[0]
        return await self._partitions.whole(self._visits.take(limit))

    async def settle(self, notices: Sequence[str]) -> None:
        parts = self._partitions.split(notices, str)
        await self._partitions.whole(at_once([partition.settle(some) for partition, some in parts.items()]))

    # Reads -----------------------------------------------------------------------------------------------------

    async def watch(self, job_id: str) -> None:
        self._hints.watched.add(job_id)
        await self._partitions.of(job_id).watch(job_id)

    def unwatch(self, job_id: str) -> None:
        self._hints.watched.discard(job_id)
        self._partitions.of(job_id).unwatch(job_id)

    async def job(self, job_id: str) -> JobRecord | None:
        return await self._partitions.of(job_id).job(job_id)

    async def jobs(self, which: JobFilter, limit: int) -> tuple[Sequence[JobRecord], int | None]:
        pages = await self._partitions.every(lambda one: one.jobs(which, limit))
        # Below where a page ended, its partition may have more.
        floor = max((more for _, more in pages if more is not None), default=0)
        found = sorted((one for page, _ in pages for one in page), key=lambda one: -one[0].number)
        page: list[JobRecord] = []
        room = MAX_PAGE_BYTES
        for record, size in found:
            room -= size
            if record.number < floor or len(page) == limit or (page and room < 0):
                break
            page.append(record)
        return page, page[-1].number if page and (floor or len(page) < len(found)) else None

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        return await self._partitions.of(job_id).history(job_id, after, limit)

    async def counts(self) -> Counts:
        every = await self._partitions.every(Partition.counts)
        jobs: Counter[Status] = Counter()
        waiting: Counter[str] = Counter()
        for one in every:
            jobs.update(one.jobs)
            waiting.update(one.waiting)
        return Counts(jobs, sum(one.queued for one in every), sum(one.leased for one in every), waiting)

    async def surplus(self, keep: int) -> int | None:
        if self._count == 1:
            return await self._partitions.first.ended(keep)
        # Those beyond so many in one partition are so in all; what they leave is found by halving the time since.
        first = max((time for time in await self._partitions.every(lambda one: one.ended(keep)) if time), default=0)
        after = self.now() + 1
        while after - first > 1:
            middle = (first + after) // 2
            if sum(await self._partitions.every(lambda one, since=middle: one.ended_since(since))) > keep:  # type: ignore[misc]
                first = middle
            else:
                after = middle
        return first or None

    async def quota_used(self, key: str, period: str) -> int:
        quota = Quota(key, 0, period, 0)
        return sum(await self._partitions.every(lambda one: one.quota_made(quota)))

    async def purge(self, finished_before: int, limit: int) -> int:
        await self._forget_expired()
        purged = 0
        for partition in self._partitions:
            purged += await partition.purge(finished_before, limit - purged)
        return purged
