"""The store in memory: for tests, and for jobs that may die with their process. The same rules as every other."""

from __future__ import annotations

from holon.clock import Clock, SystemClock
from holon.ports import StoreSettings
from holon.storage.owned import OwnedStorage
from holon.stores.memory import MemoryRows
from holon.stores.port import RowStore


class MemoryStorage(OwnedStorage):
    """A store that lives and dies with its process.

    Arguments:
        settings: who this node is, and its durations; the node sets them when it is given a store without.
        clock: what says the time.
    """

    def __init__(self, settings: StoreSettings | None = None, clock: Clock | None = None) -> None:
        super().__init__(settings or StoreSettings(node_id="memory"), clock or SystemClock())
        self._kept = MemoryRows(1, self._clock, exclusive=True)

    def __repr__(self) -> str:
        return f"MemoryStorage({len(self._shards)} shards)"

    def _open_rows(self) -> RowStore:
        return self._kept
