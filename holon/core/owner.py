"""The owner: which shards this node owns, and how it comes by them.

A shard may be taken if no other process has the store, if it is free, if its head names this very node, or if its head
did not change for ten seconds of this node's own clock. Only time in which the store answers counts: an owner that
cannot reach the store is not silent. A shard is never given up because time passed: if its next batch is applied,
nobody else wrote.

Without members, the node takes every shard that it may take. With members, the nodes share them. Each node may take
shards up to its share: the number of shards divided by the number of live nodes that do not drain. A node that has
fewer asks the node that has most for one. A shard that nobody takes is taken beyond the share too.

The head of a shard has the schema of its rows. A node takes no shard that it cannot read, and writes the newest schema
that all live nodes read. So nodes of two releases can share a store while one is replaced by the other.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from holon.core.members import Members
from holon.core.writer import Cut, Ownership, Rows, Writer
from holon.errors import ConfigError, StoreBroken, StoreUnavailable
from holon.stores.port import NOBODY, Head, RowStore
from holon.stores.records import SCHEMA

log = logging.getLogger(__name__)

# A head that did not change for so long is of an owner that is gone (seconds).
TAKE_OVER_S = 10.0
# How often the heads of other nodes' shards are looked at (seconds).
LOOK_S = 1.0
# A shard that may be taken for so long, and that nobody takes, is taken beyond the share: three looks (seconds).
UNTAKEN_S = 3 * LOOK_S
# A node that failed to take a shard, or to load it, leaves the shards to others for so long (seconds).
FAILED_S = UNTAKEN_S + 2 * LOOK_S
# It asks no other node for a shard for so long (seconds).
ASK_AGAIN_S = 60.0
# A node that is asked hands over one shard in this time (seconds).
HAND_S = 1.0
# Work on a shard that is handed over has this time to end (seconds).
SETTLE_S = 5.0
# A hand-over waits for a store that is away, and tries again after this time (seconds).
AGAIN_S = 0.5
# Changes may be made while the last batch is written. After this many more batches they are refused.
LAST_BATCHES = 3


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


def _nothing(_one: object, _other: object) -> None:
    pass


async def _at_once(_shard: int) -> None:
    pass


class Owner:
    """Owns shards for a node: takes them, hands their rows to the writer, and gives them to other nodes.

    Arguments:
        store: the row store.
        node: the name of this node. Two processes of one name would take each other's shards.
        writer: writes for the shards. It must run before `start`, to keep a shard while it is loaded.
        load: reads a shard's rows.
        begin: called with each shard whose rows are in memory, and its ownership; rules may run on it from then on.
        taken: called with the name of a node that has taken a shard of this one.
        members: the nodes that share the store; None: this one takes what it may.
        ask: asks a node for one of its shards; `asked` is to be called there.
        told: tells a node that a shard was freed for it; `freed` is to be called there.
        timed: called before the store is asked for its time; the answer is called with that time, epoch milliseconds.
        settle: called with a shard before it is handed over: no new work begins on it, and what runs ends.
    """

    def __init__(
        self,
        store: RowStore,
        node: str,
        writer: Writer,
        load: Loader,
        begin: Callable[[Rows, Ownership], Awaitable[None]],
        *,
        taken: Callable[[str], object] = lambda _: None,
        members: Members | None = None,
        ask: Callable[[str, int], object] = _nothing,
        told: Callable[[str, int], object] = _nothing,
        settle: Callable[[int], Awaitable[None]] = _at_once,
        timed: Callable[[], Callable[[int], object]] = lambda: lambda _: None,
    ) -> None:
        self.owned: dict[int, Ownership] = {}
        self._store = store
        self._node = node
        self._writer = writer
        self._load = load
        self._begin = begin
        self._taken = taken
        self._members = members
        self._reads = SCHEMA if members is None else members.reads
        # Shards that a newer release writes, of which this was logged.
        self._newer: set[int] = set()
        self._ask = ask
        self._told = told
        self._settle = settle
        self._timed = timed
        # The owners of shards by the last look at the heads.
        self._owners: dict[int, str] = {}
        # Heads of shards that others own, and since when each is as it is, by the loop's time.
        self._seen: dict[int, tuple[Head, float]] = {}
        # Shards that may be taken, and since when, by the loop's time.
        self._untaken: dict[int, float] = {}
        # Shards that were taken and are not loaded yet, each with the node that owned it before.
        self._unloaded: dict[int, tuple[Ownership, str]] = {}
        # Shards that other nodes freed for this one since the last look.
        self._freed: set[int] = set()
        # Hand-overs that other nodes asked for, by shard.
        self._handing: dict[int, asyncio.Task[None]] = {}
        # Shards whose last batch is written, and that are freed now.
        self._freeing: set[int] = set()
        # When this node may hand over the next shard, take the next, and ask for the next, by the loop's time.
        self._hand_at = self._take_at = self._ask_at = float("-inf")
        self._draining = False
        self._look = asyncio.Event()

    def __repr__(self) -> str:
        return f"Owner({self._node}, shards={sorted(self.owned)})"

    def of(self, shard: int) -> str:
        """The name of the node that owns a shard, by the last look; empty: none does, or it is not known."""
        return self._node if shard in self.owned else self._owners.get(shard, "")

    async def start(self) -> None:
        """Own every shard that may be taken at once.

        Raises:
            ConfigError: a newer version wrote a shard's rows.
            StoreUnavailable: the store is away.
        """
        for head in await self._heads():
            if head.schema > self._reads:
                raise ConfigError(_unreadable(head, self._reads))
        await self._take_what_may_be_taken()

    async def run(self) -> None:
        """Take shards whose owner is gone, those that this node dropped, and its share, until cancelled.

        Raises:
            StoreBroken: this process can never use the store again.
        """
        while True:
            try:
                async with asyncio.timeout(LOOK_S * random.uniform(0.7, 1.3)):  # noqa: S311  no secret
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            if self._draining or (self._members is None and len(self.owned) == self._store.shards):
                continue
            try:
                await self._take_what_may_be_taken()
            except StoreBroken:
                raise
            except StoreUnavailable as error:
                # Their owners may not reach the store either. Once it is back, each has the whole ten seconds again.
                self._seen.clear()
                self._untaken.clear()
                log.warning("shards cannot be looked at or taken: %s", error.message)

    async def drain(self) -> None:
        """Give all shards back, each after its last batch."""
        self._draining = True
        if self._members is not None:
            self._members.publish(draining=True)
            if not self._writer.away:
                await self._members.look()
        heirs = self._heirs()
        handing = [*self._handing.values()]
        rest = [self._give(shard, next(heirs)) for shard in self.owned if shard not in self._handing]
        await asyncio.gather(*handing, *rest)

    def resign(self) -> None:
        """Take no shard any more, not even one whose head has this node's name: another process may have it."""
        self._draining = True
        for handing in self._handing.values():
            handing.cancel()

    def drop(self, shard: int, why: str) -> None:
        """Throw the rows of a shard away and load them again: a rule failed half-way, and there is no undo."""
        owned = self.owned.get(shard)
        if owned is not None:
            self._writer.drop(owned, why)

    def asked(self, shard: int, node: str) -> None:
        """A node asks for a shard: it is handed over if this node has more than its share, one at a time."""
        now = asyncio.get_running_loop().time()
        if shard not in self.owned or self._draining or self._handing or now < self._hand_at:
            return
        if len(self.owned) > self._shares()[0]:
            self._hand_at = now + HAND_S
            self._handing[shard] = asyncio.create_task(self._hand(shard, node), name="store-hand-over")

    def freed(self, shard: int) -> None:
        """A node freed a shard for this one: look at once."""
        self._freed.add(shard)
        self._look.set()

    def _lost(self, head: Head, taken: str) -> None:
        """A shard was dropped; it is taken again if nobody else has it."""
        if self.owned.pop(head.shard, None) is not None:
            self._count()
            self._look.set()
            if taken:
                self._owners[head.shard] = taken
                log.warning("node %r has taken shard %d, which was this node's", taken, head.shard)
                self._taken(taken)

    def _count(self) -> None:
        if self._members is not None:
            self._members.publish(shards=len(self.owned))

    # Taking --------------------------------------------------------------------------------------------------------

    async def _take_what_may_be_taken(self) -> None:
        if self._members is None:
            await self._take_all()
        else:
            await self._take_share(self._members)

    async def _take_all(self) -> None:
        asked = asyncio.get_running_loop().time()
        for head in await self._heads():
            if head.shard not in self.owned and self._may_take(head, asked) and await self._take(head):
                await self._load_taken()

    async def _take_share(self, members: Members) -> None:
        loop = asyncio.get_running_loop()
        await members.look()
        asked = loop.time()
        heads = await self._heads()
        if loop.time() < self._take_at:
            return
        chosen = self._choose(heads, asked)
        self._freed.clear()
        try:
            try:
                for head in chosen:
                    # If it resigned while it looked, a head may be of another process of its name.
                    if not self._draining:
                        await self._take(head)
            except StoreUnavailable:
                await self._load_taken()
                raise
            await self._load_taken()
        except StoreUnavailable:
            self._take_at, self._ask_at = loop.time() + FAILED_S, loop.time() + ASK_AGAIN_S
            for shard in [*self._unloaded]:
                await self._free(shard)
            self._unloaded.clear()
            raise
        self._ask_for_one()

    async def _heads(self) -> Sequence[Head]:
        heard = self._timed()
        heads = await self._store.heads()
        # A shard's time may be ahead of the store's clock, which has been set back then.
        heard(min(head.time for head in heads))
        self._owners = {head.shard: head.node for head in heads if head.token != NOBODY}
        return heads

    def _choose(self, heads: Sequence[Head], asked: float) -> list[Head]:
        """Which shards this node takes now, in their order."""
        now = asyncio.get_running_loop().time()
        own, others = list[Head](), list[Head]()
        for head in heads:
            if head.shard in self.owned or head.shard in self._freeing or not self._may_take(head, asked):
                self._untaken.pop(head.shard, None)
            else:
                self._untaken.setdefault(head.shard, now)
                (own if head.token != NOBODY and head.node == self._node else others).append(head)
        # Nodes that look at the same time want different ones.
        random.shuffle(others)
        others.sort(key=lambda head: head.shard not in self._freed)
        room = max(0, self._shares()[1] - len(self.owned) - len(own))
        beyond = [head for head in others[room:] if now - self._untaken[head.shard] >= UNTAKEN_S]
        return own + others[:room] + beyond

    def _may_take(self, head: Head, asked: float) -> bool:
        """Whether this node may take a shard whose head the store was asked for at that time of the loop."""
        if head.schema > self._reads:
            if head.shard not in self._newer:
                self._newer.add(head.shard)
                log.warning(_unreadable(head, self._reads))
            return False
        if self._store.exclusive or head.token == NOBODY or head.node == self._node:
            return True
        seen, since = self._seen.get(head.shard, (None, asked))
        if seen is None or seen.seen() != head.seen():
            self._seen[head.shard] = head, asyncio.get_running_loop().time()
            return False
        # The time that the store took to answer is not the owner's silence.
        return asked - since >= TAKE_OVER_S

    async def _take(self, seen: Head) -> bool:
        """Own a shard; False if another node was faster."""
        head = await self._store.acquire(seen, secrets.token_hex(16), self._node, max(seen.schema, self._schema()))
        if head is None:
            self._seen.pop(seen.shard, None)
            return False
        if self._draining:
            await self._store.release(head, head.batch)
            return False
        # The writer writes empty batches while it is loaded, so that other nodes see that the shard has an owner.
        owned = self.owned[head.shard] = self._writer.add(head, _NotLoaded(head), self._lost)
        self._unloaded[head.shard] = owned, seen.node
        self._owners[head.shard] = self._node
        self._count()
        return True

    async def _load_taken(self) -> None:
        """Load the shards that were taken, one after the other. That may take longer than other nodes wait."""
        taken = len(self._unloaded)
        while self._unloaded:
            shard, (owned, before) = next(iter(self._unloaded.items()))
            await self._bring_in(owned, before)
            del self._unloaded[shard]
        if taken:
            log.info("took %d shards; this node has %d of %d now", taken, len(self.owned), self._store.shards)

    async def _bring_in(self, owned: Ownership, before: str) -> None:
        """Load a shard that this node owns now, and begin.

        Arguments:
            before: the name of the node that owned it before.
        """
        head = owned.head
        try:
            if owned.lost:
                return
            rows = await self._load(head)
            if self._draining or owned.lost:
                return
            owned.rows = rows
            await self._begin(rows, owned)
        except BaseException as error:
            if self._members is None or not isinstance(error, StoreUnavailable):
                self._writer.drop(owned, "it could not be loaded")
            elif owned.lost:
                # It was handed over meanwhile, or taken.
                return
            # Another node that shares the store may be able to load it: the caller frees it.
            raise
        log.debug("shard %d is owned (epoch %d, was %r)", head.shard, head.epoch, before)

    # Sharing -------------------------------------------------------------------------------------------------------

    def _schema(self) -> int:
        """The schema of the rows that this node writes."""
        return self._reads if self._members is None else self._members.all_read

    def _shares(self) -> tuple[int, int]:
        """How many shards a node must have, and may have."""
        live = self._members.live if self._members is not None else {}
        nodes = {name for name, member in live.items() if not member.draining} | {self._node}
        least, rest = divmod(self._store.shards, len(nodes))
        return least, least + (rest > 0)

    def _by_node(self) -> dict[str, list[int]]:
        """The shards of the other live nodes that do not drain, by the last look."""
        live = self._members.live if self._members is not None else {}
        shards = {name: list[int]() for name, member in live.items() if name != self._node and not member.draining}
        for shard, node in self._owners.items():
            if node in shards and shard not in self.owned:
                shards[node].append(shard)
        return shards

    def _ask_for_one(self) -> None:
        """Ask the node that has most shards for one, if this node may have more, and that one has two more at least."""
        least, most = self._shares()
        if len(self.owned) >= most or asyncio.get_running_loop().time() < self._ask_at:
            return
        others = self._by_node()
        richest = max(others, key=lambda node: len(others[node]), default="")
        if richest and len(others[richest]) > max(least, len(self.owned) + 1):
            self._ask(richest, random.choice(others[richest]))  # noqa: S311  no secret

    def _heirs(self) -> Iterator[str]:
        """To whom this node's shards go, one after the other: to whoever has fewest then; empty: to nobody."""
        counts = {node: len(shards) for node, shards in self._by_node().items()}
        while True:
            heir = min(counts, key=counts.__getitem__, default="")
            yield heir
            if heir:
                counts[heir] += 1

    # Handing over --------------------------------------------------------------------------------------------------

    async def _hand(self, shard: int, node: str) -> None:
        try:
            await self._give(shard, node)
        finally:
            del self._handing[shard]

    async def _give(self, shard: int, node: str) -> None:
        """End the work on a shard, free it, and tell the node that is to have it; empty: nobody is to."""
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._settle(shard)
        except TimeoutError:
            log.info("shard %d is handed over, though work on it did not end", shard)
        except Exception:
            log.exception("work on shard %d was not ended; it is handed over all the same", shard)
        if await self._free(shard) and node:
            self._told(node, shard)

    async def _free(self, shard: int) -> bool:
        """Free a shard after its last batch; False if that is not certain."""
        owned = self.owned.get(shard)
        if owned is None:
            return False
        freed = False
        self._freeing.add(shard)
        try:
            await self._write_last(owned)
            self._forget(owned)
            if self._is_written(owned):
                await self._writer.gate.passed()
            freed = await self._store.release(owned.head, owned.batch)
        except StoreUnavailable as error:
            log.warning("shard %d is not handed over, another node takes it later: %s", shard, error.message)
            self._forget(owned)
        finally:
            self._freeing.discard(shard)
        return freed

    def _forget(self, owned: Ownership) -> None:
        """Write no more for a shard that is handed over: a batch after its release would be taken for a twin's."""
        if self.owned.pop(owned.head.shard, None) is not None:
            self._owners.pop(owned.head.shard, None)
            self._count()
        self._writer.drop(owned, "it was handed over")

    async def _write_last(self, owned: Ownership) -> None:
        """Wait until all changes of a shard are durable. A drain does not wait for a store that is away."""
        for _ in range(1 + LAST_BATCHES):
            while True:
                try:
                    await self._writer.gate.passed(owned)
                    break
                except StoreUnavailable:
                    if self._draining or owned.lost:
                        raise
                    await asyncio.sleep(AGAIN_S)
            if not (owned.dirty or self._is_written(owned)):
                break

    def _is_written(self, owned: Ownership) -> bool:
        """Whether a batch of a shard is under way."""
        flight = self._writer.gate.flight
        return flight is not None and owned in flight.owned


def _unreadable(head: Head, reads: int) -> str:
    return (
        f"shard {head.shard} of the store has rows of schema {head.schema}, and this release reads {reads} at most: "
        "replace this node by one of the newer release"
    )
