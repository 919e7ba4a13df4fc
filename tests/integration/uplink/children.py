"""Children of a node that is in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from holon.clock import SystemClock
from holon.domain.blueprint import Blueprint
from holon.engine.core import Engine, EngineSettings
from holon.engine.holarchy import Holarchy
from holon.ports import StoreSettings
from holon.storage.memory import MemoryStorage
from holon.uplink import Uplink, UplinkSettings
from holon.uplink.settings import parent_urls
from holon.wire.trees import read_summary
from holon.worker.settings import Credentials
from tests.integration.grpc_node import Node, authority, worker_files
from tests.integration.scripted_node import FAST


@asynccontextmanager
async def child_of(
    parent: Node, worker_id: str, blueprints: Sequence[Blueprint], *, port: int | None = None, **settings: Any
) -> AsyncIterator[Engine]:
    """A child, linked.

    Arguments:
        port: where it finds its parent, if not at its door.
    """
    store_settings = StoreSettings(worker_id)
    async with MemoryStorage(store_settings, SystemClock()) as store:
        engine = Engine(store, store_settings, EngineSettings(), read_told=read_summary)
        engine.blueprints.register_all(blueprints)
        files = worker_files(worker_id)
        own = Credentials("", authority("ours").files.certificate, files.certificate, files.key)
        urls = parent_urls(f"grpcs://localhost:{port or parent.workers.port}")
        uplink = Uplink(engine, Holarchy(store, worker_id, 8), UplinkSettings(urls, own, "n1", timing=FAST, **settings))
        running = [asyncio.create_task(part.run()) for part in (engine, uplink)]
        try:
            await parent.until(lambda: uplink.linked)
            yield engine
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
