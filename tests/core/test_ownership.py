"""Who owns a shard: an owner that can write keeps it, whatever the store does meanwhile. The time is virtual."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context

import pytest

from holon.core.owner import Owner
from holon.core.writer import RENEW_S, Cut, Ownership, Rows, Writer
from holon.domain.job import Job, Status
from holon.domain.value import replace
from holon.errors import StoreUnavailable
from holon.ports import JobFilter, NewJob, Step, StoreSettings
from holon.storage.owned import OwnedStorage
from holon.stores.memory import MemoryRows
from holon.stores.port import Batch, Head, RowKey, RowStore, Word
from tests.claims import claimed
from tests.sim.loop import VirtualLoop
from tests.sim.node import SimClock
from tests.sim.store import Server, SimRows


class AloneStorage(OwnedStorage):
    """A store that one node has at a time, over its way to the server."""

    def __init__(self, settings: StoreSettings, clock: SimClock, rows: SimRows) -> None:
        super().__init__(settings, clock)
        self._way = rows

    def _open_rows(self) -> RowStore:
        return self._way


class Site:
    """A store, and the ways of nodes to it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.server = Server(MemoryRows(1, SimClock(loop, 0)), random.Random(1))

    def node(self, name: str) -> tuple[AloneStorage, Way]:
        """A node that can be started, and its way to the store."""
        way = Way(self.server, copy_context())
        return AloneStorage(StoreSettings(name), SimClock(self.loop, 0), way), way


class Way(SimRows):
    """A way to the store on which answers may take long.

    Attributes:
        heads_at: heads arrive at this time of the loop at the earliest.
        read_s: how long each read takes (seconds).
    """

    heads_at = read_s = 0.0

    async def heads(self) -> Sequence[Head]:
        heads = await super().heads()
        await asyncio.sleep(self.heads_at - asyncio.get_running_loop().time())
        return heads

    async def read(self, shard: int, keys: Sequence[RowKey]) -> Sequence[bytes | None]:
        await asyncio.sleep(self.read_s)
        return await super().read(shard, keys)


class Counting(MemoryRows):
    """A store of many shards that counts writes.

    Attributes:
        shards_written: how many shards each write had.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(32, SimClock(loop, 0))
        self.shards_written: list[int] = []

    async def apply(self, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        self.shards_written.append(len(batches))
        return await super().apply(batches)


def owner(store: MemoryRows, name: str) -> tuple[Owner, Writer]:
    """A node that may own shards, and its writer."""

    class Nothing:
        def cut(self) -> Cut:
            return Cut(0)

        def written(self) -> None:
            pass

        def lost(self, why: str) -> None:
            pass

    async def load(head: Head) -> Rows:
        return Nothing()

    async def begin(rows: Rows, owned: Ownership) -> None:
        pass

    writer = Writer(store)
    return Owner(store, name, writer, load, begin), writer


def run(story: Callable[[Site], Awaitable[None]]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(asyncio.wait_for(story(Site(loop)), 600))
    finally:
        loop.end()


async def creates(store: AloneStorage) -> bool:
    """Whether a node can create a job: it owns the only shard."""
    try:
        await store.create_jobs([NewJob(Job(store.new_job_id("ann"), "bp", "ann", {}, "start"), ())])
    except StoreUnavailable:
        return False
    return True


def test_an_outage_of_the_store_is_no_silence_of_its_owner() -> None:
    async def story(site: Site) -> None:
        one, way = site.node("one")
        other, _ = site.node("other")
        async with one, other:
            await asyncio.sleep(5)
            site.server.down_until = site.loop.time() + 15
            # The owner is back a moment after the other.
            way.cut_until = site.loop.time() + 17
            await asyncio.sleep(30)
            assert (await creates(one), await creates(other)) == (True, False)

    run(story)


def test_an_answer_that_takes_long_is_no_silence_of_the_owner() -> None:
    async def story(site: Site) -> None:
        one, way = site.node("one")
        other, late = site.node("other")
        async with one, other:
            await asyncio.sleep(5)
            late.heads_at = site.loop.time() + 12
            way.cut_until = site.loop.time() + 12.5
            await asyncio.sleep(30)
            assert (await creates(one), await creates(other)) == (True, False)

    run(story)


def test_a_store_that_takes_long_to_load_is_not_taken_meanwhile() -> None:
    async def story(site: Site) -> None:
        first, _ = site.node("first")
        async with first:
            assert await creates(first)
        one, slow = site.node("one")
        other, _ = site.node("other")
        slow.read_s = 20.0
        starting = asyncio.create_task(one.__aenter__())
        await asyncio.sleep(1)
        async with other:
            await starting
            slow.read_s = 0.0
            assert (await creates(one), await creates(other)) == (True, False)
            await one.__aexit__(None, None, None)
            await asyncio.sleep(3)
            # It numbered its batches on, so nothing is missing.
            assert await creates(other)
            assert len((await other.jobs(JobFilter("ann"), 10))[0]) == 3

    run(story)


def test_a_store_that_another_node_takes_while_it_is_loaded_is_left_to_that_node() -> None:
    async def story(site: Site) -> None:
        one, slow = site.node("one")
        other, _ = site.node("other")
        slow.read_s = 20.0
        starting = asyncio.create_task(one.__aenter__())
        await asyncio.sleep(1)
        slow.cut_until = site.loop.time() + 15
        async with other:
            await starting
            slow.read_s = 0.0
            assert (await creates(one), await creates(other)) == (False, True)
            await one.__aexit__(None, None, None)

    run(story)


def test_a_store_that_is_away_while_it_is_loaded_is_taken_again_once_it_is_back() -> None:
    async def story(site: Site) -> None:
        async with site.node("first")[0] as first:
            one, slow = site.node("one")
            await one.__aenter__()
            slow.read_s = 5.0
            assert await creates(first)
        await asyncio.sleep(3)
        site.server.down_until = site.loop.time() + 20
        await asyncio.sleep(60)
        slow.read_s = 0.0
        assert await creates(one)
        assert len((await one.jobs(JobFilter("ann"), 10))[0]) == 2
        await one.__aexit__(None, None, None)

    run(story)


async def another_takes(site: Site) -> None:
    """Another node takes the store, as it may while its owner stands still."""
    [head] = await site.server.rows.heads()
    assert await site.server.rows.acquire(head, "another", "other", head.schema)


ANSWERED_FROM_MEMORY: dict[str, Callable[[AloneStorage], Awaitable[object]]] = {
    "task": lambda store: store.task("0-unknown-1-0"),
}


@pytest.mark.parametrize("call", ANSWERED_FROM_MEMORY.values(), ids=ANSWERED_FROM_MEMORY)
def test_nothing_is_answered_from_memory_once_another_node_has_the_store(
    call: Callable[[AloneStorage], Awaitable[object]],
) -> None:
    async def story(site: Site) -> None:
        one, _ = site.node("one")
        async with one:
            assert await one.put_document("keys", "a", b"1", version=0)
            await call(one)
            await another_takes(site)
            with pytest.raises(StoreUnavailable):
                await call(one)

    run(story)


async def finished(store: AloneStorage) -> str:
    """The id of a new job that is over; its webhook is to be told."""
    job_id = store.new_job_id("ann")
    new = NewJob(Job(job_id, "bp", "ann", {}, "start", webhook="https://example.org"), ())
    await store.create_jobs([new])
    [claim] = await claimed(store)
    job = replace(claim.job, step=1, status=Status.FINISHED)
    assert not (await store.commit(Step(claim.claim_id, "commit", job), ())).conflict
    return job_id


def test_a_job_that_is_over_is_not_shown_from_memory_once_another_node_has_the_store() -> None:
    async def story(site: Site) -> None:
        one, _ = site.node("one")
        async with one:
            job_id = await finished(one)
            assert await one.job(job_id)
            await another_takes(site)
            with pytest.raises(StoreUnavailable):
                await one.job(job_id)

    run(story)


def test_jobs_that_are_over_cost_no_batch_where_they_are_read_and_share_one_where_they_are_told_of() -> None:
    async def story(site: Site) -> None:
        rows = site.server.rows
        one, _ = site.node("one")
        async with one:
            jobs = [await finished(one) for _ in range(20)]
        one, _ = site.node("one")
        async with one:
            [before] = await rows.heads()
            assert await one.job(jobs[0])
            [after] = await rows.heads()
            assert after.batch == before.batch
            for told in (1, 2):
                # The first time most of them are read from the store, the second time all are in memory.
                assert [record.job.id for record in (await one.take_ends(100, 1_000)).jobs] == jobs
                [after] = await rows.heads()
                assert after.batch == before.batch + told
                await asyncio.sleep(1)

    run(story)


def test_shards_with_nothing_to_write_are_kept_while_another_keeps_the_writer_busy() -> None:
    async def story(site: Site) -> None:
        store = Counting(site.loop)
        one, writer = owner(store, "one")
        other, _ = owner(store, "other")
        await one.start()
        loops = [asyncio.create_task(run()) for run in (writer.run, one.run, other.run)]
        for _ in range(600):
            writer.gate.changed(one.owned[0])
            await asyncio.sleep(0.1)
        assert (len(one.owned), other.owned) == (32, {})
        # Each renewal has all the others in one write.
        renewals = [shards for shards in store.shards_written if shards > 1]
        assert len(renewals) <= 60 / RENEW_S
        assert min(renewals) >= 31
        for loop in loops:
            loop.cancel()

    run(story)


def test_shards_with_nothing_to_write_share_their_renewals() -> None:
    async def story(site: Site) -> None:
        store = Counting(site.loop)
        one, writer = owner(store, "one")
        await one.start()
        writing = asyncio.create_task(writer.run())
        # Their last batches are of different times.
        for owned in one.owned.values():
            writer.gate.changed(owned)
            await asyncio.sleep(0.07)
        before = len(store.shards_written)
        await asyncio.sleep(60)
        assert len(store.shards_written) - before <= 2 * 60 / RENEW_S
        writing.cancel()

    run(story)
