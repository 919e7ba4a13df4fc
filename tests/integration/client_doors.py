"""The door of a node for clients, by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from holon.engine.core import Engine
from holon.engine.holarchy import Holarchy
from holon.engine.overview import Overview
from holon.engine.reloading import Reloading
from holon.security.clients import Clients, sole
from holon.security.tls_files import TlsFiles
from holon.transports.grpc.client_door import ClientDoor
from holon.transports.grpc.settings import DoorSettings
from tests.integration.http_node import TOKEN, running


def client_door(engine: Engine, tls: TlsFiles | None, token: str) -> ClientDoor:
    overview = Overview(
        engine, "node-1", "1", lambda _grace, _reason: None, Reloading().reload, Holarchy(engine.store, "h", 8)
    )
    return ClientDoor(engine.jobs, engine.watching, engine.trees, overview, DoorSettings(), tls, Clients(sole(token)))


@asynccontextmanager
async def door(token: str = TOKEN) -> AsyncIterator[str]:
    """A plaintext client door on loopback: its address."""
    async with (
        running() as node,
        client_door(node.engine, None, token) as opened,
    ):
        yield f"grpc://127.0.0.1:{opened.port}"
