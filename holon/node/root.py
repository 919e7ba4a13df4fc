"""The composition root: a node built from its settings, run, drained and closed."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

import holon
from holon.clock import Clock, SystemClock
from holon.config import Config, HistoryURI, StorageURI, read_keys
from holon.domain.blueprint import Blueprint
from holon.domain.client import DEFAULT
from holon.engine.core import Engine
from holon.engine.holarchy import Holarchy, own_id
from holon.engine.loader import load_directory
from holon.engine.overview import Overview
from holon.engine.rates import Call
from holon.engine.reloading import Reloading
from holon.engine.shared_reloading import SharedReloading
from holon.errors import HolonError
from holon.node.access import client_entries, clients_part
from holon.node.admitting import open_admission, tls_part, workers_part
from holon.node.encrypting import keys_part, marks_of
from holon.node.following import Following
from holon.node.measuring import Measuring
from holon.node.settings import (
    client_door_settings,
    engine_settings,
    http_settings,
    store_settings,
    tls_paths,
    token_settings,
    uplink_settings,
    worker_door_settings,
)
from holon.node.stores import Store, open_store
from holon.ports import StoreSettings
from holon.security.admission import Admission
from holon.security.clients import Clients
from holon.security.sts.exchange import Exchange
from holon.security.tls_files import TlsFiles
from holon.storage.history import PostgresHistory, SqliteHistory
from holon.storage.sealing import Seal
from holon.telemetry.audit_file import audit_to
from holon.telemetry.events import Telemetry
from holon.telemetry.lag import LoopLag
from holon.telemetry.tracing import Tracing, tracing_to
from holon.uplink import Uplink, owner_of
from transports.grpc.admin_door import AdminDoor
from transports.grpc.client_door import ClientDoor
from transports.grpc.worker_door import WorkerDoor
from transports.http.door import HttpDoor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the doors of a running node are; `worker_tokens` where workers with tokens have a port of their own.

    `client` is None where clients are not served.
    """

    http: int
    worker: int
    client: int | None
    worker_tokens: int | None = None


class Node:
    """One node: its store, engine and doors, as one thing that runs.

    Arguments:
        config: its settings; checked and frozen when it runs.
        blueprints: what it runs, beside what `BLUEPRINTS_DIR` holds.
        storage: a store of the caller's own; it wins over `STORAGE_URI`.
        clock: what says the time.
    """

    def __init__(
        self,
        config: Config,
        blueprints: Iterable[Blueprint] = (),
        storage: Store | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self._blueprints = list(blueprints)
        self._storage = storage
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self._told = False
        self._grace: float | None = None
        self._now = asyncio.Event()
        self._reloading = Reloading()

    def __repr__(self) -> str:
        return f"Node({self.config.INSTANCE_ID}, {self.config.effective()['STORAGE_URI']})"

    async def run(self, ready: Callable[[Ports], None] = lambda _: None) -> None:
        """Run until `stop`, drained; a second `stop` ends it at once. A cancel ends it at once too.

        Arguments:
            ready: called once, when every door is open.
        Raises:
            ConfigError: settings, certificates or the store's file are wrong; nothing was opened.
            BlueprintError: a blueprint is not sound.
        """
        config = self.config.freeze()
        blueprints = self._blueprints + (load_directory(config.BLUEPRINTS_DIR) if config.BLUEPRINTS_DIR else [])
        tls = self._tls_files()
        clients = Clients(client_entries(config))
        if config.CLIENTS_CONFIG_PATH:
            self._reloading.add(clients_part(config, clients))
        if tls is not None:
            self._reloading.add(tls_part(tls))
        admission = open_admission(config, tls, self._clock)
        if config.WORKERS_CONFIG_PATH:
            self._reloading.add(workers_part(config, admission))
        settings = store_settings(config)
        async with AsyncExitStack() as resources:
            resources.enter_context(audit_to(config.AUDIT_LOG_PATH, config.TZ))
            keys = read_keys(config)
            seal = Seal(keys, self._clock)
            store = self._open(settings, seal)
            await resources.enter_async_context(store)
            marks = marks_of(config, store, seal, keys)
            await marks.begin()
            if config.ENCRYPTION_KEY_FILE:
                self._reloading.add(keys_part(config, marks))
            tracing = await resources.enter_async_context(
                tracing_to(config.OTEL_EXPORTER_OTLP_ENDPOINT, self._resource())
            )
            history = self._history(seal)
            if history is not None:
                await resources.enter_async_context(history)
            reloading = SharedReloading(self._reloading, store, store.now, config.INSTANCE_ID)
            engine = Engine(store, settings, engine_settings(config), Telemetry(tracing=tracing), history, seal)
            engine.follow_documents(reloading.hints.changed)
            engine.blueprints.register_all(blueprints)
            engine.follow_documents(marks.hints.changed)
            holarchy = Holarchy(store, await own_id(store), config.MAX_HOLARCHY_DEPTH)
            exchange = Exchange(
                store,
                store.now,
                admission,
                token_settings(config, holarchy.own_id),
                seal,
                partial(engine.rates.admit, Call.OPENING) if engine.rates is not None else None,
            )
            engine.follow_documents(exchange.state.hints.changed)
            await holarchy.recall()
            engine.follow_documents(holarchy.changed)
            uplink = Uplink(engine, holarchy, uplink_settings(config)) if config.PARENT_URL else None
            refused: HolonError | None = None
            lag = LoopLag()
            async with asyncio.TaskGroup() as loops:
                running = loops.create_task(engine.run(), name="engine")
                watching = loops.create_task(lag.run(), name="loop-lag")
                broken = loops.create_task(store.failure(), name="store")
                following = [
                    loops.create_task(self._reloading.run(), name="reloading"),
                    loops.create_task(Following(self._reloading).run(), name="edited-files"),
                    loops.create_task(reloading.run(), name="shared-reloading"),
                    loops.create_task(exchange.state.run(), name="tokens"),
                    loops.create_task(marks.run(), name="encryption-keys"),
                ]
                following += [loops.create_task(tls.run(), name="certificates")] if tls is not None else []
                following.append(loops.create_task(holarchy.run(), name="holarchy"))
                if uplink is not None:
                    following.append(loops.create_task(uplink.run(), name="uplink"))
                try:
                    async with AsyncExitStack() as doors:
                        http, worker, client = await self._doors(
                            doors,
                            engine,
                            store,
                            reloading,
                            lag,
                            tracing,
                            tls,
                            clients,
                            admission,
                            exchange,
                            holarchy,
                            uplink,
                        )
                        ports = Ports(
                            http.port, worker.port, client.port if client is not None else None, worker.token_port
                        )
                        log.info("node %s is ready: %s", config.INSTANCE_ID, ports)
                        ready(ports)
                        await self._stop.wait()
                        if uplink is not None:
                            uplink.drain()
                        await self._drain(engine, http, worker, client)
                        # Who waits for a store that is away hears of it while there is a door to hear it through.
                        store.hurry()
                except HolonError as error:
                    # Told by itself below, as promised: from in here it would come out in a group.
                    refused = error
                finally:
                    for loop in (running, watching, broken, *following):
                        loop.cancel()
            if uplink is not None:
                await uplink.leave()
            if refused is not None:
                raise refused

    def stop(self) -> None:
        """Drain and end; called again, end now. Safe to call at any time, also before `run`.

        The first call leaves a drain that `drain` began as it is: whoever stops a process that drains need not know.
        """
        if self._told:
            self._now.set()
        self._told = True
        self._stop.set()

    def drain(self, grace: float | None = None, reason: str = "") -> None:
        """Drain and end, as a first `stop` does; a repeat changes nothing, nor does a first `stop` after it.

        Arguments:
            grace: how many seconds that may take; None is the setting's.
            reason: for the log.
        """
        if not self._stop.is_set():
            log.info("asked to drain: %r", reason[:256])
            self._grace = grace
            self._stop.set()

    def reload(self) -> None:
        """Read the files again that can change while the node runs; what became of it is in the log.

        Safe to call at any time.
        """
        self._reloading.ask()

    async def run_until_signalled(self, ready: Callable[[Ports], None] = lambda _: None) -> None:
        """Run, and stop at SIGTERM or SIGINT. SIGHUP is as `reload`, but from a terminal that goes away."""
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop}
        if sys.stdin is None or not sys.stdin.isatty():
            handlers[signal.SIGHUP] = self.reload
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            await self.run(ready)
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    # How it is built -------------------------------------------------------------------------------------------------

    def _open(self, settings: StoreSettings, seal: Seal) -> Store:
        if self._storage is not None:
            self._storage.configure(settings, seal)
            return self._storage
        return open_store(StorageURI.parse(self.config.STORAGE_URI), settings, self._clock, seal)

    def _history(self, seal: Seal) -> PostgresHistory | SqliteHistory | None:
        uri = HistoryURI.parse(self.config.HISTORY_DATABASE_URI)
        if not self.config.moves_history:
            return None
        return SqliteHistory(uri.path, seal) if uri.path is not None else PostgresHistory(uri.postgres, seal)

    def _resource(self) -> dict[str, str]:
        return {
            "service.name": self.config.OTEL_SERVICE_NAME,
            "service.version": holon.__version__,
            "service.instance.id": self.config.INSTANCE_ID,
        }

    def _tls_files(self) -> TlsFiles | None:
        return TlsFiles(tls_paths(self.config), self._clock) if self.config.tls else None

    async def _doors(
        self,
        doors: AsyncExitStack,
        engine: Engine,
        store: Store,
        reloading: SharedReloading,
        lag: LoopLag,
        tracing: Tracing,
        tls: TlsFiles | None,
        clients: Clients,
        admission: Admission,
        exchange: Exchange,
        holarchy: Holarchy,
        uplink: Uplink | None,
    ) -> tuple[HttpDoor, WorkerDoor, ClientDoor | None]:
        """Open the doors, the workers' first: who submits a job finds somebody to do it."""
        config = self.config
        worker = await doors.enter_async_context(
            WorkerDoor(
                engine.workers,
                replace(worker_door_settings(config), holon_id=holarchy.own_id),
                tls,
                admission,
                self._clock,
                engine.rates,
                exchange,
                holarchy,
                engine.trees,
            )
        )
        overview = Overview(engine, config.INSTANCE_ID, holon.__version__, self.drain, reloading.reload, holarchy)
        client: ClientDoor | None = None
        if config.ENABLE_CLIENT_API:
            client = await doors.enter_async_context(
                ClientDoor(
                    engine.jobs,
                    engine.watching,
                    engine.trees,
                    overview,
                    client_door_settings(config),
                    tls,
                    clients,
                    tracing.interceptors(),
                    engine.rates,
                    exchange,
                )
            )
        if config.ADMIN_SOCKET:
            await doors.enter_async_context(
                AdminDoor(
                    engine.jobs,
                    engine.watching,
                    engine.trees,
                    overview,
                    config.ADMIN_SOCKET,
                    partial(_operator, holarchy),
                    exchange,
                )
            )
        measuring = Measuring(engine, store, worker, clients, self._reloading, lag)
        if uplink is not None:
            measuring.show_uplink(uplink, holarchy)
        secure = tls if config.TLS_ENABLED else None
        if tls is not None:
            shown = {"worker": True, "client": client is not None, "http": secure is not None}
            measuring.show_tls(tls, [door for door, there in shown.items() if there])
        http = await doors.enter_async_context(
            HttpDoor(
                engine.jobs,
                engine.trees,
                engine.blueprints,
                http_settings(config),
                clients,
                reloading.reload,
                measuring.text,
                secure,
                self._clock,
                engine.rates,
                exchange.key_set,
            )
        )
        return http, worker, client

    async def _drain(self, engine: Engine, http: HttpDoor, worker: WorkerDoor, client: ClientDoor | None) -> None:
        """Take nothing new, let what runs commit and workers bring their results; within the grace, or until `stop`."""
        grace = self.config.SHUTDOWN_GRACE_SECONDS if self._grace is None else self._grace
        log.info("draining, for at most %g s", grace)
        for door in (http, client, worker):
            if door is not None:
                door.drain()
        engine.workers.drain_all(round(grace * 1000))
        drained = asyncio.create_task(engine.drain(), name="drain")
        now = asyncio.create_task(self._now.wait(), name="stop-now")
        try:
            await asyncio.wait((drained, now), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            log.info("drained" if drained.done() else "not drained: what still ran will run again")
        finally:
            for task in (drained, now):
                task.cancel()
            await asyncio.gather(drained, now, return_exceptions=True)


def _operator(holarchy: Holarchy) -> str:
    """Whose jobs the operator sees at the node itself: the parent's, where there is one."""
    return owner_of(holarchy.parent_id).name if holarchy.parent_id else DEFAULT
