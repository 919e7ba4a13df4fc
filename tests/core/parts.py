"""Nodes that share one row store, of which each owns a part of the shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

from holon.clock import Clock
from holon.domain.value import replace
from holon.ports import StoreSettings
from holon.storage.owned import OwnedStorage
from holon.stores.memory import MemoryRows
from holon.stores.port import Found, RowKey, RowStore
from holon.stores.sealing import Seal
from tests.contract.world import World

SHARDS = 32


class SharedRows(MemoryRows):
    """A row store of several nodes.

    Attributes:
        meanwhile: what happens during the next reads, after their rows were read; one thing a read.
        reads: how many keys each read asked for.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(SHARDS, clock, exclusive=False)
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []
        self.reads: list[int] = []

    async def read(self, shard: int, keys: Sequence[RowKey]) -> Sequence[bytes | None]:
        self.reads.append(len(keys))
        values = await super().read(shard, keys)
        if self.meanwhile:
            await self.meanwhile.pop(0)()
        return values

    async def range(
        self, index: str, shards: Collection[int], low: int, high: int, limit: int, *, newest_first: bool = False
    ) -> Sequence[Found]:
        found = await super().range(index, shards, low, high, limit, newest_first=newest_first)
        if self.meanwhile:
            await self.meanwhile.pop(0)()
        return found


class PartStorage(OwnedStorage):
    """The store of a node that begins with what it may take, and goes on when it loses a shard."""

    def __init__(self, rows: RowStore, settings: StoreSettings, clock: Clock, seal: Seal | None) -> None:
        super().__init__(settings, clock, seal)
        self._shared_rows = rows

    def _open_rows(self) -> RowStore:
        return self._shared_rows


class PartBackend:
    """Opens stores over rows that others have, too, for the contract suite's world."""

    name = "parts"
    durable = False
    shards = SHARDS

    def __init__(self, rows: RowStore, seal: Seal | None = None) -> None:
        self._rows = rows
        self._seal = seal

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> PartStorage:
        return PartStorage(self._rows, settings, clock, self._seal)

    def killed(self, place: Path) -> Path:
        raise AssertionError("memory does not outlive its process")


class Pair:
    """Two nodes of one store. At first the first one owns all shards.

    Attributes:
        first, second: the nodes.
        rows: their store, if it is in memory.
    """

    def __init__(self, place: Path, seal: Seal | None = None) -> None:
        self.first = World(PartBackend(MemoryRows()), place, {})
        self.rows = SharedRows(self.first.clock)
        backend = PartBackend(self.rows, seal)
        self.first._backend = backend
        self.second = World(backend, place, {})
        self.second.clock = self.first.clock
        self.second.settings = replace(self.second.settings, node_id="node-2")
        # Names of its own.
        self.second._made = 1_000_000

    async def open(self) -> None:
        await self.first.open()
        await self.second.open()

    async def close(self) -> None:
        await self.second.close()
        await self.first.close()


def store_of(world: World) -> OwnedStorage:
    assert isinstance(world.storage, OwnedStorage)
    return world.storage


def owned_by(world: World) -> set[int]:
    """The shards that a node owns and has loaded."""
    return set(store_of(world)._shards)


# An owner takes one shard after the other.
_taking: WeakKeyDictionary[OwnedStorage, asyncio.Lock] = WeakKeyDictionary()


async def take(world: World, shards: Iterable[int]) -> None:
    """Have a node take shards, whoever has them: they do not hear of it."""
    store = store_of(world)
    heads = await store._rows.heads()
    taking = _taking.setdefault(store, asyncio.Lock())
    for number in shards:
        async with taking:
            await store._owner._take(heads[number])
            await store._owner._load_taken()
        assert number in store._shards


async def hand_over(giver: World, taker: World, shards: Iterable[int]) -> None:
    """Have a node give shards to another one, after its last batches."""
    store = store_of(giver)
    for number in shards:
        owned = store._owner.owned[number]
        await store._gate.passed(owned)
        assert await store._rows.release(owned.head, owned.batch)
        del store._owner.owned[number]
        store._writer.drop(owned, "it was handed over")
        await take(taker, [number])
