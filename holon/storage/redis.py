"""The store in Redis or Valkey: durable as its server is."""

from __future__ import annotations

from holon.clock import Clock, SystemClock
from holon.ports import StoreSettings
from holon.storage.nodes import NodesStorage
from holon.stores.port import RowStore
from holon.stores.redis import RedisRows
from holon.stores.sealing import Seal


class RedisStorage(NodesStorage):
    """A store in a Redis server or cluster, which several nodes share.

    Arguments:
        uri: as `RedisRows` takes it.
        settings: who this node is, and its durations.
        clock: what says the time.
        replicas: how many replicas must have a write before it is answered.
        synced: whether it must be on the disk too, there and at the server itself.
        seal: what is secret of the rows is sealed with it.
    """

    def __init__(
        self,
        uri: str,
        settings: StoreSettings,
        clock: Clock | None = None,
        *,
        replicas: int = 0,
        synced: bool = False,
        seal: Seal | None = None,
    ) -> None:
        super().__init__(settings, clock or SystemClock(), seal)
        self._uri, self._replicas, self._synced = uri, replicas, synced

    def __repr__(self) -> str:
        return f"RedisStorage({len(self._shards)} shards)"

    def _open_rows(self) -> RowStore:
        return RedisRows(self._uri, replicas=self._replicas, synced=self._synced)
