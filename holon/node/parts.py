"""The composition root: what a node is made of, built from its settings and open while it runs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from holon.clock import Calendar, Clock
from holon.config import Config, HistoryURI, StorageURI, read_keys
from holon.domain.blueprint import Blueprint
from holon.engine.core import Engine
from holon.engine.holarchy import Holarchy
from holon.engine.page_tokens import PageTokens
from holon.engine.pins import own_holon
from holon.engine.rates import Call
from holon.engine.reloading import Reloading
from holon.engine.shared_reloading import SharedReloading
from holon.node.access import client_entries, clients_part
from holon.node.admitting import open_admission, tls_part, workers_part
from holon.node.encrypting import keys_part, marks_of
from holon.node.following import Following, blueprints_part
from holon.node.job_files import files_of
from holon.node.scheduling import check_jobs, schedules_of, schedules_part, wall_of
from holon.node.settings import (
    delivery_settings,
    engine_settings,
    parent_tls_paths,
    store_settings,
    tls_paths,
    token_settings,
    trace_resource,
    uplink_settings,
)
from holon.node.stores import Store, open_store
from holon.ports import StoreSettings
from holon.security.admission import Admission
from holon.security.clients import Clients
from holon.security.endings import OwnCertificate
from holon.security.store_secrets import StoreSecrets
from holon.security.sts.exchange import Exchange
from holon.security.tls import check_parent_files
from holon.security.tls_files import TlsFiles
from holon.storage.history import PostgresHistory, SqliteHistory
from holon.stores.sealing import Seal
from holon.telemetry.audit_file import audit_to
from holon.telemetry.events import Telemetry
from holon.telemetry.lag import LoopLag
from holon.telemetry.tracing import Tracing, tracing_to
from holon.uplink import Uplink
from holon.wire.trees import read_summary

if TYPE_CHECKING:
    from holon.transports.http.webhooks.delivery import HttpDelivery
    from holon.transports.http.webhooks.settings import DeliverySettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a node is made of, but for its doors. `loops` keep it going, by name.

    `webhook_secret` is the store's own that signs webhooks; it is empty where none does.
    """

    store: Store
    engine: Engine
    tls: TlsFiles | None
    clients: Clients
    admission: Admission
    exchange: Exchange
    holarchy: Holarchy
    uplink: Uplink | None
    tracing: Tracing
    lag: LoopLag
    at_parent: OwnCertificate | None
    webhook_secret: bytes
    files: Reloading
    reloading: SharedReloading
    loops: dict[str, Callable[[], Coroutine[Any, Any, None]]]


@asynccontextmanager
async def parts_of(
    config: Config,
    blueprints: Sequence[Blueprint],
    storage: Store | None,
    clock: Clock,
    files: Reloading,
    followed: Sequence[Blueprint] | None = None,
) -> AsyncIterator[Parts]:
    """Build them, and have what they hold open until this is left.

    Arguments:
        blueprints: all that the node runs.
        followed: those of BLUEPRINTS_DIR, where the node is to run them with every edit of a file.
        storage: a store of the caller's own, in place of the setting's.
        files: those that are read again while the node runs; here it is said which they are.
    Raises:
        ConfigError: settings, certificates or the store's file are wrong; nothing is open.
        BlueprintError: a blueprint is not sound.
    """
    calendar = Calendar(clock)
    tls = TlsFiles(tls_paths(config), calendar) if config.tls else None
    check_parent_files(parent_tls_paths(config), calendar.now_ms())
    clients = Clients(client_entries(config))
    if config.CLIENTS_CONFIG_PATH:
        files.add(clients_part(config, clients))
    schedules = schedules_of(config)
    if tls is not None:
        files.add(tls_part(tls))
    admission = open_admission(config, tls, calendar)
    if config.WORKERS_CONFIG_PATH:
        files.add(workers_part(config, admission))
    settings = store_settings(config)
    async with AsyncExitStack() as resources:
        resources.enter_context(audit_to(config.AUDIT_LOG_PATH, config.TZ))
        keys = read_keys(config)
        seal = Seal(keys, clock)
        store = _store(config, storage, settings, clock, seal)
        await resources.enter_async_context(store)
        marks = marks_of(config, store, seal, keys)
        await marks.begin()
        if config.ENCRYPTION_KEY_FILE:
            files.add(keys_part(config, marks))
        tracing = await resources.enter_async_context(
            tracing_to(config.OTEL_EXPORTER_OTLP_ENDPOINT, trace_resource(config))
        )
        history = _history(config, seal)
        if history is not None:
            await resources.enter_async_context(history)
        ours = await own_holon(store, store.now())
        secrets = StoreSecrets(store, seal)
        kept = files_of(config, ours.id)
        webhook_secret = await _webhook_secret(config, secrets)
        delivery = None
        if config.ENABLE_CLIENT_API:
            delivery = _delivery(delivery_settings(config, webhook_secret), calendar.now_ms)
            await resources.enter_async_context(delivery)
        reloading = SharedReloading(files, store, store.now, config.INSTANCE_ID)
        engine = Engine(
            store,
            settings,
            engine_settings(config),
            Telemetry(tracing=tracing),
            history,
            seal,
            kept,
            read_told=read_summary,
            wall=wall_of(store, clock),
            pages=PageTokens(await secrets.secret("page_tokens")),
            delivery=delivery,
        )
        clock.on_jump(engine.time_jumped)
        await engine.recall()
        engine.blueprints.register_all(blueprints)
        engine.blueprints.check_runs()
        engine.status_check.watch(engine.blueprints)
        if followed is not None:
            files.add(blueprints_part(config, engine.blueprints, followed, files=kept is not None))
            engine.blueprints.on_replace(partial(engine.status_check.watch, engine.blueprints))
        check_jobs(config, schedules, engine.scheduler.check)
        if config.SCHEDULES_CONFIG_PATH:
            files.add(schedules_part(config, engine.scheduler))
        has_parent = bool(config.PARENT_URL)
        holarchy = Holarchy(store, ours.id, config.MAX_HOLARCHY_DEPTH, has_parent=has_parent, made_at=ours.made_at)
        await holarchy.recall()
        opening = partial(engine.rates.admit, Call.OPENING) if engine.rates is not None else None
        tokens = token_settings(config, holarchy.own_id)
        exchange = Exchange(store, store.now, admission, tokens, seal, opening)
        for changed in (
            reloading.hints.changed,
            marks.hints.changed,
            exchange.state.hints.changed,
            holarchy.hints.changed,
        ):
            engine.follow_documents(changed)
        uplink = Uplink(engine, holarchy, uplink_settings(config)) if config.PARENT_URL else None
        lag = LoopLag()
        loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "engine": engine.run,
            "loop-lag": lag.run,
            "store": store.failure,
            "reloading": files.run,
            "edited-files": Following(files).run,
            "shared-reloading": reloading.run,
            "tokens": exchange.state.run,
            "encryption-keys": marks.run,
            "holarchy": holarchy.run,
            "secrets": secrets.run,
        }
        if tls is not None:
            loops["certificates"] = tls.run
        # What the parent is shown, where that is not what the doors show.
        own = config.PARENT_TLS_CERT_PATH if config.PARENT_URL else ""
        at_parent = OwnCertificate(own, calendar) if own else None
        if at_parent is not None:
            loops["certificate-at-parent"] = at_parent.run
        if uplink is not None:
            loops["uplink"] = uplink.run
        engine.scheduler.begin(schedules)
        yield Parts(
            store,
            engine,
            tls,
            clients,
            admission,
            exchange,
            holarchy,
            uplink,
            tracing,
            lag,
            at_parent,
            webhook_secret,
            files,
            reloading,
            loops,
        )
        await engine.leave()
        if uplink is not None:
            await uplink.leave()


def _store(config: Config, given: Store | None, settings: StoreSettings, clock: Clock, seal: Seal) -> Store:
    if given is not None:
        given.configure(settings, seal)
        return given
    return open_store(StorageURI.parse(config.STORAGE_URI), settings, clock, seal)


async def _webhook_secret(config: Config, secrets: StoreSecrets) -> bytes:
    """What the store keeps for signing webhooks; empty where WEBHOOK_SECRET signs, or nothing is sent."""
    if config.WEBHOOK_SECRET or not config.ENABLE_CLIENT_API:
        return b""
    log.info("WEBHOOK_SECRET is unset, so a secret in the store signs webhooks; `holon webhooks secret` shows it")
    return await secrets.secret("webhooks")


def _delivery(settings: DeliverySettings, now: Callable[[], int]) -> HttpDelivery:
    # What it stands on takes a while to import, and a node without clients has no use for it.
    from holon.transports.http.webhooks.delivery import HttpDelivery

    return HttpDelivery(settings, now)


def _history(config: Config, seal: Seal) -> PostgresHistory | SqliteHistory | None:
    uri = HistoryURI.parse(config.HISTORY_DATABASE_URI)
    if not config.moves_history:
        return None
    return SqliteHistory(uri.path, seal) if uri.path is not None else PostgresHistory(uri.postgres, seal)
