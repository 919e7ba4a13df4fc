"""The store that a node runs on, opened as STORAGE_URI says."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from holon.clock import Clock
from holon.config import StorageURI
from holon.errors import ConfigError
from holon.ports import Storage, StoreSettings
from holon.storage.memory import MemoryStorage
from holon.storage.sqlite import SqliteStorage
from holon.stores.sealing import Seal
from holon.telemetry.metrics import StoreMetrics


class Store(Storage, AbstractAsyncContextManager[Any], Protocol):
    """A store as a node has it: it is told who runs it, and then opened.

    Attributes:
        metrics: what it counts of its calls.
    """

    metrics: StoreMetrics

    def configure(self, settings: StoreSettings, seal: Seal) -> None:
        """Take the node's settings, and what it seals with; before the store is opened."""
        ...

    @property
    def history_backlog(self) -> int:
        """How many bytes of history wait to be moved."""
        ...

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        ...


def open_store(uri: StorageURI, settings: StoreSettings, clock: Clock, seal: Seal) -> Store:
    """The store that a URI names, not entered yet.

    Arguments:
        clock: what says the time where the store has no clock of its own.
        seal: what is secret is sealed with it where it is stored.
    Raises:
        ConfigError: what it needs is not installed.
    """
    if uri.scheme == "memory":
        return MemoryStorage(settings, clock)
    if uri.path is not None:
        return SqliteStorage(uri.path, settings, clock, synchronous=uri.synchronous, seal=seal)
    if uri.postgres:
        try:
            from holon.storage.postgres import PostgresStorage
        except ModuleNotFoundError as error:
            raise _not_installed("PostgreSQL", "postgres", error) from error
        return PostgresStorage(uri.postgres, settings, clock, seal=seal)
    try:
        from holon.storage.redis import RedisStorage
    except ModuleNotFoundError as error:
        raise _not_installed("Redis", "redis", error) from error
    return RedisStorage(uri.server, settings, clock, replicas=uri.replicas, synced=uri.synced, seal=seal)


def _not_installed(store: str, extra: str, error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(
        f"a {store} store needs the package {error.name}; pip install 'holon-node[{extra}]', or change STORAGE_URI"
    )
