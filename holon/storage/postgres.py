"""The store in PostgreSQL: durable with its server."""

from __future__ import annotations

from holon.clock import Clock, SystemClock
from holon.ports import StoreSettings
from holon.storage.nodes import NodesStorage
from holon.stores.port import RowStore
from holon.stores.postgres import PostgresRows
from holon.stores.sealing import Seal


class PostgresStorage(NodesStorage):
    """A store in a PostgreSQL database, which several nodes share.

    Arguments:
        uri: as `PostgresRows` takes it.
        settings: who this node is, and its durations.
        clock: what says the time.
        seal: what is secret of the rows is sealed with it.
    """

    def __init__(
        self, uri: str, settings: StoreSettings, clock: Clock | None = None, *, seal: Seal | None = None
    ) -> None:
        super().__init__(settings, clock or SystemClock(), seal)
        self._uri = uri

    def __repr__(self) -> str:
        return f"PostgresStorage({len(self._shards)} shards)"

    def _open_rows(self) -> RowStore:
        return PostgresRows(self._uri)
