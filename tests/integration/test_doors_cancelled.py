"""Doors whose opening or end is cancelled, at whatever moment: their ports are nobody's, and can be listened on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from holon.transports.grpc.server import Server
from holon.transports.grpc.settings import DoorSettings
from holon.transports.http.door import HttpSettings
from tests.integration.http_node import running
from tests.integration.tls_site import Site
from tests.ports import free_ports

# An opening takes fewer turns of the loop, once the addresses of its host are known; so does an end.
TURNS = 8


def grpc_door(port: int) -> AbstractAsyncContextManager[object]:
    settings = DoorSettings(port=port)
    return Server("door", ("HOST", "PORT"), settings, (), (), None, client_certificates=False, max_streams=1)


def http_door(port: int) -> AbstractAsyncContextManager[object]:
    return running(HttpSettings(port=port))


@pytest.mark.parametrize("door", [grpc_door, http_door])
async def test_a_door_whose_opening_is_cancelled_leaves_its_port_to_others(
    monkeypatch: pytest.MonkeyPatch, door: Callable[[int], AbstractAsyncContextManager[object]]
) -> None:
    (port,) = free_ports(1)

    async def addresses(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
    opened = False

    async def open_it() -> None:
        nonlocal opened
        async with door(port):
            opened = True
            await asyncio.Event().wait()

    for turns in range(TURNS):
        opening = asyncio.create_task(open_it())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait((opening,))
        assert opening.cancelled()
        socket.create_server(("127.0.0.1", port)).close()
    assert opened


async def test_a_door_of_https_whose_end_is_cancelled_leaves_its_port_to_others(tmp_path: Path) -> None:
    async with Site.followed(tmp_path) as site:
        for turns in range(1, TURNS):
            async with running(HttpSettings(port=0), tls=site.files) as node:
                stopping = asyncio.create_task(node.door.stop(1))
                for _ in range(turns):
                    await asyncio.sleep(0)
                stopping.cancel()
                await asyncio.wait((stopping,))
                socket.create_server(("127.0.0.1", node.door.port)).close()
    assert not stopping.cancelled()
