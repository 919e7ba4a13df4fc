"""The owner: which shards this node owns, and how it comes by them.

A shard may be taken if no other process has the store, if it is free, if its head names this very node, or if its head
did not change for ten seconds of this node's own clock. Only time in which the store answers counts: an owner that
cannot reach the store is not silent. A shard is never given up because time passed: if its next batch is applied,
nobody else wrote.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol

from holon.core.writer import Cut, Ownership, Rows, Writer
from holon.errors import ConfigError, StoreUnavailable
from holon.stores.port import NOBODY, Head, RowStore

log = logging.getLogger(__name__)

# The format of rows that this version writes, and the newest that it reads.
SCHEMA = 1
# A head that did not change for so long is of an owner that is gone (seconds).
TAKE_OVER_S = 10.0
# How often the heads of other nodes' shards are looked at (seconds).
LOOK_S = 1.0


class Loader(Protocol):
    """Reads a shard's rows into memory."""

    async def __call__(self, head: Head) -> Rows:
        """The rows of a shard that this node owns now.

        Raises:
            StoreUnavailable: the store is away.
        """
        ...


class _NotLoaded:
    """The rows of a shard that is being loaded: they do not change, so its batches are empty."""

    def __init__(self, head: Head) -> None:
        self._time = head.time

    def cut(self) -> Cut:
        return Cut(self._time)

    def written(self) -> None:
        pass

    def lost(self, why: str) -> None:
        pass


class Owner:
    """Owns shards for a node: takes them, hands their rows to the writer, and gives them back at a drain.

    Arguments:
        store: the row store.
        node: the name of this node. Two processes of one name would take each other's shards.
        writer: writes for the shards. It must run before `start`, to keep a shard while it is loaded.
        load: reads a shard's rows.
        begin: called with each shard whose rows are in memory, and its ownership; rules may run on it from then on.
        taken: called with the name of a node that has taken a shard of this one.
    """

    def __init__(
        self,
        store: RowStore,
        node: str,
        writer: Writer,
        load: Loader,
        begin: Callable[[Rows, Ownership], Awaitable[None]],
        taken: Callable[[str], object],
    ) -> None:
        self.owned: dict[int, Ownership] = {}
        self._store = store
        self._node = node
        self._writer = writer
        self._load = load
        self._begin = begin
        self._taken = taken
        # Heads of shards that others own, and since when each is as it is, by the loop's time.
        self._seen: dict[int, tuple[Head, float]] = {}
        self._draining = False
        self._look = asyncio.Event()

    def __repr__(self) -> str:
        return f"Owner({self._node}, shards={sorted(self.owned)})"

    async def start(self) -> None:
        """Own every shard that may be taken at once.

        Raises:
            ConfigError: a newer version wrote a shard's rows.
            StoreUnavailable: the store is away.
        """
        await self._take_what_may_be_taken()

    async def run(self) -> None:
        """Take shards whose owner is gone, and those that this node dropped, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S * random.uniform(0.7, 1.3)):  # noqa: S311  no secret
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            if self._draining or len(self.owned) == self._store.shards:
                continue
            try:
                await self._take_what_may_be_taken()
            except StoreUnavailable as error:
                # Their owners may not reach the store either. Once it is back, each has the whole ten seconds again.
                self._seen.clear()
                log.warning("shards of others cannot be looked at: %s", error.message)

    async def drain(self) -> None:
        """Give all shards back, each after its last batch."""
        self._draining = True
        for shard, owned in list(self.owned.items()):
            try:
                await self._writer.gate.passed(owned)
                await self._store.release(owned.head, owned.batch)
            except StoreUnavailable as error:
                log.warning("shard %d is not handed over, another node takes it later: %s", shard, error.message)
            self.owned.pop(shard, None)
            self._writer.drop(owned, "it was handed over")

    def resign(self) -> None:
        """Take no shard any more, not even one whose head has this node's name: another process may have it."""
        self._draining = True

    def drop(self, shard: int, why: str) -> None:
        """Throw the rows of a shard away and load them again: a rule failed half-way, and there is no undo."""
        owned = self.owned.get(shard)
        if owned is not None:
            self._writer.drop(owned, why)

    def _lost(self, head: Head, taken: str) -> None:
        """A shard was dropped; it is taken again if nobody else has it."""
        if self.owned.pop(head.shard, None) is not None:
            self._look.set()
            if taken:
                log.warning("node %r has taken shard %d, which was this node's", taken, head.shard)
                self._taken(taken)

    async def _take_what_may_be_taken(self) -> None:
        asked = asyncio.get_running_loop().time()
        for head in await self._store.heads():
            # Who has the first shard takes them all.
            mine = head.shard == 0 or 0 in self.owned
            if head.shard not in self.owned and mine and self._may_take(head, asked):
                await self._take(head)

    def _may_take(self, head: Head, asked: float) -> bool:
        """Whether this node may take a shard whose head the store was asked for at that time of the loop."""
        if head.schema > SCHEMA:
            raise ConfigError(
                f"shard {head.shard} of the store has rows of format {head.schema}, and this version reads {SCHEMA} at "
                "most; start the newer version"
            )
        if self._store.exclusive or head.token == NOBODY or head.node == self._node:
            return True
        seen, since = self._seen.get(head.shard, (None, asked))
        if seen is None or seen.seen() != head.seen():
            self._seen[head.shard] = head, asyncio.get_running_loop().time()
            return False
        # The time that the store took to answer is not the owner's silence.
        return asked - since >= TAKE_OVER_S

    async def _take(self, seen: Head) -> None:
        head = await self._store.acquire(seen, secrets.token_hex(16), self._node, max(seen.schema, SCHEMA))
        if head is None:
            self._seen.pop(seen.shard, None)
            return
        if self._draining:
            await self._store.release(head, head.batch)
        else:
            await self._bring_in(head, seen.node)

    async def _bring_in(self, head: Head, before: str) -> None:
        """Load a shard that this node owns now, and begin. Loading may take longer than other nodes wait.

        Arguments:
            before: the name of the node that owned it before.
        """
        # The writer writes empty batches meanwhile, so that other nodes see that the shard has an owner.
        owned = self.owned[head.shard] = self._writer.add(head, _NotLoaded(head), self._lost)
        try:
            rows = await self._load(head)
            if self._draining or owned.lost:
                return
            owned.rows = rows
            await self._begin(rows, owned)
        except BaseException:
            self.drop(head.shard, "it could not be loaded")
            raise
        log.info("shard %d is owned (epoch %d, was %r)", head.shard, head.epoch, before)
