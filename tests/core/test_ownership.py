"""Who owns a shard: an owner that can write keeps it, whatever the store does meanwhile. The time is virtual."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context

from holon.ports import StoreSettings
from holon.stores.memory import MemoryRows
from holon.stores.port import Head
from tests.sim.loop import VirtualLoop
from tests.sim.node import SimClock, SimStorage
from tests.sim.store import Server, SimRows


class Site:
    """A store, and the ways of nodes to it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.server = Server(MemoryRows(1, SimClock(loop, 0)), random.Random(1))

    def node(self, name: str) -> tuple[SimStorage, Way]:
        """A node that can be started, and its way to the store."""
        way = Way(self.server, copy_context())
        return SimStorage(StoreSettings(name), SimClock(self.loop, 0), way), way


class Way(SimRows):
    """A way to the store on which answers may take long.

    Attributes:
        heads_at: heads arrive at this time of the loop at the earliest.
    """

    heads_at = 0.0

    async def heads(self) -> Sequence[Head]:
        heads = await super().heads()
        await asyncio.sleep(self.heads_at - asyncio.get_running_loop().time())
        return heads


def run(story: Callable[[Site], Awaitable[None]]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(asyncio.wait_for(story(Site(loop)), 600))
    finally:
        loop.end()


async def stopped(waiting: asyncio.Task[SimStorage]) -> None:
    """End a node that still waits for the store."""
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])


def test_an_outage_of_the_store_is_no_silence_of_its_owner() -> None:
    async def story(site: Site) -> None:
        one, way = site.node("one")
        other, _ = site.node("other")
        async with one:
            waiting = asyncio.create_task(other.__aenter__())
            await asyncio.sleep(5)
            site.server.down_until = site.loop.time() + 15
            # The owner is back a moment after the other.
            way.cut_until = site.loop.time() + 17
            await asyncio.sleep(30)
            assert await one.put_document("keys", "a", b"1", version=0)
            await stopped(waiting)

    run(story)


def test_an_answer_that_takes_long_is_no_silence_of_the_owner() -> None:
    async def story(site: Site) -> None:
        one, way = site.node("one")
        other, late = site.node("other")
        async with one:
            waiting = asyncio.create_task(other.__aenter__())
            await asyncio.sleep(5)
            late.heads_at = site.loop.time() + 12
            way.cut_until = site.loop.time() + 12.5
            await asyncio.sleep(30)
            assert await one.put_document("keys", "a", b"1", version=0)
            await stopped(waiting)

    run(story)
