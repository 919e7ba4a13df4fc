"""Nodes of two releases on one Redis: each reads what the older wrote, and leaves what the newer wrote to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.domain.events import BranchesDone
from holon.domain.job import Status
from holon.domain.matching import Need
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import StoreSettings
from holon.storage.redis import RedisStorage, answers, scripts
from holon.stores.records import jobs, schema
from tests.contract.backends import REDIS
from tests.contract.world import World
from tests.redis_server import RedisServer

NEWER = schema.SCHEMA + 1


class Releases:
    """Nodes on one store, each of this release, or of one to come while `newer` is entered."""

    def __init__(self, server: RedisServer, opened: AsyncExitStack) -> None:
        self._server = server
        self._uri = server.uri(server.database())
        self._clock = ManualClock()
        self._opened = opened

    async def node(self, name: str) -> World:
        world = World(REDIS, self._server.socket, {})
        world.clock, world.settings = self._clock, StoreSettings(name)
        world.storage = await self._opened.enter_async_context(RedisStorage(self._uri, world.settings, self._clock))
        world._made = 1_000_000 * ord(name)
        return world


@pytest.fixture
async def releases(server: RedisServer) -> AsyncIterator[Releases]:
    async with AsyncExitStack() as opened:
        yield Releases(server, opened)


@contextmanager
def newer() -> Iterator[None]:
    """What runs meanwhile is of a release that puts one more field at the end of a job's record."""

    pack, unpack = schema.pack, schema.unpack

    def longer(*fields: Any) -> bytes:
        # A job's record is the one that begins with its id.
        of_job = isinstance(fields[0], str) and fields[0].startswith("0-")
        return pack(*fields, "new") if of_job else pack(*fields)

    def shorter(kind: str, record: bytes) -> list[Any]:
        fields = unpack(kind, record)
        assert kind != "job" or fields.pop() == "new"
        return fields

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(schema.UPGRADES, ("job", schema.SCHEMA), lambda fields: [*fields, "new"])
        patch.setattr(schema, "SCHEMA", NEWER)
        patch.setattr(jobs, "pack", longer)
        patch.setattr(jobs, "unpack", shorter)
        yield


@contextmanager
def without_the_time_of_fan_outs() -> Iterator[None]:
    """What opens meanwhile is of a release that did not note when a fan-out was dispatched."""
    source = scripts._source
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "_source", lambda name: source(name).replace(", 'dispatched'", ""))
        scripts.functions.cache_clear()
        yield
    scripts.functions.cache_clear()


async def test_a_fan_out_that_an_older_release_began_goes_on(releases: Releases) -> None:
    with without_the_time_of_fan_outs():
        old = await releases.node("a")
        tasks = await old.fan_out(1, rest=(1, 1), result_timeout=5_000)
    new = await releases.node("b")
    job_id = tasks[0].rsplit("-", 2)[0]
    new.clock.advance(3_000)
    await new.storage.spawn(job_id, 0)
    # What the older one writes is without it again.
    [offer, *_] = await old.lease((await old.hand()).seat(2))
    assert await old.complete(offer) is None
    await new.storage.spawn(job_id, 0)
    await new.after(5_000)
    [(_, event)] = (await new.claim_of(job_id)).events
    assert event == BranchesDone(0, failed=2)


async def test_a_node_reads_and_ends_what_an_older_release_wrote(releases: Releases) -> None:
    old = await releases.node("a")
    job_id = await old.create()
    with newer():
        new = await releases.node("b")
        assert not (await new.finish(await new.claim_of(job_id))).conflict
        assert (await new.record(job_id)).job.status is Status.FINISHED


async def test_what_a_newer_release_wrote_is_left_to_it_and_an_older_node_says_so_and_ends(releases: Releases) -> None:
    old = await releases.node("a")
    with newer():
        new = await releases.node("b")
        job_id = await new.create()
    for ask in (old.storage.job(job_id), old.storage.claim(1)):
        with pytest.raises(StoreUnavailable, match=f"schema {NEWER}.* reads {schema.SCHEMA} at most: replace"):
            await ask
    with pytest.raises(StoreUnavailable, match="replace this node"):
        await old.storage.failure()
    with newer():
        claim = await new.claim_of(job_id)
        assert claim.deliveries == 1
        assert not (await new.finish(claim)).conflict


async def test_an_older_node_ends_where_a_newer_release_asks_for_what_its_workers_would_never_be_given(
    releases: Releases,
) -> None:
    old = await releases.node("a")
    with newer():
        new = await releases.node("b")
        await new.dispatch(Need("newest"))
    # Here both are one process, which remembers what it has read.
    answers._known_need_of.cache_clear()
    with pytest.raises(StoreUnavailable, match=f"need.* schema {NEWER}"):
        await old.storage.needs()
    with pytest.raises(StoreUnavailable, match="replace this node"):
        await old.storage.failure()


async def test_an_older_node_says_why_it_cannot_count_jobs_of_a_newer_status(
    releases: Releases,
) -> None:
    old = await releases.node("a")
    await old.create()
    assert isinstance(old.storage, RedisStorage)
    link = old.storage._partitions.first.link
    await link.ask("HSET", "totals", "waiting_for_stars", 1)
    with pytest.raises(StoreUnavailable, match=r"waiting_for_stars.* replace this node"):
        await old.storage.counts()
    await link.ask("HSET", "totals", "waiting_for_stars", 0)
    assert (await old.storage.counts()).jobs == {Status.PENDING: 1}


async def test_an_older_release_does_not_start_where_a_newer_one_has_been(releases: Releases) -> None:
    with newer():
        await releases.node("b")
    with pytest.raises(ConfigError, match=f"records of schema {NEWER}.* start the newer release"):
        await releases.node("a")
