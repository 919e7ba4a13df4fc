"""The composition root: the doors of a node, opened and drained together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import holon
from holon.clock import Calendar, Clock
from holon.config import Config
from holon.domain.client import DEFAULT
from holon.engine.holarchy import Holarchy
from holon.engine.overview import Overview
from holon.node.measuring import Measuring
from holon.node.own_door import OwnDoor
from holon.node.parts import Parts
from holon.node.settings import client_door_settings, http_settings, worker_door_settings
from holon.transports.grpc.admin_door import AdminDoor
from holon.transports.grpc.client_door import ClientDoor
from holon.transports.grpc.worker_door import WorkerDoor
from holon.transports.http.door import HttpDoor
from holon.uplink import owner_of


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the doors of a running node are; `worker_tokens` where workers with tokens have a port of their own.

    `client` is None where clients are not served.
    """

    http: int
    worker: int
    client: int | None
    worker_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Doors:
    """Those that are open."""

    http: HttpDoor
    worker: WorkerDoor
    client: ClientDoor | None
    own: OwnDoor | None

    @property
    def ports(self) -> Ports:
        """Where they are."""
        client = self.client.port if self.client is not None else None
        return Ports(self.http.port, self.worker.port, client, self.worker.token_port)

    def drain(self) -> None:
        """Let nothing new in."""
        for door in (self.http, self.client, self.own, self.worker):
            if door is not None:
                door.drain()


@asynccontextmanager
async def opened(
    config: Config, parts: Parts, clock: Clock, drain: Callable[[float | None, str], None]
) -> AsyncIterator[Doors]:
    """The doors, open until this is left; the workers' first: who submits a job finds somebody to do it.

    Arguments:
        drain: has the node drain and end, as an operator may ask for at some of them.
    Raises:
        ConfigError: one cannot be opened.
    """
    async with AsyncExitStack() as doors:
        engine, tls = parts.engine, parts.tls
        worker = await doors.enter_async_context(
            WorkerDoor(
                engine.workers,
                replace(worker_door_settings(config), holon_id=parts.holarchy.own_id),
                tls,
                parts.admission,
                clock,
                parts.holarchy,
                engine.trees,
                engine.rates,
                parts.exchange,
            )
        )
        overview = Overview(
            engine,
            config.INSTANCE_ID,
            holon.__version__,
            drain,
            parts.reloading.reload,
            parts.holarchy,
            parts.webhook_secret,
        )
        at_socket = partial(AdminDoor, engine.jobs, engine.watching, engine.trees, overview, parts.exchange)
        client: ClientDoor | None = None
        own: OwnDoor | None = None
        if config.ENABLE_CLIENT_API:
            client = await doors.enter_async_context(
                ClientDoor(
                    engine.jobs,
                    engine.watching,
                    engine.trees,
                    overview,
                    client_door_settings(config),
                    tls,
                    parts.clients,
                    parts.tracing.interceptors(),
                    engine.rates,
                    parts.exchange,
                )
            )
            own = await doors.enter_async_context(
                OwnDoor(partial(at_socket, owner=lambda: DEFAULT, via="program", creates=True))
            )
        if config.ADMIN_SOCKET:
            await doors.enter_async_context(at_socket(config.ADMIN_SOCKET, partial(_operator, parts.holarchy)))
        measuring = await doors.enter_async_context(
            Measuring(engine, parts.store, worker, parts.clients, parts.files, parts.lag)
        )
        if parts.uplink is not None:
            measuring.show_uplink(parts.uplink, parts.holarchy)
        secure = tls if config.TLS_ENABLED else None
        shown = {"worker": True, "client": client is not None, "http": secure is not None}
        measuring.show_certificates(tls, [door for door, there in shown.items() if there], parts.at_parent)
        http = await doors.enter_async_context(
            HttpDoor(
                engine.jobs,
                engine.watching,
                engine.trees,
                engine.blueprints,
                overview,
                http_settings(config),
                parts.clients,
                measuring.text,
                secure,
                Calendar(clock),
                engine.rates,
                parts.exchange.key_set,
                engine.client_files,
            )
        )
        yield Doors(http, worker, client, own)


def _operator(holarchy: Holarchy) -> str:
    """Whose jobs the operator sees at the node itself: the parent's, where there is one."""
    return owner_of(holarchy.parent_id).name if holarchy.parent_id else DEFAULT
