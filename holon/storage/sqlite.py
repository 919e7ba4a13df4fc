"""The store in one SQLite file: durable, with no server."""

from __future__ import annotations

from pathlib import Path

from holon.clock import Clock, SystemClock
from holon.ports import StoreSettings
from holon.storage.owned import OwnedStorage
from holon.stores.port import RowStore
from holon.stores.sealing import Seal
from holon.stores.sqlite import SqliteRows


class SqliteStorage(OwnedStorage):
    """A store in one file, for one node: durable when an operation returns, with no server.

    Arguments:
        path: the file; it and its directory are made when there is none, for this user alone.
        settings: who this node is, and its durations; the node sets them when it is given a store without.
        clock: what says the time.
        synchronous: "FULL" (a commit survives a power cut) or "NORMAL" (it survives a crash of the process).
        seal: what is secret of the rows is sealed with it; the node sets it when it is given a store without.
    """

    def __init__(
        self,
        path: Path | str,
        settings: StoreSettings | None = None,
        clock: Clock | None = None,
        *,
        synchronous: str = "FULL",
        seal: Seal | None = None,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
        super().__init__(settings or StoreSettings(node_id="sqlite"), clock or SystemClock(), seal)
        self._path = Path(path)
        self._synchronous = synchronous

    def __repr__(self) -> str:
        return f"SqliteStorage({self._path})"

    def _open_rows(self) -> RowStore:
        return SqliteRows(self._path, self._synchronous, self._clock)
