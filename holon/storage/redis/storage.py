"""The store in Redis, as the engine sees it: its partitions together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

from holon.clock import Clock
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import Created, Creation, Hint, NewJob, Note, Seat, StoreSettings
from holon.storage.redis.calls import Calls
from holon.storage.redis.claimed import Claimed
from holon.storage.redis.keys import SHARED, Keys
from holon.storage.redis.link import SharedLink
from holon.storage.redis.opening import find_store
from holon.storage.redis.partition import Partition
from holon.storage.redis.partitions import Partitions
from holon.storage.redis.quotas import Quotas
from holon.storage.redis.several import Several
from holon.storage.redis.shares import Shares
from holon.storage.redis.visits import Visits
from holon.storage.redis.whole_leases import AllLeases
from holon.storage.redis.whole_records import AllRecords
from holon.storage.redis.whole_steps import AllSteps
from holon.stores.redis_servers import Cluster, Place, Sentinels, Server, Slot, Strictness
from holon.stores.sealing import Seal
from holon.telemetry.metrics import StoreMetrics

log = logging.getLogger(__name__)


class RedisStorage(AllSteps, AllLeases, AllRecords):
    """A store that many nodes share.

    It has one partition or more. A job is in one of them, which its id begins with, with all that is its own; what is
    asked of a job or a task is asked there. What is about all jobs is asked of every partition, in turn or at once.

    Arguments:
        uri: where the server is: `redis://[USER:PASSWORD@]HOST:PORT/DATABASE`, `rediss://...`, `unix:///PATH`, one that
            sentinels name, see `Sentinels`; or a cluster, see `Cluster`.
        settings: who this node is, and its durations; the node sets them when it is given a store without.
        clock: what says the time, for tests; None: the server's clock.
        partitions: how many there are; it stays what the first node says.
        replicas: how many of its replicas must have a call before it is answered.
        synced: whether it must be on the disk too, there and at the server itself.
        seal: what jobs carry is sealed with it; the node sets it when it is given a store without.
    Raises:
        ConfigError: the URI is none of these.
    """

    # The calls of some nodes fit into it, and nobody notices it of a timer.
    spread = 20
    # Jobs are in partitions, and their notes elsewhere. Those that are made at the same moment share a call anyway.
    at_one_place = False

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
        super().__init__(partitions)
        self._uri = uri
        self._settings = settings or StoreSettings(node_id="redis")
        self._clock = clock
        self._seal = seal or Seal()
        self._strictness = Strictness(replicas, synced)
        self._server: Cluster | Place
        if uri.startswith(Cluster.SCHEMES):
            self._server = Cluster(uri)
        else:
            self._server = Sentinels(uri) if uri.startswith(Sentinels.SCHEMES) else Server(uri)
        self.metrics = StoreMetrics()
        self._opened = AsyncExitStack()
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
            self._of_several = Several(self._open, self._visits, lambda: self._hints.give(Hint(stops=True)))
        links = [one.link for one in self._open]
        async with AsyncExitStack() as opened:
            if self._of_several is not None:
                opened.push_async_callback(self._of_several.close)
            self._beside = links[0].about(SHARED)
            if isinstance(self._server, Cluster):
                self._beside = self._link_beside = await opened.enter_async_context(
                    links[0].beside(Slot(self._server, SHARED.meta), SHARED)
                )
            for partition in self._open:
                partition.draw_on(Quotas(self._beside, partition.number, links))
                await opened.enter_async_context(partition)
            self._opened = opened.pop_all()
        if others := ", ".join(links[0].differing):
            log.warning(
                "this node has %s database of history (HISTORY_DATABASE_URI), unlike %s: a node without one shows of "
                "a history no more than what was not moved; give all nodes of the store the same setting",
                "no" if backlog is None else "a",
                others,
            )
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
            return [Slot(server, Keys(number).meta) for number in range(self._count)]
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
        links = [*self._partitions, *([self._link_beside] if self._link_beside is not None else [])]
        waits = [asyncio.create_task(one.failure(), name="store-failure") for one in links]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def create_jobs(self, items: Sequence[NewJob], want: int, seats: Sequence[Seat] = ()) -> Created:
        notes = [item.note for item in items if item.note is not None]
        if not notes:
            return await super().create_jobs(items, want, seats)
        return await self._partitions.whole(self._create_with_notes(items, notes, want, seats))

    async def _create_with_notes(
        self, items: Sequence[NewJob], notes: Sequence[Note], want: int, seats: Sequence[Seat]
    ) -> Created:
        # Documents are in a slot of their own. Both are asked for at once, for they take as long as each; notes first.
        noting = asyncio.gather(*(self.put_documents(one.kind, [one.put]) for one in notes))
        written, created = await asyncio.gather(noting, super().create_jobs(items, want, seats), return_exceptions=True)
        if isinstance(created, BaseException):
            raise written if isinstance(written, BaseException) else created
        if isinstance(written, BaseException):
            # Nobody would run what was claimed meanwhile.
            with suppress(StoreUnavailable):
                await self.release([(claim.job.id, claim.claim_id) for claim in created.claims])
            raise written
        return _with_notes(items, [version for versions in written for version in versions], created)

    def hear(self, told: Callable[[Hint], None]) -> Callable[[], object]:
        return self._hints.hear(told)

    def _told(self, partition: int, hint: Hint) -> None:
        if hint.due is not None:
            hint = replace(hint, due=self._partitions.here(self._partitions[partition], hint.due))
        self._hints.give(hint)


def _with_notes(items: Sequence[NewJob], written: Sequence[int | None], created: Created) -> Created:
    """The reply, with the version of each item's note."""
    left = iter(written)
    notes = tuple(None if item.note is None else next(left) for item in items)
    jobs = tuple(
        (job_id, Creation.OUTDATED if item.note is not None and noted is None else creation)
        for item, noted, (job_id, creation) in zip(items, notes, created.jobs, strict=True)
    )
    return replace(created, jobs=jobs, notes=notes)
