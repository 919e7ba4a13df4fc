"""A store over a row store whose writes can be held up, counted and failed, and a backend of it for a world."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from holon.clock import Clock
from holon.errors import StoreUnavailable
from holon.ports import StoreSettings
from holon.storage.sqlite import SqliteStorage
from holon.stores.port import Batch, Head, RowKey, RowStore, Word
from holon.stores.sqlite import SqliteRows
from tests.contract.world import World


class Faults:
    """What happens to writes. `writes` counts those that were tried.

    Attributes:
        rows: how many rows each write had.
        read: how many rows each read asked for.
    """

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.read: list[int] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.reached = asyncio.Event()

    @property
    def writes(self) -> int:
        return len(self.rows)

    def fail_next(self, error: Exception | None = None, *, applied: bool = False) -> None:
        """The next write fails; `applied`: though it is there."""

        def fail() -> None:
            self.before = self.after = lambda: None
            raise error or StoreUnavailable("injected")

        if applied:
            self.after = fail
        else:
            self.before = fail

    @asynccontextmanager
    async def held_up(self, world: World) -> AsyncIterator[None]:
        """While the block runs, a write of the world's store stands still; what it submits shares the next."""
        self.go_on.clear()
        self.reached.clear()
        first = asyncio.create_task(world.create())
        await self.reached.wait()
        try:
            yield
            await settled()
        finally:
            self.go_on.set()
            await first


async def settled() -> None:
    """Let every task that can run submit its call."""
    for _ in range(5):
        await asyncio.sleep(0)


class FaultyRows(SqliteRows):
    """A file with these faults."""

    faults: Faults

    async def apply(self, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        faults = self.faults
        faults.rows.append(sum(map(len, batches)))
        faults.reached.set()
        await faults.go_on.wait()
        faults.before()
        words = await super().apply(batches)
        faults.after()
        return words

    async def read(self, shard: int, keys: Sequence[RowKey]) -> Sequence[bytes | None]:
        self.faults.read.append(len(keys))
        return await super().read(shard, keys)


class FaultyStorage(SqliteStorage):
    """The store, over such a file."""

    faults: Faults

    def _open_rows(self) -> RowStore:
        rows = FaultyRows(self._path, "NORMAL", self._clock)
        rows.faults = self.faults
        return rows


class FaultyBackend:
    """Opens stores with these faults for the contract suite's world."""

    name = "sqlite"
    durable = True
    shards = 1

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def open(self, place: Path, settings: StoreSettings, clock: Clock) -> FaultyStorage:
        store = FaultyStorage(place / "holon.db", settings, clock)
        store.faults = self._faults
        return store

    def killed(self, place: Path) -> Path:
        copy = place.with_name(f"{place.name}-killed")
        shutil.copytree(place, copy)
        return copy
